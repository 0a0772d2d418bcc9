"""Training at changing input sizes: each batch is resized on the device, which costs the loader nothing.

Source: YOLO9000 (arXiv 1612.08242), section 2, which draws from multiples of 32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_det.errors import UserError
from seg_det.types import ClassificationBatch, DetectionBatch, SegmentationBatch

STEP = 32  # pixels between the sizes of a range: the coarsest stride of the backbones
LARGEST_SHARE = 4.0  # a number above it is a size
STREAM = 2  # of random numbers: samples have others
Size = tuple[int, int]
Batch = TypeVar("Batch", DetectionBatch, ClassificationBatch, SegmentationBatch)


def input_sizes(choice: Sequence[float] | Sequence[int | Sequence[int]] | None, size: Size) -> tuple[Size, ...]:
    """The sizes (H, W) that ``data.multi_scale`` asks for, none for None.

    ``choice`` is [low, high], shares of ``size`` (H, W): all heights between them that are a multiple of 32 away from H, with
    the aspect ratio of ``size``; or a list of sizes, a number or [height, width] each. Raises UserError for anything else.
    """
    if choice is None:
        return ()
    numbers = _numbers(choice)
    if numbers and all(STEP <= value == int(value) for value in numbers):
        return tuple(_two(item) for item in choice)
    if len(numbers) != 2 or len(choice) != 2 or not 0 < numbers[0] <= numbers[1] <= LARGEST_SHARE:
        raise UserError(
            f"data.multi_scale is {choice}, but takes two shares of data.size, the smaller first and at most "
            f"{LARGEST_SHARE:g}, a list of sizes in whole pixels, at least {STEP}, or null."
        )
    sizes = _between(numbers[0] * size[0], numbers[1] * size[0], size)
    if not sizes:
        raise UserError(
            f"data.multi_scale is {choice}, but no height between these shares of {size[0]} is a multiple of {STEP} "
            "away from it: widen them, or list the sizes."
        )
    return sizes


def _between(low: float, high: float, size: Size) -> tuple[Size, ...]:
    """The sizes from the height ``low`` to ``high`` with the aspect ratio of ``size``, whose height is multiples of STEP away."""
    heights = range(size[0] % STEP or STEP, int(high) + 1, STEP)
    return tuple((height, max(1, round(size[1] * height / size[0]))) for height in heights if low <= height)


def _numbers(choice: Any) -> list[float]:
    """All numbers of a list of numbers and lists of numbers; none of anything else."""
    items = choice if isinstance(choice, list | tuple) else []
    values = [value for item in items for value in (item if isinstance(item, list | tuple) else [item])]
    return values if all(isinstance(value, int | float) and math.isfinite(value) for value in values) else []


def _two(item: float | Sequence[int]) -> Size:
    sides = [item, item] if not isinstance(item, Sequence) else list(item)
    if len(sides) != 2:
        raise UserError(f"data.multi_scale: a size is a number or [height, width], got {sides}.")
    return int(sides[0]), int(sides[1])


@dataclass(frozen=True)
class MultiScale:
    """Resizes each batch to one of ``sizes``, by seed, epoch and place in the epoch alone.

    So all processes of a distributed run agree on it, and a resumed run goes on exactly.
    """

    sizes: tuple[Size, ...]
    seed: int = 0

    def size(self, epoch: int, batch_index: int) -> Size:
        """(H, W) of a batch."""
        rng = np.random.default_rng((self.seed, epoch, batch_index, STREAM))
        return self.sizes[rng.integers(len(self.sizes))]

    def __call__(self, batch: Batch, epoch: int, batch_index: int) -> Batch:
        """The batch in that size, on its device."""
        return resized(batch, self.size(epoch, batch_index))


def resized(batch: Batch, size: Size) -> Batch:
    """The batch with images, boxes and masks in ``size`` (H, W): bilinear with half-pixel centres, masks by the nearest.

    Antialiased where it shrinks. Objects of which less than a pixel of a side remains are no longer valid, as in augmentation.
    """
    before = tuple(batch.images.shape[-2:])
    if before == size:
        return batch
    batch = batch._replace(images=_resize(batch.images, size))
    if isinstance(batch, SegmentationBatch):
        masks = F.interpolate(batch.masks[:, None], size, mode="nearest-exact")[:, 0]
        return batch._replace(masks=masks)
    if isinstance(batch, DetectionBatch):
        scale = torch.tensor([size[1] / before[1], size[0] / before[0]] * 2, device=batch.boxes.device)
        boxes = batch.boxes * scale
        return batch._replace(boxes=boxes, valid=batch.valid & (boxes[..., 2:] - boxes[..., :2] >= 1).all(-1))
    return batch


def _resize(images: Tensor, size: Size) -> Tensor:
    # In float: interpolation of bytes is fast on CPUs and missing on other devices.
    floats = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return floats.round_().clamp_(0, 255).to(torch.uint8)
