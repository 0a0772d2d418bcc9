import pytest
from torch import nn

from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.nn.blocks import SqueezeExcite


def squeezes(backbone):
    """Width of the squeezed layer of each block, 0 where there is none."""
    found = [block.squeeze_excite for block in backbone.blocks]
    return [layer.reduce.out_channels if isinstance(layer, SqueezeExcite) else 0 for layer in found]


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("large", [0, 0, 0, 24, 32, 32, 0, 0, 0, 0, 120, 168, 168, 240, 240]),
        ("small", [8, 0, 0, 24, 64, 64, 32, 40, 72, 144, 144]),
    ],
)
def test_squeezes_to_a_quarter_of_the_expansion(variant, expected):
    backbone = MobileNetV3(taps=("head",), variant=variant)
    assert squeezes(backbone) == expected
    gates = {type(block.squeeze_excite.gate) for block, n in zip(backbone.blocks, expected, strict=True) if n}
    assert gates == {nn.Hardsigmoid}


@pytest.mark.parametrize(
    ("variant", "kernels", "relus"),
    [("large", [3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5], 6), ("small", [3, 3, 3, *[5] * 8], 3)],
)
def test_kernels_and_activations(variant, kernels, relus):
    backbone = MobileNetV3(taps=("head",), variant=variant)
    assert [block.depthwise.conv.kernel_size[0] for block in backbone.blocks] == kernels
    acts = [type(block.depthwise.act) for block in backbone.blocks]
    assert acts == [nn.ReLU] * relus + [nn.Hardswish] * (len(kernels) - relus)
    assert type(backbone.stem.act) is type(backbone.head.act) is nn.Hardswish


@pytest.mark.parametrize("variant", ["large", "small"])
def test_minimalistic(variant):
    plain, full = (MobileNetV3(taps=("head",), variant=variant, minimalistic=small) for small in (True, False))
    kernels = {layer.kernel_size for layer in plain.modules() if isinstance(layer, nn.Conv2d)}
    assert kernels == {(1, 1), (3, 3)}
    assert not any(isinstance(layer, SqueezeExcite | nn.Hardswish) for layer in plain.modules())
    assert [block.widths for block in plain.blocks] == [block.widths for block in full.blocks]
    assert plain.hidden.act is not full.hidden.act and plain.hidden.channels == full.hidden.channels


OUTS = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 88, 88, 120, 120, 120]


@pytest.mark.parametrize(
    ("rule", "expanded", "hidden"),
    [
        ("tf", [16, 64, 72, 72, 96, 96, 192, 160, 144, 144, 384, 528, 528, 720, 720], 1280),
        ("torchvision", [16, 48, 56, 56, 88, 88, 184, 152, 136, 136, 360, 504, 504, 720, 720], 960),
    ],
)
def test_width_rules(rule, expanded, hidden):
    backbone = MobileNetV3(taps=("head",), width=0.75, width_rule=rule)
    assert [block.widths.out for block in backbone.blocks] == OUTS
    assert [block.widths.expand for block in backbone.blocks] == expanded
    assert (backbone.features[0].channels, backbone.hidden.channels) == (720, hidden)


@pytest.mark.parametrize(("rule", "head"), [("tf", 200), ("torchvision", 192)])
def test_last_convolution_of_a_narrow_small(rule, head):
    # 576 * 0.35 = 201.6, or six times the 32 channels before it
    assert MobileNetV3(taps=("head",), variant="small", width=0.35, width_rule=rule).features[0].channels == head


def test_width_rules_are_one_at_width_1():
    one, other = (MobileNetV3(taps=("head",), width_rule=rule) for rule in ("tf", "torchvision"))
    assert [block.widths for block in one.blocks] == [block.widths for block in other.blocks]
    assert one.hidden.channels == other.hidden.channels == 1280


@pytest.mark.parametrize(
    ("variant", "tail", "expanded", "outs", "head", "hidden"),
    [
        ("large", None, [672, 960, 960], [160] * 3, 960, 1280),
        ("large", "detection", [672, 480, 480], [80] * 3, 480, 640),
        ("large", "segmentation", [336, 480, 480], [80] * 3, 480, 640),
        ("small", None, [288, 576, 576], [96] * 3, 576, 1024),
        ("small", "detection", [288, 288, 288], [48] * 3, 288, 512),
        ("small", "segmentation", [144, 288, 288], [48] * 3, 288, 512),
    ],
)
def test_reduced_tails(variant, tail, expanded, outs, head, hidden):
    backbone = MobileNetV3(taps=("c4_expand", "head"), variant=variant, reduced_tail=tail)
    assert [block.widths.expand for block in backbone.blocks[-3:]] == expanded
    assert [block.widths.out for block in backbone.blocks[-3:]] == outs
    assert [feature.channels for feature in backbone.features] == [expanded[0], head]
    assert backbone.hidden.channels == hidden
    first = {"large": 12, "small": 8}[variant]
    reshaped = (*(f"blocks.{i}." for i in range(first, first + 3)), "head.") if tail else ()
    assert backbone.reshaped == reshaped


@pytest.mark.parametrize(("variant", "hidden"), [("large", 1280), ("small", 1024)])
def test_layer_after_pooling(variant, hidden):
    backbone = MobileNetV3(taps=("head",), variant=variant)
    assert backbone.hidden.channels == hidden and isinstance(backbone.hidden.act(), nn.Hardswish)
