"""The image classifier that pretrains a backbone: global pooling, what the network has after it, one linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.models.backbones.base import BackboneBuilder
from seg_det.registry import MODELS


@MODELS.register
class Classifier(nn.Module):
    """Images f32 [B, 3, H, W] -> logits [B, C].

    ``hidden`` overrides the width of the layer that MobileNetV3 has between pooling and the classifier (1280, Small 1024);
    networks without it have none to override. ``dropout`` is the share of pooled features that training drops.
    Raises UserError for numbers that make no sense.
    """

    TAPS = ("head",)

    def __init__(
        self,
        backbone: BackboneBuilder,
        *,
        num_classes: int,
        dropout: float = 0.2,
        hidden: int | None = None,
        output_stride: int = 32,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.backbone = backbone(taps=self.TAPS, output_stride=output_stride)
        channels = self.backbone.features[-1].channels
        if not 0 <= dropout < 1:
            raise UserError(f"task.model.dropout must be at least 0 and below 1, got {dropout}.")
        if hidden is not None and (hidden < 1 or not self.backbone.hidden):
            raise UserError(
                f"task.model.hidden={hidden} is for a backbone with a hidden layer, MobileNetV3, and above 0."
            )
        self.hidden: nn.Module
        if self.backbone.hidden:
            wide = hidden or self.backbone.hidden.channels
            self.hidden = nn.Sequential(nn.Linear(channels, wide), self.backbone.hidden.act())
            channels = wide
        else:
            self.hidden = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        for layer in (*self.hidden.modules(), self.classifier):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.backbone(images)["head"].mean((2, 3))
        return self.classifier(self.dropout(self.hidden(pooled)))
