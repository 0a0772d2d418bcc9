"""MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv 1801.04381)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from seg_det.nn.blocks import ConvNormAct, InvertedResidual, batch_norm, round8
from seg_det.ops.strides import stride_to_dilation
from seg_det.types import Feature, UserError


class Row(NamedTuple):
    expansion: int  # t
    channels: int  # c
    repeats: int  # n
    stride: int  # s, of the first repeat


# Table 2
STEM = 32
ROWS = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)
HEAD = 1280

# The last block whose output has the stride of the name (c2: 4, c3: 8, c4: 16, c5: 32) in the undilated network, and the
# block whose expansion is the widest map of that stride (cN_expand; c4_expand is "layer 15" of section 6.2).
BOTTLENECK_TAPS = {"c1": 0, "c2": 2, "c3": 5, "c4": 12, "c5": 16}
EXPANSION_TAPS = {"c1_expand": 1, "c2_expand": 3, "c3_expand": 6, "c4_expand": 13}
TAPS = (*BOTTLENECK_TAPS, *EXPANSION_TAPS, "head")


class MobileNetV2(nn.Module):
    """MobileNetV2 up to the last tap: images f32 [B, 3, H, W] -> {tap: features [B, C, ceil(H/stride), ceil(W/stride)]}.

    ``width`` multiplies every channel count, rounded to 8 (section 3.4). ``head`` is the last 1x1 convolution: 1280 channels,
    more above width 1; below it fewer with ``scale_head`` (SSDLite at widths 0.35 and 0.5, V3 paper table 6), 1280 without
    (ImageNet classifiers). Layers after the last tap are not built. Raises UserError for a tap, width or output stride that
    the network cannot have.
    """

    def __init__(
        self,
        *,
        taps: Sequence[str],
        output_stride: int = 32,
        width: float = 1.0,
        scale_head: bool = True,
        dilation_rule: str = "tf",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ):
        super().__init__()
        _check(taps, width)
        norm = batch_norm(eps=bn_eps, momentum=bn_momentum)
        rows = [row._replace(stride=row.stride if i == 0 else 1) for row in ROWS for i in range(row.repeats)]
        try:
            layers = stride_to_dilation([2, *(row.stride for row in rows)], output_stride, rule=dilation_rule)
        except ValueError as error:
            raise UserError(f"backbone.output_stride does not fit MobileNetV2: {error}") from error
        rows = rows[: _blocks_needed(taps)]
        channels = round8(STEM * width)
        self.stem = ConvNormAct(3, channels, kernel=3, stride=2, norm=norm)
        self.blocks = nn.ModuleList()
        self._features: dict[str, Feature] = {}
        reached = 2
        names = {i: name for name, i in BOTTLENECK_TAPS.items()}
        expanded_names = {i: name for name, i in EXPANSION_TAPS.items()}
        for i, (row, (stride, dilation)) in enumerate(zip(rows, layers[1:], strict=False)):
            expanded, out = round8(channels * row.expansion), round8(row.channels * width)
            self._note(expanded_names.get(i), expanded, reached)
            block = InvertedResidual(channels, expanded, out, stride=stride, dilation=dilation, norm=norm)
            self.blocks.append(block)
            channels, reached = out, reached * stride
            self._note(names.get(i), channels, reached)
        if "head" in taps:
            head = round8(HEAD * width) if width > 1 or scale_head else HEAD
            self.head = ConvNormAct(channels, head, norm=norm)
            self._note("head", head, reached)
        self._bottlenecks = {i: name for i, name in names.items() if name in taps}
        self._expansions = {i: name for i, name in expanded_names.items() if name in taps}
        self.features = [self._features[tap] for tap in taps]
        self.apply(_init)

    def _note(self, name: str | None, channels: int, stride: int) -> None:
        if name:
            self._features[name] = Feature(name, channels, stride)

    def stages_until(self, tap: str) -> list[nn.Module]:
        """The layers up to and with the bottleneck of ``tap`` (c1..c5): what fine-tuning may freeze."""
        if tap not in BOTTLENECK_TAPS:
            raise UserError(f"MobileNetV2 can be frozen until {', '.join(BOTTLENECK_TAPS)}, not until {tap}.")
        return [self.stem, *self.blocks[: BOTTLENECK_TAPS[tap] + 1]]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = {}
        x = self.stem(images)
        for i, block in enumerate(self.blocks):
            expanded = block.expand(x)
            if i in self._expansions:
                found[self._expansions[i]] = expanded
            x = block.finish(expanded, x)
            if i in self._bottlenecks:
                found[self._bottlenecks[i]] = x
        if hasattr(self, "head"):
            found["head"] = self.head(x)
        return found


def _check(taps: Sequence[str], width: float) -> None:
    unknown = [tap for tap in taps if tap not in TAPS]
    if unknown or not taps:
        raise UserError(f"MobileNetV2 has no tap {', '.join(unknown) or '(none was named)'}; it has {', '.join(TAPS)}.")
    if not 0 < width <= 8:
        raise UserError(f"backbone.width must be above 0 and at most 8, got {width}.")


def _blocks_needed(taps: Sequence[str]) -> int:
    last = {**BOTTLENECK_TAPS, **EXPANSION_TAPS, "head": BOTTLENECK_TAPS["c5"]}
    return 1 + max(last[tap] for tap in taps)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")  # torchvision's rule: trains from scratch at any width
