"""The layers that mobile networks are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from seg_det.errors import UserError
from seg_det.nn.convolutions import MixConv, conv2d

Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]
ReLU6 = partial(nn.ReLU6, inplace=True)
ReLU = partial(nn.ReLU, inplace=True)
HardSwish = partial(nn.Hardswish, inplace=True)
Swish = partial(nn.SiLU, inplace=True)


def batch_norm(*, eps: float, momentum: float) -> Norm:
    """Batch normalisation with a recipe's constants; ``momentum`` is torch's: 1 - the decay of TensorFlow.

    Raises UserError for constants that no norm can have.
    """
    for name, value, fits in (("bn_eps", eps, lambda v: v >= 0), ("bn_momentum", momentum, lambda v: 0 <= v <= 1)):
        if not isinstance(value, int | float) or not fits(value):
            raise UserError(
                f"{name} must be {'a number from 0' if name == 'bn_eps' else 'a number from 0 to 1'}, got {value}."
            )
    return partial(nn.BatchNorm2d, eps=eps, momentum=momentum)


def round8(channels: float) -> int:
    """Nearest multiple of 8, at least 8, never more than 10 % below ``channels``. Source: MobileNetV2 reference code."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Points(NamedTuple):
    """Where a block can be tapped: its three maps, or in ``Block.widths`` their channels."""

    expand: Any  # what the depthwise convolution works on: the block's input where nothing expands it
    depthwise: Any  # after its norm and activation, before squeeze-and-excite
    out: Any


class ConvNormAct(nn.Module):
    """Convolution without bias, norm, activation (none if ``act`` is None); the map shrinks by the stride alone.

    Several kernels make a :class:`MixConv`, which is depthwise: ``groups`` must then be ``in_channels``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int | Sequence[int] = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        partition: str = "equal",
        padding: str = "symmetric",
        norm: Norm,
        act: Activation | None = ReLU6,
    ):
        super().__init__()
        kernels = [kernel] if isinstance(kernel, int) else kernel
        self.conv: nn.Conv2d | MixConv
        if len(kernels) == 1:
            self.conv = conv2d(
                in_channels,
                out_channels,
                kernels[0],
                stride=stride,
                dilation=dilation,
                groups=groups,
                bias=False,
                padding=padding,
            )
        else:
            if groups != in_channels:
                raise ValueError(f"expected groups = {in_channels} beside several kernels {kernels}, got {groups}")
            self.conv = MixConv(
                in_channels,
                out_channels,
                kernels,
                stride=stride,
                dilation=dilation,
                partition=partition,
                padding=padding,
            )
        self.norm = norm(out_channels)
        self.act = act() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


def fold_norms(model: nn.Module) -> nn.Module:
    """``model`` itself, in evaluation mode, its batch norms folded into the convolutions before them."""
    model.eval()
    for layer in model.modules():
        conv, norm = (layer.conv, layer.norm) if isinstance(layer, ConvNormAct) else (None, None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layer.conv, layer.norm = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the mean of all channels: pool, 1x1, ``act``, 1x1, ``gate``.

    Both convolutions have a bias and no norm. MobileNetV3 squeezes to a quarter of the expansion with ReLU and a hard
    sigmoid; MixNet to a share of the block's *input* with swish and a plain sigmoid. Source: Hu et al. 2018, figure 3.
    """

    def __init__(self, channels: int, squeezed: int, *, act: Activation = ReLU, gate: Activation = nn.Hardsigmoid):
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = act()
        self.restore = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.restore(self.act(self.reduce(x.mean((2, 3), keepdim=True)))))


class Block(nn.Module, ABC):
    """What the blocks of a backbone have in common: they can be tapped."""

    widths: Points

    @abstractmethod
    def trace(self, x: Tensor) -> Points:
        """All maps of the block; ``out`` is what ``forward`` gives."""


class Passed(Block):
    """What is left of a block of which only the input is tapped."""

    def __init__(self, widths: Points):
        super().__init__()
        self.widths = widths

    def trace(self, x: Tensor) -> Points:
        return Points(x, x, x)


def cut_after(block: Block, part: str) -> Block:
    """``block`` without the layers behind ``part``, a field of :class:`Points`; the later fields mean nothing then.

    What is built and not used would be counted as parameters, and distributed training refuses it.
    """
    if part == "expand" and not getattr(block, "expand", None):
        return Passed(block.widths)
    order = ("expand", "depthwise", "squeeze_excite", "pointwise", "project")
    for name in order[order.index(part) + 1 :]:
        if hasattr(block, name):
            setattr(block, name, nn.Identity())
    if isinstance(block, InvertedResidual):
        block.shortcut = False
    return block


class DepthwiseSeparable(Block):
    """Depthwise convolution (norm, activation), then a 1x1 convolution (norm, activation). Source: MobileNetV1, figure 3."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int | Sequence[int] = 3,
        stride: int = 1,
        dilation: int = 1,
        depth_multiplier: int = 1,
        partition: str = "equal",
        padding: str = "symmetric",
        norm: Norm,
        act: Activation = ReLU6,
    ):
        super().__init__()
        self.widths = Points(in_channels, in_channels * depth_multiplier, out_channels)
        self.depthwise = ConvNormAct(
            in_channels,
            self.widths.depthwise,
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            groups=in_channels,
            partition=partition,
            padding=padding,
            norm=norm,
            act=act,
        )
        self.pointwise = ConvNormAct(self.widths.depthwise, out_channels, norm=norm, act=act)

    def trace(self, x: Tensor) -> Points:
        """All maps of the block; ``out`` is what ``forward`` gives."""
        depthwise = self.depthwise(x)
        return Points(x, depthwise, self.pointwise(depthwise))

    def forward(self, x: Tensor) -> Tensor:
        return self.trace(x).out


class InvertedResidual(Block):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; a shortcut at stride 1 and equal channels.

    The expansion is left out where it would not widen. ``squeeze_excite`` builds that layer for the depthwise output.
    Source: MobileNetV2 section 3.3, figure 4; MobileNetV3 figure 4.
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        *,
        kernel: int | Sequence[int] = 3,
        stride: int = 1,
        dilation: int = 1,
        depth_multiplier: int = 1,
        partition: str = "equal",
        expand_groups: int = 1,
        project_groups: int = 1,
        squeeze_excite: Callable[[int], nn.Module] | None = None,
        padding: str = "symmetric",
        norm: Norm,
        act: Activation = ReLU6,
    ):
        super().__init__()
        self.widths = Points(expanded, expanded * depth_multiplier, out_channels)
        widens = expanded != in_channels
        self.expand = (
            ConvNormAct(in_channels, expanded, groups=expand_groups, norm=norm, act=act) if widens else nn.Identity()
        )
        self.depthwise = ConvNormAct(
            expanded,
            self.widths.depthwise,
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            groups=expanded,
            partition=partition,
            padding=padding,
            norm=norm,
            act=act,
        )
        self.squeeze_excite = squeeze_excite(self.widths.depthwise) if squeeze_excite else nn.Identity()
        self.project = ConvNormAct(self.widths.depthwise, out_channels, groups=project_groups, norm=norm, act=None)
        self.shortcut = stride == 1 and in_channels == out_channels

    def trace(self, x: Tensor) -> Points:
        """All maps of the block; ``out`` is what ``forward`` gives."""
        expanded = self.expand(x)
        depthwise = self.depthwise(expanded)
        out = self.project(self.squeeze_excite(depthwise))
        return Points(expanded, depthwise, x + out if self.shortcut else out)

    def forward(self, x: Tensor) -> Tensor:
        return self.trace(x).out
