"""What the segmentation heads share: the raw output, image pooling, and atrous spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_det.models.backbones.base import init_fan_out
from seg_det.nn.blocks import ConvNormAct, Norm, ReLU, batch_norm


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of globally pooled maps [B, C, 1, 1]; a batch of one image is normalised by the running statistics.

    One value a channel has no variance, and torch refuses it. The running statistics stay as they are then.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class ImagePooling(ConvNormAct):
    """The mean of the whole map through a 1x1 convolution, at every place: [B, C, h, w] -> [B, channels, h, w]."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = super().forward(x.mean((2, 3), keepdim=True))
        return pooled.expand(-1, -1, *x.shape[2:])  # what bilinear upsampling makes of one value


class ASPP(nn.Module):
    """Pyramid pooling: branches side by side, concatenated and projected, [B, C, h, w] -> [B, channels, h, w].

    The branches are image pooling, a 1x1 convolution and for each of ``rates`` a 3x3 convolution with that dilation; all of
    ``channels``, with norm and ReLU. Without rates this is R-ASPP. ``pooling_last`` moves image pooling behind the others in
    the concatenation: TensorFlow's weights have it first, torchvision's last.
    Source: DeepLabv3 (arXiv 1706.05587) section 3.3; MobileNetV2 section 6.3.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        rates: Sequence[int] = (),
        pooling_last: bool = False,
        bn_eps: float,
        bn_momentum: float,
    ):
        super().__init__()
        norm = batch_norm(eps=bn_eps, momentum=bn_momentum)
        pooled_norm: Norm = partial(PooledBatchNorm2d, eps=bn_eps, momentum=bn_momentum)
        self.pooling_last = pooling_last
        self.image_pooling = ImagePooling(in_channels, channels, norm=pooled_norm, act=ReLU)
        self.branches = nn.ModuleList([ConvNormAct(in_channels, channels, norm=norm, act=ReLU)])
        for rate in rates:
            self.branches.append(ConvNormAct(in_channels, channels, kernel=3, dilation=rate, norm=norm, act=ReLU))
        self.project = ConvNormAct(channels * (2 + len(rates)), channels, norm=norm, act=ReLU)

    def forward(self, x: Tensor) -> Tensor:
        pooled, local = [self.image_pooling(x)], [branch(x) for branch in self.branches]
        return self.project(torch.cat(local + pooled if self.pooling_last else pooled + local, dim=1))


def init_head(head: nn.Module) -> None:
    """Convolutions before a norm by their fan-out; those with a bias, which give logits or gates, small: std 0.01."""
    head.apply(init_fan_out)
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.weight, std=0.01)
