"""Convolutions whose output is ceil(input / stride), and the mixed depthwise convolution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import pad

Model = TypeVar("Model", bound=nn.Module)
PADDINGS = ("symmetric", "same")
PARTITIONS = ("equal", "exponential")


def in_format(model: Model, memory_format: torch.memory_format) -> Model:
    """``model`` itself, its weights in a memory format: ``torch.channels_last`` is the one that convolutions like."""
    return model.to(memory_format=memory_format)  # type: ignore[call-overload] # missing from the overloads of torch


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Pixels that TensorFlow's SAME adds before and after: for even sizes at stride 2 more after, which is not symmetric."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A strided convolution padded as TensorFlow does: weights trained there lose 8 points of top-1 without it."""

    def forward(self, x: Tensor) -> Tensor:
        sides = zip(x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True)
        (top, bottom), (left, right) = (same_padding(*side) for side in sides)
        return super().forward(pad(x, (left, right, top, bottom)))


class DilatedDepthwise(nn.Conv2d):
    """A depthwise convolution of stride 1 whose taps lie ``dilation`` apart, quick to train on a CPU.

    A pixel meets only those whose row and column leave its own remainder by the dilation: each such set is a smaller image,
    convolved without dilation, with the same sums. On a CPU torch's gradient with dilation takes 3 times as long as this in
    float32 and 12 to 16 times in bfloat16 (torch 2.13, 384 to 960 channels, two cores).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled() and x.device.type == "cpu"):
            return super().forward(x)
        (rows, columns), apart = x.shape[-2:], self.dilation[0]
        x = _phases(pad(x, (0, -columns % apart, 0, -rows % apart)), apart)
        around = (self.kernel_size[0] - 1) // 2
        x = F.conv2d(x, self.weight, self.bias, padding=around, groups=self.groups)
        return _interleaved(x, apart)[..., :rows, :columns]


def _phases(x: Tensor, apart: int) -> Tensor:
    """[B, C, H, W] -> [apart * apart * B, C, H / apart, W / apart]: every apart-th pixel of every apart-th row."""
    images, channels, rows, columns = x.shape
    x = x.permute(0, 2, 3, 1).reshape(images, rows // apart, apart, columns // apart, apart, channels)
    return x.permute(2, 4, 0, 1, 3, 5).reshape(-1, rows // apart, columns // apart, channels).permute(0, 3, 1, 2)


def _interleaved(x: Tensor, apart: int) -> Tensor:
    """What :func:`_phases` undoes."""
    _, channels, rows, columns = x.shape
    x = x.permute(0, 2, 3, 1).reshape(apart, apart, -1, rows, columns, channels)
    return x.permute(2, 3, 0, 4, 1, 5).reshape(-1, rows * apart, columns * apart, channels).permute(0, 3, 1, 2)


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    padding: str = "symmetric",
) -> nn.Conv2d:
    """A convolution with an odd kernel, [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)].

    ``padding`` "same" is TensorFlow's; at stride 1 both are the same. Raises ValueError for any other name.
    """
    if padding not in PADDINGS:
        raise ValueError(f"expected padding {' or '.join(PADDINGS)}, got {padding!r}")
    if padding == "same" and stride > 1:
        return SameConv2d(in_channels, out_channels, kernel, stride, 0, dilation, groups, bias)
    around = (kernel - 1) // 2 * dilation
    layer = DilatedDepthwise if dilation > 1 == stride and 1 < groups == in_channels else nn.Conv2d
    return layer(in_channels, out_channels, kernel, stride, around, dilation, groups, bias)


def split_channels(channels: int, groups: int, partition: str = "equal") -> list[int]:
    """Channels of each of ``groups``: equal (the first takes the remainder) or halving (the last takes the rest).

    64 in four groups are 16, 16, 16, 16 or 32, 16, 8, 8. Raises ValueError where a group would be empty.
    Source: MixConv section 3.2 and its reference code.
    """
    if partition not in PARTITIONS:
        raise ValueError(f"expected partition {' or '.join(PARTITIONS)}, got {partition!r}")
    if partition == "equal":
        split = [channels // groups] * groups
        split[0] += channels - sum(split)
    else:
        ends = [channels - (channels >> i) for i in range(groups)] + [channels]
        split = [b - a for a, b in pairwise(ends)]
    if min(split) < 1:
        raise ValueError(f"{channels} channels cannot be split into {groups} {partition} groups: {split}")
    return split


class MixConv(nn.Module):
    """Depthwise convolution with a kernel of its own for each group of channels, [B, in, H, W] -> [B, out, ...].

    ``out_channels`` is ``in_channels`` times the depth multiplier. Source: Tan and Le 2019, arXiv 1907.09595, section 3.1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernels: Sequence[int],
        *,
        stride: int = 1,
        dilation: int = 1,
        partition: str = "equal",
        padding: str = "symmetric",
    ):
        super().__init__()
        self.split = split_channels(in_channels, len(kernels), partition)
        multiplier = out_channels // in_channels
        self.branches = nn.ModuleList(
            conv2d(
                channels,
                channels * multiplier,
                kernel,
                stride=stride,
                dilation=dilation,
                groups=channels,
                bias=False,
                padding=padding,
            )
            for channels, kernel in zip(self.split, kernels, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.split, dim=1)
        return torch.cat([branch(part) for branch, part in zip(self.branches, parts, strict=True)], dim=1)
