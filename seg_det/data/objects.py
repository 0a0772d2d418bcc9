"""The objects that a detector learns from, as boxes of its input: known from the annotations, no image is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seg_det.data.records import DetectionRecord

SMALLEST_SIDE = 1.0  # pixels; augmentations drop what is left with less
VANISHING = 0.01  # share of objects below that from which it is worth a warning


def input_boxes(records: Sequence[DetectionRecord], size: tuple[int, int]) -> Tensor:
    """Boxes of all objects when each image is stretched to ``size`` (H, W): f32 [N, 4], xyxy pixels of the input.

    Every rule of resizing for detection stretches. Crowd regions are no targets and left out, and so is what is less than a
    pixel wide or high then.
    """
    boxes = _stretched(records, size)
    return torch.from_numpy(boxes[_large(boxes)].astype(np.float32))


def share_lost(records: Sequence[DetectionRecord], size: tuple[int, int]) -> float:
    """The share of the objects that are less than a pixel wide or high when each image is stretched to ``size`` (H, W)."""
    boxes = _stretched(records, size)
    return 1 - float(_large(boxes).mean()) if len(boxes) else 0.0


def vanishing(name: str, records: Sequence[DetectionRecord], size: tuple[int, int]) -> str | None:
    """The share of the objects of ``name`` that are smaller than a pixel of the input, where it is not negligible."""
    if (share := share_lost(records, size)) < VANISHING:
        return None
    return (
        f"{100 * share:.0f} % of the objects of {name} are less than a pixel wide or high at {size[0]} x {size[1]} and are "
        "left out of the training: choose a larger data.size, or cut the images into tiles."
    )


def why_none(name: str, records: Sequence[DetectionRecord], size: tuple[int, int] | None = None) -> str:
    """One sentence on why there is no object to learn in the split ``name``, at the input size (H, W) if one is given."""
    crowds = sum(len(record.boxes) for record in records)
    if size is not None and (objects := sum(int((~record.crowd).sum()) for record in records)):
        return (
            f"all {objects} objects of {name} are less than a pixel wide or high at {size[0]} x {size[1]}: choose a larger "
            "data.size, or cut the images into tiles."
        )
    if crowds:
        return (
            f"all {crowds} objects of {name} are marked as crowds (iscrowd=1), so nothing can be learned: set iscrowd to 0 for "
            "what are single objects."
        )
    return f"{name} has no object in any of its {len(records)} images: check its annotations."


def _stretched(records: Sequence[DetectionRecord], size: tuple[int, int]) -> np.ndarray:
    """The boxes of all objects but crowds, f64 [N, 4], when each image is stretched to ``size``."""
    if not records:
        return np.zeros((0, 4))
    counts = [len(record.boxes) for record in records]
    sizes = np.repeat(np.array([record.size for record in records], np.float64), counts, axis=0)  # [N, (H, W)]
    boxes = np.concatenate([record.boxes for record in records]) * np.tile((np.array(size) / sizes)[:, ::-1], 2)
    return boxes[~np.concatenate([record.crowd for record in records])]


def _large(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2] >= SMALLEST_SIDE).all(axis=1)


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """xyxy -> xywh, f64 [N, 4], rounded to a thousandth of a pixel.

    The difference of two float32 is exact in float64; rounding undoes the representation error of float32 (258.15 is
    stored as 258.149994).
    """
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).round(3)
