"""MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv 1801.04381)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from seg_det.models.backbones.base import TAILS, Backbone, check_choice, check_kernels, check_width, init_fan_out
from seg_det.nn.blocks import ConvNormAct, InvertedResidual, batch_norm, round8
from seg_det.nn.convolutions import PADDINGS
from seg_det.registry import BACKBONES


class Row(NamedTuple):
    expansion: int  # t
    channels: int  # c
    repeats: int  # n
    stride: int  # s, of the first repeat


# Table 2
STEM = 32
ROWS = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)
HEAD = 1280
TAIL = 13  # the first block whose output a reduced tail halves, V3 section 6.4 (RF2)


@BACKBONES.register
class MobileNetV2(Backbone):
    """MobileNetV2 up to the last tap; see :class:`Backbone` for the taps. ``c4_expand`` is "layer 15" of section 6.2.

    ``width`` multiplies every channel count, rounded to 8 (section 3.4). ``head`` is the last 1x1 convolution: 1280 channels,
    more above width 1; below it fewer with ``scale_head`` (SSDLite at widths 0.35 and 0.5, V3 paper table 6), 1280 without
    (ImageNet classifiers). A ``reduced_tail`` halves the outputs from stride 32 on; "detection" and "segmentation", which
    differ in MobileNetV3, are one here. ``kernels`` other than (3,) mix the depthwise convolutions (MixConv, table 1).
    Raises UserError for a tap, width, output stride or name that the network cannot have.
    """

    def __init__(
        self,
        *,
        taps: Sequence[str],
        output_stride: int = 32,
        width: float = 1.0,
        scale_head: bool = True,
        reduced_tail: str | None = None,
        kernels: Sequence[int] = (3,),
        partition: str = "equal",
        padding: str = "symmetric",
        dilation_rule: str = "tf",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ):
        check_width(width, ROWS[0].channels)
        channels = round8(STEM * width)
        check_kernels(kernels, partition, channels)
        check_choice("padding", padding, PADDINGS)
        check_choice("reduced_tail", reduced_tail, TAILS)
        rows = [row._replace(stride=row.stride if i == 0 else 1) for row in ROWS for i in range(row.repeats)]
        if reduced_tail:
            rows = rows[:TAIL] + [row._replace(channels=row.channels // 2) for row in rows[TAIL:]]
        strides = [row.stride for row in rows]
        super().__init__(taps=taps, strides=strides, output_stride=output_stride, dilation_rule=dilation_rule)
        norm = batch_norm(eps=bn_eps, momentum=bn_momentum)
        self.stem = ConvNormAct(3, channels, kernel=3, stride=2, padding=padding, norm=norm)
        self.blocks = nn.ModuleList()
        for row, (stride, dilation) in zip(rows, self.layers, strict=False):
            expanded, out = round8(channels * row.expansion), round8(row.channels * width)
            block = InvertedResidual(
                channels,
                expanded,
                out,
                kernel=kernels,
                stride=stride,
                dilation=dilation,
                partition=partition,
                padding=padding,
                norm=norm,
            )
            self.blocks.append(block)
            channels = out
        if "head" in taps:
            wide = round8(HEAD * width) if width > 1 or scale_head else HEAD
            self.head = ConvNormAct(channels, wide, norm=norm)
        if reduced_tail:
            self.reshaped = (*(f"blocks.{i}." for i in range(TAIL, len(rows))), "head.")
        elif width < 1 and scale_head:
            self.reshaped = ("head.",)
        self.finish(init_fan_out)
