"""MobileNetV3: searched inverted residuals with squeeze-and-excite and h-swish (Howard et al. 2019, arXiv 1905.02244v5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from torch import nn

from seg_det.models.backbones.base import TAILS, Backbone, Hidden, check_choice, check_width, init_fan_out
from seg_det.nn.blocks import (
    Activation,
    ConvNormAct,
    HardSwish,
    InvertedResidual,
    ReLU,
    SqueezeExcite,
    batch_norm,
    round8,
)
from seg_det.nn.convolutions import PADDINGS
from seg_det.registry import BACKBONES


class Row(NamedTuple):
    kernel: int
    expanded: int
    channels: int
    squeeze_excite: bool
    act: str  # RE, ReLU, or HS, h-swish
    stride: int


STEM = 16
# Table 1
LARGE = (
    Row(3, 16, 16, False, "RE", 1),
    Row(3, 64, 24, False, "RE", 2),
    Row(3, 72, 24, False, "RE", 1),
    Row(5, 72, 40, True, "RE", 2),
    Row(5, 120, 40, True, "RE", 1),
    Row(5, 120, 40, True, "RE", 1),
    Row(3, 240, 80, False, "HS", 2),
    Row(3, 200, 80, False, "HS", 1),
    Row(3, 184, 80, False, "HS", 1),
    Row(3, 184, 80, False, "HS", 1),
    Row(3, 480, 112, True, "HS", 1),
    Row(3, 672, 112, True, "HS", 1),
    Row(5, 672, 160, True, "HS", 2),
    Row(5, 960, 160, True, "HS", 1),
    Row(5, 960, 160, True, "HS", 1),
)
# Table 2, without the squeeze-and-excite that it ticks for the last 1x1 convolution and no released network has
SMALL = (
    Row(3, 16, 16, True, "RE", 2),
    Row(3, 72, 24, False, "RE", 2),
    Row(3, 88, 24, False, "RE", 1),
    Row(5, 96, 40, True, "HS", 2),
    Row(5, 240, 40, True, "HS", 1),
    Row(5, 240, 40, True, "HS", 1),
    Row(5, 120, 48, True, "HS", 1),
    Row(5, 144, 48, True, "HS", 1),
    Row(5, 288, 96, True, "HS", 2),
    Row(5, 576, 96, True, "HS", 1),
    Row(5, 576, 96, True, "HS", 1),
)
TAIL = 3  # the blocks that a reduced tail narrows
ACT: dict[str, Activation] = {"RE": ReLU, "HS": HardSwish}


class Variant(NamedTuple):
    rows: tuple[Row, ...]
    hidden: int


VARIANTS = {"large": Variant(LARGE, 1280), "small": Variant(SMALL, 1024)}
WIDTH_RULES = ("tf", "torchvision")


@BACKBONES.register
class MobileNetV3(Backbone):
    """MobileNetV3 up to the last tap; see :class:`Backbone` for the taps.

    - ``width``: by the rule "tf" the expansion follows the scaled input of a block, round8(input * expanded / input of the
      table), and the layer after pooling keeps its width: only this gives the paper's 0.75 networks. "torchvision" scales
      the table's own columns and that layer.
    - ``minimalistic``: 3x3 kernels, ReLU, no squeeze-and-excite, the same widths (the released code's variant).
    - ``reduced_tail``: the last three blocks and the last 1x1 convolution of half the width. "detection" keeps the first
      of their expansions, SSDLite's tap (section 6.3); "segmentation" halves it too (section 6.4).

    Raises UserError for a tap, width, output stride or name that the network cannot have.
    """

    deep = "head"

    def __init__(
        self,
        *,
        taps: Sequence[str],
        variant: str = "large",
        output_stride: int = 32,
        width: float = 1.0,
        width_rule: str = "tf",
        minimalistic: bool = False,
        reduced_tail: str | None = None,
        padding: str = "symmetric",
        dilation_rule: str = "tf",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.01,
    ):
        check_width(width, STEM)
        check_choice("variant", variant, tuple(VARIANTS))
        check_choice("width_rule", width_rule, WIDTH_RULES)
        check_choice("reduced_tail", reduced_tail, TAILS)
        check_choice("padding", padding, PADDINGS)
        rows = _reduced(VARIANTS[variant].rows, reduced_tail)
        rows = _minimalistic(rows) if minimalistic else rows
        strides = [row.stride for row in rows]
        super().__init__(taps=taps, strides=strides, output_stride=output_stride, dilation_rule=dilation_rule)
        norm = batch_norm(eps=bn_eps, momentum=bn_momentum)
        act = ReLU if minimalistic else HardSwish
        channels = round8(STEM * width)
        self.stem = ConvNormAct(3, channels, kernel=3, stride=2, padding=padding, norm=norm, act=act)
        self.blocks = nn.ModuleList()
        for row, expanded, (stride, dilation) in zip(
            rows, _expansions(rows, width, width_rule), self.layers, strict=False
        ):
            out = round8(row.channels * width)
            block = InvertedResidual(
                channels,
                expanded,
                out,
                kernel=row.kernel,
                stride=stride,
                dilation=dilation,
                squeeze_excite=partial(_squeeze_excite, expanded) if row.squeeze_excite else None,
                padding=padding,
                norm=norm,
                act=ACT[row.act],
            )
            self.blocks.append(block)
            channels = out
        halves = 2 if reduced_tail else 1
        if self.has_head:
            wide = round8(6 * rows[-1].channels * width) if width_rule == "tf" else 6 * channels
            self.head = ConvNormAct(channels, wide, norm=norm, act=act)
        hidden = VARIANTS[variant].hidden // halves
        self.hidden = Hidden(round8(hidden * width) if width_rule == "torchvision" else hidden, act)
        if reduced_tail:
            self.reshaped = (*(f"blocks.{i}." for i in range(len(rows) - TAIL, len(rows))), "head.")
        self.finish(init_fan_out)


def _squeeze_excite(expanded: int, channels: int) -> SqueezeExcite:
    """A quarter of the expansion; ReLU inside, a hard sigmoid as the gate (section 5.3)."""
    return SqueezeExcite(channels, round8(expanded // 4))


def _reduced(rows: tuple[Row, ...], tail: str | None) -> tuple[Row, ...]:
    if tail is None:
        return rows
    first, *others = (row._replace(channels=row.channels // 2) for row in rows[-TAIL:])
    if tail == "segmentation":
        first = first._replace(expanded=first.expanded // 2)
    return (*rows[:-TAIL], first, *(row._replace(expanded=row.expanded // 2) for row in others))


def _minimalistic(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(row._replace(kernel=3, squeeze_excite=False, act="RE") for row in rows)


def _expansions(rows: tuple[Row, ...], width: float, rule: str) -> list[int]:
    """The channels that each block works on."""
    if rule == "torchvision":
        return [round8(row.expanded * width) for row in rows]
    inputs = [STEM, *(row.channels for row in rows)]
    return [round8(round8(before * width) * row.expanded / before) for row, before in zip(rows, inputs, strict=False)]
