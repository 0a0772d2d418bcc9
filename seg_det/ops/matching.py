"""Which anchor learns which object: SSD's matching, over a whole batch at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seg_det.ops.boxes import covered, iou


class Matches(NamedTuple):
    """For each anchor of each image: the index of its object (-1: none), and whether it is to be left out of the loss."""

    objects: Tensor  # i64 [B, A]
    ignored: Tensor  # bool [B, A]


@torch.no_grad()
def match(
    anchors: Tensor,
    boxes: Tensor,
    valid: Tensor,
    crowd: Tensor,
    *,
    threshold: float = 0.5,
    crowd_threshold: float = 0.5,
) -> Matches:
    """Match anchors f32 [A, 4] with the objects f32 [B, G, 4] of a batch (``valid``, ``crowd``: bool [B, G]).

    An anchor takes the object of highest IoU if that reaches ``threshold``; each object then claims its best anchor whatever
    the IoU (a claim by several objects goes to the last of them). Unmatched anchors of which ``crowd_threshold`` or more lies
    in one crowd region are ignored: what they show may well be an object. Source: SSD section 2.2; COCO's crowd annotations.
    """
    images, objects = valid.shape
    if objects == 0:
        nothing = valid.new_zeros(images, len(anchors))
        return Matches(nothing.long() - 1, nothing)
    target = valid & ~crowd
    overlap = iou(boxes, anchors).masked_fill(~target[..., None], -1.0)  # [B, G, A]
    best, index = overlap.max(1)
    index = index.masked_fill(best < threshold, -1)
    # Padding claims a column of its own, which is cut off again; amax makes the last of several claims win on any device.
    claimed = overlap.argmax(2).masked_fill(~target, len(anchors))
    claims = index.new_full((images, len(anchors) + 1), -1)
    claims.scatter_reduce_(1, claimed, torch.arange(objects, device=index.device).expand(images, -1), "amax")
    claims = claims[:, :-1]
    index = torch.where(claims >= 0, claims, index)
    return Matches(index, (index < 0) & _in_crowd(anchors, boxes, valid & crowd, crowd_threshold))


def _in_crowd(anchors: Tensor, boxes: Tensor, crowd: Tensor, threshold: float) -> Tensor:
    if not crowd.any():
        return crowd.new_zeros(crowd.shape[0], len(anchors))
    inside = covered(anchors, boxes).masked_fill(~crowd[:, None], 0.0)  # [B, A, G]
    return inside.amax(2) >= threshold
