"""Box arithmetic on xyxy pixels: areas, overlaps, the SSD box code."""

from __future__ import annotations

import math

import torch
from torch import Tensor

VARIANCES = (10.0, 10.0, 5.0, 5.0)  # Faster R-CNN / SSD box coder: factors of (tx, ty, tw, th)
MAX_LOG_SCALE = math.log(1000 / 16)  # a decoded side is at most 62.5 anchors: keeps exp() finite on untrained weights


def area(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4], in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Pairwise overlap areas [..., N, M] of boxes [..., N, 4] and [..., M, 4]."""
    a, b = a.unsqueeze(-2), b.unsqueeze(-3)
    width = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    height = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    return width.clamp(min=0) * height.clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Pairwise intersection over union [..., N, M], 0..1; boxes must have an area."""
    overlap = intersection(a, b)
    return overlap / (area(a).unsqueeze(-1) + area(b).unsqueeze(-2) - overlap)


def covered(a: Tensor, b: Tensor) -> Tensor:
    """Share of each ``a`` [..., N, 4] that lies inside each ``b`` [..., M, 4]: [..., N, M], 0..1."""
    return intersection(a, b) / area(a).unsqueeze(-1)


def to_centre(boxes: Tensor) -> Tensor:
    """xyxy -> (centre x, centre y, width, height), [..., 4]."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def to_corners(boxes: Tensor) -> Tensor:
    """(centre x, centre y, width, height) -> xyxy, [..., 4]."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def encode(boxes: Tensor, anchors: Tensor, variances: tuple[float, ...] = VARIANCES) -> Tensor:
    """Deltas (tx, ty, tw, th) that turn ``anchors`` into ``boxes``; both [..., A, 4] xyxy.

    Source: Faster R-CNN section 3.1.2, with the scale factors of SSD's released code.
    """
    box, anchor = to_centre(boxes), to_centre(anchors)
    shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    scale = torch.log(box[..., 2:] / anchor[..., 2:])
    return torch.cat([shift, scale], -1) * boxes.new_tensor(variances)


def decode(deltas: Tensor, anchors: Tensor, variances: tuple[float, ...] = VARIANCES) -> Tensor:
    """Inverse of :func:`encode`: boxes [..., A, 4] xyxy from deltas [..., A, 4]."""
    anchor = to_centre(anchors)
    deltas = deltas / deltas.new_tensor(variances)
    centre = deltas[..., :2] * anchor[..., 2:] + anchor[..., :2]
    sides = deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp() * anchor[..., 2:]
    return to_corners(torch.cat([centre, sides], -1))


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [..., 4] cut to an image of ``size`` (H, W)."""
    # One-sided clamps: a two-sided clamp with tensor bounds does not export to ONNX.
    limit = boxes.new_tensor([size[1], size[0], size[1], size[0]])
    return torch.minimum(boxes.clamp(min=0), limit)


def rescale(boxes: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Boxes [..., 4] of an image of ``from_size`` (H, W) as boxes of the same image at ``to_size``."""
    y, x = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return boxes * boxes.new_tensor([x, y, x, y])
