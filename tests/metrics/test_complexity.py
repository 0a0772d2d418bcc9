"""The counter against hand-computed layers and a published network."""

import copy

import pytest
import torch
from torch import nn

from seg_det.metrics.complexity import Cost, count, layer_type


def test_the_stem_of_mobilenet():
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
    cost = count(stem, (224, 224))
    assert cost.madds == 3 * 32 * 9 * 112 * 112
    assert cost.params == 3 * 32 * 9 + 64
    assert cost.params_without_norm == 864
    assert cost.by_type == {"conv 3x3": Cost(864, 10_838_016), "norm": Cost(64, 0)}


def test_height_comes_before_width():
    assert count(nn.Conv2d(3, 1, (1, 5), bias=False), (2, 9)).madds == 3 * 5 * 2 * 5


def test_depthwise_separable_costs_1_n_plus_1_k2_of_a_convolution():
    def cost_of(*layers):
        return count(nn.Sequential(nn.Conv2d(3, 16, 1), *layers), (20, 30)).madds - 3 * 16 * 20 * 30

    full = cost_of(nn.Conv2d(16, 64, 3, padding=1))
    separable = cost_of(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 64, 1))
    assert separable / full == pytest.approx(1 / 64 + 1 / 9, rel=1e-12)


def test_linear_and_grouped_and_transposed_layers():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 12, 3, padding=1, groups=4),
        nn.ConvTranspose2d(12, 5, 2, stride=2, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 7),
    )
    assert count(model, (6, 4)).by_type == {
        "transposed conv 2x2": Cost(12 * 5 * 4, 12 * 5 * 4 * 24),  # each of 6 x 4 inputs spreads over 2 x 2
        "grouped conv 3x3": Cost(12 * 2 * 9 + 12, 12 * 2 * 9 * 24),
        "conv 1x1": Cost(3 * 8 + 8, 3 * 8 * 24),
        "linear": Cost(5 * 7 + 7, 35),
    }


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.Conv2d(8, 8, 5, groups=8), "depthwise 5x5"),
        (nn.Conv2d(8, 16, 3, groups=8), "depthwise 3x3"),
        (nn.Conv2d(8, 8, (1, 7)), "conv 1x7"),
        (nn.GroupNorm(2, 4), "norm"),
        (nn.PReLU(), "other"),
    ],
)
def test_layer_types(module, name):
    assert layer_type(module) == name


class Shared(nn.Module):
    """One head on two maps, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1, bias=False)
        self.again = nn.Conv2d(3, 2, 1, bias=False)
        self.again.weight = self.head.weight
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.head(x) * self.scale, self.head(x[..., ::2, ::2]), self.again(x)


def test_a_shared_layer_costs_each_time_and_weighs_once():
    cost = count(Shared(), (4, 4))
    assert cost.madds == 6 * (16 + 4 + 16)
    assert cost.params == 6 + 1
    assert cost.by_type == {"conv 1x1": Cost(6, 216), "other": Cost(1, 0)}


def test_shares_are_per_cent():
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 3, 3, padding=1, bias=False))
    shares = count(model, (5, 5)).shares()
    assert shares["conv 1x1"] == pytest.approx((10.0, 10.0))  # 12 of 120
    assert shares["conv 3x3"] == pytest.approx((90.0, 90.0))
    assert count(nn.Identity(), (5, 5)).shares() == {}


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Dropout(0.5))).train(training)
    model[2].train(not training)
    before = copy.deepcopy(model.state_dict())
    count(model, (8, 8))
    assert [m.training for m in model.modules()] == [training, training, training, not training, not training]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.device.type == "cpu" for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_a_half_precision_model_counts_too():
    assert count(nn.Conv2d(3, 2, 1, bias=False).half(), (2, 2)).madds == 24


def test_mobilenet_v1_has_its_published_counts():
    """MobileNetV1 Table 1, 4 and 2: 4.2 M parameters, 569 M mult-adds, 95 % of them in 1x1 convolutions."""
    layers, channels = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)], 32
    for out, stride in [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]:
        layers += [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]
        layers += [nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out)]
        channels = out
    cost = count(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000)), (224, 224))
    assert cost.params == 4_231_976
    assert cost.madds == 568_740_352
    shares = cost.shares()
    assert round(shares["conv 1x1"].madds, 2) == 94.86
    assert round(shares["depthwise 3x3"].madds, 2) == 3.06
    assert round(shares["conv 3x3"].madds, 2) == 1.91  # 10,838,016 of 568,740,352; the paper prints 1.19
