"""R-ASPP: pyramid pooling reduced to a 1x1 convolution and image pooling (MobileNetV2 section 6.3, MobileNetV3 section 6.4)."""

from __future__ import annotations

from torch import Tensor, nn

from seg_det.models.backbones.base import BackboneBuilder
from seg_det.models.segmentation_heads import ASPP, init_head
from seg_det.registry import MODELS
from seg_det.types import DenseSegmentation


@MODELS.register
class RASPP(nn.Module):
    """Segmenter: images f32 [B, 3, H, W] -> DenseSegmentation(logits [B, C, ceil(H / output_stride), ceil(W / ...)], None).

    The layers of :class:`DeepLabv3` without atrous branches, under the same names. ``channels`` is table 7's F. ``tap``
    ``deep`` is V2's bottleneck of 320 channels and V3's last 1x1 convolution of 960 or 576, half as many with the
    backbone's ``reduced_tail`` "segmentation" (RF2). Raises UserError for a tap or an output stride that the backbone
    cannot have.
    """

    def __init__(
        self,
        backbone: BackboneBuilder,
        *,
        num_classes: int,
        channels: int = 256,
        output_stride: int = 16,
        tap: str = "deep",
        dropout: float = 0.1,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.tap = tap
        self.backbone = backbone(taps=(tap,), output_stride=output_stride)
        self.aspp = ASPP(self.backbone.features[0].channels, channels, bn_eps=bn_eps, bn_momentum=bn_momentum)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        for part in (self.aspp, self.classifier):
            init_head(part)

    def forward(self, images: Tensor) -> DenseSegmentation:
        pooled = self.aspp(self.backbone(images)[self.tap])
        return DenseSegmentation(self.classifier(self.dropout(pooled)))
