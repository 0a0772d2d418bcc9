"""Image classification: what pretrains a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg_det.automatic.rules import CLASSIFICATION as CLASSIFICATION_RULES
from seg_det.automatic.statistics import statistics_of_classes
from seg_det.data.images import read_rgb
from seg_det.data.plain_transforms import centre_crop
from seg_det.data.records import ClassificationRecord, ClassificationSource
from seg_det.data.transforms import ClassificationTransform
from seg_det.doctor.classes import check_image_classes
from seg_det.doctor.findings import Checks
from seg_det.errors import UserError
from seg_det.kinds.kind import Kind
from seg_det.metrics.classification import ClassificationMetric, ClassificationReport
from seg_det.ops.images import sides
from seg_det.predict.classification import CLASSIFICATION as TASK
from seg_det.report.drawings import MARK, draw_title, shrink
from seg_det.report.pictures import Details, Picture, extremes, worst_and_best
from seg_det.types import Category, ClassificationBatch, ModelCard

PICTURE = 320  # pixels of the longer side of an image in a report


def _batch_sizes(batch: ClassificationBatch) -> list[tuple[int, int]]:
    return [sides(batch.images)] * len(batch.images)  # no prediction depends on the file's


def _scored(predictions: Sequence[Tensor], truths: Sequence[None]) -> Tensor:
    return torch.stack(list(predictions))


def _differences(ours: dict[int, Tensor], theirs: dict[int, Tensor]) -> dict[str, float]:
    """The largest difference of a probability."""
    apart = (float((x.softmax(-1) - theirs[i].softmax(-1)).abs().max()) for i, x in ours.items())
    return {"probability": max(apart, default=0.0)}


def _check(source: ClassificationSource, *, every: bool = False) -> None:
    if len({record.label for record in source.records}) < 2:
        raise UserError(
            f"All {len(source.records)} images of {source.name} are of one class: there is nothing to tell apart."
        )


def _details(metric: ClassificationMetric, report: ClassificationReport, source: ClassificationSource) -> Details:
    worst, best = extremes(sorted(metric.results(), key=_rank))
    records = {record.image_id: record for record in source.records}
    rules = (
        "Wrong ones first, the most confident of them at the top; then right ones, the least confident first.",
        "Right ones, the most confident first.",
    )
    shown = ([_picture(row, records[row["image_id"]]) for row in rows] for rows in (worst, best))
    return Details(worst_and_best(*shown, rules=rules, small=True))


def _rank(row: dict[str, Any]) -> tuple[bool, float]:
    right = row["prediction"] == row["label"]
    return right, row["score"] if right else -row["score"]


def _picture(row: dict[str, Any], record: ClassificationRecord) -> Picture:
    right = row["prediction"] == row["label"]
    verdict = f"right, {row['score']:.0%}" if right else f"{MARK}taken for {row['prediction']}, {row['score']:.0%}"
    return Picture(record.path.name, f"{row['label']}: {verdict}", shrink(read_rgb(record.path), PICTURE))


def _drawn(logits: Tensor, record: ClassificationRecord, card: ModelCard) -> np.ndarray:
    score, best = logits.softmax(-1).max(-1)
    return draw_title(shrink(read_rgb(record.path), PICTURE), f"{card.categories[best].name} {score:.1%}")


def _drawn_batch(batch: ClassificationBatch, categories: Sequence[Category]) -> list[np.ndarray]:
    rows = zip(batch.images.permute(0, 2, 3, 1).numpy(), batch.labels.tolist(), strict=True)
    return [draw_title(image, categories[label].name) for image, label in rows]


def _class_counts(source: ClassificationSource) -> tuple[dict[str, int], str]:
    labels = np.array([record.label for record in source.records])
    counts = np.bincount(labels, minlength=len(source.categories)).tolist()
    return {category.name: count for category, count in zip(source.categories, counts, strict=True)}, "images"


CLASSIFICATION = Kind(
    task=TASK,
    checks=Checks(quick=(check_image_classes,), labelled_images=True),
    statistics=statistics_of_classes,
    rules=CLASSIFICATION_RULES,
    data="images with one class each",
    source=ClassificationSource,
    transform=ClassificationTransform,
    suggestion="dataset=imagefolder",
    evaluation_transform=lambda predictor: centre_crop(predictor.card.input_size),
    batch_sizes=_batch_sizes,
    scored=_scored,
    metric=lambda source: ClassificationMetric(source.records, source.categories),
    class_figure="top1",
    monitor="top1",
    shown=("top1", "top5"),
    differences=_differences,
    check=_check,
    least_images=2,  # the last norm sees one vector an image
    details=_details,
    drawn=_drawn,
    drawn_batch=_drawn_batch,
    class_counts=_class_counts,
)
