"""Image files to pixels: always upright, always three channels of RGB, or one sentence that names the broken file."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from seg_det.types import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # formats that keep every value
JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame's header, whatever its coding
PNG_END = b"IEND\xaeB`\x82"
# What Pillow raises, each for some kind of broken file.
BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
MOST_PIXELS = 2**28  # 268 million, 0.8 GB of RGB; the largest cameras of phones take 200 million
# Pillow would refuse 200 million, warn of half of that, and not tell the size: _opened stands in its place.
Image.MAX_IMAGE_PIXELS = None
SHRINK = "make it smaller, cut it into parts or take it out of the data set"
REMEDY = "fetch the file again or take it out of the data set"


def read_rgb(path: Path) -> np.ndarray:
    """The pixels of an image file, upright (EXIF orientation applied): u8 [H, W, 3], RGB.

    Greyscale, palette, CMYK and 16-bit files come out as 8-bit RGB too; transparency is dropped.
    Raises UserError naming the file where it is missing, empty, truncated, no image, or of more than MOST_PIXELS.
    """
    data = _read_bytes(path)
    if not data.startswith(JPEG_START):
        return _decode_with_pillow(data, path)
    _require_moderate(_jpeg_size(data), path)
    if not _has_jpeg_end(data):
        raise UserError(f"the JPEG {path} is truncated (its end is missing after {len(data)} bytes); {REMEDY}")
    pixels = _decode_with_opencv(data)
    # Pillow knows rarer kinds of JPEG, and says what is wrong with the others.
    return _decode_with_pillow(data, path) if pixels is None else pixels


def read_values(path: Path, *, colours: bool = False) -> np.ndarray:
    """The pixels of a mask file as they are stored: one number each, [H, W] u8 or i64, or a colour, u8 [H, W, 3] RGB.

    A palette file gives its indices, or with ``colours`` the colours that they stand for; a bit gives 0 or 1.
    Raises UserError as :func:`read_rgb` does, and for fractions.
    """
    data = _read_bytes(path)
    try:
        with _opened(io.BytesIO(data), path) as image:
            if image.mode == "L" or (image.mode == "P" and not colours):
                return np.array(image)
            if image.mode == "1" or image.mode.startswith("I"):
                return np.array(image).astype(np.uint8 if image.mode == "1" else np.int64)
            if image.mode == "F":
                raise UserError(f"the mask {path} holds fractions: save it with whole numbers, 8 or 16 bits each.")
            return np.array(image.convert("RGB"))
    except BROKEN as error:
        raise _broken(path, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of the upright image, read from the file's header alone. Raises UserError as :func:`read_rgb` does."""
    (height, width), turned = _read_header(path)
    return (width, height) if turned else (height, width)


def verify_image(path: Path) -> tuple[int, int]:
    """:func:`image_size` after a cheap search for damage: the header must be sound and the file must have its end."""
    size = image_size(path)
    with path.open("rb") as file:
        file.seek(-min(len(PNG_END), path.stat().st_size), io.SEEK_END)
        complete = file.read().endswith((JPEG_END, PNG_END))
    if not complete:  # other formats, and JPEGs with bytes appended: only decoding tells
        read_rgb(path)
    return size


def is_turned(path: Path) -> bool:
    """Whether the EXIF orientation turns the image by 90 degrees, so that height and width change places."""
    return _read_header(path)[1]


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no image {path}; {REMEDY}") from None
    except OSError as error:
        raise UserError(f"the image {path} cannot be read ({error.strerror}); {REMEDY}") from error
    if not data:
        raise UserError(f"the image {path} is empty (0 bytes); {REMEDY}")
    return data


@contextmanager
def _opened(source: Path | io.BytesIO, path: Path) -> Iterator[Image.Image]:
    """A file of which only the header is read yet. Raises UserError with its size if it is too large to be decoded."""
    try:
        with Image.open(source) as image:
            _require_moderate(image.size, path)
            yield image
    except MemoryError:
        raise UserError(f"the memory does not suffice for the image {path}; {SHRINK}") from None


def _require_moderate(size: tuple[int, int], path: Path) -> None:
    """Raises UserError for a (width, height) of more than MOST_PIXELS."""
    width, height = size
    if width * height > MOST_PIXELS:
        raise UserError(
            f"the image {path} has {width} x {height} pixels, which would take {width * height * 3 / 1e9:.1f} GB of memory "
            f"(at most {MOST_PIXELS / 1e6:.0f} million pixels are read); {SHRINK}"
        )


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) that the frame header says, in a hundredth of Pillow's time; (0, 0) where a decoder is to say why not."""
    place = len(JPEG_START)
    while place + 9 <= len(data) and data[place] == 0xFF:
        if data[place + 1] == 0xFF:  # markers may be preceded by any number of these
            place += 1
            continue
        if data[place + 1] in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return 0, 0


def _has_jpeg_end(data: bytes) -> bool:
    # The thumbnail in a header has an end of its own, and some cameras append bytes: so the last end must follow
    # the last scan. Decoders would paint the missing rest grey, or not, depending on their version.
    return data.endswith(JPEG_END) or data.rfind(JPEG_END) > data.rfind(JPEG_SCAN)


def _decode_with_opencv(data: bytes) -> np.ndarray | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # applies the EXIF orientation
    except cv2.error:
        return None
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _decode_with_pillow(data: bytes, path: Path) -> np.ndarray:
    try:
        with _opened(io.BytesIO(data), path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it at 255
                grey = (np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            opaque = upright.convert("RGBA") if "transparency" in upright.info else upright
            return np.array(opaque.convert("RGB"))
    except BROKEN as error:
        raise _broken(path, error) from error


def _read_header(path: Path) -> tuple[tuple[int, int], bool]:
    """(H, W) as stored, and whether EXIF turns it."""
    try:
        with _opened(path, path) as image:
            # Pillow decodes a whole PNG in search of EXIF data that its header does not announce.
            exif = image.getexif() if "exif" in image.info else {}
            return (image.height, image.width), exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except FileNotFoundError:
        raise UserError(f"there is no image {path}; {REMEDY}") from None
    except BROKEN as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> UserError:
    # Pillow's message on an unknown format names its internal buffer, which helps nobody.
    reason = "no known image format" if isinstance(error, Image.UnidentifiedImageError) else str(error)
    return UserError(f"the image {path} is broken ({reason}); {REMEDY}")
