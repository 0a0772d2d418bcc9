"""Image classification: what pretrains a backbone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from seg_det.data.images import read_rgb
from seg_det.data.records import ClassificationSource
from seg_det.data.transforms import ClassificationTransform, centre_crop
from seg_det.errors import UserError
from seg_det.kinds.kind import Kind, Predictor
from seg_det.metrics.classification import ClassificationMetric
from seg_det.report.drawings import shrink
from seg_det.types import ClassificationBatch

SAMPLES = 12  # shown in the report
SAMPLE_PIXELS = 400  # of their longer side


class ImageClassifier(Predictor):
    """A classifier; its predictions are the logits, which rank the classes as their probabilities do."""

    def predictions(self, raw: Tensor, batch: ClassificationBatch) -> Tensor:
        return raw


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


CLASSIFICATION = Kind(
    name="classification",
    data="images with one class each",
    source=ClassificationSource,
    transform=ClassificationTransform,
    suggestion="dataset=imagefolder",
    predictor=ImageClassifier,
    output=Tensor,
    resizes=("centre_crop",),
    evaluation_transform=lambda card: centre_crop(card.input_size),
    metric=lambda source: ClassificationMetric(source.records, source.categories),
    options=frozenset(),
    monitor="top1",
    shown=("top1", "top5"),
    check=_check,
    least_images=2,  # the last norm sees one vector an image
    samples=_samples,
)
