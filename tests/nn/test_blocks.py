"""The layers of mobile networks against their formulas written out with plain operations."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, relu, relu6, silu

from seg_det.nn.blocks import (
    ConvNormAct,
    DepthwiseSeparable,
    HardSwish,
    InvertedResidual,
    Points,
    ReLU,
    SqueezeExcite,
    Swish,
    batch_norm,
    round8,
)
from seg_det.nn.convolutions import MixConv

NORM = batch_norm(eps=1e-3, momentum=0.01)


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [
        (32 * 0.35, 16),  # 11.2 -> 8 would be more than 10 % less
        (16 * 0.35, 8),
        (3, 8),
        (8, 8),
        (10, 16),
        (11.9, 16),
        (12, 16),
        (33.6, 32),
        (36, 40),
        (100, 104),
        (360 / 4, 88),
        (1280 * 1.4, 1792),
    ],
)
def test_round8(channels, rounded):
    assert round8(channels) == rounded


def test_batch_norm_constants():
    norm = batch_norm(eps=0.5, momentum=0.25)(4)
    assert (norm.num_features, norm.eps, norm.momentum) == (4, 0.5, 0.25)


def test_conv_norm_act_is_its_parts():
    layer = ConvNormAct(3, 8, kernel=3, stride=2, norm=NORM).eval()
    nn.init.constant_(layer.norm.running_mean, 0.1)
    assert layer.conv.bias is None
    x = torch.rand(1, 3, 7, 7)
    expected = relu6((conv2d(x, layer.conv.weight, stride=2, padding=1) - 0.1) / (1 + 1e-3) ** 0.5)
    torch.testing.assert_close(layer(x), expected)
    assert isinstance(ConvNormAct(3, 8, norm=NORM, act=None).act, nn.Identity)


def test_several_kernels_mix():
    layer = ConvNormAct(8, 8, kernel=(3, 5), groups=8, norm=NORM)
    assert isinstance(layer.conv, MixConv)
    assert isinstance(ConvNormAct(8, 8, kernel=(5,), groups=8, norm=NORM).conv, nn.Conv2d)
    with pytest.raises(ValueError, match=r"expected groups = 8 beside several kernels \(3, 5\), got 1"):
        ConvNormAct(8, 8, kernel=(3, 5), norm=NORM)


def gated(layer, x, act, gate):
    """Squeeze-and-excite in two matrix products."""
    pooled = x.mean((2, 3))
    squeezed = act(pooled @ layer.reduce.weight.flatten(1).T + layer.reduce.bias)
    return x * gate(squeezed @ layer.restore.weight.flatten(1).T + layer.restore.bias)[:, :, None, None]


def test_squeeze_excite_of_mobilenet_v3():
    layer, x = SqueezeExcite(16, 8), torch.randn(2, 16, 5, 3) * 4
    torch.testing.assert_close(layer(x), gated(layer, x, relu, lambda y: relu6(y + 3) / 6))
    assert (layer.reduce.bias is not None) and (layer.restore.bias is not None)


def test_squeeze_excite_of_mixnet():
    layer, x = SqueezeExcite(16, 3, act=Swish, gate=nn.Sigmoid), torch.randn(2, 16, 5, 3) * 4
    torch.testing.assert_close(layer(x), gated(layer, x, silu, torch.sigmoid))


def test_hard_swish():
    assert HardSwish()(torch.tensor([-4.0, -3, 0, 1, 3, 5])).tolist() == pytest.approx([0, 0, 0, 4 / 6, 3, 5])


def test_depthwise_separable_has_two_norms_and_activations():
    block = DepthwiseSeparable(4, 10, stride=2, norm=NORM, act=ReLU).eval()
    x = torch.randn(1, 4, 9, 9)
    points = block.trace(x)
    assert points.expand is x
    torch.testing.assert_close(points.depthwise, block.depthwise(x))
    torch.testing.assert_close(points.out, block.pointwise(points.depthwise))
    torch.testing.assert_close(block(x), points.out)
    assert block.widths == Points(4, 4, 10) and points.out.shape == (1, 10, 5, 5)
    assert isinstance(block.pointwise.act, nn.ReLU) and block.depthwise.conv.groups == 4


def test_depth_multiplier_widens_the_depthwise_output():
    assert DepthwiseSeparable(5, 64, depth_multiplier=2, norm=NORM).depthwise.conv.weight.shape == (10, 1, 3, 3)
    block = InvertedResidual(5, 10, 5, depth_multiplier=2, squeeze_excite=partial(SqueezeExcite, squeezed=4), norm=NORM)
    assert block.widths == Points(10, 20, 5)
    assert block.squeeze_excite.reduce.in_channels == 20
    assert block.eval()(torch.rand(1, 5, 6, 6)).shape == (1, 5, 6, 6)


@pytest.mark.parametrize(
    ("stride", "out", "shortcut"), [(1, 8, True), (2, 8, False), (1, 12, False)], ids=["same", "strided", "wider"]
)
def test_shortcut_only_where_nothing_changes(stride, out, shortcut):
    block = InvertedResidual(8, 48, out, stride=stride, norm=NORM).eval()
    x = torch.randn(1, 8, 6, 6)
    points = block.trace(x)
    assert block.shortcut is shortcut
    torch.testing.assert_close(points.depthwise, block.depthwise(block.expand(x)))
    projected = block.project(points.depthwise)
    torch.testing.assert_close(points.out, projected + x if shortcut else projected)
    assert points.out.min() < 0  # linear: no activation after the projection


def test_no_expansion_where_it_would_not_widen():
    block = InvertedResidual(16, 16, 8, norm=NORM).eval()
    x = torch.rand(1, 16, 4, 4)
    assert isinstance(block.expand, nn.Identity) and block.trace(x).expand is x
    assert isinstance(InvertedResidual(16, 24, 8, norm=NORM).expand, ConvNormAct)


def test_squeeze_excite_comes_after_the_depthwise_tap():
    block = InvertedResidual(8, 16, 8, squeeze_excite=partial(SqueezeExcite, squeezed=8), norm=NORM).eval()
    points = block.trace(x := torch.randn(1, 8, 6, 6))
    torch.testing.assert_close(points.depthwise, block.depthwise(block.expand(x)))
    torch.testing.assert_close(points.out, x + block.project(block.squeeze_excite(points.depthwise)))


def test_grouped_expansion_and_projection():
    block = InvertedResidual(8, 16, 12, kernel=(3, 5), expand_groups=2, project_groups=2, norm=NORM)
    assert block.expand.conv.weight.shape == (16, 4, 1, 1)
    assert block.project.conv.weight.shape == (12, 8, 1, 1)


def test_training_changes_no_input():
    """Activations work in place: on fresh maps, never on what came in."""
    x = torch.randn(2, 8, 6, 6)
    before = x.clone()
    block = InvertedResidual(8, 16, 8, squeeze_excite=partial(SqueezeExcite, squeezed=8), norm=NORM)
    block(x).sum().backward()
    assert torch.equal(x, before)
