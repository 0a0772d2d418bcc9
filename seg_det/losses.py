"""What training minimises: functions of raw model output and a batch, vectorised over the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_det.ops.boxes import encode
from seg_det.ops.matching import match
from seg_det.types import (
    IGNORE,
    ClassificationBatch,
    DenseDetections,
    DenseSegmentation,
    DetectionBatch,
    SegmentationBatch,
    UserError,
)

SCORES = {
    "softmax": "softmax",
    "sigmoid": "sigmoid",
    "focal": "sigmoid",
}  # classification loss -> how its scores are read


class DetectionLosses(NamedTuple):
    """Scalars; their sum is what training minimises."""

    classification: Tensor
    localisation: Tensor

    def total(self) -> Tensor:
        return self.classification + self.localisation


def multibox_loss(
    raw: DenseDetections,
    batch: DetectionBatch,
    anchors: Tensor,
    *,
    classification: str = "softmax",
    negative_ratio: float = 3.0,
    min_negatives: int = 0,
    match_threshold: float = 0.5,
    focal_alpha: float = 0.75,
    focal_gamma: float = 2.0,
    localisation_weight: float = 1.0,
) -> DetectionLosses:
    """SSD's loss, each part summed over the batch and divided by the number of matched anchors (at least 1).

    ``classification``: "softmax" or "sigmoid" with the hardest ``negative_ratio`` : 1 negatives of each image (at least
    ``min_negatives``, so that an image without objects teaches too), or "focal" (sigmoid, over all anchors). Logits are
    [B, A, C + 1] with the background in column 0. Localisation is smooth L1 of the encoded boxes of matched anchors.
    Source: SSD section 2.2 equations 1-3; Focal Loss (arXiv 1708.02002) equation 5.
    """
    if classification not in SCORES:
        raise UserError(f"task.loss.classification must be one of {', '.join(SCORES)}, got {classification!r}.")
    logits, deltas = raw.logits.float(), raw.deltas.float()
    index, ignored = match(anchors, batch.boxes, batch.valid, batch.crowd, threshold=match_threshold)
    positive = index >= 0
    count = positive.sum().clamp(min=1)
    if batch.labels.shape[1]:
        index = index.clamp(min=0)
        target = torch.where(positive, batch.labels.gather(1, index) + 1, 0)
        boxes = torch.where(positive[..., None], batch.boxes.gather(1, index[..., None].expand(-1, -1, 4)), anchors)
    else:
        target, boxes = torch.zeros_like(index), anchors.expand_as(deltas)
    distance = F.smooth_l1_loss(deltas, encode(boxes, anchors), reduction="none").sum(-1)
    localisation = distance.masked_fill(~positive, 0.0).sum() / count
    if classification == "focal":
        one_hot = F.one_hot(target, logits.shape[-1])
        one_hot[..., 0] = 0  # background is the absence of all classes (TensorFlow's encode_background_as_zeros)
        loss = focal(logits, one_hot, focal_alpha, focal_gamma).sum(-1)
        chosen = ~ignored
    else:
        loss = _cross_entropy(logits, target, classification)
        chosen = positive | hardest(loss.detach(), positive, ignored, negative_ratio, min_negatives)
    return DetectionLosses(loss.masked_fill(~chosen, 0.0).sum() / count, localisation * localisation_weight)


def focal(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """Sigmoid focal loss of each logit, [...], for 0/1 targets of the same shape; equation 5 of the paper."""
    target = target.to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    miss = (target - logits.sigmoid()).abs()  # 1 - p_t
    return (alpha * target + (1 - alpha) * (1 - target)) * miss**gamma * cross_entropy


def hardest(loss: Tensor, positive: Tensor, ignored: Tensor, ratio: float, minimum: int) -> Tensor:
    """The ``ratio`` x positives (at least ``minimum``) negatives of highest loss in each image: bool [B, A]."""
    wanted = (ratio * positive.sum(1, keepdim=True)).clamp(min=minimum)
    negative = loss.masked_fill(positive | ignored, -torch.inf)
    rank = negative.argsort(1, descending=True).argsort(1)
    return (rank < wanted) & ~positive & ~ignored


def _cross_entropy(logits: Tensor, target: Tensor, classification: str) -> Tensor:
    if classification == "softmax":
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
    one_hot = F.one_hot(target, logits.shape[-1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(-1)


class ClassificationLosses(NamedTuple):
    """The scalar that training minimises."""

    classification: Tensor

    def total(self) -> Tensor:
        return self.classification


def label_loss(raw: Tensor, batch: ClassificationBatch, *, label_smoothing: float = 0.1) -> ClassificationLosses:
    """Cross-entropy of logits [B, C], mean over the batch, with a share of the target spread over all classes.

    Raises UserError for a share outside 0..1. Source of the smoothing: Inception-v3 (arXiv 1512.00567), section 7.
    """
    if not 0 <= label_smoothing <= 1:
        raise UserError(f"task.loss.label_smoothing must be from 0 to 1, got {label_smoothing}.")
    return ClassificationLosses(F.cross_entropy(raw.float(), batch.labels, label_smoothing=label_smoothing))


class SegmentationLosses(NamedTuple):
    """Scalars; their sum is what training minimises. A part that is not asked for is 0."""

    pixels: Tensor
    regions: Tensor  # Dice and Lovász
    auxiliary: Tensor

    def total(self) -> Tensor:
        return self.pixels + self.regions + self.auxiliary


def segmentation_loss(
    raw: DenseSegmentation,
    batch: SegmentationBatch,
    *,
    class_weights: Sequence[float] | None = None,
    hard_share: float = 1.0,
    dice_weight: float = 0.0,
    lovasz_weight: float = 0.0,
    auxiliary_weight: float = 0.4,
    align_corners: bool = False,
) -> SegmentationLosses:
    """Cross-entropy of logits upsampled to the masks, mean over the pixels that are not ignored (0 if all are).

    - ``class_weights``: one for each class, of its pixels; the mean is weighted, too;
    - ``hard_share``: below 1 only this share of the pixels counts, those of the highest loss (online hard example mining,
      arXiv 1604.03540);
    - ``dice_weight``, ``lovasz_weight``: of the losses of whole regions, :func:`dice` and :func:`lovasz`;
    - ``auxiliary_weight``: of the auxiliary head's cross-entropy, over all pixels (arXiv 1612.01105, section 3.3);
    - ``align_corners``: of the upsampling, as the post-processing has it.

    Raises UserError for another number of weights than classes, and a share outside 0..1.
    """
    if not 0 < hard_share <= 1:
        raise UserError(f"task.loss.hard_share must be above 0 and at most 1, got {hard_share}.")
    weights = _class_weights(class_weights, raw.logits)
    logits, target = _at_masks(raw.logits, batch.masks, align_corners), batch.masks.long()
    regions = auxiliary = logits.new_zeros(())
    if dice_weight or lovasz_weight:
        probabilities, truth = _by_class(logits, target)
        if dice_weight:
            regions = regions + dice_weight * dice(probabilities, truth)
        if lovasz_weight:
            regions = regions + lovasz_weight * lovasz(probabilities, truth)
    if raw.auxiliary is not None:
        auxiliary_logits = _at_masks(raw.auxiliary, batch.masks, align_corners)
        auxiliary = auxiliary_weight * _pixel_loss(auxiliary_logits, target, weights, hard_share=1.0)
    return SegmentationLosses(_pixel_loss(logits, target, weights, hard_share), regions, auxiliary)


def _at_masks(logits: Tensor, masks: Tensor, align_corners: bool) -> Tensor:
    # Networks give channels-last maps; log_softmax over classes would copy them at full size, here they are small.
    return F.interpolate(logits.float().contiguous(), masks.shape[-2:], mode="bilinear", align_corners=align_corners)


def _class_weights(weights: Sequence[float] | None, logits: Tensor) -> Tensor | None:
    if weights is None:
        return None
    if len(weights) != logits.shape[1]:
        raise UserError(f"task.loss.class_weights has {len(weights)} numbers, but there are {logits.shape[1]} classes.")
    return torch.tensor(list(weights), dtype=torch.float32, device=logits.device)


def _pixel_loss(logits: Tensor, target: Tensor, weights: Tensor | None, hard_share: float) -> Tensor:
    loss = F.cross_entropy(logits, target, weights, ignore_index=IGNORE, reduction="none").flatten()
    valid = (target != IGNORE).flatten()
    counted = valid if weights is None else valid * weights[target.flatten().where(valid, 0)]
    if hard_share < 1:
        loss, hard = loss.topk(math.ceil(hard_share * int(valid.sum())))
        counted = counted[hard]
    total = counted.sum()
    return loss.sum() / total.where(total > 0, 1)


def _by_class(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities f32 [K, P] and truth bool [K, P] of all pixels for the K classes that occur.

    Ignored pixels have neither, so that they add nothing to a sum or an error.
    """
    classes = target.flatten().bincount(minlength=IGNORE + 1)[: logits.shape[1]].nonzero().flatten()
    probabilities = logits.softmax(1) * (target != IGNORE)[:, None]
    return probabilities.transpose(0, 1)[classes].flatten(1), target.flatten() == classes[:, None]


