"""Detection: what boxes with labels are needed for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch

from seg_det.data.loaders import read_image
from seg_det.data.objects import input_boxes
from seg_det.data.plain_transforms import resize_antialiased_only, resize_only
from seg_det.data.records import DetectionSource
from seg_det.data.transforms import DetectionTransform
from seg_det.errors import UserError
from seg_det.kinds.kind import Kind
from seg_det.losses import SCORES, DetectionLosses
from seg_det.metrics.coverage import coverage
from seg_det.metrics.detection import DetectionMetric, DetectionReport
from seg_det.ops.anchors import best_overlaps
from seg_det.ops.boxes import area, iou
from seg_det.predict.detection import DETECTION as TASK
from seg_det.predict.detection import Detector
from seg_det.report.drawings import draw_boxes, side_by_side
from seg_det.types import Category, DenseDetections, DetectionBatch, Detections

TRANSFORMS = {"stretch": resize_only, "stretch_antialiased": resize_antialiased_only}  # of ModelCard.resize
SAMPLES = 12  # drawn in the report
UNMATCHED = 0.25  # share of objects without a good anchor match above which training warns
DRAWN_SCORE = 0.3  # detections below are not drawn
COMPARED_SCORE = 0.1  # detections below are not compared one by one
SAME_BOX = 0.5  # IoU from which a detection counts as the same


def _loss(
    function: Callable[..., DetectionLosses], predictor: Detector, raw: DenseDetections, batch: DetectionBatch
) -> DetectionLosses:
    return function(raw, batch, predictor.anchors_of(tuple(batch.images.shape[-2:])))


def _doubts(predictor: Detector, source: DetectionSource, loss: Callable[..., DetectionLosses]) -> str | None:
    """The share of objects without a good anchor match, by size, and what to do, where it is large."""
    if (setting := signature(loss).parameters.get("match_threshold")) is None:  # a loss that matches in its own way
        return None
    model, size, threshold = predictor.model, predictor.card.input_size, setting.default
    boxes = input_boxes(source.records, size)
    best = best_overlaps(boxes, model.anchor_shapes, model.map_sizes(size), size, rule=model.anchor_rule)
    covered = coverage(boxes, best, threshold)
    if not len(boxes) or 1 - covered["all"].recall <= UNMATCHED:
        return None
    sizes = [f"{_percent(1 - row.recall)} of the {name} ones" for name, row in covered.items() if row.objects]
    return (
        f"{_percent(1 - covered['all'].recall)} of the {len(boxes)} objects of {source.name} match no anchor by an IoU of "
        f"{threshold} at {size[0]} x {size[1]} ({', '.join(sizes[1:])}) and will be learned badly: "
        "python -m seg_det.anchors with the arguments of this command fits the anchors to them; a larger data.size or a "
        "finer tap in task.model.taps helps small ones."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _postprocess(loss: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """How logits are read as scores follows from the loss that trains them."""
    rule = loss.get("classification")
    if not isinstance(rule, str) or rule not in SCORES:
        raise UserError(f"task.loss.classification must be one of {', '.join(SCORES)}, got {rule!r}.")
    return {"score": SCORES[rule], **settings}


def _thresholds(report: DetectionReport) -> tuple[float | None, ...]:
    return tuple(point.threshold for point in report.errors.per_class.values())


def _differences(ours: dict[int, Detections], theirs: dict[int, Detections]) -> dict[str, float]:
    """Of detections that both have, the largest difference of a side in pixels and of a score; and how many one has alone."""
    box, score, alone = 0.0, 0.0, 0
    for image_id, mine in ours.items():
        comparable = (mine.scores >= COMPARED_SCORE) & (area(mine.boxes) > 0)  # a box without area is like none
        mine, found = mine.select(comparable), theirs[image_id]
        if not len(mine.scores):
            continue
        if not len(found.scores):
            alone += len(mine.scores)
            continue
        same = iou(mine.boxes, found.boxes) * (mine.labels[:, None] == found.labels[None])
        near = (
            1 - (mine.scores[:, None] - found.scores[None]).abs()
        )  # of boxes that coincide, the one with the same score
        partner = torch.where(same >= SAME_BOX, same + near, 0.0).argmax(1, keepdim=True)
        matched = same.gather(1, partner).squeeze(1) >= SAME_BOX
        partner = partner.squeeze(1)
        alone += int((~matched).sum())
        if matched.any():
            partner = partner[matched]
            box = max(box, float((mine.boxes[matched] - found.boxes[partner]).abs().max()))
            score = max(score, float((mine.scores[matched] - found.scores[partner]).abs().max()))
    return {"box in pixels": box, "score": score, "detections without a partner": alone}


def _metric(source: DetectionSource, *, count_difficult: bool = False, evaluator: str = "fast") -> DetectionMetric:
    return DetectionMetric(source.records, source.categories, count_difficult=count_difficult, evaluator=evaluator)


def _check(source: DetectionSource, *, every: bool = False) -> None:
    if not any((~record.crowd).any() for record in source.records):
        raise UserError(
            f"{source.name} has no object in any of its {len(source.records)} images: check its annotations."
        )


def _samples(metric: DetectionMetric, source: DetectionSource) -> list[tuple[str, np.ndarray]]:
    names = [category.name for category in source.categories]
    step = max(1, len(source.records) // SAMPLES)
    drawn = []
    for record in source.records[::step][:SAMPLES]:
        image = read_image(record)
        found = metric.detections[record.image_id]
        found = found.select(found.scores >= DRAWN_SCORE)
        truth = draw_boxes(image, record.boxes, record.labels, names)
        guess = draw_boxes(image, found.boxes.numpy(), found.labels.numpy(), names, found.scores.numpy())
        drawn.append((record.path.name, side_by_side(truth, guess)))
    return drawn


def _drawn_batch(batch: DetectionBatch, categories: Sequence[Category]) -> list[np.ndarray]:
    names = [category.name for category in categories]
    rows = zip(batch.images.permute(0, 2, 3, 1).numpy(), batch.boxes, batch.labels, batch.valid, strict=True)
    return [draw_boxes(image, boxes[real].numpy(), labels[real].numpy(), names) for image, boxes, labels, real in rows]


def _class_counts(source: DetectionSource) -> tuple[dict[str, int], str]:
    labels = np.concatenate([record.labels for record in source.records])
    counts = np.bincount(labels, minlength=len(source.categories)).tolist()
    return {category.name: count for category, count in zip(source.categories, counts, strict=True)}, "objects"


def _object_sizes(predictor: Detector, source: DetectionSource) -> tuple[np.ndarray, np.ndarray]:
    boxes = input_boxes(source.records, predictor.card.input_size)
    sides = predictor.anchors[:, 2:] - predictor.anchors[:, :2]
    return (boxes[:, 2:] - boxes[:, :2]).numpy(), sides.round(decimals=1).unique(dim=0).numpy()


DETECTION = Kind(
    task=TASK,
    data="boxes",
    source=DetectionSource,
    transform=DetectionTransform,
    suggestion="dataset=shapes, coco, voc, custom_coco or custom_voc, with augmentation=ssd, light, flip or none",
    evaluation_transform=lambda predictor: TRANSFORMS[predictor.card.resize](predictor.card.input_size),
    loss=_loss,
    doubts=_doubts,
    postprocess=_postprocess,
    metric=_metric,
    options=frozenset({"count_difficult", "evaluator"}),
    monitor="AP",
    shown=("AP", "AP50", "AP75", "APs", "APm", "APl"),
    thresholds=_thresholds,
    differences=_differences,
    check=_check,
    least_images=2,  # the smallest extra map is a single cell: one image has no variance there
    samples=_samples,
    drawn_batch=_drawn_batch,
    class_counts=_class_counts,
    object_sizes=_object_sizes,
)
