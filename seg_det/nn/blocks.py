"""The layers that mobile networks are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]
ReLU6 = partial(nn.ReLU6, inplace=True)


def batch_norm(*, eps: float, momentum: float) -> Norm:
    """Batch normalisation with a recipe's constants; ``momentum`` is torch's: 1 - the decay of TensorFlow."""
    return partial(nn.BatchNorm2d, eps=eps, momentum=momentum)


def round8(channels: float) -> int:
    """Nearest multiple of 8, at least 8, never more than 10 % below ``channels``. Source: MobileNetV2 reference code."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class ConvNormAct(nn.Module):
    """Convolution without bias, norm, activation (none if ``act`` is None); padded so that stride alone shrinks the map."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: Norm,
        act: Activation | None = ReLU6,
    ):
        super().__init__()
        padding = (kernel - 1) // 2 * dilation
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)
        self.norm = norm(out_channels)
        self.act = act() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class DepthwiseSeparable(nn.Module):
    """3x3 depthwise convolution (norm, activation), then a 1x1 convolution (norm, activation)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm, act: Activation = ReLU6):
        super().__init__()
        self.depthwise = ConvNormAct(
            in_channels, in_channels, kernel=3, stride=stride, groups=in_channels, norm=norm, act=act
        )
        self.pointwise = ConvNormAct(in_channels, out_channels, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; a shortcut at stride 1 and equal channels.

    The expansion is left out where it would not widen. ``forward`` is ``finish(expand(x), x)``: heads that tap the expanded
    map call the two halves. Source: MobileNetV2 section 3.3, figure 4.
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        norm: Norm,
        act: Activation = ReLU6,
    ):
        super().__init__()
        widens = expanded != in_channels
        self.expand = ConvNormAct(in_channels, expanded, norm=norm, act=act) if widens else nn.Identity()
        self.depthwise = ConvNormAct(
            expanded, expanded, kernel=kernel, stride=stride, dilation=dilation, groups=expanded, norm=norm, act=act
        )
        self.project = ConvNormAct(expanded, out_channels, norm=norm, act=None)
        self.shortcut = stride == 1 and in_channels == out_channels

    def finish(self, expanded: Tensor, x: Tensor) -> Tensor:
        """Everything after the expansion of the block's input ``x``."""
        out = self.project(self.depthwise(expanded))
        return x + out if self.shortcut else out

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.expand(x), x)
