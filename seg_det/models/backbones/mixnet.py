"""MixNet: searched inverted residuals with mixed depthwise convolutions (Tan and Le 2019, arXiv 1907.09595)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import nn

from seg_det.errors import UserError
from seg_det.models.backbones.base import Backbone, check_choice, check_kernels, check_width
from seg_det.nn.blocks import Activation, ConvNormAct, InvertedResidual, ReLU, SqueezeExcite, Swish, batch_norm, round8
from seg_det.nn.convolutions import PADDINGS
from seg_det.registry import BACKBONES


class Row(NamedTuple):
    repeats: int
    kernels: tuple[int, ...]
    expand_groups: int
    project_groups: int
    stride: int  # of the first repeat
    expansion: int
    channels: int
    squeeze: float  # share of the block's input; 0: no squeeze-and-excite
    act: str


# Figure 4 and the reference code
SMALL = (
    Row(1, (3,), 1, 1, 1, 1, 16, 0, "relu"),
    Row(1, (3,), 2, 2, 2, 6, 24, 0, "relu"),
    Row(1, (3,), 2, 2, 1, 3, 24, 0, "relu"),
    Row(1, (3, 5, 7), 1, 1, 2, 6, 40, 0.5, "swish"),
    Row(3, (3, 5), 2, 2, 1, 6, 40, 0.5, "swish"),
    Row(1, (3, 5, 7), 1, 2, 2, 6, 80, 0.25, "swish"),
    Row(2, (3, 5), 1, 2, 1, 6, 80, 0.25, "swish"),
    Row(1, (3, 5, 7), 2, 2, 1, 6, 120, 0.5, "swish"),
    Row(2, (3, 5, 7, 9), 2, 2, 1, 3, 120, 0.5, "swish"),
    Row(1, (3, 5, 7, 9, 11), 1, 1, 2, 6, 200, 0.5, "swish"),
    Row(2, (3, 5, 7, 9), 1, 2, 1, 6, 200, 0.5, "swish"),
)
MEDIUM = (
    Row(1, (3,), 1, 1, 1, 1, 24, 0, "relu"),
    Row(1, (3, 5, 7), 2, 2, 2, 6, 32, 0, "relu"),
    Row(1, (3,), 2, 2, 1, 3, 32, 0, "relu"),
    Row(1, (3, 5, 7, 9), 1, 1, 2, 6, 40, 0.5, "swish"),
    Row(3, (3, 5), 2, 2, 1, 6, 40, 0.5, "swish"),
    Row(1, (3, 5, 7), 1, 1, 2, 6, 80, 0.25, "swish"),
    Row(3, (3, 5, 7, 9), 2, 2, 1, 6, 80, 0.25, "swish"),
    Row(1, (3,), 1, 1, 1, 6, 120, 0.5, "swish"),
    Row(3, (3, 5, 7, 9), 2, 2, 1, 3, 120, 0.5, "swish"),
    Row(1, (3, 5, 7, 9), 1, 1, 2, 6, 200, 0.5, "swish"),
    Row(3, (3, 5, 7, 9), 1, 2, 1, 6, 200, 0.5, "swish"),
)
HEAD = 1536
ACT: dict[str, Activation] = {"relu": ReLU, "swish": Swish}


class Variant(NamedTuple):
    rows: tuple[Row, ...]
    stem: int
    width: float  # of the table's channels


VARIANTS = {"s": Variant(SMALL, 16, 1.0), "m": Variant(MEDIUM, 24, 1.0), "l": Variant(MEDIUM, 24, 1.3)}


@BACKBONES.register
class MixNet(Backbone):
    """MixNet-S, -M or -L up to the last tap; see :class:`Backbone` for the taps.

    ``width`` multiplies the channels of the variant (L is M at 1.3), rounded to 8; the last 1x1 convolution stays 1536.
    ``kernels`` replaces the table's kernels in every block, (3,) for plain depthwise convolutions, up to five groups
    (3, 5, 7, 9, 11); ``partition`` splits the channels over them in equal or halving groups; ``depth_multiplier`` gives
    that many outputs for each input of a depthwise convolution.
    Raises UserError for a tap, width, output stride or name that the network cannot have.
    """

    def __init__(
        self,
        *,
        taps: Sequence[str],
        variant: str = "s",
        output_stride: int = 32,
        width: float = 1.0,
        kernels: Sequence[int] | None = None,
        partition: str = "equal",
        depth_multiplier: int = 1,
        padding: str = "symmetric",
        dilation_rule: str = "tf",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.01,
    ):
        check_choice("variant", variant, tuple(VARIANTS))
        check_choice("padding", padding, PADDINGS)
        table, stem, own_width = VARIANTS[variant]
        check_width(width, stem)
        scale = own_width * width
        channels = round8(stem * scale)
        check_kernels(table[0].kernels if kernels is None else kernels, partition, channels)
        if depth_multiplier < 1:
            raise UserError(f"backbone.depth_multiplier must be 1 or more, got {depth_multiplier}.")
        rows = [row._replace(stride=row.stride if i == 0 else 1) for row in table for i in range(row.repeats)]
        strides = [row.stride for row in rows]
        super().__init__(taps=taps, strides=strides, output_stride=output_stride, dilation_rule=dilation_rule)
        norm = batch_norm(eps=bn_eps, momentum=bn_momentum)
        self.stem = ConvNormAct(3, channels, kernel=3, stride=2, padding=padding, norm=norm, act=ReLU)
        self.blocks = nn.ModuleList()
        for row, (stride, dilation) in zip(rows, self.layers, strict=False):
            out = round8(row.channels * scale)
            block = InvertedResidual(
                channels,
                channels * row.expansion,
                out,
                kernel=kernels or row.kernels,
                stride=stride,
                dilation=dilation,
                depth_multiplier=depth_multiplier,
                partition=partition,
                expand_groups=row.expand_groups,
                project_groups=row.project_groups,
                squeeze_excite=_squeeze_excite(int(channels * row.squeeze)),
                padding=padding,
                norm=norm,
                act=ACT[row.act],
            )
            self.blocks.append(block)
            channels = out
        if "head" in taps:
            self.head = ConvNormAct(channels, HEAD, norm=norm, act=ReLU)
        self.finish(_init)


def _squeeze_excite(squeezed: int) -> Callable[[int], SqueezeExcite] | None:
    """A share of the block's input, swish inside and a plain sigmoid as the gate: not MobileNetV3's form."""
    return partial(SqueezeExcite, squeezed=squeezed, act=Swish, gate=nn.Sigmoid) if squeezed else None


def _init(module: nn.Module) -> None:
    """Normal with std sqrt(2 / (k * k * outputs of a group)). Source: the reference code."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
