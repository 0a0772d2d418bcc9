"""The card's rules of resizing as tensor algebra, for images whose size is known only when the graph runs.

They follow what evaluation does on files (OpenCV's INTER_LINEAR, torch's antialiased bilinear of bytes), which round to whole
levels. Sizes are 0-dimensional tensors here, so that an exporter sees arithmetic and no numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_det.ops.placement import CROP_FRACTION, MULTIPLE

STEPS = 2048.0  # of OpenCV's shares
# Levels are filtered as differences from the middle one: sums of 16-bit weights are then whole numbers that 32 bits hold, so
# exact in any order, in images of up to four times the canvas. In larger ones some values in a million may be a level off.
MIDDLE = 128.0


class Extent(NamedTuple):
    """One side of an image on its canvas: scaled from ``length`` to ``content`` pixels, of which the first ``offset`` are cut."""

    length: Tensor
    content: Tensor
    offset: Tensor | int = 0


def side_lengths(image: Tensor) -> tuple[Tensor, Tensor]:
    """(H, W) of an image [..., H, W] as f64 tensors []."""
    height, width = (torch.scalar_tensor(side, dtype=torch.float64) for side in image.shape[-2:])
    return height, width


def extents(rule: str, image: Tensor, size: tuple[int, int]) -> tuple[Extent, Extent]:
    """How the rows and columns of ``image`` [3, H, W] lie on the canvas of ``size`` (H, W)."""
    lengths = side_lengths(image)
    if rule in ("stretch", "stretch_antialiased"):
        rows, columns = (
            Extent(length, torch.tensor(float(side), dtype=torch.float64))
            for length, side in zip(lengths, size, strict=True)
        )
        return rows, columns
    if rule == "letterbox":
        scale = torch.minimum(*(side / length for length, side in zip(lengths, size, strict=True)))
        rows, columns = (Extent(length, (length * scale).round().clamp(min=1)) for length in lengths)
        return rows, columns
    if rule == "centre_crop":
        scale = torch.maximum(*(side / CROP_FRACTION / length for length, side in zip(lengths, size, strict=True)))
        contents = [(length * scale).round().clamp(min=side) for length, side in zip(lengths, size, strict=True)]
        rows, columns = (
            Extent(length, content, ((content - side) / 2).floor())
            for length, content, side in zip(lengths, contents, size, strict=True)
        )
        return rows, columns
    raise ValueError(f"no graph for the rule {rule!r}")


def fit(image: Tensor, rule: str, size: tuple[int, int], fill: Sequence[float]) -> Tensor:
    """``image`` f32 [3, H, W] of whole levels by the card's ``rule`` on its canvas: f32 [3, h, w] of whole levels.

    ``size`` is the card's input size; ``fill`` (RGB) is the colour of what the content leaves of the canvas.
    """
    levels = torch.tensor([float(round(value)) for value in fill])[:, None, None]
    if rule == "whole":
        height, width = image.shape[-2:]
        # As ops.placement.canvas_size has it, in arithmetic that a graph can carry.
        below, right = (size[0] - height) % MULTIPLE, (size[1] - width) % MULTIPLE
        return F.pad(image - levels, (0, right, 0, below)) + levels
    rows, columns = extents(rule, image, size)
    if rule == "stretch":
        return _linear(image, rows, columns, size)
    across = _antialiased(columns, size[1], image.shape[2])
    down = _antialiased(rows, size[0], image.shape[1])
    wide = ((image - MIDDLE) @ across.T + _middle(across)).floor()
    resized = (down @ wide + _middle(down)[:, None]).floor() + MIDDLE
    if rule != "letterbox":
        return resized
    under, beside = (torch.arange(count) >= side.content for count, side in zip(size, (rows, columns), strict=True))
    return torch.where(under[:, None] | beside, levels, resized)


def _centres(count: int, side: Extent) -> Tensor:
    """Where the centres of ``count`` pixels of the canvas lie in the image: f64 [count], 0.5 in the first pixel's middle."""
    return (torch.arange(count, dtype=torch.float64) + (0.5 + side.offset)) * (side.length / side.content)


def _linear(image: Tensor, rows: Extent, columns: Extent, size: tuple[int, int]) -> Tensor:
    """OpenCV's INTER_LINEAR of bytes, with the truncations of its fixed-point arithmetic: an eighth of a level darker."""
    low, high, share = _taps(columns, size[1])
    wide = image.index_select(2, low) * (STEPS - share) + image.index_select(2, high) * share
    wide = (wide / 16).floor()
    low, high, share = _taps(rows, size[0])
    share = share[:, None]
    first = (wide.index_select(1, low) * (STEPS - share) / 2**16).floor()
    second = (wide.index_select(1, high) * share / 2**16).floor()
    return ((first + second + 2) / 4).floor()


def _taps(side: Extent, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of ``count`` pixels of the canvas: two neighbours in the image, i64, and the second's share, 0..STEPS."""
    place = (
        _centres(count, side) - 0.5
    ).float()  # 32 bits, and shares of pixels beyond the image: all as OpenCV has it
    first = place.floor()
    low, high = (torch.minimum(row.clamp(min=0), (side.length - 1).float()).long() for row in (first, first + 1))
    return low, high, ((place - first) * STEPS).round()


def _antialiased(side: Extent, count: int, length: int) -> Tensor:
    """The triangle filter as a matrix f32 [count, length], its weights rounded to 16 bits as torch's filter of bytes has them.

    In units that make all places whole numbers, so that a runtime without 64 bits comes to the same weights.
    """
    centres = 2 * (torch.arange(count, dtype=torch.float64) + side.offset) + 1
    # And the image's first pixel, whose filter is cut in half, so that its weights decide on the rounding: it may be cut off.
    centres = torch.cat([centres, torch.ones(1, dtype=torch.float64)])[:, None]
    pixels = 2 * torch.arange(length, dtype=torch.float64) + 1
    reach = 2 * torch.maximum(side.length, side.content)
    heights = (reach - (centres * side.length - pixels * side.content).abs()).clamp(min=0)
    heights = heights * (centres < 2 * side.content)
    sums = heights.sum(1, keepdim=True).clamp(min=1)
    # The largest power of two that leaves the largest weight 15 bits; the half also keeps this off the powers themselves,
    # where another runtime's logarithm may fall on the other side.
    unit = ((2**15 - 0.5) / (heights / sums).max()).log2().floor().exp2()
    return (_rounded(heights, unit, sums) / unit)[:-1].float()


def _rounded(heights: Tensor, unit: Tensor, sums: Tensor) -> Tensor:
    """``heights * unit / sums`` as whole numbers, halves up, though 32 bits could not tell a half from what is next to it."""
    weights = (heights * unit / sums).round()
    high = (weights / 256).floor()
    rest = (heights * (unit / 256) - high * sums) * 256 - (weights - high * 256) * sums
    return weights + (2 * rest >= sums).double() - (2 * rest < -sums).double()


def _middle(weights: Tensor) -> Tensor:
    """What rounded weights f32 [count, length] make of the middle level, less that level, and the half for rounding: [count]."""
    return MIDDLE * (weights.sum(1) - 1) + 0.5
