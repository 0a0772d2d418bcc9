"""What annotation tools draw - boxes, polygons, ellipses, masks - as a box and as parts of a mask, in pixels of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle

from seg_det.data.image_files import most_pixels
from seg_det.errors import UserError

CORNERS_OF_ELLIPSE = 72  # of the polygon in its place: off by less than a thousandth of the radius
FARTHEST = 1_000_000  # pixels from an image's corner that an outline may reach
WORD_BITS, SIZE_BITS, LENGTH_BITS = 32, 5, 4  # of Label Studio's run lengths: fields of their header


class Bitmap(NamedTuple):
    """The pixels of an object: run lengths, in COCO's form, of the rectangle that holds them, and where that lies."""

    left: int
    top: int
    runs: dict[str, Any]


class Geometry(NamedTuple):
    """The box around an object, and what fills it."""

    box: tuple[float, float, float, float]  # xyxy
    parts: tuple[list[float] | Bitmap, ...] = ()  # polygons x y x y ..., and bitmaps; none where only a box was drawn


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Geometry:
    """The box between two corners, in any order. Raises UserError for what is no finite number."""
    if not math.isfinite(x1 + y1 + x2 + y2):  # which min and max may pass over
        raise UserError("has a coordinate that is not a finite number")
    return Geometry((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))


def polygon(points: Sequence[float]) -> Geometry:
    """The area in a line x y x y ... Raises UserError for fewer than three points, and for what is no finite number."""
    values = list(map(float, points))
    if len(values) < 6 or len(values) % 2:
        raise UserError(f"is a polygon of {len(values) // 2} points, which encloses nothing: draw three or more")
    if not all(map(math.isfinite, values)):
        raise UserError("has a coordinate that is not a finite number")
    xs, ys = values[0::2], values[1::2]
    return Geometry(_near((min(xs), min(ys), max(xs), max(ys))), (values,))


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> Geometry:
    """The area of an ellipse: an exact box, and a polygon. Raises UserError for a radius that is not positive."""
    if not (radius_x > 0 and radius_y > 0 and math.isfinite(x + y + radius_x + radius_y)):
        raise UserError(f"has the radii {radius_x:g} and {radius_y:g}, which must be positive")
    angles = np.arange(CORNERS_OF_ELLIPSE) * (2 * math.pi / CORNERS_OF_ELLIPSE)
    box = _near((x - radius_x, y - radius_y, x + radius_x, y + radius_y))
    corners = np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)
    return Geometry(box, (corners.ravel().tolist(),))


def _near(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """``box``. Raises UserError for one of a size that no image has, since drawing it takes memory for each pixel."""
    if min(box) < -FARTHEST or max(box) > FARTHEST:
        raise UserError(f"reaches more than {FARTHEST:,} pixels from the image's corner: correct its points")
    return box


def bitmap(pixels: np.ndarray, left: int = 0, top: int = 0) -> Geometry:
    """The pixels that are not 0 in [h, w], whose first lies at ``left``, ``top``. Raises UserError if there is none."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        raise UserError("is a mask without a pixel")
    (first, last), (start, end) = (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)
    crop = np.asfortranarray(pixels[first:last, start:end] != 0, dtype=np.uint8)
    box = (float(left + start), float(top + first), float(left + end), float(top + last))
    return Geometry(box, (Bitmap(left + start, top + first, rle.encode(crop)),))


def by_rows(counts: Sequence[int], height: int, width: int) -> np.ndarray:
    """bool [height, width] of run lengths row by row, the first of pixels outside. Raises UserError unless they fill it."""
    _require_moderate(height, width)
    runs = np.array(counts, np.int64)
    if len(runs) == 0 or (runs < 0).any() or runs.sum() != height * width:
        raise UserError(f"has run lengths for {int(runs.sum())} pixels in a mask of {width} x {height}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def _require_moderate(height: int, width: int) -> None:
    if not 0 < height * width <= most_pixels():
        raise UserError(f"is a mask of {width} x {height} pixels, and masks of 1 to {most_pixels():,} are read")


def of_label_studio(content: Sequence[int], height: int, width: int) -> np.ndarray:
    """bool [height, width] of a brush of Label Studio: red, green, blue and opacity of each pixel in packed run lengths.

    Opaque pixels belong to the object. Format: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack
    Raises UserError for what is cut off or of another size.
    """
    _require_moderate(height, width)
    try:
        bits = np.unpackbits(np.array(content, np.int64).astype(np.uint8)).astype("S1").tobytes().decode()
        values = _unpacked(bits, 4 * height * width)
    except ValueError as error:
        raise UserError("has run lengths that are cut off: export the annotations again") from error
    return values.reshape(height, width, 4)[..., 3] > 0


def _unpacked(bits: str, wanted: int) -> np.ndarray:
    """The values [wanted], unsigned. Raises ValueError where the bits end too early."""
    place = WORD_BITS
    if (count := int(bits[:place], 2)) != wanted:
        raise UserError(f"has run lengths for {count // 4} pixels in an image of {wanted // 4}")
    word = int(bits[place : (place := place + SIZE_BITS)], 2) + 1
    lengths = [int(bits[place + LENGTH_BITS * i : place + LENGTH_BITS * (i + 1)], 2) + 1 for i in range(4)]
    place += 4 * LENGTH_BITS
    values, filled = np.zeros(wanted, np.uint8 if word <= 8 else np.uint32), 0
    while filled < wanted:
        same, size = bits[place] == "1" if place < len(bits) else None, lengths[int(bits[place + 1 : place + 3], 2)]
        end = filled + int(bits[place + 3 : place + 3 + size], 2) + 1
        place += 3 + size
        words = 1 if same else end - filled
        if place + word * words > len(bits) or end > wanted:
            raise ValueError("bits end")
        values[filled:end] = [int(bits[place + word * i : place + word * (i + 1)], 2) for i in range(words)]
        place, filled = place + word * words, end
    return values


def placed(part: list[float] | Bitmap, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed run lengths of a part in an image of ``size`` (H, W); what lies outside is cut off."""
    height, width = size
    if not isinstance(part, Bitmap):
        return rle.frPyObjects([part], height, width)[0]
    x, y = np.nonzero(rle.decode(part.runs).T)  # column by column, as COCO counts
    x, y = x + part.left, y + part.top
    pixels = (x * height + y)[(x >= 0) & (x < width) & (y >= 0) & (y < height)]
    gaps = np.flatnonzero(np.diff(pixels) != 1)
    starts, ends = pixels[np.r_[0, gaps + 1]], pixels[np.r_[gaps, len(pixels) - 1]] + 1
    bounds = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(np.r_[0, bounds, height * width]).tolist()
    return rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
