"""The objects that a detector learns from, as boxes of its input: known from the annotations, no image is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seg_det.data.records import DetectionRecord

SMALLEST_SIDE = 1.0  # pixels; augmentations drop what is left with less


def input_boxes(records: Sequence[DetectionRecord], size: tuple[int, int]) -> Tensor:
    """Boxes of all objects when each image is stretched to ``size`` (H, W): f32 [N, 4], xyxy pixels of the input.

    Every rule of resizing for detection stretches. Crowd regions are no targets and left out, and so is what is less than a
    pixel wide or high then.
    """
    if not records:
        return torch.zeros(0, 4)
    counts = [len(record.boxes) for record in records]
    sizes = np.repeat(np.array([record.size for record in records], np.float64), counts, axis=0)  # [N, (H, W)]
    boxes = np.concatenate([record.boxes for record in records]) * np.tile((np.array(size) / sizes)[:, ::-1], 2)
    wanted = ~np.concatenate([record.crowd for record in records])
    wanted &= (boxes[:, 2:] - boxes[:, :2] >= SMALLEST_SIDE).all(axis=1)
    return torch.from_numpy(boxes[wanted].astype(np.float32))


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """xyxy -> xywh, f64 [N, 4], rounded to a thousandth of a pixel.

    The difference of two float32 is exact in float64; rounding undoes the representation error of float32 (258.15 is
    stored as 258.149994).
    """
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).round(3)
