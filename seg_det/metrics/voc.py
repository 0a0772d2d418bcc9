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
import torch

from seg_det.data.records import DetectionRecord
from seg_det.metrics.coco import unique_names
from seg_det.ops.boxes import iou
from seg_det.types import Category, Detections, UserError

# As floating numbers (0.30000000000000004), as the published evaluators compare: exact tenths give other figures.
ELEVEN_RECALLS = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class VocScores:
    """Fractions 0..1. A class without an object to be found is None, and left out of the mean."""

    mean_ap: float | None  # None if no class has an object
    per_class: dict[str, float | None]  # class name -> AP


class _Matches(NamedTuple):
    """All detections of a data set beside their best object of the same class and image."""

    labels: np.ndarray  # i64 [D]
    scores: np.ndarray  # f64 [D]
    iou: np.ndarray  # f64 [D], -1 where the image has no object of that class
    target: np.ndarray  # i64 [D], number of that object, counted through the records


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
        UserError: detections for images that are not in the records, or numbers that are not finite.
    Source: Everingham et al., The Pascal VOC Challenge (IJCV 2010), section 4.2; VOCevaldet.m of the development kit.
    """
    _check(records, detections)
    matches = _match(records, detections)
    labels = np.concatenate([np.empty(0, np.int64), *(record.labels for record in records)])
    ignored = np.concatenate(
        [np.empty(0, bool), *(r.crowd if count_difficult else r.crowd | r.difficult for r in records)]
    )
    average = _average_11_points if use_11_points else _average_every_point
    per_class: dict[str, float | None] = {}
    for label, name in enumerate(unique_names(categories)):
        objects = int((~ignored[labels == label]).sum())
        correct = _in_score_order(matches, label, ignored, iou_threshold)
        per_class[name] = average(*_curve(correct, objects)) if objects else None
    present = [value for value in per_class.values() if value is not None]
    return VocScores(float(np.mean(present)) if present else None, per_class)


def _check(records: Sequence[DetectionRecord], detections: Mapping[int, Detections]) -> None:
    unknown = sorted(set(detections) - {record.image_id for record in records})
    if unknown:
        raise UserError(
            f"the ground truth has no image with id {unknown[0]}, but there are detections for it; "
            "evaluate with the data set that was predicted on"
        )
    for image_id, found in detections.items():
        if not (found.scores.isfinite().all() and found.boxes.isfinite().all()):
            raise UserError(
                f"scores or boxes of detections in image id {image_id} are not finite numbers; "
                "look for a diverged training or an overflow in half precision"
            )


def _match(records: Sequence[DetectionRecord], detections: Mapping[int, Detections]) -> _Matches:
    parts, first = [_Matches(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, np.int64))], 0
    for record in records:
        if record.image_id in detections:
            parts.append(_match_image(record, detections[record.image_id], first))
        first += len(record.labels)
    return _Matches(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _match_image(record: DetectionRecord, found: Detections, first: int) -> _Matches:
    labels, scores = found.labels.cpu().numpy(), found.scores.double().cpu().numpy()
    if not len(record.labels):
        return _Matches(labels, scores, np.full(len(labels), -1.0), np.full(len(labels), -1))
    # float64, because figures hang on IoUs that equal the threshold; two boxes without area have none (0 / 0)
    overlap = iou(found.boxes.double().cpu(), torch.from_numpy(record.boxes).double()).nan_to_num().numpy()
    overlap = np.where(labels[:, None] == record.labels, overlap, -1.0)
    return _Matches(labels, scores, overlap.max(axis=1), first + overlap.argmax(axis=1))


def _in_score_order(matches: _Matches, label: int, ignored: np.ndarray, iou_threshold: float) -> np.ndarray:
    """bool: whether each detection of the class is true, best score first; those on ignored objects are left out."""
    of_class = np.flatnonzero(matches.labels == label)
    order = of_class[np.argsort(-matches.scores[of_class], kind="stable")]
    hit = order[matches.iou[order] >= iou_threshold]
    # np.unique points at the first, that is the best scored, hit of every object
    winners = hit[np.unique(matches.target[hit], return_index=True)[1]]
    neither = hit[ignored[matches.target[hit]]]
    return np.isin(order[~np.isin(order, neither)], winners)


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
