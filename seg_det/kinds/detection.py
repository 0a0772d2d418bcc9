"""Detection: from raw output to boxes in pixels of the files, and pictures of them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

import numpy as np
import torch
from torch import Tensor, nn

from seg_det.data.loaders import read_image
from seg_det.data.objects import input_boxes
from seg_det.data.records import DetectionSource
from seg_det.data.transforms import DetectionTransform, resize_antialiased_only, resize_only
from seg_det.errors import UserError
from seg_det.kinds.kind import Kind, Predictor
from seg_det.losses import DetectionLosses
from seg_det.metrics.arrays import check_finite
from seg_det.metrics.coverage import coverage
from seg_det.metrics.detection import DetectionMetric
from seg_det.ops.anchors import best_overlaps
from seg_det.postprocess import check_limits, detect, to_file_size
from seg_det.registry import arguments
from seg_det.report.drawings import draw_boxes, side_by_side
from seg_det.types import DenseDetections, DetectionBatch, Detections, ModelCard

RESIZES = {"stretch": resize_only, "stretch_antialiased": resize_antialiased_only}
SAMPLES = 12  # drawn in the report
UNMATCHED = 0.25  # share of objects without an anchor of their own above which training warns
DRAWN_SCORE = 0.3  # detections below are not drawn


class Detector(Predictor):
    """A detector with its anchors; the card's ``postprocess`` holds the arguments of the decoder.

    Raises UserError for arguments that cannot be.
    """

    def __init__(self, model: nn.Module, card: ModelCard):
        super().__init__(model, card)
        check_limits(**arguments(check_limits, card.postprocess, key="postprocess"))
        self.register_buffer("anchors", model.anchors(card.input_size), persistent=False)
        self._anchors_at: dict[tuple[int, int], Tensor] = {}  # of other sizes, where training changes its

    def loss(
        self, function: Callable[..., DetectionLosses], raw: DenseDetections, batch: DetectionBatch
    ) -> DetectionLosses:
        return function(raw, batch, self._anchors_of(tuple(batch.images.shape[-2:])))

    def _anchors_of(self, size: tuple[int, int]) -> Tensor:
        if size == tuple(self.card.input_size):
            return self.anchors
        if size not in self._anchors_at:
            self._anchors_at[size] = self.model.anchors(size).to(self.anchors.device)
        return self._anchors_at[size]

    def doubts(self, source: DetectionSource, loss: Callable[..., DetectionLosses]) -> str | None:
        """The share of objects that no anchor matches but by force, by size, and what to do, where it is large."""
        if (setting := signature(loss).parameters.get("match_threshold")) is None:  # a loss that matches in its own way
            return None
        size, threshold = self.card.input_size, setting.default
        boxes = input_boxes(source.records, size)
        best = best_overlaps(
            boxes, self.model.anchor_shapes, self.model.map_sizes(size), size, rule=self.model.anchor_rule
        )
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

    def predictions(self, raw: DenseDetections, batch: DetectionBatch) -> list[Detections]:
        """Detections in pixels of the files. Raises UserError, with the images, for raw output that is not finite."""
        largest = torch.stack([part.float().abs().flatten(1).amax(1) for part in raw], 1)
        check_finite(batch.image_ids.cpu().numpy(), largest.detach().cpu().numpy())
        return self.detections(raw, batch.sizes)

    def detections(self, raw: DenseDetections, sizes: Tensor) -> list[Detections]:
        """Detections in pixels of the files, whose (H, W) are ``sizes`` [B, 2]."""
        size = self.card.input_size
        found = detect(raw, self.anchors, size, **self.card.postprocess)
        return [to_file_size(d, size, tuple(s)) for d, s in zip(found, sizes.tolist(), strict=True)]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


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


DETECTION = Kind(
    name="detection",
    data="boxes",
    source=DetectionSource,
    transform=DetectionTransform,
    suggestion="dataset=shapes, coco, voc, custom_coco or custom_voc, with augmentation=ssd, light, flip or none",
    predictor=Detector,
    output=DenseDetections,
    resizes=tuple(RESIZES),
    evaluation_transform=lambda card: RESIZES[card.resize](card.input_size),
    metric=_metric,
    options=frozenset({"count_difficult", "evaluator"}),
    monitor="AP",
    shown=("AP", "AP50", "AP75", "APs", "APm", "APl"),
    check=_check,
    least_images=2,  # the smallest extra map is a single cell: one image has no variance there
    samples=_samples,
)
