"""Pascal VOC average precision: one IoU threshold, every-point (VOC2010 and later) or 11-point (VOC2007) interpolation.

The official evaluator compares inclusive pixel numbers: a box xmin..xmax is ``xmax - xmin + 1`` wide. Here the same box
is the half-open [xmin - 1, xmax), whose width x2 - x1 is that very number, and intersections keep the equality. So the
ordinary IoU of our boxes *is* the VOC figure, and there is no "+ 1" below; adding one would count it twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seg_det.data.records import DetectionRecord
from seg_det.metrics.arrays import Found, Objects, found_in, objects_of
from seg_det.metrics.coco import unique_names
from seg_det.metrics.matching import overlapping
from seg_det.metrics.precision import best_first
from seg_det.types import Category, Detections

# As floating numbers (0.30000000000000004), as the published evaluators compare: exact tenths give other figures.
ELEVEN_RECALLS = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class VocScores:
    """Fractions 0..1. A class without an object to be found is None, and left out of the mean."""

    mean_ap: float | None  # None if no class has an object
    per_class: dict[str, float | None]  # class name -> AP


class VocVerdicts(NamedTuple):
    """All detections that count, by class and descending score."""

    true: np.ndarray  # bool [D]
    label: np.ndarray  # i64 [D]
    present: np.ndarray  # i64, objects to be found by label, up to the highest label that has one


def evaluate_voc(
    records: Sequence[DetectionRecord],
    detections: Mapping[int, Detections],
    categories: Sequence[Category],
    *,
    iou_threshold: float = 0.5,
    use_11_points: bool = False,
    count_difficult: bool = False,
) -> VocScores:
    """VOC AP of the detections, given by image id; an image that is not among them has none.

    Detections of a class are taken by descending score over all images (equal scores: in order of the records). Each
    belongs to the object of its class and image with the highest IoU, and only to that one: it is true if
    IoU >= ``iou_threshold`` and no better detection took the object, else false; a second find is false too. One whose
    object is ``difficult`` counts as neither, and such objects need not be found, unless ``count_difficult``.
    Crowd regions, which VOC does not know, are treated as difficult objects always.

    Raises:
        UserError: detections for images that are not in the records, numbers that are not finite, labels that no
            category has.
    Source: Everingham et al., The Pascal VOC Challenge (IJCV 2010), section 4.2; VOCevaldet.m of the development kit.
    """
    found = found_in(records, detections, len(categories))
    verdicts = judge_voc(records, objects_of(records), found, iou_threshold, count_difficult=count_difficult)
    return average_voc(verdicts, categories, use_11_points=use_11_points)


def judge_voc(
    records: Sequence[DetectionRecord],
    objects: Objects,
    found: Found,
    iou_threshold: float = 0.5,
    *,
    count_difficult: bool = False,
) -> VocVerdicts:
    """Whether each detection is true, as told for :func:`evaluate_voc`; objects and images are those of the records."""
    ignored = np.concatenate(
        [np.empty(0, bool), *(r.crowd if count_difficult else r.crowd | r.difficult for r in records)]
    )
    found, _ = best_first(found, len(found.label))
    row, target = _best_objects(objects, found, iou_threshold)
    # np.unique points at the first, that is the best scored, hit of every object
    winners = row[np.unique(target, return_index=True)[1]]
    true, counted = np.zeros((2, len(found.label)), bool)
    true[winners], counted[:] = True, True
    counted[row] = ~ignored[target]
    present = np.bincount(objects.label[~ignored]) if len(objects.label) else np.empty(0, np.int64)
    return VocVerdicts(true[counted], found.label[counted], present)


def _best_objects(objects: Objects, found: Found, iou_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the detections that reach the threshold, ascending, and the object that each overlaps most."""
    # Of equal IoUs the first object counts, and the last pair of a detection is its best: so the objects are turned round.
    turned = Objects(*(column[::-1] for column in objects._replace(crowd=np.zeros(len(objects.label), bool))))
    pairs = overlapping(turned, found, iou_threshold)
    best = np.flatnonzero(np.diff(pairs.detection, append=-1))
    return pairs.detection[best], len(objects.label) - 1 - pairs.object[best]


def average_voc(verdicts: VocVerdicts, categories: Sequence[Category], *, use_11_points: bool = False) -> VocScores:
    """The AP of each class, and the mean of those that have objects."""
    average = _average_11_points if use_11_points else _average_every_point
    cuts = np.searchsorted(verdicts.label, np.arange(1, len(categories)))
    present = np.pad(verdicts.present, (0, len(categories) - len(verdicts.present))).tolist()
    per_class = {
        name: average(*_curve(true, objects)) if objects else None
        for name, true, objects in zip(unique_names(categories), np.split(verdicts.true, cuts), present, strict=True)
    }
    averages = [value for value in per_class.values() if value is not None]
    return VocScores(float(np.mean(averages)) if averages else None, per_class)


def _curve(correct: np.ndarray, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision after each detection, [D] and [D]."""
    true = np.cumsum(correct)
    return true / objects, true / np.arange(1, len(correct) + 1)


def _average_every_point(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the curve of the highest precision at each recall or a greater one."""
    steps = np.diff(recall, prepend=0.0)
    return float((steps * _envelope(precision)).sum())


def _average_11_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean of that precision at the recalls 0, 0.1, ..., 1; 0 where a recall is never reached."""
    reached = np.searchsorted(recall, ELEVEN_RECALLS, side="left")
    return float(np.append(_envelope(precision), 0.0)[reached].mean())


def _envelope(precision: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(precision[::-1])[::-1]
