"""Whether the pixels of a JPEG are damaged inside: the file is whole, but bytes of its image data were lost or changed.

No decoder reports that: libjpeg prints "Corrupt JPEG data" without a name, and decodes the rest of the image wrongly. It is found
by decoding the file again with small changes. Image data stand in one or more stretches between markers; in a sound file each
holds exactly the bits of its pixels. So

- bytes that are added behind a stretch change nothing: where they do, the pixels took more bits than there are;
- other bytes in the place of its last ones change its last pixels: where they do not, the pixels took fewer bits.

Damage nearly always ends in one of these, because the length of each code depends on the bits before it. It does not in a file
that was written anew from damaged pixels: its data are sound.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from seg_det.data.jpeg import JPEG_END, JPEG_SCAN, JpegHeader
from seg_det.data.jpeg_tables import Damaged, read_tables

MARKER = re.compile(rb"\xff+([\x01-\xfe])")  # in image data the byte FF is written as FF 00
RESTARTS = range(0xD0, 0xD8)
END_OF_BLOCK = 0  # a symbol of Huffman's tables: the rest of a block is zero
RESTART_INTERVAL = b"\xff\xdd\0\x04"
BASELINE, PROGRESSIVE = (0xC0, 0xC1), (0xC2,)  # frames with Huffman's codes
TABLES = (0xC4, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0))  # segments that may stand between scans
ADDED = bytes(
    [0x35, 0xCA, 0x69, 0xB2, 0xA9, 0x1D, 0x56, 0x63] * 32
)  # as many ones as zeros, and no FF, which would begin a marker
CHANGED = 4  # bytes at the end of a stretch; fewer too many go unnoticed
CHANGES = (*(ADDED[place : place + CHANGED] for place in range(8)), b"\x80\0\x80\0", b"\x7f\xfe\x7f\xfe")
RUN = 24  # equal bytes, as files have whose sectors were lost
RUNS = (bytes(RUN), b"\xff" * RUN)

Decode = Callable[
    [bytes], np.ndarray
]  # a file's content to pixels, [H, W] or [H, W, C], whatever is wrong in its image data


class Stretch(NamedTuple):
    """Image data between two markers."""

    start: int
    end: int


def is_suspect(data: bytes, header: JpegHeader) -> bool:
    """Whether tables or image data hold a long run of equal bytes: cheap to know, but rare, and drawn images can have one."""
    for run in RUNS:
        place = data.find(run, header.tables) if header.scan else -1
        if place >= 0 and data.find(JPEG_END, header.scan, place) < 0:
            return True
    return False


def jpeg_damage(data: bytes, header: JpegHeader, decode: Decode) -> str | None:
    """What is wrong with the tables or the image data of a JPEG that has its end, or None.

    Decodes it three times, a progressive one twice and once for each scan. Arithmetic coding is not looked at.
    """
    kind = data[header.frame + 1]
    if not header.scan or kind not in (*BASELINE, *PROGRESSIVE):
        return None
    try:
        tables = read_tables(data, header.tables, header.scan)
        scans = _scans(data, header.scan)
        if kind in BASELINE:
            _refuse_runs(data, header.scan, scans[0], tables)
        _compare(data, header, scans, decode)
    except Damaged as error:
        return str(error)
    return None


def _refuse_runs(data: bytes, place: int, stretches: Sequence[Stretch], tables: Mapping[int, bytes]) -> None:
    """Raises Damaged for a run of zeros that does not stand for blocks of one colour, by the table of the first component."""
    codes = tables.get(0x10 | data[place + 6] & 15, b"\0")
    if codes[0] != END_OF_BLOCK and any(
        data.find(RUNS[0], stretch.start, _end_of_bits(data, stretch)) >= 0 for stretch in stretches
    ):
        raise Damaged("bytes of its image data are zero")


def _end_of_bits(data: bytes, stretch: Stretch) -> int:
    """The end of a stretch without zeros before the marker, which some cameras write."""
    return stretch.start + len(data[stretch.start : stretch.end].rstrip(b"\0"))


def _compare(data: bytes, header: JpegHeader, scans: Sequence[Sequence[Stretch]], decode: Decode) -> None:
    """Raises Damaged where a stretch is too short or too long for its pixels."""
    found = decode(data)
    if not np.array_equal(found, decode(_with_added(data, [stretch for scan in scans for stretch in scan]))):
        raise Damaged("bytes of its image data are missing or changed")
    if data[header.frame + 1] in BASELINE and len(scans) == 1:
        surplus = _has_surplus(data, scans[0], _last_places(data, header, len(scans[0])), found, decode)
    else:
        single = [scan for scan in scans if not _refines_averages(data, scan)]
        surplus = any(_has_surplus(data, scan[-1:], [()], found, decode) for scan in single)
    if surplus:
        raise Damaged("its image data hold bytes too many, or changed ones")


def _scans(data: bytes, place: int) -> list[list[Stretch]]:
    """The stretches of each scan, from the marker of the first one. Raises Damaged for markers that cannot stand there."""
    scans: list[list[Stretch]] = []
    marker = JPEG_SCAN[1]
    while marker != JPEG_END[1]:
        if marker == JPEG_SCAN[1]:
            scan, place, marker = _scan(data, place + 2 + _length(data, place))
            scans.append(scan)
        elif marker in TABLES:
            place += 2 + _length(data, place)
            match = MARKER.match(data, place)
            if match is None:
                raise Damaged("a segment between its scans has a wrong length")
            place, marker = match.end() - 2, match[1][0]
        else:
            raise Damaged(f"the marker FF {marker:02X} stands in its image data")
    return scans


def _length(data: bytes, place: int) -> int:
    return struct.unpack_from(">H", data, place + 2)[0]


def _scan(data: bytes, start: int) -> tuple[list[Stretch], int, int]:
    """The stretches of a scan whose image data begin at ``start``, and the place and the code of the marker behind it."""
    stretches: list[Stretch] = []
    while (match := MARKER.search(data, start)) is not None:
        stretches.append(Stretch(start, match.start()))
        marker, start = match[1][0], match.end()
        if marker not in RESTARTS:
            return stretches, match.end() - 2, marker
        if marker != RESTARTS[(len(stretches) - 1) % len(RESTARTS)]:
            raise Damaged("its restart markers are out of order")
    raise Damaged("the end of its image data is missing")


def _with_added(data: bytes, stretches: Sequence[Stretch]) -> bytes:
    ends = [0, *(stretch.end for stretch in stretches), len(data)]
    return ADDED.join(data[start:end] for start, end in pairwise(ends))


def _last_places(data: bytes, header: JpegHeader, stretches: int) -> list[tuple[slice, ...]]:
    """Where the last pixels of each stretch of a baseline scan lie: [rows, columns], all for a single one.

    Raises Damaged for another number of stretches than the restart interval makes.
    """
    interval = data.rfind(RESTART_INTERVAL, 0, header.scan)
    every = struct.unpack_from(">H", data, interval + 4)[0] if interval >= 0 else 0
    if stretches == 1 or not every:
        return [()] * stretches
    width, height = header.size
    factors = [data[header.frame + 11 + 3 * i] for i in range(data[header.frame + 9])]
    across, down = (8, 8) if len(factors) == 1 else (8 * max(f >> 4 for f in factors), 8 * max(f & 15 for f in factors))
    row = -(-width // across)
    total = row * -(-height // down)
    if -(-total // every) != stretches:
        raise Damaged("some of its restart markers are missing, or too many")
    last = np.minimum(np.arange(1, stretches + 1) * every, total) - 1
    return [
        (slice(y * down, (y + 1) * down), slice(max(0, x - 1) * across, (x + 1) * across))
        for y, x in zip(*np.divmod(last, row), strict=True)
    ]


def _has_surplus(
    data: bytes, stretches: Sequence[Stretch], places: Sequence[tuple[slice, ...]], found: np.ndarray, decode: Decode
) -> bool:
    """Whether the last bytes of a stretch have no effect on the pixels at its place."""
    left = [(s, p) for s, p in zip(stretches, places, strict=True) if s.end - s.start > 4 * CHANGED]
    for fill in CHANGES:
        if not left:
            return False
        other = decode(_with_other_ends(data, [stretch for stretch, _ in left], fill))
        left = [(stretch, place) for stretch, place in left if np.array_equal(other[place], found[place])]
    return bool(left)


def _refines_averages(data: bytes, scan: Sequence[Stretch]) -> bool:
    """Whether a progressive scan holds one further bit of each block's average, which alone may not be seen in a white area."""
    first, _, bits = data[scan[0].start - 3 : scan[0].start]
    return first == 0 and bits >> 4 > 0


def _with_other_ends(data: bytes, stretches: Sequence[Stretch], fill: bytes) -> bytes:
    changed = bytearray(data)
    for stretch in stretches:
        end = _end_of_bits(data, stretch)
        start = max(stretch.start, end - CHANGED)
        start -= start > stretch.start and data[start - 1] == 0xFF  # else it would begin a marker
        changed[start:end] = (fill * 2)[: end - start]
    return bytes(changed)
