"""What costs a detector its AP: the kinds of its errors, the classes it confuses, the score from which to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seg_det.metrics.arrays import Found, Objects
from seg_det.metrics.cases import FOUND_IOU, NO_DETECTION, NO_OBJECT, Case, Confusion, case_of, confusion, only
from seg_det.metrics.coco import unique_names
from seg_det.metrics.precision import interpolated
from seg_det.types import Category

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))
SIZES = ("small", "medium", "large")
SIZE_BOUNDS = (32.0**2, 96.0**2)  # where medium and large begin


@dataclass(frozen=True)
class OperatingPoint:
    """The score from which detections are best believed, and how good they are then. Fractions 0..1.

    All None without an object to be found; threshold and precision None if no detection is right.
    """

    threshold: float | None  # detections with this score belong in
    f1: float | None
    precision: float | None
    recall: float | None

    def to_dict(self) -> dict[str, float | None]:
        """For tables: ``best_threshold``, ``F1``, ``precision``, ``recall``."""
        return {
            "best_threshold": self.threshold,
            "F1": self.f1,
            "precision": self.precision,
            "recall": self.recall,
        }


@dataclass(frozen=True)
class DetectionErrors:
    """The errors of a detector at IoU 0.5."""

    counts: dict[str, int]  # the names of KINDS, in that order
    lost: dict[str, float | None]  # AP50 that mending all errors of that kind would bring; None without objects
    lost_by_size: dict[str, dict[str, float | None]]  # the same of the errors on objects of one of SIZES
    operating_point: OperatingPoint  # one threshold for all classes
    per_class: dict[str, OperatingPoint]
    confusion: Confusion  # above that one threshold

    def confused(self, most: int = 10) -> dict[str, int]:
        """The classes most often taken for another, ``{"cat taken for dog": 3}``, most frequent first."""
        pairs = {
            f"{true} taken for {guess}": count
            for true, row in self.confusion.items()
            for guess, count in row.items()
            if true not in (guess, NO_OBJECT) and guess != NO_DETECTION
        }
        return dict(sorted(pairs.items(), key=lambda item: -item[1])[:most])


class _Mistakes(NamedTuple):
    """The kind of each detection's error, and the object that it is about."""

    kind: np.ndarray  # i64 [D], -1 for no error
    object: np.ndarray  # i64 [D], -1 for none
    mends: np.ndarray  # bool [D], the detection that would find its object, were it not for the error
    missed: np.ndarray  # bool [G], objects that no detection finds or would find


def analyse_errors(objects: Objects, found: Found, categories: Sequence[Category]) -> DetectionErrors:
    """The errors of detections, whose labels index the categories, in the terms of TIDE.

    Of a wrong detection, the first of these holds. Localisation: IoU 0.1 to 0.5 with an object of its class.
    Classification: IoU from 0.5 with one of another class. Duplicate: IoU from 0.5 with one of its class, which a better
    detection has found. Background: IoU below 0.1 with every object. Both: all others. An object that no right detection
    and no error of the first two kinds is about is missed. Mending gives the best of the detections concerned to an
    object that is still free, and takes away all others; missed objects are no longer looked for (a class of which none
    remains has AP 1). A size is that of the object concerned, for background that of the detection's box.
    Detections of crowds are no errors. Source: Bolya et al., TIDE (2020), section 2.
    """
    case = case_of(objects, found, len(categories))
    mistakes = _mistakes(case)
    names = unique_names(categories)
    overall = _operating_point(case.true, case.counted, case.found.score, case.present.sum())
    sizes = _sizes(case, mistakes)
    everything = tuple(np.ones(len(size), bool) for size in sizes)
    return DetectionErrors(
        counts=dict(zip(KINDS, _counts(mistakes), strict=True)),
        lost=_lost(case, mistakes, *everything),
        lost_by_size={name: _lost(case, mistakes, *(s == n for s in sizes)) for n, name in enumerate(SIZES)},
        operating_point=overall,
        per_class=dict(zip(names, _operating_points(case), strict=True)),
        confusion=confusion(case, overall.threshold, names),
    )


