"""Which detections of an image are right and which objects are missed, at one score threshold a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seg_det.metrics.cases import Case


class Verdict(NamedTuple):
    """The detections of one image that reach their class's threshold, best first, and its objects as they are labelled."""

    boxes: np.ndarray  # f64 [n, 4], xyxy pixels
    labels: np.ndarray  # i64 [n]
    scores: np.ndarray  # f64 [n]
    wrong: np.ndarray  # bool [n]: finds no object of its class; false for a detection of a crowd
    missed: np.ndarray  # bool [G], of the image's objects; false for crowds


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on all images of a split, numbered as in the :class:`~seg_det.metrics.cases.Case`."""

    case: Case
    shown: np.ndarray  # bool [D]
    missed: np.ndarray  # bool [G]
    right: np.ndarray  # i64 [I], detections that find an object, by image
    false: np.ndarray  # i64 [I], detections that find none
    lost: np.ndarray  # i64 [I], objects that none finds

    @property
    def errors(self) -> np.ndarray:
        """False detections and missed objects of each image, i64 [I]."""
        return self.false + self.lost

    @property
    def f1(self) -> np.ndarray:
        """F1 of each image, f64 [I]; 1 where there is nothing to find and nothing was found."""
        whole = 2 * self.right + self.errors
        return np.divide(2 * self.right, whole, out=np.ones(len(whole)), where=whole > 0)

    def of(self, image: int) -> Verdict:
        """The verdict on one image."""
        rows = np.flatnonzero(self.shown & (self.case.found.image == image))
        boxes = self.case.found.boxes[rows].copy()
        boxes[:, 2:] += boxes[:, :2]
        return Verdict(
            boxes,
            self.case.found.label[rows],
            self.case.found.score[rows],
            wrong=(self.case.counted & (self.case.target < 0))[rows],
            missed=self.missed[self.case.objects.image == image],
        )


def verdicts(case: Case, thresholds: Sequence[float], images: int) -> Verdicts:
    """The verdicts on ``images`` images by one threshold a class: what scores at least that much is shown."""
    shown = case.found.score >= np.asarray(thresholds, np.float64)[case.found.label]
    target = case.target[shown & (case.target >= 0)]
    missed = ~case.objects.crowd
    missed[target] = False
    right = shown & case.true
    false = shown & case.counted & (case.target < 0)
    by_image = (case.found.image[right], case.found.image[false], case.objects.image[missed])
    return Verdicts(case, shown, missed, *(np.bincount(rows, minlength=images) for rows in by_image))
