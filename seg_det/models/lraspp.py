"""LR-ASPP: a gated 1x1 convolution on the deepest map, and one of stride 8 added to it (MobileNetV3 section 6.4, figure 10)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.models.backbones.base import BackboneBuilder
from seg_det.models.segmentation_heads import init_head
from seg_det.nn.blocks import ConvNormAct, ReLU, batch_norm
from seg_det.registry import MODELS
from seg_det.types import DenseSegmentation

GATES = {"sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid}


class Gate(nn.Module):
    """A weight in 0..1 for each place and channel from a coarse average: [B, C, h, w] -> [B, channels, h, w].

    ``pool`` is the window of the average in cells of the map, moved by ``stride`` (rows, columns) without padding; on a side
    that is shorter, and with None, it is the whole side. Bilinear upsampling spreads the gates over the map.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        pool: int | None,
        stride: Sequence[int],
        act: str,
        bias: bool,
        align_corners: bool,
    ):
        super().__init__()
        self.pool = pool
        self.stride = tuple(stride)
        self.align_corners = align_corners
        self.conv = nn.Conv2d(in_channels, channels, 1, bias=bias)
        self.act = GATES[act]()

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        if self.pool is None:
            means = x.mean((2, 3), keepdim=True)
        else:
            means = F.avg_pool2d(x, [min(self.pool, side) for side in size], self.stride)
        gates = self.act(self.conv(means))
        return F.interpolate(gates, size=size, mode="bilinear", align_corners=self.align_corners)


@MODELS.register
class LRASPP(nn.Module):
    """Segmenter: images f32 [B, 3, H, W] -> DenseSegmentation(logits [B, C, h, w] of the first tap's size, None).

    - ``taps``: the fine map, then the deep one. The paper's fine map is what the depthwise convolution of the last block of
      stride 8 gives, before squeeze-and-excite; torchvision's the output of the first such block, ``c3_first``;
    - ``channels``: table 7's F;
    - ``pool`` and ``pool_stride``: window of the gate in cells of the deep map, see :class:`Gate`. 49 and (16, 20) belong to
      output stride 16, 25 and (4, 5) to 32; None pools the whole map (torchvision);
    - ``gate``: "sigmoid" (the paper) or "hard_sigmoid" (the released code); ``gate_bias``: of its convolution;
    - ``align_corners``: of both upsamplings, true in TensorFlow.

    RF2 is the backbone's ``reduced_tail`` "segmentation". Raises UserError for taps or an output stride that the backbone
    cannot have, and for a gate of another name.
    """

    def __init__(
        self,
        backbone: BackboneBuilder,
        *,
        num_classes: int,
        channels: int = 128,
        output_stride: int = 16,
        taps: Sequence[str] = ("c3_depthwise", "deep"),
        pool: int | None = 49,
        pool_stride: Sequence[int] = (16, 20),
        gate: str = "sigmoid",
        gate_bias: bool = True,
        align_corners: bool = False,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ):
        super().__init__()
        if len(taps) != 2:
            raise UserError(
                f"task.model.taps must name two maps, the fine one and the deep one, got {', '.join(taps)}."
            )
        if gate not in GATES:
            raise UserError(f"task.model.gate must be one of {', '.join(GATES)}, got {gate}.")
        if pool is not None and pool < 1:
            raise UserError(f"task.model.pool must be at least 1 or null, got {pool}.")
        if len(pool_stride) != 2 or min(pool_stride) < 1:
            raise UserError(
                f"task.model.pool_stride must be two steps of at least 1, rows and columns, got {list(pool_stride)}."
            )
        self.num_classes = num_classes
        self.align_corners = align_corners
        self.backbone = backbone(taps=tuple(taps), output_stride=output_stride)
        fine, deep = (feature.channels for feature in self.backbone.features)
        norm = batch_norm(eps=bn_eps, momentum=bn_momentum)
        self.main = ConvNormAct(deep, channels, norm=norm, act=ReLU)
        self.gate = Gate(
            deep, channels, pool=pool, stride=pool_stride, act=gate, bias=gate_bias, align_corners=align_corners
        )
        self.fine_classifier = nn.Conv2d(fine, num_classes, 1)
        self.deep_classifier = nn.Conv2d(channels, num_classes, 1)
        for part in (self.main, self.gate, self.fine_classifier, self.deep_classifier):
            init_head(part)

    def forward(self, images: Tensor) -> DenseSegmentation:
        features = self.backbone(images)
        fine, deep = (features[feature.name] for feature in self.backbone.features)
        gated = self.main(deep) * self.gate(deep)
        spread = F.interpolate(gated, size=fine.shape[2:], mode="bilinear", align_corners=self.align_corners)
        return DenseSegmentation(self.fine_classifier(fine) + self.deep_classifier(spread))
