"""What the bytes of a PNG say before it is decoded."""

from __future__ import annotations

import struct
import zlib

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def wrong_checksum(data: bytes) -> str:
    """The name of the first chunk whose checksum is wrong; empty if there is none. Pillow does not look at those of pixels."""
    place = len(PNG_START)
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        kind, end = data[place + 4 : place + 8], place + 8 + size
        if struct.pack(">I", zlib.crc32(data[place + 4 : end])) != data[end : end + 4]:
            return kind.decode("ascii", "replace")
        if kind == b"IEND":
            break
        place = end + 4
    return ""
