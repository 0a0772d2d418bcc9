"""MobileNetV1: a chain of depthwise-separable convolutions (Howard et al. 2017, arXiv 1704.04861)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from seg_det.models.backbones.base import ACTIVATIONS, Backbone, check_choice, check_kernels, check_width, init_fan_out
from seg_det.nn.blocks import ConvNormAct, DepthwiseSeparable, batch_norm
from seg_det.nn.convolutions import PADDINGS
from seg_det.registry import BACKBONES


class Row(NamedTuple):
    channels: int
    repeats: int
    stride: int  # of the first repeat


# Table 1: pairs of a depthwise and a 1x1 convolution
STEM = 32
ROWS = (
    Row(64, 1, 1),
    Row(128, 1, 2),
    Row(128, 1, 1),
    Row(256, 1, 2),
    Row(256, 1, 1),
    Row(512, 6, 2),
    Row(1024, 1, 2),
    Row(1024, 1, 1),
)
LEAST = 8  # channels


@BACKBONES.register
class MobileNetV1(Backbone):
    """MobileNetV1 up to the last tap; see :class:`Backbone` for the taps.

    ``width`` is the paper's alpha: channels are max(int(c * width), 8), without rounding to multiples of 8 (the released
    code's rule). The paper says ReLU, the code and its weights ReLU6. ``kernels`` other than (3,) mix the depthwise
    convolutions (MixConv, table 1). Raises UserError for a tap, width, output stride or name that the network cannot have.
    """

    def __init__(
        self,
        *,
        taps: Sequence[str],
        output_stride: int = 32,
        width: float = 1.0,
        act: str = "relu6",
        kernels: Sequence[int] = (3,),
        partition: str = "equal",
        padding: str = "symmetric",
        dilation_rule: str = "tf",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.1,
    ):
        check_width(width, STEM)
        channels = max(int(STEM * width), LEAST)
        check_kernels(kernels, partition, channels)
        check_choice("act", act, tuple(ACTIVATIONS))
        check_choice("padding", padding, PADDINGS)
        rows = [row._replace(stride=row.stride if i == 0 else 1) for row in ROWS for i in range(row.repeats)]
        strides = [row.stride for row in rows]
        super().__init__(taps=taps, strides=strides, output_stride=output_stride, dilation_rule=dilation_rule)
        norm, activation = batch_norm(eps=bn_eps, momentum=bn_momentum), ACTIVATIONS[act]
        self.stem = ConvNormAct(3, channels, kernel=3, stride=2, padding=padding, norm=norm, act=activation)
        self.blocks = nn.ModuleList()
        for row, (stride, dilation) in zip(rows, self.layers, strict=False):
            out = max(int(row.channels * width), LEAST)
            block = DepthwiseSeparable(
                channels,
                out,
                kernel=kernels,
                stride=stride,
                dilation=dilation,
                partition=partition,
                padding=padding,
                norm=norm,
                act=activation,
            )
            self.blocks.append(block)
            channels = out
        self.head = nn.Identity()
        self.finish(init_fan_out)
