"""Segmentation: from raw output to the class of every pixel of the files, and pictures of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seg_det.data.images import read_rgb
from seg_det.data.masks import require_counted_pixels
from seg_det.data.records import SegmentationRecord, SegmentationSource
from seg_det.data.segmentation_transforms import fitted
from seg_det.data.transforms import SegmentationTransform
from seg_det.errors import UserError
from seg_det.kinds.kind import Kind, Predictor
from seg_det.metrics.segmentation import LabelMaps, SegmentationMetric
from seg_det.ops.crops import crops
from seg_det.ops.images import normalise
from seg_det.ops.placement import content_size
from seg_det.postprocess import OUTPUTS, Patch, canvas_patch, label_map
from seg_det.registry import filled
from seg_det.report.masks import MaskWriter, beside
from seg_det.types import DenseSegmentation, ModelCard, SegmentationBatch

MOST_SCALES, LARGEST_SCALE, LARGEST_OVERLAP = 32, 8, 0.9  # of the looks at one image: bounds their number
SAMPLES = 12  # drawn in the report
SAMPLE_PIXELS = 500  # of the longer side of each of their three views


@dataclass(frozen=True)
class Reading:
    """How label maps are read off a network: the card's ``postprocess``. Raises UserError for what cannot be done."""

    output: str = "logits"  # or "labels", see postprocess.label_map
    align_corners: bool = False
    flip: bool = False  # also look at the mirrored image
    scales: Sequence[float] = (1.0,)  # look at the image at each of these
    overlap: float | None = None  # windows of the input size over the image as it is, sharing this part with the next

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise UserError(f"postprocess.output must be one of {', '.join(OUTPUTS)}, got {self.output!r}.")
        if not self.scales or min(self.scales) <= 0:
            raise UserError(f"postprocess.scales must be one or more numbers above 0, got {list(self.scales)}.")
        if len(self.scales) > MOST_SCALES or max(self.scales) > LARGEST_SCALE:
            raise UserError(f"postprocess.scales must be at most {MOST_SCALES} numbers up to {LARGEST_SCALE}.")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UserError(f"postprocess.overlap must be at least 0 and below 1, or null, got {self.overlap}.")
        if self.overlap is not None and self.overlap > LARGEST_OVERLAP:
            raise UserError(f"postprocess.overlap must be at most {LARGEST_OVERLAP}, got {self.overlap}.")
        if self.output == "labels" and not self.once:
            raise UserError("postprocess.output=labels cannot average: leave out flip, scales and overlap.")

    @property
    def once(self) -> bool:
        """Whether the network sees an image a single time."""
        return not self.flip and list(self.scales) == [1.0] and self.overlap is None

    @classmethod
    def of(cls, card: ModelCard) -> Reading:
        """The card's. Raises UserError for keys that segmentation does not have."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(card.postprocess) - set(known)):
            raise UserError(f"segmentation has no postprocess.{unknown[0]}: choose from {', '.join(known)}.")
        return filled(cls, card.postprocess, "postprocess")


class Segmenter(Predictor):
    """A segmenter; its predictions are label maps of the files' sizes, beside the truth.

    With more than one view of an image (mirrored, at other scales, in windows) the probabilities of all are averaged.
    """

    def __init__(self, model: nn.Module, card: ModelCard):
        super().__init__(model, card)
        self.reading = Reading.of(card)

    def forward(self, images: Tensor) -> DenseSegmentation:
        """Raw output for images u8 [B, 3, H, W]. Raises UserError for a batch in training that has nothing to normalise by."""
        try:
            return super().forward(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            height, width = images.shape[-2:]
            raise UserError(
                f"a batch of {len(images)} image of {width} x {height} pixels leaves one value a channel on the deepest map, "
                "which its norms cannot train on: raise data.size above the output stride of the network, or data.batch_size to 2"
            ) from error

    def predictions(self, raw: DenseSegmentation, batch: SegmentationBatch) -> list[LabelMaps]:
        """Label maps from one look at each image."""
        canvas = tuple(batch.images.shape[-2:])
        patches = [
            [canvas_patch(logits, canvas, self._content(size), size)]
            for logits, size in zip(raw.logits, _sizes(batch), strict=True)
        ]
        return self._label_maps(patches, batch)

    def predict(self, images: Tensor, batch: SegmentationBatch) -> list[LabelMaps]:
        """Label maps from as many looks at each image as the card asks for."""
        if self.reading.once:
            return self.predictions(self(images), batch)
        return self._label_maps(self._patches(normalise(images, self.mean, self.std), _sizes(batch)), batch)

    def _patches(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[list[Patch]]:
        contents = [self._content(size) for size in sizes]
        window = None if self.reading.overlap is None else self.card.input_size
        patches: list[list[Patch]] = [[] for _ in sizes]
        for scale in self.reading.scales:
            parts = list(crops(images, contents, scale=scale, window=window, overlap=self.reading.overlap or 0.0))
            for start in range(0, len(parts), len(sizes)):
                some = parts[start : start + len(sizes)]
                for logits in self._looks(torch.stack([part.pixels for part in some])):
                    for part, seen in zip(some, logits, strict=True):
                        box = _in_file(part.box, contents[part.image], sizes[part.image])
                        patches[part.image].append(Patch(seen, box, tuple(part.pixels.shape[-2:])))
        return patches

    def _looks(self, images: Tensor) -> Iterator[Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        yield self.model(images).logits
        if self.reading.flip:
            yield self.model(images.flip(-1)).logits.flip(-1)

    def _content(self, size: tuple[int, int]) -> tuple[int, int]:
        return content_size(_rule(self.card, self.reading), size, self.card.input_size)

    def _label_maps(self, patches: Sequence[Sequence[Patch]], batch: SegmentationBatch) -> list[LabelMaps]:
        if batch.originals is None:
            raise ValueError("expected a batch for evaluation, which holds the original masks")
        settings = {"output": self.reading.output, "align_corners": self.reading.align_corners}
        maps = []
        for views, size, image_id, truth in zip(patches, _sizes(batch), batch.image_ids, batch.originals, strict=True):
            if not all(view.logits.isfinite().all() for view in views):
                raise UserError(
                    f"the model's output for the image with id {int(image_id)} is not finite (NaN or infinity): its weights "
                    "are broken; use an earlier checkpoint, or train again with a lower recipe.lr"
                )
            maps.append(LabelMaps(label_map(views, size, **settings).cpu(), truth.cpu()))
        return maps


def _sizes(batch: SegmentationBatch) -> list[tuple[int, int]]:
    return [(height, width) for height, width in batch.sizes.tolist()]


def _in_file(
    box: tuple[float, float, float, float], content: tuple[int, int], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box in pixels of ``content``, an image of ``size`` after its resize, in pixels of that image."""
    y, x = size[0] / content[0], size[1] / content[1]
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _rule(card: ModelCard, reading: Reading) -> str:
    return card.resize if reading.overlap is None else "whole"


