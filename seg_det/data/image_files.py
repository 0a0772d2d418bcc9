"""Opening an image file: only known formats, one image of a moderate size, or one sentence that names the file.

Only the decoders of :data:`FORMATS` ever see a file, whatever its name: Pillow by itself would start Ghostscript for an EPS.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from seg_det.data.depth import NoBrightness, tags_of
from seg_det.errors import UserError

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
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"jP  \r\n", "JPEG 2000"),
)
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # what they begin with
LONGEST_SIGNATURE = 16  # bytes from the beginning in which those lie
MOST_PIXELS = 2**28  # 268 million, 0.8 GB of RGB; the largest cameras of phones take 200 million
LIMIT = "SEG_DET_MAX_PIXELS"  # the environment variable that carries another limit to loader processes
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


def read_bytes(path: Path) -> bytes:
    """The content of an image file. Raises UserError for one that is missing, cannot be read or is empty."""
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
def opened(source: Path | io.BytesIO, path: Path | str) -> Iterator[Image.Image]:
    """A file, or its content: only the header is read yet. Raises UserError for what goes wrong with it, here or in the block."""
    try:
        with _without_pillow_limit, Image.open(source, formats=FORMATS) as image:
            require_moderate(image.size, path)
            _require_single(image, path)
            yield image
    except UserError:
        raise
    except NoBrightness as error:
        raise UserError(f"the image {path} {error}") from error
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
                f"the image {path} is {name} inside, which is not read ({READ} are); "
                "save it as JPEG or take it out of the data set"
            )
    if head.startswith(TIFFS):
        return UserError(
            f"the image {path} is a TIFF that is broken, or of a kind that is not read (fractions in colour are one); "
            "save it as PNG or take it out of the data set"
        )
    return UserError(f"the image {path} is broken (no known image format); {READ} are read; {REMEDY}")


def require_moderate(size: tuple[int, int], path: Path | str) -> None:
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
        return getattr(image, "n_frames", 1)
    count = 0
    for page in range(getattr(image, "n_frames", 1)):
        image.seek(page)
        kind = tags_of(image).get(NEW_SUBFILE_TYPE, 0)
        count += not any(kind & bit for bit in NOT_FULL)
    image.seek(0)
    return count
