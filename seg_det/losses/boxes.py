"""Losses of matched boxes: smooth L1 of the box code, and those that follow from the overlap of the boxes themselves."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_det.ops.boxes import area, decode, encode

TINY = 1e-7  # square pixels: keeps the quotients of boxes without an area finite


def smooth_l1(deltas: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
    """Of the four encoded coordinates, summed: deltas, boxes and anchors [..., A, 4] -> [..., A]. SSD section 2.2, equation 2."""
    return F.smooth_l1_loss(deltas, encode(boxes, anchors), reduction="none").sum(-1)


def giou(deltas: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
    """1 - generalised IoU, 0..2, of the decoded boxes: [..., A, 4] -> [..., A]. Source: arXiv 1902.09630, algorithm 1."""
    predicted = decode(deltas, anchors)
    overlap, union = _overlap(predicted, boxes)
    width, height = _hull(predicted, boxes).unbind(-1)
    hull = width * height
    return 1 - overlap / union.clamp(min=TINY) + (hull - union) / hull.clamp(min=TINY)


def diou(deltas: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
    """1 - IoU + squared distance of the centres over that of the hull's corners, 0..2: [..., A, 4] -> [..., A].

    Source: arXiv 1911.08287, equation 7.
    """
    predicted = decode(deltas, anchors)
    overlap, union = _overlap(predicted, boxes)
    shift = (predicted[..., :2] + predicted[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2
    diagonal = _hull(predicted, boxes).square().sum(-1)
    return 1 - overlap / union.clamp(min=TINY) + shift.square().sum(-1) / diagonal.clamp(min=TINY)


def ciou(deltas: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
    """:func:`diou` and the difference of the aspect ratios, whose weight has no gradient: [..., A, 4] -> [..., A].

    Source: arXiv 1911.08287, equations 8, 9 and 11.
    """
    predicted = decode(deltas, anchors)
    overlap, union = _overlap(predicted, boxes)
    difference = 4 / math.pi**2 * (_angle(boxes) - _angle(predicted)).square()
    with torch.no_grad():
        weight = difference / (1 - overlap / union.clamp(min=TINY) + difference).clamp(min=TINY)
    return diou(deltas, boxes, anchors) + weight * difference


BOX_LOSSES = {"smooth_l1": smooth_l1, "giou": giou, "diou": diou, "ciou": ciou}


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of intersection and union of each pair, [...]."""
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    overlap = sides.clamp(min=0).prod(-1)
    return overlap, area(a) + area(b) - overlap


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """Width and height of the smallest box around each pair, [..., 2]."""
    return torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])


def _angle(boxes: Tensor) -> Tensor:
    """Of the diagonal against the vertical, [...], in radians."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return torch.atan2(width, height.clamp(min=TINY))
