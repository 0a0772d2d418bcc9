"""Image files to pixels: always upright, always three channels of RGB, or one sentence that names the broken file."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
from PIL import Image

from seg_det.data.depth import depth_of, has_wide_colours, is_negative, read_wide_colours, to_eight_bits
from seg_det.data.image_files import REMEDY, opened, read_bytes, require_moderate
from seg_det.data.jpeg import JPEG_END, JPEG_START, has_end, read_header
from seg_det.data.jpeg_damage import is_suspect, jpeg_damage
from seg_det.data.orientation import (
    PNG_HEAD,
    TAIL,
    TURNED,
    has_own_tag,
    orientation_in,
    orientation_of,
    stored_size,
    upright,
)
from seg_det.data.png import PNG_END, PNG_START, wrong_checksum
from seg_det.errors import UserError

log = logging.getLogger(__name__)
_looked_at: set[str] = set()  # JPEGs that were suspected of damage
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # formats that keep every value
LOSSY = ("JPEG", "MPO")  # formats that change values
STRIP = 2**20  # pixels that are converted at a time, so that the whole image exists but once as Pillow has it


def read_rgb(path: Path) -> np.ndarray:
    """The pixels of an image file, upright (EXIF orientation applied): u8 [H, W, 3], RGB.

    Greyscale, palette, CMYK and 16-bit files come out as 8-bit RGB too; transparency is dropped.
    Raises UserError naming the file where it is missing, empty, truncated, of another format,
    of several pictures, or of more pixels than the limit.
    """
    return decode_rgb(read_bytes(path), path)


def decode_rgb(data: bytes, name: Path | str) -> np.ndarray:
    """:func:`read_rgb` for the content of a file; ``name`` is what messages call it."""
    if not data.startswith(JPEG_START):
        return _decode_with_pillow(data, name)
    header = read_header(data)
    require_moderate(header.size, name)
    if not has_end(data):
        raise UserError(f"the JPEG {name} is truncated (its end is missing after {len(data)} bytes); {REMEDY}")
    if not any(header.size):
        raise UserError(f"the image {name} is broken (a JPEG without a frame); {REMEDY}")
    pixels = _decode_with_opencv(data)
    if pixels is None:  # Pillow knows rarer kinds of JPEG, and says what is wrong with the others
        return _decode_with_pillow(data, name)
    if is_suspect(data, header):
        _warn_of_damage(data, name)
    return upright(pixels, orientation_in(header.exif, header.xmp))


class Stored(NamedTuple):
    """The pixels of a mask file as they are stored."""

    values: np.ndarray  # [H, W] u8 or i64, or a colour, u8 [H, W, 3] RGB
    greys: np.ndarray | None = None  # u8 [K], of a palette with nothing but greys: that of each index


def read_values(path: Path, *, colours: bool = False) -> np.ndarray:
    """The pixels of a mask file, upright as :func:`read_rgb`'s: one number each, [H, W] u8 or i64, or a colour, u8 [H, W, 3] RGB.

    A palette file gives its indices, or with ``colours`` the colours that they stand for; a bit gives 0 or 1.
    Raises UserError as :func:`read_rgb` does, for fractions, and for a JPEG.
    """
    return read_stored(path, colours=colours).values


def read_stored(path: Path, *, colours: bool = False) -> Stored:
    """:func:`read_values` with what a palette of greys says."""
    data = read_bytes(path)
    with opened(io.BytesIO(data), path) as image:
        if image.format in LOSSY:
            raise UserError(
                f"the mask {path} is JPEG inside, which has lost its values; draw it again and save it as PNG"
            )
        greys = _greys(image) if image.mode == "P" and not colours else None
        values = _upright(image, data, path, lambda: _stored_values(image, data, path, colours=colours))
        return Stored(values, greys)


def _greys(image: Image.Image) -> np.ndarray | None:
    palette = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    return palette[:, 0] if len(palette) and (palette == palette[:, :1]).all() else None


def _stored_values(image: Image.Image, data: bytes, path: Path, *, colours: bool) -> np.ndarray:
    if image.mode == "F":
        raise UserError(f"the mask {path} holds fractions: save it with whole numbers, 8 or 16 bits each.")
    if image.mode == "L" or (image.mode == "P" and not colours):
        return _in_strips(image, np.asarray, np.uint8)
    if image.mode == "1" or image.mode.startswith("I"):
        return _in_strips(image, np.asarray, np.uint8 if image.mode == "1" else np.int64)
    wide = read_wide_colours(data) if has_wide_colours(image) else None
    if wide is not None:
        return to_eight_bits(wide, 8 if wide.max() <= 255 else 16)  # between those a colour is never written
    _require_palette(image)
    return _in_strips(image, lambda strip: np.asarray(strip.convert("RGB")), np.uint8, channels=3)


def read_small_grey(path: Path, side: int) -> Image.Image:
    """The image in 8 bits of grey, as it lies; of a JPEG only as much is decoded as ``side`` pixels a side need.

    Raises UserError as :func:`read_rgb` does.
    """
    with opened(path, path) as image:
        image.draft("L", (side, side))
        return Image.fromarray(pixels_of(image)).convert("L")


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of the upright image, read from the file's header alone. Raises UserError as :func:`read_rgb` does."""
    (height, width), turned = _read_size(path)
    return (width, height) if turned else (height, width)


def verify_image(path: Path) -> tuple[int, int]:
    """:func:`image_size` after a cheap search for damage: the header must be sound and the file must have its end.

    Of JPEGs the image data are searched for long runs of equal bytes, and only files with one are decoded.
    """
    size = image_size(path)
    head, tail = _ends(path, len(PNG_END))
    data = read_bytes(path) if head.startswith(JPEG_START) else b""
    if not tail.endswith((JPEG_END, PNG_END)):  # other formats, and JPEGs with bytes appended: only decoding tells
        decode_rgb(data or read_bytes(path), path)
    if data and is_suspect(data, read_header(data)) and (sentence := _damage_inside(data, path)):
        raise UserError(sentence)
    return size


