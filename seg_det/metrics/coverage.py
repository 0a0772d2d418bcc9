"""How well anchors cover objects, before anything is learned: what a detector has to learn from."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from seg_det.metrics.precision import AREAS
from seg_det.ops.boxes import area


class Coverage(NamedTuple):
    """Objects of one size and the IoU with their best anchors; None where there is no such object."""

    objects: int
    recall: float | None  # share whose best anchor reaches the IoU asked for
    mean_iou: float | None  # with the best anchor


def coverage(boxes: Tensor, best: Tensor, iou: float) -> dict[str, Coverage]:
    """The coverage of boxes [N, 4] of the input, whose best IoU are ``best`` [N], by the names of COCO's areas."""
    areas = area(boxes)
    return {name: _covered(best[(areas >= low) & (areas <= high)], iou) for name, (low, high) in AREAS.items()}


def _covered(best: Tensor, iou: float) -> Coverage:
    if not len(best):
        return Coverage(0, None, None)
    return Coverage(len(best), (best >= iou).double().mean().item(), best.double().mean().item())
