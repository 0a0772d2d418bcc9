"""What the training of a segmenter minimises: losses of pixels, and of whole regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_det.errors import UserError
from seg_det.ops.interpolation import Side
from seg_det.registry import LOSSES
from seg_det.types import IGNORE, DenseSegmentation, SegmentationBatch


class SegmentationLosses(NamedTuple):
    """Scalars; their sum is what training minimises. A part that is not asked for is 0."""

    pixels: Tensor
    regions: Tensor  # Dice and Lovász
    auxiliary: Tensor

    def total(self) -> Tensor:
        return self.pixels + self.regions + self.auxiliary


@LOSSES.register
def segmentation_loss(
    raw: DenseSegmentation,
    batch: SegmentationBatch,
    *,
    class_weights: Sequence[float] | None = None,
    hard_share: float = 1.0,
    dice_weight: float = 0.0,
    lovasz_weight: float = 0.0,
    pixel_stride: int = 1,
    region_stride: int = 4,
    auxiliary_weight: float = 0.4,
    align_corners: bool = False,
) -> SegmentationLosses:
    """Cross-entropy of logits upsampled to the masks, mean over the pixels that are not ignored (0 if all are).

    - ``class_weights``: one for each class, of its pixels; the mean is weighted, too;
    - ``hard_share``: below 1 only this share of the pixels counts, those of the highest loss (online hard example mining,
      arXiv 1604.03540);
    - ``dice_weight``, ``lovasz_weight``: of the losses of whole regions, :func:`dice` and :func:`lovasz`;
    - ``pixel_stride``, ``region_stride``: cross-entropy and the losses of regions look at every n-th pixel of every n-th row.
      Logits at stride 8 tell neighbouring pixels little apart, and sorting them for Lovász takes its time;
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
    for key, stride in {"pixel_stride": pixel_stride, "region_stride": region_stride}.items():
        if not isinstance(stride, int) or stride < 1:
            raise UserError(f"task.loss.{key} must be a whole number from 1 on, got {stride}.")
    weights = _class_weights(class_weights, raw.logits)
    logits, target = _at_masks(raw.logits, batch.masks, pixel_stride, align_corners)
    regions = auxiliary = logits.new_zeros(())
    if dice_weight or lovasz_weight:
        probabilities, truth = _by_class(*_at_masks(raw.logits, batch.masks, region_stride, align_corners))
        if dice_weight:
            regions = regions + dice_weight * dice(probabilities, truth)
        if lovasz_weight:
            regions = regions + lovasz_weight * lovasz(probabilities, truth)
    if raw.auxiliary is not None:
        seen = _at_masks(raw.auxiliary, batch.masks, pixel_stride, align_corners)
        auxiliary = auxiliary_weight * _pixel_loss(*seen, weights, hard_share=1.0)
    return SegmentationLosses(_pixel_loss(logits, target, weights, hard_share), regions, auxiliary)


def _at_masks(logits: Tensor, masks: Tensor, stride: int, align_corners: bool) -> tuple[Tensor, Tensor]:
    """Logits upsampled to f32 [B, C, h, w], every ``stride``-th pixel of every ``stride``-th row of ``masks``; the classes there.

    Products of matrices, which on a CPU are faster than torch's upsampling, and add up gradients in a fixed order on any device.
    """
    (height, width), device = masks.shape[-2:], logits.device
    rows = _spread(height, logits.shape[-2], stride, align_corners, device)
    columns = _spread(width, logits.shape[-1], stride, align_corners, device)
    with torch.autocast(device.type, enabled=False):
        # Networks give channels-last maps; log_softmax over classes would copy them at full size, here they are small.
        seen = rows @ (logits.float().contiguous() @ columns.T)
    return seen, masks[..., ::stride, ::stride].long()


@lru_cache(maxsize=64)
def _spread(length: int, cells: int, stride: int, align_corners: bool, device: torch.device) -> Tensor:
    side = Side(0, length, length, cells, align_corners)
    return side.weights(slice(0, length)).matrix(cells)[::stride].to(device)


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