def damage(path: Path) -> str | None:
    """A sentence for an image file whose content is damaged, None for a sound one; decodes the whole file, several times a JPEG.

    Damaged is also what cannot be read at all. Of a PNG the checksums must be right.
    """
    try:
        image_size(path)
        data = read_bytes(path)
        decode_rgb(data, path)
    except UserError as error:
        return str(error)
    if data.startswith(JPEG_START):
        return _damage_inside(data, path)
    if data.startswith(PNG_START) and (chunk := wrong_checksum(data)):
        return f"the image {path} is damaged inside (the checksum of its chunk {chunk} is wrong); {REMEDY}"
    return None


def _warn_of_damage(data: bytes, name: Path | str) -> None:
    """Say once in a process that an image is damaged; others that are suspected are looked at once, too."""
    if str(name) not in _looked_at:
        _looked_at.add(str(name))
        if (sentence := _damage_inside(data, name)) is not None:
            log.warning("%s; its pixels are taken as they are.", sentence)


def _damage_inside(data: bytes, name: Path | str) -> str | None:
    reason = jpeg_damage(data, read_header(data), lambda content: _as_decoded(content, name))
    return reason and f"the JPEG {name} is damaged inside ({reason}); {REMEDY}"


def _as_decoded(data: bytes, name: Path | str) -> np.ndarray:
    with opened(io.BytesIO(data), name) as image:
        return np.asarray(image)


def is_turned(path: Path) -> bool:
    """Whether the file's metadata turn the image by 90 degrees, so that height and width change places."""
    return _read_size(path)[1]


def _decode_with_opencv(data: bytes) -> np.ndarray | None:
    """As it lies: which way up it belongs is decided elsewhere."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if pixels is not None:
        for rows in _strips(*pixels.shape[:2]):  # in place; of a whole image OpenCV would make a copy
            cv2.cvtColor(pixels[rows], cv2.COLOR_BGR2RGB, dst=pixels[rows])
    return pixels


def _decode_with_pillow(data: bytes, path: Path | str) -> np.ndarray:
    with opened(io.BytesIO(data), path) as image:
        return _upright(image, data, path, lambda: _stored_pixels(image, data))


def _stored_pixels(image: Image.Image, data: bytes) -> np.ndarray:
    wide = read_wide_colours(data) if has_wide_colours(image) else None
    return pixels_of(image) if wide is None else to_eight_bits(wide, depth_of(wide))


def _upright(image: Image.Image, data: bytes, name: Path | str, decode: Callable[[], np.ndarray]) -> np.ndarray:
    """What ``decode`` makes of an opened file, turned as its metadata say."""
    own_tag, wide, orientation = (
        has_own_tag(image),
        has_wide_colours(image),
        orientation_of(image, name, data, data[-TAIL:]),
    )
    pixels = decode()
    applied = own_tag and (wide or not has_own_tag(image))  # by OpenCV, by Pillow
    return pixels if applied else upright(pixels, orientation)


def pixels_of(image: Image.Image) -> np.ndarray:
    """The pixels of an opened image as :func:`read_rgb` gives those of a file, but as it lies: u8 [H, W, 3], RGB.

    Raises ValueError for a pixel that the palette has no colour for, and for values of which white is not known.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        grey = to_eight_bits(values, depth_of(values))
        return np.repeat((~grey if is_negative(image) else grey)[..., None], 3, axis=2)
    _require_palette(image)
    return _in_strips(image, _opaque, np.uint8, channels=3)


def _require_palette(image: Image.Image) -> None:
    """Raises ValueError for pixels that the palette has no colour for; Pillow would make them black."""
    if image.mode == "P" and (most := cast(int, image.getextrema()[1])) >= (
        colours := len(image.getpalette() or []) // 3
    ):
        raise ValueError(f"its palette has {colours} colours and a pixel has number {most}")


def _opaque(image: Image.Image) -> np.ndarray:
    return np.asarray((image.convert("RGBA") if "transparency" in image.info else image).convert("RGB"))


def _in_strips(
    image: Image.Image, convert: Callable[[Image.Image], np.ndarray], dtype: type, *, channels: int | None = None
) -> np.ndarray:
    """``convert`` of the image, [H, W] or [H, W, channels], computed strip by strip: copies are never of the whole."""
    image.load()
    pixels: np.ndarray = np.empty((image.height, image.width, *([channels] if channels else [])), dtype)
    for rows in _strips(image.height, image.width):
        pixels[rows] = convert(image.crop((0, rows.start, image.width, rows.stop)))
    return pixels


def _strips(height: int, width: int) -> Iterator[slice]:
    """The rows of each strip of STRIP pixels or a row."""
    rows = max(1, STRIP // width)
    return (slice(top, min(height, top + rows)) for top in range(0, height, rows))


def _read_size(path: Path) -> tuple[tuple[int, int], bool]:
    """(H, W) as stored, and whether metadata turn it."""
    with opened(path, path) as image:
        head, tail = _ends(path) if image.format == "PNG" else (b"", b"")
        return stored_size(image), orientation_of(image, path, head, tail) in TURNED


def _ends(path: Path, count: int = TAIL) -> tuple[bytes, bytes]:
    """The first bytes of a file, and the last ``count`` ones."""
    with path.open("rb") as file:
        head = file.read(PNG_HEAD)
        file.seek(-min(count, path.stat().st_size), io.SEEK_END)
        return head, file.read()
