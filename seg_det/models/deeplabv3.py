"""DeepLabv3 on mobile networks: pyramid pooling of the deepest map at output stride 16 or 8 (MobileNetV2 section 6.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.models.backbones.base import BackboneBuilder
from seg_det.models.segmentation_heads import ASPP, init_head
from seg_det.nn.blocks import ConvNormAct, Norm, ReLU, batch_norm
from seg_det.registry import MODELS
from seg_det.types import DenseSegmentation

MOST_RATES = 16
RATES_STRIDE = 16  # the output stride that atrous rates are given for


class AuxiliaryHead(nn.Module):
    """3x3 convolution to a quarter of the channels (norm, ReLU, dropout), then 1x1 to the classes: a head for the loss."""

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float, norm: Norm):
        super().__init__()
        self.reduce = ConvNormAct(in_channels, in_channels // 4, kernel=3, norm=norm, act=ReLU)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(in_channels // 4, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.reduce(x)))


@MODELS.register
class DeepLabv3(nn.Module):
    """Segmenter: images f32 [B, 3, H, W] -> DenseSegmentation(logits [B, C, ceil(H / output_stride), ceil(W / ...)], auxiliary).

    - ``tap``: the map that it stands on. ``deep`` is V2's 320-channel bottleneck (its 1280 are not built), V1's 1024 and
      V3's last 1x1 convolution, as the papers have it;
    - ``rates``: atrous branches besides the two of the paper's mobile form, given for output stride 16: (6, 12, 18) are
      doubled at 8;
    - ``refine``: a 3x3 convolution after the projection (torchvision);
    - ``auxiliary_tap``: the map of a second head whose logits only the loss reads; None for no such head;
    - ``dropout``: share of the projected features; ``auxiliary_dropout`` of the second head's;
    - ``pooling_last``: order of the concatenation, which trained weights prescribe, see :class:`ASPP`.

    Raises UserError for a tap or an output stride that the backbone cannot have, and for rates below 1.
    """

    def __init__(
        self,
        backbone: BackboneBuilder,
        *,
        num_classes: int,
        channels: int = 256,
        output_stride: int = 16,
        tap: str = "deep",
        rates: Sequence[int] = (),
        refine: bool = False,
        dropout: float = 0.1,
        auxiliary_tap: str | None = None,
        auxiliary_dropout: float = 0.1,
        pooling_last: bool = False,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.tap, self.auxiliary_tap = tap, auxiliary_tap
        self.backbone = backbone(taps=(auxiliary_tap, tap) if auxiliary_tap else (tap,), output_stride=output_stride)
        widths = {feature.name: feature.channels for feature in self.backbone.features}
        self.aspp = ASPP(
            widths[tap],
            channels,
            rates=scaled_rates(rates, output_stride),
            pooling_last=pooling_last,
            bn_eps=bn_eps,
            bn_momentum=bn_momentum,
        )
        norm = batch_norm(eps=bn_eps, momentum=bn_momentum)
        self.dropout = nn.Dropout(dropout)
        self.refine = ConvNormAct(channels, channels, kernel=3, norm=norm, act=ReLU) if refine else nn.Identity()
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.auxiliary = (
            AuxiliaryHead(widths[auxiliary_tap], num_classes, dropout=auxiliary_dropout, norm=norm)
            if auxiliary_tap
            else None
        )
        for part in (self.aspp, self.refine, self.classifier, *([self.auxiliary] if self.auxiliary else [])):
            init_head(part)

    def forward(self, images: Tensor) -> DenseSegmentation:
        features = self.backbone(images)
        logits = self.classifier(self.refine(self.dropout(self.aspp(features[self.tap]))))
        auxiliary = self.auxiliary(features[self.auxiliary_tap]) if self.auxiliary else None
        return DenseSegmentation(logits, auxiliary)


def scaled_rates(rates: Sequence[int], output_stride: int) -> list[int]:
    """Atrous rates at ``output_stride`` that reach as far in the image as ``rates`` at 16. Raises UserError below 1."""
    if len(rates) > MOST_RATES:
        raise UserError(f"task.model.rates must be at most {MOST_RATES} branches, got {len(rates)}.")
    scaled = [rate * RATES_STRIDE // output_stride for rate in rates]
    if scaled and min(scaled) < 1:
        raise UserError(
            f"task.model.rates must be at least 1 at output stride {output_stride}: {list(rates)}, given for "
            f"{RATES_STRIDE}, become {scaled}."
        )
    return scaled
