import pytest
from torch import nn

from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.nn.blocks import ConvNormAct
from seg_det.nn.convolutions import MixConv


def test_17_bottlenecks():
    """Table 2: its repeats add up to 17, though the text speaks of 19."""
    backbone = MobileNetV2(taps=("head",))
    outs = [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]
    assert [block.widths.out for block in backbone.blocks] == outs
    assert [block.depthwise.conv.stride[0] for block in backbone.blocks] == [1, 2, 1, 2, 1, 1, 2, *[1] * 6, 2, 1, 1, 1]
    assert [block.shortcut for block in backbone.blocks] == [a == b for a, b in zip([32, *outs], outs, strict=False)]


def test_expansion_6_but_in_the_first_block():
    first, second = MobileNetV2(taps=("c2",)).blocks[:2]
    assert isinstance(first.expand, nn.Identity) and isinstance(second.expand, ConvNormAct)
    assert second.expand.conv.out_channels == 6 * 16


@pytest.mark.parametrize(
    ("width", "scale_head", "head"),
    [(0.35, True, 448), (0.5, True, 640), (0.5, False, 1280), (1.0, True, 1280), (1.4, False, 1792)],
)
def test_head_width(width, scale_head, head):
    assert MobileNetV2(taps=("head",), width=width, scale_head=scale_head).features[0].channels == head


def test_expansions_follow_the_scaled_input():
    backbone = MobileNetV2(taps=("c5",), width=0.35)
    assert backbone.stem.conv.out_channels == 16  # 11.2, of which 8 would be less than 90 %
    assert [block.widths.out for block in backbone.blocks] == [8, 8, 8, *[16] * 3, *[24] * 4, *[32] * 3, *[56] * 3, 112]
    expanded = [16, 48, 48, 48, *[96] * 3, *[144] * 4, *[192] * 3, *[336] * 3]
    assert [block.widths.expand for block in backbone.blocks] == expanded


@pytest.mark.parametrize("tail", ["detection", "segmentation"])
def test_reduced_tail(tail):
    """V3 section 6.4: outputs 80, 80, 80, 160 from stride 32 on; the expansion of 576 before them stays."""
    backbone = MobileNetV2(taps=("c4_expand", "head"), reduced_tail=tail)
    assert [block.widths.out for block in backbone.blocks[12:]] == [96, 80, 80, 80, 160]
    assert [block.widths.expand for block in backbone.blocks[12:]] == [576, 576, 480, 480, 480]
    assert [feature.channels for feature in backbone.features] == [576, 1280]
    assert backbone.reshaped == ("blocks.13.", "blocks.14.", "blocks.15.", "blocks.16.", "head.")
    assert all(any(name.startswith(p) for name, _ in backbone.named_parameters()) for p in backbone.reshaped)


@pytest.mark.parametrize(
    ("settings", "reshaped"),
    [({}, ()), ({"width": 0.5}, ("head.",)), ({"width": 0.5, "scale_head": False}, ()), ({"width": 1.4}, ())],
)
def test_what_published_weights_cannot_fill(settings, reshaped):
    assert MobileNetV2(taps=("head",), **settings).reshaped == reshaped


def test_mixed_kernels():
    backbone = MobileNetV2(taps=("c3",), kernels=(3, 5))
    assert all(isinstance(block.depthwise.conv, MixConv) for block in backbone.blocks)
    assert backbone.blocks[1].depthwise.conv.split == [48, 48]
