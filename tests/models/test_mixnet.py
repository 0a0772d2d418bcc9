import pytest
import torch
from torch import nn

from seg_det.models.backbones.mixnet import MixNet
from seg_det.nn.blocks import SqueezeExcite
from seg_det.nn.convolutions import MixConv


def kernels(block):
    conv = block.depthwise.conv
    return tuple(branch.kernel_size[0] for branch in (conv.branches if isinstance(conv, MixConv) else [conv]))


def test_kernels_of_mixnet_s():
    blocks = MixNet(taps=("head",)).blocks
    three, five = (3, 5), (3, 5, 7, 9, 11)
    expected = [(3,)] * 3 + [(3, 5, 7)] + [three] * 3 + [(3, 5, 7)] + [three] * 2
    expected += [(3, 5, 7)] + [(3, 5, 7, 9)] * 2 + [five] + [(3, 5, 7, 9)] * 2
    assert [kernels(block) for block in blocks] == expected
    assert blocks[3].depthwise.conv.split == [48, 48, 48] and blocks[13].depthwise.conv.split == [144] * 5


def test_groups_of_the_1x1_convolutions_of_mixnet_s():
    blocks = MixNet(taps=("head",)).blocks
    assert [block.expand.conv.groups for block in blocks[1:]] == [2, 2, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2, 1, 1, 1]
    assert [block.project.conv.groups for block in blocks] == [1, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2]


def test_squeezes_to_a_share_of_the_input():
    """Swish inside and a plain sigmoid as the gate: not MobileNetV3's form."""
    layers = [block.squeeze_excite for block in MixNet(taps=("head",)).blocks]
    widths = [layer.reduce.out_channels if isinstance(layer, SqueezeExcite) else 0 for layer in layers]
    assert widths == [0, 0, 0, 12, 20, 20, 20, 10, 20, 20, 40, 60, 60, 60, 100, 100]
    assert {(type(layer.act), type(layer.gate)) for layer in layers[3:]} == {(nn.SiLU, nn.Sigmoid)}


def test_activations():
    backbone = MixNet(taps=("head",))
    assert [type(block.depthwise.act) for block in backbone.blocks] == [nn.ReLU] * 3 + [nn.SiLU] * 13
    assert type(backbone.stem.act) is type(backbone.head.act) is nn.ReLU


def test_large_is_medium_at_1_3():
    large, wide = MixNet(taps=("head",), variant="l"), MixNet(taps=("head",), variant="m", width=1.3)
    assert [p.shape for p in large.parameters()] == [p.shape for p in wide.parameters()]
    outs = [32, 40, 40, *[56] * 4, *[104] * 4, *[160] * 4, *[264] * 4]
    assert large.stem.conv.out_channels == 32 and [block.widths.out for block in large.blocks] == outs


def test_head_stays_at_any_width():
    assert MixNet(taps=("head",), width=0.5).features[0].channels == 1536


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 5])
def test_any_number_of_groups(groups):
    own = tuple(2 * i + 3 for i in range(groups))
    backbone = MixNet(taps=("c5",), kernels=own, partition="exponential").eval()
    assert {kernels(block) for block in backbone.blocks} == {own}
    assert backbone(torch.rand(1, 3, 64, 64))["c5"].shape == (1, 200, 2, 2)


def test_partition():
    split = [
        MixNet(taps=("c3",), kernels=(3, 5, 7, 9), partition=partition).blocks[1].depthwise.conv.split
        for partition in ("equal", "exponential")
    ]
    assert split == [[24, 24, 24, 24], [48, 24, 12, 12]]


def test_depth_multiplier():
    backbone = MixNet(taps=("c3_depthwise", "c5"), depth_multiplier=2).eval()
    assert backbone.features[0].channels == 480
    found = backbone(torch.rand(1, 3, 32, 32))
    assert found["c3_depthwise"].shape == (1, 480, 4, 4) and found["c5"].shape == (1, 200, 1, 1)
