"""COCO's run lengths, checked before pycocotools decodes them: of bad ones it makes wrong regions, or worse.

Format: ``rleToString`` and ``rleFrString`` in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seg_det.errors import UserError

FIRST = 48  # the character of 0; the others follow up to 63
DATA, MORE, SIGN = (
    0x1F,
    0x20,
    0x10,
)  # bits of a character: of the number, whether another follows, negative if it is the last
MOST_CHARACTERS = 7  # of a number: 35 bits


def checked_runs(segmentation: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of an image of ``size`` (H, W) as pycocotools takes them. Raises UserError that says what is wrong."""
    written, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(written, list) or len(written) != 2:
        raise UserError("has run lengths without their size [height, width]")
    if tuple(written) != tuple(size):
        raise UserError(f"has run lengths for {written[1]} x {written[0]} pixels on an image of {size[1]} x {size[0]}")
    runs = _decompressed(counts) if isinstance(counts, str) else _whole(counts)
    if (runs < 0).any():
        raise UserError("has run lengths with a negative one: they are damaged")
    if (total := int(runs.sum())) != size[0] * size[1]:
        raise UserError(f"has run lengths for {total} pixels on an image of {size[1]} x {size[0]}: they are damaged")
    return {"size": list(size), "counts": counts if isinstance(counts, str) else runs.tolist()}


def _whole(counts: Any) -> np.ndarray:
    try:
        runs = np.array(counts if isinstance(counts, list) else [None], np.float64)
    except (TypeError, ValueError, OverflowError):
        runs = np.full(1, np.nan)
    # A sum of numbers below 2**31 is exact; the largest image has 2**28 pixels.
    if runs.ndim != 1 or not ((runs == np.floor(runs)) & (np.abs(runs) < 2**31)).all():
        raise UserError("has run lengths that are no list of whole numbers")
    return runs.astype(np.int64)


def _decompressed(text: str) -> np.ndarray:
    """i64 [N]: numbers in characters of five bits, the lowest first; from the fourth on the difference to the last but one."""
    codes = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - FIRST
    ends = np.flatnonzero((codes & MORE) == 0)
    if ((codes < 0) | (codes > DATA + MORE)).any():
        raise UserError("has run lengths with a character that they cannot hold: they are damaged")
    if not len(ends) or ends[-1] != len(codes) - 1:
        raise UserError("has run lengths that are empty or end within a number: they are damaged")
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if places.max() >= MOST_CHARACTERS:
        raise UserError("has run lengths with a number beyond all bounds: they are damaged")
    values = np.add.reduceat((codes & DATA) << (5 * places), starts)
    values -= np.where(codes[ends] & SIGN, 1 << (5 * (places[ends] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
