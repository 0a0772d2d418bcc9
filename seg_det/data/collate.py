"""Samples into batches: objects padded to the largest count, images kept u8 until the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from seg_det.data.mixing import mix_classes, mix_detections
from seg_det.types import (
    ClassificationBatch,
    ClassificationSample,
    DetectionBatch,
    DetectionSample,
    SegmentationBatch,
    SegmentationSample,
)


def collate_detection(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """One DetectionBatch of samples whose images have the same size; images come out channels-last in memory.

    Samples that are to be mixed with another are: see :func:`seg_det.data.mixing.mix_detections`.
    """
    weights: list[Tensor] | None = None
    if _mixed(samples):
        samples, weights = mix_detections(samples)
    counts = torch.tensor([len(sample.boxes) for sample in samples])

    def padded(values: list[Tensor]) -> Tensor:
        return pad_sequence(values, batch_first=True)

    return DetectionBatch(
        images=_stack([sample.image for sample in samples]),
        boxes=padded([sample.boxes for sample in samples]),
        labels=padded([sample.labels for sample in samples]),
        crowd=padded([sample.crowd for sample in samples]),
        valid=torch.arange(int(counts.max())) < counts[:, None],
        image_ids=torch.tensor([sample.image_id for sample in samples]),
        sizes=torch.tensor([sample.size for sample in samples]),
        weights=padded(weights) if weights else None,
    )


def collate_classification(samples: Sequence[ClassificationSample]) -> ClassificationBatch:
    """One ClassificationBatch of samples whose images have the same size; images come out channels-last in memory.

    Samples that are to be mixed with another are: see :func:`seg_det.data.mixing.mix_classes`.
    """
    others = shares = None
    if _mixed(samples):
        samples, others, shares = mix_classes(samples)
    return ClassificationBatch(
        images=_stack([sample.image for sample in samples]),
        labels=torch.tensor([sample.label for sample in samples]),
        image_ids=torch.tensor([sample.image_id for sample in samples]),
        others=others,
        shares=shares,
    )


def collate_segmentation(samples: Sequence[SegmentationSample]) -> SegmentationBatch:
    """One SegmentationBatch of samples whose images have the same size; images come out channels-last in memory."""
    originals = [sample.original for sample in samples if sample.original is not None]
    return SegmentationBatch(
        images=_stack([sample.image for sample in samples]),
        masks=torch.stack([sample.mask for sample in samples]),
        image_ids=torch.tensor([sample.image_id for sample in samples]),
        sizes=torch.tensor([sample.size for sample in samples]),
        originals=originals or None,
    )


def _mixed(samples: Sequence[DetectionSample] | Sequence[ClassificationSample]) -> bool:
    return len(samples) > 1 and any(sample.share < 1 for sample in samples)


def _stack(images: Sequence[Tensor]) -> Tensor:
    """[3, H, W] each -> [B, 3, H, W], channels-last as the images themselves are."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
