"""What the training of a classifier minimises."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from seg_det.errors import UserError
from seg_det.registry import LOSSES
from seg_det.types import ClassificationBatch


class ClassificationLosses(NamedTuple):
    """The scalar that training minimises."""

    classification: Tensor

    def total(self) -> Tensor:
        return self.classification


@LOSSES.register
def label_loss(raw: Tensor, batch: ClassificationBatch, *, label_smoothing: float = 0.1) -> ClassificationLosses:
    """Cross-entropy of logits [B, C], mean over the batch, with a share of the target spread over all classes.

    Of mixed images it is the loss of both classes, each by its share (mixup, arXiv 1710.09412).

    Raises UserError for a share outside 0..1. Source of the smoothing: Inception-v3 (arXiv 1512.00567), section 7.
    """
    if not 0 <= label_smoothing <= 1:
        raise UserError(f"task.loss.label_smoothing must be from 0 to 1, got {label_smoothing}.")
    if batch.others is None or batch.shares is None:
        return ClassificationLosses(F.cross_entropy(raw.float(), batch.labels, label_smoothing=label_smoothing))
    own, other = (
        F.cross_entropy(raw.float(), labels, label_smoothing=label_smoothing, reduction="none")
        for labels in (batch.labels, batch.others)
    )
    return ClassificationLosses((batch.shares * own + (1 - batch.shares) * other).mean())