def dice(probabilities: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice, mean over classes: probabilities f32 [K, P] of P pixels, truth bool [K, P] -> scalar, 0 without pixels.

    Source: V-Net (arXiv 1606.04797), section 3, with plain sums below the fraction.
    """
    overlap = (probabilities * truth).sum(1)
    score = 2 * overlap / (probabilities.sum(1) + truth.sum(1))
    return (1 - score).sum() / max(1, len(score))


def lovasz(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Lovász-softmax, mean over classes: probabilities f32 [K, P] of P pixels, truth bool [K, P] -> scalar, 0 without pixels.

    Sorts all pixels once a class, which takes as long as the network on a CPU.
    Source: arXiv 1705.08790, equations 8, 9 and 12.
    """
    errors, order = (truth.to(probabilities.dtype) - probabilities).abs().sort(1, descending=True)
    hits = truth.gather(1, order)
    total = truth.sum(1, keepdim=True)
    # With the pixels so far wrong, what the next adds to 1 - intersection / union: exact, where the difference of two
    # nearly equal fractions would be rounding for the most part.
    intersection = (total - hits.cumsum(1)).to(errors.dtype)
    union = (total + (~hits).cumsum(1)).to(errors.dtype)
    steps = torch.where(hits, 1 / union, intersection / (union * (union - 1).clamp(min=1)))
    return (errors * steps).sum() / max(1, len(errors))
