"""What a network sees of images when they are measured in parts or at several scales."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]  # (H, W)


class Crop(NamedTuple):
    """A part of one image of a batch, possibly at another scale."""

    image: int  # position in the batch
    pixels: Tensor  # f32 [3, h, w]
    box: tuple[float, float, float, float]  # xyxy pixels of the image as it is in the batch


def crops(
    images: Tensor, contents: Sequence[Size], *, scale: float = 1.0, window: Size | None = None, overlap: float = 0.0
) -> Iterator[Crop]:
    """The parts that cover ``images`` f32 [B, 3, H, W] after resizing by ``scale``, all of one size.

    Without ``window`` (H, W) each image is one part. Windows cover ``contents``, what of each image is not padding: as few
    as can be with neighbours that share at least ``overlap`` of a window. Zeros fill a window that is larger than the image.
    """
    height, width = images.shape[-2:]
    scaled = _scaled(images, scale)
    rows, columns = scaled.shape[-2:]
    size = window or (rows, columns)
    padded = F.pad(scaled, (0, max(0, size[1] - columns), 0, max(0, size[0] - rows)))
    for image, content in enumerate(contents):
        tops = window_starts(math.ceil(content[0] * rows / height), size[0], overlap) if window else [0]
        lefts = window_starts(math.ceil(content[1] * columns / width), size[1], overlap) if window else [0]
        for top, left in product(tops, lefts):
            bottom, right = top + size[0], left + size[1]
            box = (left * width / columns, top * height / rows, right * width / columns, bottom * height / rows)
            yield Crop(image, padded[image, :, top:bottom, left:right], box)


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin on a side: the fewest that share ``overlap`` (a part of a window) with the next, evenly spread.

    The first begins at 0 and the last ends with the side, all in pixels; one window covers a side that is not longer.
    """
    if length <= window:
        return [0]
    steps = math.ceil((length - window) / max(1, window - math.ceil(overlap * window)))
    return [round(step * (length - window) / steps) for step in range(steps + 1)]


def _scaled(images: Tensor, scale: float, multiple: int = 32) -> Tensor:
    """Resized by about ``scale``: to a multiple of the coarsest stride, and what the side itself has beyond such (513)."""
    if scale == 1:
        return images
    size = [
        max(1, round(side // multiple * scale)) * multiple + side % multiple if side >= multiple else side
        for side in images.shape[-2:]
    ]
    return F.interpolate(images, size, mode="bilinear", align_corners=False)
