"""Detection: what boxes with labels are needed for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seg_det.automatic.rules import DETECTION as DETECTION_RULES
from seg_det.automatic.statistics import statistics_of_boxes
from seg_det.data.loaders import read_image
from seg_det.data.objects import input_boxes, vanishing, why_none
from seg_det.data.plain_transforms import resize_antialiased_only, resize_only
from seg_det.data.records import DetectionRecord, DetectionSource
from seg_det.data.transforms import DetectionTransform
from seg_det.doctor.boxes import check_boxes, check_vanishing
from seg_det.doctor.classes import check_object_classes
from seg_det.doctor.findings import Checks
from seg_det.errors import UserError
from seg_det.facts import AnchorFit, SizeFit
from seg_det.kinds.kind import Kind
from seg_det.losses import SCORES, DetectionLosses, multibox_loss
from seg_det.metrics.coco import unique_names
from seg_det.metrics.coverage import coverage
from seg_det.metrics.detection import DetectionMetric, DetectionReport
from seg_det.metrics.thresholds import at_thresholds
from seg_det.metrics.verdicts import Verdicts, verdicts
from seg_det.ops.anchors import anchored, best_overlaps
from seg_det.ops.boxes import area, iou
from seg_det.ops.images import sides
from seg_det.predict.detection import DETECTION as TASK
from seg_det.predict.detection import Detector
from seg_det.predict.model import USUAL_THRESHOLD
from seg_det.predict.preprocessing import Size
from seg_det.report.drawings import draw_boxes, shrink, side_by_side
from seg_det.report.pictures import Details, Picture, counted, extremes, worst_and_best
from seg_det.types import Category, DenseDetections, DetectionBatch, Detections, ModelCard

TRANSFORMS: dict[str, Callable[[Size], Any]] = {  # of ModelCard.resize
    "stretch": resize_only,
    "stretch_antialiased": resize_antialiased_only,
}
VIEW = 420  # pixels of the longer side of each of the two views of an image in a report
UNMATCHED = 0.25  # share of objects without a good anchor match above which training warns
MARKS = (
    "Detections from the score with the best F1 of their class on; found at IoU 0.5. Marked red: on the left objects that are "
    "missed, on the right detections that find none."
)
COMPARED_SCORE = 0.1  # detections below are not compared one by one
SAME_BOX = 0.5  # IoU from which a detection counts as the same


def _loss(
    function: Callable[..., DetectionLosses], predictor: Detector, raw: DenseDetections, batch: DetectionBatch
) -> DetectionLosses:
    return function(raw, batch, predictor.anchors_of(sides(batch.images)))


def _match_threshold(loss: Callable[..., DetectionLosses] | None) -> float | None:
    """The IoU from which ``loss`` matches an anchor; None for one that matches in its own way."""
    setting = signature(loss or multibox_loss).parameters.get("match_threshold")
    return None if setting is None else setting.default


def _best_anchors(model: nn.Module, card: ModelCard, source: DetectionSource) -> tuple[Tensor, Tensor]:
    """The objects of a split as boxes of the input [N, 4], and the IoU of each with its best anchor [N]."""
    boxes, size = input_boxes(source.records, card.input_size), card.input_size
    detector = anchored(model)
    rule = detector.anchor_rule
    return boxes, best_overlaps(boxes, detector.anchor_shapes, detector.map_sizes(size), size, rule=rule)


def _doubts(predictor: Detector, source: DetectionSource, loss: Callable[..., DetectionLosses]) -> str | None:
    """What may go wrong with the objects of a split at the input size, and what to do."""
    size = predictor.card.input_size
    found = (vanishing(source.name, source.records, size), _unmatched(predictor, source, loss))
    return " ".join(sentence for sentence in found if sentence) or None


def _unmatched(predictor: Detector, source: DetectionSource, loss: Callable[..., DetectionLosses]) -> str | None:
    """The share of objects without a good anchor match, by size, where it is large."""
    if (threshold := _match_threshold(loss)) is None:
        return None
    boxes, best = _best_anchors(predictor.model, predictor.card, source)
    covered = coverage(boxes, best, threshold)
    recall = covered["all"].recall  # None without objects
    if recall is None or 1 - recall <= UNMATCHED:
        return None
    size = predictor.card.input_size
    sizes = [
        f"{_percent(1 - row.recall)} of the {name} ones" for name, row in covered.items() if row.recall is not None
    ]
    return (
        f"{_percent(1 - recall)} of the {len(boxes)} objects of {source.name} match no anchor by an IoU of "
        f"{threshold} at {size[0]} x {size[1]} ({', '.join(sizes[1:])}) and will be learned badly: "
        "python -m seg_det.anchors with the arguments of this command fits the anchors to them; a larger data.size or a "
        "finer tap in task.model.taps helps small ones."
    )


def anchor_fit(
    model: nn.Module, card: ModelCard, source: DetectionSource, loss: Callable[..., DetectionLosses] | None = None
) -> AnchorFit | None:
    """How well the anchors match the objects of a split; None for a model without anchors or a loss that needs no match."""
    threshold = _match_threshold(loss)
    if threshold is None or not hasattr(model, "anchor_shapes"):
        return None
    boxes, best = _best_anchors(model, card, source)
    sizes = {
        name: SizeFit(row.objects, row.recall, row.mean_iou) for name, row in coverage(boxes, best, threshold).items()
    }
    counts = np.histogram(best.numpy(), bins=10, range=(0.0, 1.0))[0].tolist()
    return AnchorFit(source.name, threshold, sizes, tuple(counts))


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
        raise UserError(why_none(source.name, source.records))


def _details(metric: DetectionMetric, report: DetectionReport, source: DetectionSource) -> Details:
    case = metric.case()
    thresholds = [USUAL_THRESHOLD if value is None else value for value in _thresholds(report)]
    judged = verdicts(case, thresholds, len(metric.records))
    ranked = sorted(range(len(metric.records)), key=lambda i: (-judged.errors[i], judged.f1[i], judged.right[i], i))
    shown = ([_picture(metric.records[i], judged, i, metric.categories) for i in group] for group in extremes(ranked))
    return Details(
        worst_and_best(
            *shown,
            rules=(
                f"Most errors first, of equal ones the lower F1. {MARKS}",
                f"Fewest errors first, of equal ones the most objects. {MARKS}",
            ),
        ),
        at_thresholds(case, unique_names(metric.categories)),
    )


def _picture(record: DetectionRecord, judged: Verdicts, image: int, categories: Sequence[Category]) -> Picture:
    verdict = judged.of(image)
    canvas, scale = _canvas(record)
    names = [category.name for category in categories]
    truth = draw_boxes(canvas, record.boxes * scale, record.labels, names, wrong=verdict.missed)
    guess = draw_boxes(canvas, verdict.boxes * scale, verdict.labels, names, verdict.scores, wrong=verdict.wrong)
    found = f"{judged.right[image]} of {counted(int(judged.right[image] + judged.lost[image]), 'object')} found"
    false = counted(int(judged.false[image]), "false detection")
    return Picture(record.path.name, f"{found}, {false}, F1 {judged.f1[image]:.2f}", side_by_side(truth, guess))


def _canvas(record: DetectionRecord) -> tuple[np.ndarray, float]:
    """The image as large as it is shown, so that lines and captions suit that, and what its boxes are to be scaled by."""
    image = read_image(record)
    canvas = shrink(image, VIEW)
    return canvas, canvas.shape[1] / image.shape[1]


def _drawn(found: Detections, record: DetectionRecord, card: ModelCard) -> np.ndarray:
    own = card.score_thresholds or [None] * len(card.categories)
    thresholds = torch.tensor([USUAL_THRESHOLD if value is None else value for value in own])
    found = found.select(found.scores >= thresholds[found.labels])
    canvas, scale = _canvas(record)
    names = [category.name for category in card.categories]
    return draw_boxes(canvas, found.boxes.numpy() * scale, found.labels.numpy(), names, found.scores.numpy())


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
    shapes = predictor.anchors[:, 2:] - predictor.anchors[:, :2]
    return (boxes[:, 2:] - boxes[:, :2]).numpy(), shapes.round(decimals=1).unique(dim=0).numpy()


DETECTION = Kind(
    task=TASK,
    checks=Checks(quick=(check_boxes, check_object_classes), thorough=(check_vanishing,)),
    statistics=statistics_of_boxes,
    rules=DETECTION_RULES,
    data="boxes",
    source=DetectionSource,
    transform=DetectionTransform,
    suggestion="dataset=shapes, coco, voc, custom_coco or custom_voc, with augmentation=ssd, light, flip or none",
    evaluation_transform=lambda predictor: TRANSFORMS[predictor.card.resize](predictor.card.input_size),
    loss=_loss,
    doubts=_doubts,
    unmatched=_unmatched,
    postprocess=_postprocess,
    metric=_metric,
    options=frozenset({"count_difficult", "evaluator"}),
    class_figure="AP",
    monitor="AP",
    shown=("AP", "AP50", "AP75", "APs", "APm", "APl"),
    thresholds=_thresholds,
    differences=_differences,
    check=_check,
    least_images=2,  # the smallest extra map is a single cell: one image has no variance there
    anchors=anchor_fit,
    details=_details,
    drawn=_drawn,
    drawn_batch=_drawn_batch,
    class_counts=_class_counts,
    object_sizes=_object_sizes,
)
