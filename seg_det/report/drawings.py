"""Pictures of what a detector should see and what it saw: boxes with captions, two views side by side, JPEG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# Okabe and Ito's colours (without black), then five of Paul Tol's "muted" ones: told apart by colour-blind eyes.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (136, 34, 85),
    (68, 170, 153),
    (51, 34, 136),
    (153, 153, 51),
    (170, 68, 153),
)
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
STRIP: Colour = (28, 30, 34)  # behind the titles: at ease on a light and on a dark page
WRONG: Colour = (214, 20, 48)  # of what is marked as an error
MARK = "\N{BALLOT X} "  # before its caption: colour is never the only difference
HALO = 0.55  # opacity of the dark rim that parts an outline from a background of the same colour
SUBPIXEL_BITS = 4
FONT_FILE = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # Latin, Greek, Cyrillic and more


def draw_boxes(
    image: np.ndarray,
    boxes: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    scores: ArrayLike | None = None,
    *,
    wrong: ArrayLike | None = None,
    tracks: ArrayLike | None = None,
) -> np.ndarray:
    """A copy of ``image`` with one outline and one caption a box, in the colour of its class, or of its track.

    image: u8 [H, W, 3] RGB; boxes: [N, 4] xyxy pixels, cut to the image; labels: [N] indices into ``names``;
    scores: [N] in 0..1, shown in per cent; wrong: bool [N], boxes that are marked as errors; tracks: [N] numbers of objects,
    shown before the names. Large boxes lie below small ones, outlines below captions, all below errors.
    """
    boxes = _border_pixels(boxes, image.shape[:2])
    labels = np.asarray(labels, dtype=np.int64).reshape(-1)
    wrong = np.zeros(len(labels), bool) if wrong is None else np.asarray(wrong, bool)
    captions = _captions([names[label] for label in labels], scores, wrong, tracks)
    keys = labels if tracks is None else np.asarray(tracks)
    colours = [WRONG if bad else PALETTE[key % len(PALETTE)] for key, bad in zip(keys, wrong, strict=True)]
    order = np.lexsort((-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), wrong))
    canvas = _outline(image, boxes[order], [colours[i] for i in order])
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for i in order:
        _caption(pen, picture.size, boxes[i], captions[i], colours[i])
    return np.array(picture)


def _captions(names: Sequence[str], scores: ArrayLike | None, wrong: np.ndarray, tracks: ArrayLike | None) -> list[str]:
    """For each object its track, a mark if it is wrong, its name and its score."""
    captions = [MARK + name if bad else name for name, bad in zip(names, wrong, strict=True)]
    if scores is not None:
        captions = [f"{caption} {score:.0%}" for caption, score in zip(captions, np.asarray(scores), strict=True)]
    if tracks is not None:
        captions = [f"{track} {caption}" for track, caption in zip(np.asarray(tracks), captions, strict=True)]
    return captions


def _border_pixels(boxes: ArrayLike, size: tuple[int, int]) -> np.ndarray:
    """The outermost pixels that half-open boxes cover: [0, W) ends at W - 1, where its line can still be seen."""
    height, width = size
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) - (0, 0, 1, 1)
    boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.clip(boxes, 0, (width - 1, height - 1, width - 1, height - 1))


def _outline(image: np.ndarray, boxes: np.ndarray, colours: Sequence[Colour]) -> np.ndarray:
    thickness = max(1, round(min(image.shape[:2]) / 200))
    corners = [((x1, y1), (x2, y2)) for x1, y1, x2, y2 in np.rint(boxes * 2**SUBPIXEL_BITS).astype(int).tolist()]
    canvas = np.ascontiguousarray(image).copy()
    rim = canvas.copy()
    for start, end in corners:
        cv2.rectangle(rim, start, end, BLACK, thickness + 2, cv2.LINE_AA, SUBPIXEL_BITS)
    canvas = cv2.addWeighted(rim, HALO, canvas, 1 - HALO, 0)
    for (start, end), colour in zip(corners, colours, strict=True):
        cv2.rectangle(canvas, start, end, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    return canvas


def _caption(pen: ImageDraw.ImageDraw, size: tuple[int, int], box: np.ndarray, text: str, colour: Colour) -> None:
    """A plate above the box, or inside it where the image ends; pushed back into the image where it would leave it."""
    text = " ".join(text.split())  # a name may have line breaks in it
    font = _font(_font_size(*size))
    pad = max(2, font.size // 5)
    plate_width = round(font.getlength(text)) + 2 * pad
    plate_height = sum(font.getmetrics()) + pad // 2
    left = max(0, min(round(box[0]), size[0] - plate_width))
    top = round(box[1]) - plate_height
    if top < 0:
        top = max(0, min(round(box[1]), size[1] - plate_height))
    pen.rectangle((left, top, left + plate_width - 1, top + plate_height - 1), fill=colour)
    ink = BLACK if np.dot(colour, (0.299, 0.587, 0.114)) > 120 else WHITE
    pen.text((left + pad, top + plate_height / 2), text, fill=ink, font=font, anchor="lm")


def _font_size(width: int, height: int) -> int:
    return max(11, round(max(width, height) / 48))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT_FILE), size)


def draw_title(image: np.ndarray, text: str) -> np.ndarray:
    """A copy of ``image`` u8 [H, W, 3] RGB with ``text`` on a plate in its corner."""
    return draw_legend(image, [text], [STRIP])


def draw_legend(image: np.ndarray, texts: Sequence[str], colours: Sequence[Colour]) -> np.ndarray:
    """A copy of ``image`` u8 [H, W, 3] RGB with one plate a text, in its colour, below one another in the corner."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    font = _font(_font_size(*picture.size))
    step = sum(font.getmetrics()) + max(2, font.size // 5) // 2
    for row, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        _caption(pen, picture.size, np.array([0, (row + 1) * step]), text, colour)
    return np.array(picture)


def side_by_side(
    left: np.ndarray, right: np.ndarray, titles: tuple[str, str] = ("ground truth", "prediction")
) -> np.ndarray:
    """Two views of one image beside each other under their titles; u8 [H, W, 3] each -> [H + strip, 2 W + gap, 3].

    Raises ValueError where the views differ in size.
    """
    if left.shape != right.shape:
        raise ValueError(f"expected two views of one size, got {left.shape} and {right.shape}")
    return in_a_row((left, right), titles)


def in_a_row(views: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """Views of one size u8 [H, W, 3] beside each other under their titles: u8 [H + strip, n W + gaps, 3]."""
    height, width = views[0].shape[:2]
    step = width + max(4, width // 80)
    whole = len(views) * step - (step - width)
    font = _font(max(_font_size(width, height), whole // 60))  # pages show all views in the width of one picture
    strip = 2 * font.size
    sheet = np.full((height + strip, whole, 3), STRIP, dtype=np.uint8)
    for place, view in enumerate(views):
        sheet[strip:, place * step : place * step + width] = view
    picture = Image.fromarray(sheet)
    pen = ImageDraw.Draw(picture)
    for place, title in enumerate(titles):
        pen.text((place * step + font.size // 2, strip / 2), title, fill=(225, 228, 232), font=font, anchor="lm")
    return np.array(picture)


def shrink(image: np.ndarray, longest: int) -> np.ndarray:
    """The image with its longer side brought down to ``longest`` pixels; smaller images pass unchanged."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def encode_jpeg(image: np.ndarray, quality: int = 85) -> bytes:
    """An RGB u8 [H, W, 3] image as JPEG bytes; quality 0..100."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"an image of shape {image.shape} and type {image.dtype} cannot be written as JPEG")
    return data.tobytes()