def _evaluation_transform(card: ModelCard) -> SegmentationTransform:
    return fitted(_rule(card, Reading.of(card)), card.input_size, fill=card.mean)


def _metric(
    source: SegmentationSource, *, save_predictions: str | None = None, folder: Path | None = None
) -> SegmentationMetric:
    """``save_predictions``: a form of :class:`MaskWriter`, for PNGs of all images in ``folder``."""
    save = None
    if save_predictions is not None:
        writer = MaskWriter(folder, source.categories, save_predictions)

        def save(record: SegmentationRecord, labels: Tensor) -> None:
            writer.write(record.path.stem, labels.numpy())

    keep = [record.image_id for record in _drawn(source)]
    return SegmentationMetric(source.records, source.categories, keep=keep, save=save)


def _drawn(source: SegmentationSource) -> Sequence[SegmentationRecord]:
    return source.records[:: max(1, len(source.records) // SAMPLES)][:SAMPLES]


def _samples(metric: SegmentationMetric, source: SegmentationSource) -> list[tuple[str, np.ndarray]]:
    drawn = []
    for record in _drawn(source):
        maps = metric.samples[record.image_id]
        views = beside(read_rgb(record.path), maps.truth.numpy(), maps.predicted.numpy(), SAMPLE_PIXELS)
        drawn.append((f"{record.path.name}: image, ground truth, prediction", views))
    return drawn


SEGMENTATION = Kind(
    name="segmentation",
    data="masks",
    source=SegmentationSource,
    transform=SegmentationTransform,
    suggestion="dataset=shapes, voc_seg, cityscapes, camvid, coco_seg or custom_masks, with augmentation=segmentation",
    predictor=Segmenter,
    output=DenseSegmentation,
    resizes=("whole", "letterbox", "stretch"),
    evaluation_transform=_evaluation_transform,
    metric=_metric,
    options=frozenset({"save_predictions", "folder"}),
    monitor="mIoU",
    shown=("mIoU", "pixel_accuracy", "mean_accuracy"),
    check=require_counted_pixels,
    least_images=1,
    samples=_samples,
)
