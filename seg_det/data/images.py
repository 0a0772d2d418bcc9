"""Image files to pixels: always upright, always three channels of RGB, or one sentence that names the broken file.

Only the decoders of :data:`FORMATS` ever see a file, whatever its name: Pillow by itself would start Ghostscript for an EPS.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from seg_det.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # formats that keep every value
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")  # Pillow's names; its JPEG reads MPO too, which phones write
READ = "JPEG, PNG, BMP, WebP, TIFF and GIF"
OTHERS = (  # formats that are not read: what their files hold, and where
    (0, b"%!PS", "PostScript (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (0, b"%PDF", "PDF"),
    (0, b"DDS ", "DDS"),
    (0, b"8BPS", "Photoshop"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"jP  \r\n", "JPEG 2000"),
)
LONGEST_SIGNATURE = 16  # bytes from the beginning in which those lie
# Three bytes of JPEG's: of OpenCV's decoders none but libjpeg's takes a file that begins with them.
JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame's header, whatever its coding
JPEG_BARE = {0x00, 0x01, *range(0xD0, 0xD8)}  # markers without a length, which libjpeg skips
PNG_END = b"IEND\xaeB`\x82"
MOST_PIXELS = 2**28  # 268 million, 0.8 GB of RGB; the largest cameras of phones take 200 million
LIMIT = "SEG_DET_MAX_PIXELS"  # the environment variable that carries another limit to loader processes
STRIP = 2**20  # pixels that are converted at a time, so that the whole image exists but once as Pillow has it
NEW_SUBFILE_TYPE = 254  # the tag of a TIFF that says what a page is for
NOT_FULL = (0x1, 0x4)  # bits of it: a smaller copy of another page, a mask of its transparency
SHRINK = "make it smaller, cut it into parts or take it out of the data set"
REMEDY = "fetch the file again or take it out of the data set"


def limit_pixels(wanted: int | None) -> None:
    """Set data.max_pixels, the most pixels of an image that is read, for this process and those that it starts.

    None sets the default. Raises UserError for what is no such number.
    """
    if wanted is not None and (not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1):
        raise UserError(f"data.max_pixels must be a whole number from 1, got {wanted}.")
    os.environ[LIMIT] = str(wanted or MOST_PIXELS)


def most_pixels() -> int:
    """The limit in force."""
    return int(os.environ.get(LIMIT, MOST_PIXELS))


def read_rgb(path: Path) -> np.ndarray:
    """The pixels of an image file, upright (EXIF orientation applied): u8 [H, W, 3], RGB.

    Greyscale, palette, CMYK and 16-bit files come out as 8-bit RGB too; transparency is dropped.
    Raises UserError naming the file where it is missing, empty, truncated, of another format,
    of several pictures, or of more pixels than the limit.
    """
    return decode_rgb(_read_bytes(path), path)


def decode_rgb(data: bytes, name: Path | str) -> np.ndarray:
    """:func:`read_rgb` for the content of a file; ``name`` is what messages call it."""
    if not data.startswith(JPEG_START):
        return _decode_with_pillow(data, name)
    _require_moderate(_jpeg_size(data), name)
    if not _has_jpeg_end(data):
        raise UserError(f"the JPEG {name} is truncated (its end is missing after {len(data)} bytes); {REMEDY}")
    if not any(_jpeg_size(data)):
        raise UserError(f"the image {name} is broken (a JPEG without a frame); {REMEDY}")
    pixels = _decode_with_opencv(data)
    # Pillow knows rarer kinds of JPEG, and says what is wrong with the others.
    return _decode_with_pillow(data, name) if pixels is None else pixels


def read_values(path: Path, *, colours: bool = False) -> np.ndarray:
    """The pixels of a mask file as they are stored: one number each, [H, W] u8 or i64, or a colour, u8 [H, W, 3] RGB.

    A palette file gives its indices, or with ``colours`` the colours that they stand for; a bit gives 0 or 1.
    Raises UserError as :func:`read_rgb` does, and for fractions.
    """
    with _opened(io.BytesIO(_read_bytes(path)), path) as image:
        if image.mode == "F":
            raise UserError(f"the mask {path} holds fractions: save it with whole numbers, 8 or 16 bits each.")
        if image.mode == "L" or (image.mode == "P" and not colours):
            return _in_strips(image, np.asarray, np.uint8)
        if image.mode == "1" or image.mode.startswith("I"):
            return _in_strips(image, np.asarray, np.uint8 if image.mode == "1" else np.int64)
        _require_palette(image)
        return _in_strips(image, lambda strip: np.asarray(strip.convert("RGB")), np.uint8, channels=3)


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


class _WithoutPillowLimit:
    """Pillow's own limit is off while an image is opened and decoded: it refuses 200 million pixels, and warns of half of that.

    The limit is the whole process's, so it is put back when the last image is done: it protects what else reads images there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                Image.MAX_IMAGE_PIXELS = self._limit


_without_pillow_limit = _WithoutPillowLimit()


@contextmanager
def _opened(source: Path | io.BytesIO, path: Path | str) -> Iterator[Image.Image]:
    """A file of which only the header is read yet. Raises UserError for all that goes wrong with it, here or in the block."""
    try:
        with _without_pillow_limit, Image.open(source, formats=FORMATS) as image:
            _require_moderate(image.size, path)
            _require_single(image, path)
            yield image
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"the memory does not suffice for the image {path}; {SHRINK}") from None
    except FileNotFoundError:
        raise UserError(f"there is no image {path}; {REMEDY}") from None
    except Image.UnidentifiedImageError as error:
        raise _unknown(source, path) from error
    except Exception as error:  # a broken file makes the decoders raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the image {path} is broken ({reason}); {REMEDY}") from error


