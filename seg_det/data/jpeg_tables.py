"""The tables of a JPEG: Huffman codes and steps of quantisation. ITU-T T.81, B.2.4."""

from __future__ import annotations

import struct

STEPS, CODES = 0xDB, 0xC4  # markers of segments
LONGEST = 16  # bits of a code


class Damaged(ValueError):
    """A JPEG whose tables, markers or image data cannot be right; the end of a sentence that begins with the file."""


def read_tables(data: bytes, place: int, end: int) -> dict[int, bytes]:
    """The symbols of the Huffman tables between two places, by their class (0x10: AC) and number, the shortest codes first.

    Raises Damaged for tables that no encoder writes.
    """
    tables: dict[int, bytes] = {}
    while place + 4 <= end:
        if data[place] != 0xFF:
            raise Damaged("a segment before its image data has a wrong length")
        if data[place + 1] == 0xFF:  # fills
            place += 1
            continue
        behind = place + 2 + struct.unpack_from(">H", data, place + 2)[0]
        if data[place + 1] == CODES:
            tables |= _codes(data[place + 4 : behind])
        elif data[place + 1] == STEPS:
            _check_steps(data[place + 4 : behind])
        place = behind
    return tables


def _codes(segment: bytes) -> dict[int, bytes]:
    found = {}
    while len(segment) > LONGEST:
        counts = segment[1 : 1 + LONGEST]
        symbols = segment[1 + LONGEST : 1 + LONGEST + sum(counts)]
        share = sum(count / 2**bits for bits, count in enumerate(counts, start=1))  # of all codes
        if share > 1 or len(symbols) < sum(counts) or len(set(symbols)) < len(symbols) or not symbols:
            raise Damaged("its table of Huffman codes is damaged")
        found[segment[0]] = symbols
        segment = segment[1 + LONGEST + len(symbols) :]
    return found


def _check_steps(segment: bytes) -> None:
    while segment:
        wide = segment[0] >> 4
        steps = segment[1 : 65 + 64 * wide]
        zero = 0 in steps if not wide else b"\0\0" in (steps[i : i + 2] for i in range(0, len(steps), 2))
        if zero or len(steps) < 64 + 64 * wide:
            raise Damaged("its table of quantisation is damaged")
        segment = segment[65 + 64 * wide :]
