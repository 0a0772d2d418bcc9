"""What the training of a segmenter minimises: losses of pixels, and of whole regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_det.types import IGNORE, DenseSegmentation, SegmentationBatch, UserError


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
    region_stride: int = 1,
    auxiliary_weight: float = 0.4,
    align_corners: bool = False,
) -> SegmentationLosses:
    """Cross-entropy of logits upsampled to the masks, mean over the pixels that are not ignored (0 if all are).

    - ``class_weights``: one for each class, of its pixels; the mean is weighted, too;
    - ``hard_share``: below 1 only this share of the pixels counts, those of the highest loss (online hard example mining,
      arXiv 1604.03540);
    - ``dice_weight``, ``lovasz_weight``: of the losses of whole regions, :func:`dice` and :func:`lovasz`, which look at every
      ``region_stride``-th pixel of every ``region_stride``-th row: regions are larger, and sorting takes its time;
    - ``auxiliary_weight``: of the auxiliary head's cross-entropy, over all pixels (arXiv 1612.01105, section 3.3);
    - ``align_corners``: of the upsampling, as the post-processing has it.

    Raises UserError for another number of weights than classes, a negative weight, a share outside 0..1 and a stride below 1.
    """
    if not 0 < hard_share <= 1:
        raise UserError(f"task.loss.hard_share must be above 0 and at most 1, got {hard_share}.")
    parts = {"dice_weight": dice_weight, "lovasz_weight": lovasz_weight, "auxiliary_weight": auxiliary_weight}
    for key, weight in parts.items():
        if weight < 0:
            raise UserError(f"task.loss.{key} must not be negative, got {weight}.")
    if not isinstance(region_stride, int) or region_stride < 1:
        raise UserError(f"task.loss.region_stride must be a whole number from 1 on, got {region_stride}.")
    weights = _class_weights(class_weights, raw.logits)
    logits, target = _at_masks(raw.logits, batch.masks, align_corners), batch.masks.long()
    regions = auxiliary = logits.new_zeros(())
    if dice_weight or lovasz_weight:
        probabilities, truth = _by_class(*(x[..., ::region_stride, ::region_stride] for x in (logits, target)))
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
    if not isinstance(weights, Sequence) or not all(isinstance(weight, int | float) for weight in weights):
        raise UserError(f"task.loss.class_weights must be a list with a number for each class, got {weights}.")
    if len(weights) != logits.shape[1]:
        raise UserError(
            f"task.loss.class_weights has {len(weights)} numbers, but there are {logits.shape[1]} classes: give one to each."
        )
    if not 0 < sum(weights) < math.inf or min(weights) < 0:
        raise UserError(f"task.loss.class_weights must not be negative, nor all 0, got {list(weights)}.")
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
