import pytest
import torch

from seg_det.metrics.complexity import count
from seg_det.models.backbones.mobilenet_v2 import TAPS, MobileNetV2
from seg_det.nn.blocks import round8
from seg_det.types import Feature, UserError

EVERY_TAP = [
    Feature("c1", 16, 2),
    Feature("c2", 24, 4),
    Feature("c3", 32, 8),
    Feature("c4", 96, 16),
    Feature("c5", 320, 32),
    Feature("c1_expand", 96, 2),
    Feature("c2_expand", 144, 4),
    Feature("c3_expand", 192, 8),
    Feature("c4_expand", 576, 16),
    Feature("head", 1280, 32),
]


def test_taps_promise_what_comes_out():
    backbone = MobileNetV2(taps=TAPS).eval()
    assert backbone.features == EVERY_TAP
    for size in (96, 97, 75):
        with torch.inference_mode():
            found = backbone(torch.rand(1, 3, size, size + 32))
        for name, channels, stride in backbone.features:
            assert found[name].shape == (1, channels, -(-size // stride), -(-(size + 32) // stride)), name


def test_only_asked_taps_come_out_and_later_layers_are_not_built():
    backbone = MobileNetV2(taps=("c3",)).eval()
    assert list(backbone(torch.rand(1, 3, 64, 64))) == ["c3"]
    assert len(backbone.blocks) == 6 and not hasattr(backbone, "head")


@pytest.mark.parametrize(("output_stride", "strides"), [(16, (16, 16)), (8, (8, 8))])
def test_output_stride_keeps_the_field_of_view(output_stride, strides):
    backbone = MobileNetV2(taps=("c4", "c5"), output_stride=output_stride)
    assert tuple(feature.stride for feature in backbone.features) == strides
    with torch.inference_mode():
        found = backbone.eval()(torch.rand(1, 3, 65, 65))
    assert found["c5"].shape[-1] == -(-65 // output_stride)
    # the layer that loses its stride is not dilated itself; those after it are (TF rule)
    dilations = [block.depthwise.conv.dilation[0] for block in backbone.blocks]
    assert dilations[13:] == ([1, 2, 2, 2] if output_stride == 16 else [2, 4, 4, 4])
    assert dilations[6:13] == ([1] * 7 if output_stride == 16 else [1] + [2] * 6)


@pytest.mark.parametrize(
    ("width", "scale_head", "head"),
    [(0.35, True, 448), (0.5, True, 640), (0.5, False, 1280), (1.0, True, 1280), (1.4, False, 1792)],
)
def test_head_width(width, scale_head, head):
    assert MobileNetV2(taps=("head",), width=width, scale_head=scale_head).features[0].channels == head


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [(32 * 0.35, 16), (8, 8), (3, 8), (11.2, 16), (12, 16), (10, 16), (100, 104), (36, 40), (33.6, 32)],
)
def test_round8(channels, rounded):
    assert round8(channels) == rounded


def test_published_cost_of_the_convolutions():
    # the classifier's 1280 x 1000 + 1000 parameters complete the paper's 3,504,872 and 300.8 M
    cost = count(MobileNetV2(taps=("head",)), (224, 224))
    assert cost.params + 1280 * 1000 + 1000 == 3_504_872
    assert (cost.madds + 1280 * 1000) / 1e6 == pytest.approx(300.8, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"taps": ("c9",)}, "MobileNetV2 has no tap c9; it has c1, c2, c3, c4, c5, c1_expand"),
        ({"taps": ("c5",), "width": 0}, "backbone.width must be above 0 and at most 8, got 0"),
        (
            {"taps": ("c5",), "output_stride": 12},
            r"backbone.output_stride does not fit MobileNetV2: .*\[2, 4, 8, 16, 32\], got 12",
        ),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(UserError, match=message):
        MobileNetV2(**settings)