def _unknown(source: Path | io.BytesIO, path: Path | str) -> UserError:
    """What to say of a file that is of none of FORMATS."""
    head = (source.read_bytes() if isinstance(source, Path) else source.getvalue())[:LONGEST_SIGNATURE]
    if not head:
        return UserError(f"the image {path} is empty (0 bytes); {REMEDY}")
    for place, signature, name in OTHERS:
        if head[place:].startswith(signature):
            return UserError(
                f"the image {path} is {name} inside, which is not read ({READ} are); convert it or take it out of the data set"
            )
    return UserError(f"the image {path} is broken (no known image format); {READ} are read; {REMEDY}")


def _require_moderate(size: tuple[int, int], path: Path | str) -> None:
    """Raises UserError for a (width, height) of more pixels than the limit."""
    width, height = size
    if width * height > (limit := most_pixels()):
        raise UserError(
            f"the image {path} has {width} x {height} pixels, which would take {width * height * 3 / 1e9:.1f} GB of memory "
            f"(at most {limit / 1e6:.3g} million pixels are read; data.max_pixels={width * height} raises that); {SHRINK}"
        )


def _require_single(image: Image.Image, path: Path | str) -> None:
    """Raises UserError for an animation, and for a TIFF of several pages."""
    if (count := _pictures(image)) > 1:
        raise UserError(
            f"the image {path} holds {count} pictures, and which of them is meant cannot be known; "
            "save that one as a file of its own"
        )


def _pictures(image: Image.Image) -> int:
    """How many pictures a file holds, without those that only go with another: an MPO's, and smaller copies in a TIFF."""
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return 1
    if image.format != "TIFF":
        return image.n_frames
    count = 0
    for page in range(image.n_frames):
        image.seek(page)
        kind = image.tag_v2.get(NEW_SUBFILE_TYPE, 0)
        count += not any(kind & bit for bit in NOT_FULL)
    image.seek(0)
    return count


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) that the frame header says, in a hundredth of Pillow's time; (0, 0) without one.

    Walks over the markers as libjpeg does, so that no other frame header can be put in the way of the one that it decodes.
    """
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 9 <= len(data):
        marker = data[place + 1]
        if marker == 0xFF:  # markers may be preceded by any number of these
            place += 1
        elif marker in JPEG_BARE:
            place += 2
        elif marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        elif marker in (JPEG_SCAN[1], JPEG_END[1]):
            break
        else:
            place += 2 + max(2, struct.unpack_from(">H", data, place + 2)[0])
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
    if pixels is not None:
        for rows in _strips(*pixels.shape[:2]):  # in place; of a whole image OpenCV would make a copy
            cv2.cvtColor(pixels[rows], cv2.COLOR_BGR2RGB, dst=pixels[rows])
    return pixels


def _decode_with_pillow(data: bytes, path: Path | str) -> np.ndarray:
    with _opened(io.BytesIO(data), path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return pixels_of(image)


def pixels_of(image: Image.Image) -> np.ndarray:
    """The pixels of an opened image as :func:`read_rgb` gives those of a file, but as it lies: u8 [H, W, 3], RGB.

    Raises ValueError for a pixel that the palette has no colour for.
    """
    if image.mode.startswith("I"):
        return _in_strips(image, _grey, np.uint8, channels=3)
    _require_palette(image)
    return _in_strips(image, _opaque, np.uint8, channels=3)


def _require_palette(image: Image.Image) -> None:
    """Raises ValueError for pixels that the palette has no colour for; Pillow would make them black."""
    if image.mode == "P" and (most := image.getextrema()[1]) >= (colours := len(image.getpalette() or []) // 3):
        raise ValueError(f"its palette has {colours} colours and a pixel has number {most}")


def _grey(image: Image.Image) -> np.ndarray:
    """16-bit grey as 8-bit [H, W, 1]; Pillow's own conversion would clip it at 255."""
    return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255)[..., None]


def _opaque(image: Image.Image) -> np.ndarray:
    return np.asarray((image.convert("RGBA") if "transparency" in image.info else image).convert("RGB"))


def _in_strips(
    image: Image.Image, convert: Callable[[Image.Image], np.ndarray], dtype: type, *, channels: int | None = None
) -> np.ndarray:
    """``convert`` of the image, [H, W] or [H, W, channels], computed strip by strip: copies are never of the whole."""
    image.load()
    pixels = np.empty((image.height, image.width, *([channels] if channels else [])), dtype)
    for rows in _strips(image.height, image.width):
        pixels[rows] = convert(image.crop((0, rows.start, image.width, rows.stop)))
    return pixels


def _strips(height: int, width: int) -> Iterator[slice]:
    """The rows of each strip of STRIP pixels or a row."""
    rows = max(1, STRIP // width)
    return (slice(top, min(height, top + rows)) for top in range(0, height, rows))


def _read_header(path: Path) -> tuple[tuple[int, int], bool]:
    """(H, W) as stored, and whether EXIF turns it."""
    with _opened(path, path) as image:
        # Pillow decodes a whole PNG in search of EXIF data that its header does not announce.
        exif = image.getexif() if "exif" in image.info else {}
        return (image.height, image.width), exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
