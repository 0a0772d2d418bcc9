"""What becomes of a detector's errors when another score threshold is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seg_det.metrics.cases import Case, Confusion, confusion

SCORES = tuple(n / 100 for n in range(1, 100))  # thresholds to choose from


class AtThreshold(NamedTuple):
    """All classes together, of the detections that score at least ``threshold``. Fractions 0..1.

    ``precision`` is None without such a detection, ``recall`` without an object, ``f1`` without both.
    """

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    confusion: Confusion


def at_thresholds(case: Case, names: Sequence[str], thresholds: Sequence[float] = SCORES) -> Iterator[AtThreshold]:
    """The figures and the confusion of classes called ``names`` at each threshold, one after the other."""
    hits, shown = np.append(0, np.cumsum(case.true)), np.append(0, np.cumsum(case.counted))
    present = int(case.present.sum())
    for threshold in thresholds:
        count = int(np.searchsorted(-case.found.score, -threshold, side="right"))  # best first
        hit, given = int(hits[count]), int(shown[count])
        yield AtThreshold(
            threshold,
            precision=hit / given if given else None,
            recall=hit / present if present else None,
            f1=2 * hit / (given + present) if given + present else None,
            confusion=confusion(case, threshold, names),
        )
