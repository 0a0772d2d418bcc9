"""Which way up the image of a file is: what its metadata say, and the rotation that follows.

The only place where that is decided. Neither OpenCV's nor Pillow's own reading of orientations is relied on: they know different
metadata, so the size that a header gave would not be that of the pixels.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from seg_det.data.depth import tags_of
from seg_det.data.image_files import opened

UPRIGHT, LARGEST = 1, 8  # EXIF's numbers of orientations
TURNED = (5, 6, 7, 8)  # by 90 degrees: height and width change places
TAG = 274  # of EXIF and of TIFF
WHOLE = {
    1: "B",
    3: "H",
    4: "I",
}  # EXIF's types of whole numbers, as struct calls them; the standard wants 3
IN_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([0-9])")
PROFILES = ("Raw profile type exif", "Raw profile type APP1")  # ImageMagick's texts in PNG
XMP_TEXT = "XML:com.adobe.xmp"  # the name of a text in PNG
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"  # before XMP in a segment of JPEG's, and in such a text
EXIF_NAME = b"Exif\0\0"
PNG_CHUNKS = re.compile(rb"eXIf|zTXt|tEXt|iTXt")
PNG_HEAD = 33  # bytes of the signature and the header
TAIL = (
    2**16
)  # bytes at the end of a PNG, in which metadata behind the pixels are looked for: ExifTool writes them there


def orientation_of(image: Image.Image, name: Path | str, head: bytes = b"", tail: bytes = b"") -> int:
    """EXIF's number, 1 to 8, for an opened file whose pixels are not decoded yet.

    A TIFF's own tag or EXIF decides, else XMP. Of a PNG the first bytes ``head`` and the last ones ``tail`` tell what lies behind
    the pixels. ``name`` is for messages: raises UserError for metadata that cannot be read.
    """
    if has_own_tag(image):
        return _known(tags_of(image)[TAG])
    xmp = image.info.pop("xmp", None)  # Pillow would apply that of a TIFF as it decodes the pixels
    if image.format != "PNG":
        return orientation_in(image.info.get("exif"), xmp)
    info = {**_behind_the_pixels(head, tail, name), **image.info}
    return orientation_in(_exif_of_png(info), xmp or info.get("xmp") or info.get(XMP_TEXT))


def has_own_tag(image: Image.Image) -> bool:
    """Whether it is a TIFF with that tag, which newer versions of Pillow apply and remove as they decode."""
    return image.format == "TIFF" and TAG in tags_of(image)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(H, W) as stored: those of a TIFF newer versions of Pillow exchange as its tag says."""
    width, height = (tags_of(image)[256], tags_of(image)[257]) if image.format == "TIFF" else image.size
    return height, width


def orientation_in(exif: bytes | None, xmp: bytes | str | None) -> int:
    """What EXIF data say, else XMP: 1 to 8, and 1 for what they do not say or say wrongly."""
    number = _in_exif((exif or b"").removeprefix(EXIF_NAME))
    if number is None and xmp:
        match = IN_XMP.search(xmp.encode() if isinstance(xmp, str) else xmp)
        number = int(match.group(1)) if match else None
    return _known(number)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W] or [H, W, 3] as stored to upright, contiguous; EXIF 4.6.4, tag 274."""
    if orientation == UPRIGHT:
        return pixels
    transposed = pixels.swapaxes(0, 1)
    views = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: transposed,
        6: transposed[:, ::-1],
        7: transposed[::-1, ::-1],
        8: transposed[::-1],
    }
    if pixels.dtype == np.uint8 and (turn := TURNS.get(orientation)) is not None:
        return cv2.rotate(pixels, turn)  # several times faster than copying the view
    return np.ascontiguousarray(views[orientation])


TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}


def _known(number: Any) -> int:
    return number if isinstance(number, int) and UPRIGHT <= number <= LARGEST else UPRIGHT


def _in_exif(exif: bytes) -> int | None:
    """The number in the first directory of EXIF data; None where there is none that can be read."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, numbers = struct.unpack_from(order + "HHI", exif, place)
            if tag == TAG and kind in WHOLE and numbers:
                return struct.unpack_from(order + WHOLE[kind], exif, place + 8)[0]
    except struct.error:
        pass
    return None


def _exif_of_png(info: Mapping[Any, Any]) -> bytes | None:
    """EXIF data in the chunk for them, or in ImageMagick's text: name, number of bytes, digits."""
    if info.get("exif"):
        return info["exif"]
    for name in PROFILES:
        digits = "".join(str(info.get(name, "")).split("\n")[3:])
        if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", digits) and (data := bytes.fromhex(digits)).startswith(EXIF_NAME):
            return data
    return None


def _behind_the_pixels(head: bytes, tail: bytes, name: Path | str) -> dict[Any, Any]:
    """What Pillow reads from chunks between the pixels of a PNG and its end."""
    for match in PNG_CHUNKS.finditer(tail):
        if match.start() >= 4 and (end := _end_of_chunks(tail, match.start() - 4)):
            chunks = tail[match.start() - 4 : end]
            pixels = struct.pack(">I", 1) + b"IDAT\0"  # where Pillow stops to read
            with opened(io.BytesIO(head[:PNG_HEAD] + chunks + pixels), name) as image:
                return dict(image.info)
    return {}


def _end_of_chunks(tail: bytes, start: int) -> int:
    """Where the chunks from ``start`` reach the last one, IEND; 0 if they do not, so that none begins there."""
    place = start
    while place + 12 <= len(tail):
        (size,), kind = struct.unpack_from(">I", tail, place), tail[place + 4 : place + 8]
        if kind == b"IEND":
            return place
        place += 12 + size
    return 0
