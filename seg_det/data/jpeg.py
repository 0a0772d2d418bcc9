"""What the bytes of a JPEG say before it is decoded: its size, its metadata, and whether its pixels are damaged."""

from __future__ import annotations

import struct
from typing import NamedTuple

from seg_det.data.orientation import EXIF_NAME, XMP_NAME

# Three bytes of JPEG's: of OpenCV's decoders none but libjpeg's takes a file that begins with them.
JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame's header, whatever its coding
JPEG_BARE = {0x00, 0x01, *range(0xD0, 0xD8)}  # markers without a length, which libjpeg skips
APP0 = 0xE0  # markers from here on are not about the pixels
APP1 = 0xE1  # the marker of EXIF data and of XMP


class JpegHeader(NamedTuple):
    """What stands before the pixels; (0, 0) is the size of a file without a frame."""

    size: tuple[int, int] = (0, 0)  # (width, height), as stored
    exif: bytes | None = None
    xmp: bytes | None = None
    frame: int = 0  # the place of the frame's marker
    tables: int = 0  # of the first segment that is about the pixels: a table as a rule
    scan: int = 0  # the place of the first scan's marker, 0 without one


def read_header(data: bytes) -> JpegHeader:
    """The header of a JPEG, in a hundredth of Pillow's time.

    Walks over the markers as libjpeg does, so that no other frame header can be put in the way of the one that it decodes.
    """
    header, place = JpegHeader(), 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(data):
        marker = data[place + 1]
        if marker == 0xFF:  # markers may be preceded by any number of these
            place += 1
        elif marker in JPEG_BARE:
            place += 2
        elif marker in (JPEG_SCAN[1], JPEG_END[1]):
            return header._replace(scan=place if marker == JPEG_SCAN[1] else 0)
        else:
            length = max(2, struct.unpack_from(">H", data, place + 2)[0])
            header = _with_segment(header, data, place, length)
            place += 2 + length
    return header


def _with_segment(header: JpegHeader, data: bytes, place: int, length: int) -> JpegHeader:
    """The header with what the segment says whose marker stands at ``place``; of several frames the first counts."""
    marker = data[place + 1]
    if marker == APP1:
        exif, xmp = _metadata(data[place + 4 : place + 2 + length], header.exif, header.xmp)
        return header._replace(exif=exif, xmp=xmp)
    if not header.tables and marker < APP0:
        header = header._replace(tables=place)
    if marker in JPEG_FRAMES and not header.frame and place + 9 <= len(data):
        height, width = struct.unpack_from(">HH", data, place + 5)
        header = header._replace(size=(width, height), frame=place)
    return header


def _metadata(segment: bytes, exif: bytes | None, xmp: bytes | None) -> tuple[bytes | None, bytes | None]:
    """EXIF data, which may be split over several segments, and XMP, of which the last one counts: as Pillow reads them."""
    if segment.startswith(EXIF_NAME):
        return (segment if exif is None else exif + segment[len(EXIF_NAME) :]), xmp
    return exif, (segment[len(XMP_NAME) :] if segment.startswith(XMP_NAME) else xmp)


def has_end(data: bytes) -> bool:
    """Whether the last end of an image follows the last beginning of pixels."""
    # The thumbnail in a header has an end of its own, and some cameras append bytes: so the last end must follow
    # the last scan. Decoders would paint the missing rest grey, or not, depending on their version.
    return data.endswith(JPEG_END) or data.rfind(JPEG_END) > data.rfind(JPEG_SCAN)
