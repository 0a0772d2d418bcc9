"""All detections of a split with what became of each: what errors, confusions and verdicts are counted from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seg_det.metrics.arrays import Found, Objects
from seg_det.metrics.matching import Pairs, match, overlapping
from seg_det.metrics.precision import MAX_DETECTIONS, best_first

FOUND_IOU, NEAR_IOU = 0.5, 0.1  # an object is found, or at least meant
NO_OBJECT, NO_DETECTION = "(background)", "(missed)"  # in brackets, because a class may have the bare name

Confusion = dict[str, dict[str, int]]  # object -> detection -> count; zeros left out


class Case(NamedTuple):
    """Detections by descending score, each with what became of it; and the objects."""

    objects: Objects
    found: Found
    near: Pairs  # IoU from NEAR_IOU, across classes, without crowds
    close: Pairs  # those of them with IoU from FOUND_IOU
    target: np.ndarray  # i64 [D], the object found, -1 for none
    counted: np.ndarray  # bool [D], false for a detection of a crowd
    present: np.ndarray  # i64 [K], objects to be found

    @property
    def true(self) -> np.ndarray:
        """bool [D]."""
        return self.counted & (self.target >= 0)

    @property
    def same_class(self) -> np.ndarray:
        """bool [P], of the near pairs."""
        return self.objects.label[self.near.object] == self.found.label[self.near.detection]


def case_of(objects: Objects, found: Found, num_classes: int) -> Case:
    """The detections, at most 100 of a class in an image, matched with the objects at IoU 0.5 as COCO does."""
    found, _ = best_first(found, MAX_DETECTIONS[-1])
    found = found.select(np.argsort(-found.score, kind="stable"))
    pairs = overlapping(objects, found, NEAR_IOU, across_classes=True)
    rivals = only(pairs, (objects.label[pairs.object] == found.label[pairs.detection]) & (pairs.iou >= FOUND_IOU))
    target = _target(rivals, found.group, objects.crowd)
    counted = np.ones(len(target), bool)
    counted[target >= 0] = ~objects.crowd[target[target >= 0]]
    near = only(pairs, ~objects.crowd[pairs.object])
    return Case(
        objects,
        found,
        near=near,
        close=only(near, near.iou >= FOUND_IOU),
        target=target,
        counted=counted,
        present=np.bincount(objects.label[~objects.crowd], minlength=num_classes),
    )


def only(pairs: Pairs, rows: np.ndarray) -> Pairs:
    """The pairs at ``rows`` (indices or a mask)."""
    return Pairs(*(column[rows] for column in pairs))


def _target(pairs: Pairs, groups: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """The object that each detection finds, i64 [D], -1 for none."""
    target = np.full(len(groups), -1)
    matches = match(pairs, groups, np.array([FOUND_IOU]), ignored=crowd[None], crowd=crowd)
    target[matches.detection] = matches.object[0, 0]
    return target


def confusion(case: Case, threshold: float | None, names: Sequence[str]) -> Confusion:
    """Objects by the detections of them that score at least ``threshold`` (None: all).

    Objects and detections that found each other come first, then the rest of both by IoU alone, then what is left by itself.
    """
    shown = case.counted & (case.found.score >= (-np.inf if threshold is None else threshold))
    target = np.where(shown, case.target, -1)
    free = ~case.objects.crowd
    free[target[target >= 0]] = False
    left = only(case.close, (shown & (target < 0))[case.close.detection] & free[case.close.object])
    target = np.maximum(target, _target(left, case.found.image, case.objects.crowd))
    free[target[target >= 0]] = False
    nothing = len(names)  # the number of "background" among objects and of "missed" among detections
    true = np.append(case.objects.label, nothing)[target[shown]]
    rows = np.concatenate([true, case.objects.label[free]])
    columns = np.concatenate([case.found.label[shown], np.full(free.sum(), nothing)])
    cells, counts = np.unique(rows * (nothing + 1) + columns, return_counts=True)
    table: Confusion = {}
    for row, column, count in zip(*np.divmod(cells, nothing + 1), counts.tolist(), strict=True):
        guesses = table.setdefault([*names, NO_OBJECT][row], {})
        guesses[[*names, NO_DETECTION][column]] = count
    return table
