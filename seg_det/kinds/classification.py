"""Image classification: what pretrains a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from seg_det.data.images import read_rgb
from seg_det.data.plain_transforms import centre_crop
from seg_det.data.records import ClassificationSource
from seg_det.data.transforms import ClassificationTransform
from seg_det.errors import UserError
from seg_det.kinds.kind import Kind
from seg_det.metrics.classification import ClassificationMetric
from seg_det.predict.classification import CLASSIFICATION as TASK
from seg_det.report.drawings import draw_title, shrink
from seg_det.types import Category, ClassificationBatch

SAMPLES = 12  # shown in the report
SAMPLE_PIXELS = 400  # of their longer side


def _batch_sizes(batch: ClassificationBatch) -> list[tuple[int, int]]:
    return [tuple(batch.images.shape[-2:])] * len(batch.images)  # no prediction depends on the file's


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


def _samples(metric: ClassificationMetric, source: ClassificationSource) -> list[tuple[str, np.ndarray]]:
    return list(_drawn(metric, source))


def _drawn(metric: ClassificationMetric, source: ClassificationSource) -> Iterator[tuple[str, np.ndarray]]:
    names = [category.name for category in source.categories]
    predictions = {row["image_id"]: row for row in metric.results()}
    step = max(1, len(source.records) // SAMPLES)
    for record in source.records[::step][:SAMPLES]:
        row = predictions[record.image_id]
        verdict = "right" if row["prediction"] == row["label"] else f"taken for {row['prediction']}"
        title = f"{record.path.name}: {names[record.label]}, {verdict} ({row['score']:.0%})"
        yield title, shrink(read_rgb(record.path), SAMPLE_PIXELS)


def _drawn_batch(batch: ClassificationBatch, categories: Sequence[Category]) -> list[np.ndarray]:
    rows = zip(batch.images.permute(0, 2, 3, 1).numpy(), batch.labels.tolist(), strict=True)
    return [draw_title(image, categories[label].name) for image, label in rows]


def _class_counts(source: ClassificationSource) -> tuple[dict[str, int], str]:
    labels = np.array([record.label for record in source.records])
    counts = np.bincount(labels, minlength=len(source.categories)).tolist()
    return {category.name: count for category, count in zip(source.categories, counts, strict=True)}, "images"


CLASSIFICATION = Kind(
    task=TASK,
    data="images with one class each",
    source=ClassificationSource,
    transform=ClassificationTransform,
    suggestion="dataset=imagefolder",
    evaluation_transform=lambda predictor: centre_crop(predictor.card.input_size),
    batch_sizes=_batch_sizes,
    scored=_scored,
    metric=lambda source: ClassificationMetric(source.records, source.categories),
    monitor="top1",
    shown=("top1", "top5"),
    differences=_differences,
    check=_check,
    least_images=2,  # the last norm sees one vector an image
    samples=_samples,
    drawn_batch=_drawn_batch,
    class_counts=_class_counts,
)
