"""What the training of a detector minimises: SSD's loss, with the choices that its successors made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_det.errors import UserError
from seg_det.losses.boxes import BOX_LOSSES
from seg_det.ops.matching import match
from seg_det.registry import LOSSES
from seg_det.types import DenseDetections, DetectionBatch

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


@LOSSES.register
def multibox_loss(
    raw: DenseDetections,
    batch: DetectionBatch,
    anchors: Tensor,
    *,
    classification: str = "softmax",
    negative_ratio: float = 3.0,
    min_negatives: int = 3,
    match_threshold: float = 0.5,
    focal_alpha: float = 0.75,
    focal_gamma: float = 2.0,
    label_smoothing: float = 0.0,
    localisation: str = "smooth_l1",
    localisation_weight: float = 1.0,
) -> DetectionLosses:
    """SSD's loss, each part summed over the batch and divided by the number of matched anchors (at least 1).

    ``classification``: "softmax" or "sigmoid" with the hardest ``negative_ratio`` : 1 negatives of each image (at least
    ``min_negatives``, so that an image without objects teaches too), or "focal" (sigmoid, over all anchors). Logits are
    [B, A, C + 1] with the background in column 0. ``localisation`` names the loss of the boxes of matched anchors:
    "smooth_l1", "giou", "diou" or "ciou" (:mod:`seg_det.losses.boxes`).

    ``label_smoothing`` takes that share of the target away and spreads it, over all columns with softmax, over present and
    absent with sigmoid; the focal loss, which lives off negatives of no loss, has none. Both losses of an anchor that is
    matched to an object of a mixed image are multiplied by the object's weight (arXiv 1902.04103, section 3.1).

    Raises UserError for a loss of another name, a number that cannot be, and smoothing of the focal loss.
    Source: SSD section 2.2 equations 1-3; Focal Loss (arXiv 1708.02002) equation 5; Inception-v3 (arXiv 1512.00567) section 7.
    """
    if classification not in SCORES:
        raise UserError(f"task.loss.classification must be one of {', '.join(SCORES)}, got {classification!r}.")
    if localisation not in BOX_LOSSES:
        raise UserError(f"task.loss.localisation must be one of {', '.join(BOX_LOSSES)}, got {localisation!r}.")
    _check({"match_threshold": match_threshold, "focal_alpha": focal_alpha, "label_smoothing": label_smoothing}, 1)
    _check({"negative_ratio": negative_ratio, "min_negatives": min_negatives, "focal_gamma": focal_gamma}, torch.inf)
    _check({"localisation_weight": localisation_weight}, torch.inf)
    if label_smoothing and classification == "focal":
        raise UserError("task.loss.label_smoothing does not go with task.loss.classification=focal: set it to 0.")
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
    weights = _anchor_weights(batch, index, positive)
    distance = weights * BOX_LOSSES[localisation](deltas, boxes, anchors)
    box_loss = localisation_weight * distance.masked_fill(~positive, 0.0).sum() / count
    if classification == "focal":
        one_hot = F.one_hot(target, logits.shape[-1])
        one_hot[..., 0] = 0  # background is the absence of all classes (TensorFlow's encode_background_as_zeros)
        loss = focal(logits, one_hot, focal_alpha, focal_gamma).sum(-1)
        chosen = ~ignored
    else:
        loss = _cross_entropy(logits, target, classification, label_smoothing)
        chosen = positive | hardest(loss.detach(), positive, ignored, negative_ratio, min_negatives)
    return DetectionLosses((weights * loss).masked_fill(~chosen, 0.0).sum() / count, box_loss)


def _check(values: Mapping[str, float], most: float) -> None:
    """Raises UserError for a value below 0 or above ``most``, by its key."""
    for key, value in values.items():
        if not 0 <= value <= most:
            bounds = "must not be negative" if most == torch.inf else f"must be from 0 to {most}"
            raise UserError(f"task.loss.{key} {bounds}, got {value}.")


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


def _anchor_weights(batch: DetectionBatch, index: Tensor, positive: Tensor) -> Tensor | float:
    """Of each anchor's loss, [B, A]: its object's where it has one, else 1."""
    if batch.weights is None or not batch.labels.shape[1]:
        return 1.0
    return torch.where(positive, batch.weights.gather(1, index), 1.0)


def _cross_entropy(logits: Tensor, target: Tensor, classification: str, smoothing: float) -> Tensor:
    if classification == "softmax":
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none", label_smoothing=smoothing)
        return loss.view_as(target)
    one_hot = F.one_hot(target, logits.shape[-1]).to(logits.dtype)
    smooth = one_hot * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smooth, reduction="none").sum(-1)
