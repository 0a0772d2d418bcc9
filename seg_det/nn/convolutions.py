"""Convolutions whose output is ceil(input / stride), and the mixed depthwise convolution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

PADDINGS = ("symmetric", "same")
PARTITIONS = ("equal", "exponential")


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
    return nn.Conv2d(in_channels, out_channels, kernel, stride, around, dilation, groups, bias)


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