def _mistakes(case: Case) -> _Mistakes:
    own_iou, own = _nearest(case, case.same_class)
    other_iou, other = _nearest(case, ~case.same_class)
    tests = {
        LOCALISATION: (own_iou > 0) & (own_iou < FOUND_IOU),
        CLASSIFICATION: other_iou >= FOUND_IOU,
        DUPLICATE: own_iou >= FOUND_IOU,
        BACKGROUND: other_iou == 0,
    }
    kind = np.where(case.target < 0, np.select(list(tests.values()), list(tests), default=BOTH), -1)
    concerned = np.select(
        [np.isin(kind, (LOCALISATION, DUPLICATE)), np.isin(kind, (CLASSIFICATION, BOTH))], [own, other], -1
    )
    free = ~case.objects.crowd
    free[case.target[case.true]] = False
    mendable = np.flatnonzero(np.isin(kind, (LOCALISATION, CLASSIFICATION)))
    mendable = mendable[free[concerned[mendable]]]
    reached, best = np.unique(concerned[mendable], return_index=True)  # the first is the best scored
    mends = np.zeros(len(kind), bool)
    mends[mendable[best]] = True
    free[reached] = False
    return _Mistakes(kind, concerned, mends, missed=free)


def _nearest(case: Case, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each detection, the highest IoU among these pairs and its object, f64 [D] and i64 [D]; 0 and -1 for none."""
    iou, nearest = np.zeros(len(case.target)), np.full(len(case.target), -1)
    pairs = only(case.near, rows)
    last = np.flatnonzero(np.diff(pairs.detection, append=-1))  # ordered by IoU
    iou[pairs.detection[last]], nearest[pairs.detection[last]] = pairs.iou[last], pairs.object[last]
    return iou, nearest


def _sizes(case: Case, mistakes: _Mistakes) -> tuple[np.ndarray, np.ndarray]:
    """Indices of SIZES for the detections' errors and for the objects, i64 [D] and i64 [G]."""
    area = case.found.area
    about = mistakes.object >= 0
    area[about] = case.objects.area[mistakes.object[about]]
    found, objects = (np.searchsorted(SIZE_BOUNDS, areas, "right") for areas in (area, case.objects.area))
    return found, objects


def _counts(mistakes: _Mistakes) -> list[int]:
    kinds = np.bincount(mistakes.kind[mistakes.kind >= 0], minlength=len(KINDS))
    return [*kinds[:MISSED].tolist(), int(mistakes.missed.sum())]


def _lost(case: Case, mistakes: _Mistakes, of_found: np.ndarray, of_objects: np.ndarray) -> dict[str, float | None]:
    """AP50 that mending brings, by kind, of the errors at ``of_found`` [D] and the missed objects at ``of_objects`` [G]."""
    if not case.present.any():
        return dict.fromkeys(KINDS)
    label, true, present = case.found.label, case.true, case.present
    before = _ap50(case, label, true, case.counted, present)
    after = []
    for kind in range(MISSED):
        chosen = (mistakes.kind == kind) & of_found
        mended = chosen & mistakes.mends
        new_label = np.where(mended, case.objects.label[mistakes.object], label)
        after.append(_ap50(case, new_label, true | mended, case.counted & ~(chosen & ~mended), present))
    missed = np.bincount(case.objects.label[mistakes.missed & of_objects], minlength=len(present))
    after.append(_ap50(case, label, true, case.counted, present - missed))
    return {name: max(0.0, value - before) for name, value in zip(KINDS, after, strict=True)}


def _ap50(case: Case, label: np.ndarray, true: np.ndarray, counted: np.ndarray, present: np.ndarray) -> float:
    """Mean over the classes that have objects, of which ``present`` [K] are to be found."""
    order = np.argsort(label.astype(np.min_scalar_type(len(present))), kind="stable")
    curves = interpolated(np.flatnonzero(true[order]), counted[order], label[order], present)
    average = np.where(present > 0, curves.mean(axis=0), 1.0)
    return float(average[case.present > 0].mean())


def _operating_points(case: Case) -> list[OperatingPoint]:
    order = np.argsort(case.found.label, kind="stable")
    cuts = np.searchsorted(case.found.label[order], np.arange(1, len(case.present)))
    columns = (np.split(column[order], cuts) for column in (case.true, case.counted, case.found.score))
    return [_operating_point(*parts) for parts in zip(*columns, case.present.tolist(), strict=True)]


def _operating_point(true: np.ndarray, counted: np.ndarray, score: np.ndarray, present: int) -> OperatingPoint:
    """Where F1 is highest, of detections by descending score; of equal ones, the highest threshold."""
    if not present:
        return OperatingPoint(None, None, None, None)
    if not true.any():
        return OperatingPoint(None, 0.0, None, 0.0)
    hits, shown = np.cumsum(true), np.cumsum(counted)
    f1 = 2 * hits / (shown + present)
    f1[np.flatnonzero(score[:-1] == score[1:])] = 0.0  # a threshold cannot part equal scores
    best = int(f1.argmax())
    return OperatingPoint(
        float(score[best]), float(f1[best]), float(hits[best] / shown[best]), float(hits[best] / present)
    )
