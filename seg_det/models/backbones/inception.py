"""Inception v1 (Szegedy et al. 2014, arXiv 1409.4842) and v2, "BN-Inception" (Ioffe and Szegedy 2015, arXiv 1502.03167)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from seg_det.models.backbones.base import Backbone, check_choice, init_fan_out
from seg_det.nn.blocks import Block, ConvNormAct, Norm, Points, ReLU, batch_norm
from seg_det.nn.convolutions import PADDINGS, conv2d, same_padding
from seg_det.registry import BACKBONES


class Conv(NamedTuple):
    channels: int
    kernel: int
    stride: int = 1


class MaxPool(NamedTuple):
    kernel: int
    stride: int = 2


class Mixed(NamedTuple):
    """An Inception module; with stride 2 it has no 1x1 branch and passes what it pools on as it is."""

    one: int  # channels of the 1x1 branch
    three: tuple[int, int]  # of the 1x1 reduction and the 3x3 convolution
    five: tuple[int, int]  # of the reduction and the 5x5 convolution, which is two 3x3 in v2
    pool: int  # of the 1x1 convolution after the pooling
    average: bool = False  # pooling
    stride: int = 1


Row = Conv | MaxPool | Mixed
ConvBuilder = Callable[..., ConvNormAct]  # conv(in_channels, out_channels, kernel=..., stride=..., dilation=...)
STEM = 64  # 7x7, stride 2, in both

# v1, table 1 from the first pooling on
V1 = (
    MaxPool(3),
    Conv(64, 1),
    Conv(192, 3),
    MaxPool(3),
    Mixed(64, (96, 128), (16, 32), 32),  # 3a
    Mixed(128, (128, 192), (32, 96), 64),
    MaxPool(3),
    Mixed(192, (96, 208), (16, 48), 64),  # 4a
    Mixed(160, (112, 224), (24, 64), 64),
    Mixed(128, (128, 256), (24, 64), 64),
    Mixed(112, (144, 288), (32, 64), 64),
    Mixed(256, (160, 320), (32, 128), 128),
    MaxPool(3),
    Mixed(256, (160, 320), (32, 128), 128),  # 5a
    Mixed(384, (192, 384), (48, 128), 128),
)
# v2, figure 5. Its 4c and 4d list a pool branch of 128 but 576 channels in all; as TF-slim, the sum is kept and they have 96.
V2 = (
    MaxPool(3),
    Conv(64, 1),
    Conv(192, 3),
    MaxPool(3),
    Mixed(64, (64, 64), (64, 96), 32, average=True),  # 3a
    Mixed(64, (64, 96), (64, 96), 64, average=True),
    Mixed(0, (128, 160), (64, 96), 0, stride=2),
    Mixed(224, (64, 96), (96, 128), 128, average=True),  # 4a
    Mixed(192, (96, 128), (96, 128), 128, average=True),
    Mixed(160, (128, 160), (128, 160), 96, average=True),
    Mixed(96, (128, 192), (160, 192), 96, average=True),
    Mixed(0, (128, 192), (192, 256), 0, stride=2),
    Mixed(352, (192, 320), (160, 224), 128, average=True),  # 5a
    Mixed(352, (192, 320), (192, 224), 128),
)
STEM_MULTIPLIER = 8  # v2: depthwise filters for each colour in the separable stem
VARIANTS = ("paper", "torchvision")


class SameMaxPool(nn.Module):
    """Max pooling to ceil(size / stride), windows where TensorFlow and Caffe place them; ``x`` comes from a ReLU.

    Hence zeros may stand outside the map: they never win.
    """

    def __init__(self, kernel: int, *, stride: int, dilation: int):
        super().__init__()
        self.kernel, self.stride, self.dilation = kernel, stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = (
            same_padding(side, self.kernel, self.stride, self.dilation) for side in x.shape[-2:]
        )
        return max_pool2d(pad(x, (left, right, top, bottom)), self.kernel, self.stride, 0, self.dilation)


class Inception(nn.Module):
    """The branches of a :class:`Mixed` row side by side, [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)].

    ``five`` lists the kernels of the third branch: (5,) or (3, 3). Averages are never dilated: torch has no such layer.
    Source: v1 figure 2b; v2 section 4.2.
    """

    def __init__(
        self, in_channels: int, row: Mixed, *, five: Sequence[int], stride: int, dilation: int, conv: ConvBuilder
    ):
        super().__init__()
        steps = {"stride": stride, "dilation": dilation}
        average = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        pooled = nn.Sequential(average if row.average else SameMaxPool(3, **steps))
        if row.pool:
            pooled.append(conv(in_channels, row.pool))
        self.branches = nn.ModuleList([conv(in_channels, row.one)] if row.one else [])
        self.branches.append(_tower(in_channels, row.three, (3,), conv=conv, **steps))
        self.branches.append(_tower(in_channels, row.five, five, conv=conv, **steps))
        self.branches.append(pooled)
        self.channels = row.one + row.three[1] + row.five[1] + (row.pool or in_channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _tower(
    in_channels: int,
    widths: tuple[int, int],
    kernels: Sequence[int],
    *,
    stride: int,
    dilation: int,
    conv: ConvBuilder,
) -> nn.Sequential:
    """A 1x1 reduction, then a convolution for each kernel; the last has the stride."""
    reduced, channels = widths
    layers = [conv(in_channels, reduced)]
    for i, kernel in enumerate(kernels, 1):
        step = stride if i == len(kernels) else 1
        layers.append(conv(reduced if i == 1 else channels, channels, kernel=kernel, stride=step, dilation=dilation))
    return nn.Sequential(*layers)


class Link(nn.Sequential, Block):
    """One layer of the chain: nothing in it expands, so there is only its input and its output to tap."""

    def __init__(self, in_channels: int, out_channels: int, layer: nn.Module):
        super().__init__(layer)
        self.widths = Points(in_channels, out_channels, out_channels)

    def trace(self, x: Tensor) -> Points:
        """All taps of the block; ``out`` is what ``forward`` gives."""
        out = self(x)
        return Points(x, out, out)


class InceptionChain(Backbone):
    """What v1 and v2 share: a stem of 64 channels, then ``rows`` up to the last tap; ``head`` is ``c5``."""

    def __init__(
        self,
        stem: nn.Module,
        rows: Sequence[Row],
        *,
        taps: Sequence[str],
        output_stride: int,
        five: Sequence[int],
        conv: ConvBuilder,
    ):
        super().__init__(taps=taps, strides=[row.stride for row in rows], output_stride=output_stride)
        self.stem = stem
        self.blocks = nn.ModuleList()
        channels = STEM
        for row, (stride, dilation) in zip(rows, self.layers, strict=False):
            steps = {"stride": stride, "dilation": dilation}
            layer: nn.Module
            match row:
                case MaxPool():
                    out, layer = channels, SameMaxPool(row.kernel, **steps)
                case Conv():
                    out, layer = row.channels, conv(channels, row.channels, kernel=row.kernel, **steps)
                case Mixed():
                    layer = mixed = Inception(channels, row, five=five, conv=conv, **steps)
                    out = mixed.channels
            self.blocks.append(Link(channels, out, layer))
            channels = out
        self.head = nn.Identity()
        self.finish(init_fan_out)


@BACKBONES.register
class InceptionV1(InceptionChain):
    """GoogLeNet with a batch norm after each convolution, up to the last tap; see :class:`Backbone` for the taps.

    ``variant`` "paper" is table 1; "torchvision" is what its weights (and TF-slim's) have: 3x3 where the table says 5x5,
    and a last max pooling of 2x2. Raises UserError for a tap, output stride or name that the network cannot have.
    """

    def __init__(
        self,
        *,
        taps: Sequence[str],
        output_stride: int = 32,
        variant: str = "paper",
        padding: str = "symmetric",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.1,
    ):
        check_choice("variant", variant, VARIANTS)
        kernel, last = (5, 3) if variant == "paper" else (3, 2)
        conv = _conv_builder(padding, batch_norm(eps=bn_eps, momentum=bn_momentum))
        rows: list[Row] = [*V1[:-3], MaxPool(last), *V1[-2:]]
        stem = conv(3, STEM, kernel=7, stride=2)
        super().__init__(stem, rows, taps=taps, output_stride=output_stride, five=(kernel,), conv=conv)


@BACKBONES.register
class InceptionV2(InceptionChain):
    """BN-Inception up to the last tap; see :class:`Backbone` for the taps.

    The stem is separable: a 7x7 depthwise convolution, then a 1x1 with norm and activation (the paper's appendix).
    Raises UserError for a tap, output stride or name that the network cannot have.
    """

    def __init__(
        self,
        *,
        taps: Sequence[str],
        output_stride: int = 32,
        padding: str = "symmetric",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.1,
    ):
        conv = _conv_builder(padding, batch_norm(eps=bn_eps, momentum=bn_momentum))
        wide = 3 * STEM_MULTIPLIER
        depthwise = conv2d(3, wide, 7, stride=2, groups=3, bias=False, padding=padding)
        stem = nn.Sequential(depthwise, conv(wide, STEM))
        super().__init__(stem, V2, taps=taps, output_stride=output_stride, five=(3, 3), conv=conv)


def _conv_builder(padding: str, norm: Norm) -> ConvBuilder:
    check_choice("padding", padding, PADDINGS)
    return partial(ConvNormAct, padding=padding, norm=norm, act=ReLU)
