import pytest
import torch
from torch import nn

from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.classifier import Classifier
from seg_det.nn.convolutions import MixConv


def test_28_layers():
    """One full convolution, 13 pairs and the classifier; a norm after all but the last."""
    model = Classifier(MobileNetV1, num_classes=10)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 28 and isinstance(layers[-1], nn.Linear)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 27
    assert model.backbone.stem.conv.groups == 1
    assert [block.depthwise.conv.stride[0] for block in model.backbone.blocks] == [
        1,
        2,
        1,
        2,
        1,
        2,
        1,
        1,
        1,
        1,
        1,
        2,
        1,
    ]


@pytest.mark.parametrize(
    ("width", "stem", "outs"),
    [
        (1.0, 32, [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]),
        (0.75, 24, [48, 96, 96, 192, 192, *[384] * 6, 768, 768]),
        (0.35, 11, [22, 44, 44, 89, 89, *[179] * 6, 358, 358]),  # cut off, not rounded to 8
        (0.1, 8, [8, 12, 12, 25, 25, *[51] * 6, 102, 102]),  # at least 8
        (1.5, 48, [96, 192, 192, 384, 384, *[768] * 6, 1536, 1536]),
    ],
)
def test_widths_are_cut_off(width, stem, outs):
    backbone = MobileNetV1(taps=("head",), width=width)
    assert backbone.stem.conv.out_channels == stem
    assert [block.widths.out for block in backbone.blocks] == outs


@pytest.mark.parametrize(("act", "largest"), [("relu6", 6.0), ("relu", 100.0)])
def test_activation_of_the_code_and_of_the_paper(act, largest):
    backbone = MobileNetV1(taps=("c1",), act=act).eval()
    nn.init.constant_(backbone.blocks[0].pointwise.norm.bias, 100.0)
    nn.init.zeros_(backbone.blocks[0].pointwise.norm.weight)
    assert backbone(torch.rand(1, 3, 8, 8))["c1"].unique().tolist() == [largest]


def test_expansion_taps_are_the_maps_before_the_stride():
    backbone = MobileNetV1(taps=("c4", "c4_expand", "c5", "head")).eval()
    found = backbone(torch.rand(1, 3, 64, 64))
    assert torch.equal(found["c4"], found["c4_expand"]) and torch.equal(found["c5"], found["head"])


def test_mixed_kernels():
    backbone = MobileNetV1(taps=("c3",), kernels=(3, 5, 7), partition="exponential")
    conv = backbone.blocks[1].depthwise.conv
    assert isinstance(conv, MixConv) and conv.split == [32, 16, 16]
    assert [branch.kernel_size[0] for branch in conv.branches] == [3, 5, 7]
    assert backbone.stem.conv.kernel_size == (3, 3)
