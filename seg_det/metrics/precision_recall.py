"""Precision over recall as COCO computes it: of all classes, and class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg_det.metrics.precision import RECALLS, THRESHOLDS, Curves

AT_50, AT_75, MEAN = "IoU 0.50", "IoU 0.75", "IoU 0.50:0.95"
DECIMALS = 4  # in files

Lines = dict[str, tuple[float, ...]]  # AT_50, ... -> precision 0..1 at each of the 101 recalls


@dataclass(frozen=True)
class PrecisionRecall:
    """The highest precision at each recall 0, 0.01, ..., 1 or above, of objects of all areas and 100 detections an image.

    Classes without an object to be found are in neither.
    """

    overall: Lines  # mean of the classes; empty without any
    per_class: dict[str, Lines]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON, rounded: ``recall``, ``overall``, ``per_class``."""
        return {
            "recall": RECALLS.round(2).tolist(),
            "overall": _rounded(self.overall),
            "per_class": {name: _rounded(lines) for name, lines in self.per_class.items()},
        }


def precision_recall(curves: Curves, names: Sequence[str]) -> PrecisionRecall:
    """The curves of K classes, called ``names``, at IoU 0.50, and as mean over 0.50 to 0.95; of all also at 0.75."""
    precision = curves.precision[..., 0]  # [T, R, K]
    present = np.flatnonzero(precision[0, 0] > -1).tolist()
    if not present:
        return PrecisionRecall({}, {})
    mean = precision[:, :, present].mean(axis=2)
    per_class = {names[k]: _lines(precision[:, :, k], (AT_50, MEAN)) for k in present}
    return PrecisionRecall(_lines(mean, (AT_50, AT_75, MEAN)), per_class)


def _lines(precision: np.ndarray, wanted: Sequence[str]) -> Lines:
    """Of precision f64 [T, R]."""
    at = {name: int(np.flatnonzero(iou == THRESHOLDS)[0]) for name, iou in ((AT_50, 0.5), (AT_75, 0.75))}
    every = {**{name: precision[t] for name, t in at.items()}, MEAN: precision.mean(axis=0)}
    return {name: tuple(every[name].tolist()) for name in wanted}


def _rounded(lines: Lines) -> dict[str, list[float]]:
    return {name: [round(value, DECIMALS) for value in line] for name, line in lines.items()}
