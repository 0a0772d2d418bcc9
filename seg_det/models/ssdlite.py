"""SSDLite: SSD with depthwise-separable predictors and extra maps (MobileNetV2 section 6.2, MobileNetV3 section 6.3)."""

from __future__ import annotations

from torch import Tensor, nn

from seg_det.models.ssd import SSD
from seg_det.nn.blocks import ConvNormAct, DepthwiseSeparable, Norm
from seg_det.registry import MODELS


class SeparableExtraMap(nn.Module):
    """1x1 to half of the channels, then a stride-2 depthwise-separable convolution: the next coarser feature map."""

    def __init__(self, in_channels: int, out_channels: int, *, padding: str, norm: Norm):
        super().__init__()
        self.reduce = ConvNormAct(in_channels, out_channels // 2, norm=norm)
        self.separable = DepthwiseSeparable(out_channels // 2, out_channels, stride=2, padding=padding, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.separable(self.reduce(x))


class SeparablePredictor(nn.Module):
    """3x3 depthwise convolution (norm, ReLU6), then a 1x1 convolution with bias and nothing after it."""

    def __init__(self, channels: int, outputs: int, *, norm: Norm):
        super().__init__()
        self.depthwise = ConvNormAct(channels, channels, kernel=3, groups=channels, norm=norm)
        self.project = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.depthwise(x))


@MODELS.register
class SSDLite(SSD):
    """:class:`SSD`, arguments and all, at an eighth of its size: every 3x3 convolution of the head is separable."""

    extra_map = SeparableExtraMap
    predictor = SeparablePredictor
