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


class Staged(nn.Module):
    """A backbone of a stem and two blocks, the second with a squeeze-and-excite layer, and a head of one layer."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.stem = conv(3, 8, 3, stride=2, padding=1)
        self.backbone.blocks = nn.ModuleList([nn.Module(), nn.Module()])
        self.backbone.blocks[0].project = conv(8, 8, 1)
        self.backbone.blocks[1].expand = conv(8, 16, 1)
        self.backbone.blocks[1].depthwise = conv(16, 16, 3, stride=2, padding=1, groups=16)
        self.backbone.blocks[1].squeeze = conv(16, 16, 1)
        self.backbone.blocks[1].project = nn.Sequential(conv(16, 4, 1), nn.BatchNorm2d(4))
        self.classifier = nn.Linear(4, 10)

    def forward(self, images):
        first, second = self.backbone.blocks
        x = first.project(self.backbone.stem(images))
        x = second.depthwise(second.expand(x))
        x = x * second.squeeze(x.mean((2, 3), keepdim=True))
        return self.classifier(second.project(x).mean((2, 3)))


def test_parts_of_the_network_by_hand():
    cost = count(Staged(), (30, 30))  # maps of 15 x 15 and 8 x 8
    assert cost.by_part == {
        "backbone stem": Cost(216, 216 * 225),
        "backbone stride 2": Cost(64, 64 * 225),
        "backbone stride 4": Cost(128 + 144 + 256 + 64 + 8, 128 * 225 + (144 + 64) * 64 + 256),
        "classifier": Cost(50, 40),
    }
    assert cost.params == sum(part.params for part in cost.by_part.values())
    assert cost.madds == sum(part.madds for part in cost.by_part.values())


def test_height_comes_before_width():
    assert count(nn.Conv2d(3, 1, (1, 5), bias=False), (2, 9)).madds == 3 * 5 * 2 * 5


class OnOwnMap(nn.Module):
    """Layers that work on ``channels`` of their own, where the counter shows RGB images."""

    def __init__(self, channels: int, *layers: nn.Module):
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        return self.layers(images[:, :1].expand(-1, self.channels, -1, -1))


def conv(*arguments, **settings):
    return nn.Conv2d(*arguments, bias=False, **settings)


def separable(channels, out, kernel, **settings):
    return conv(channels, channels, kernel, groups=channels, **settings), conv(channels, out, 1)


def test_a_5x5_convolution_without_padding():
    """12 x 12 x 3 -> 8 x 8 x 256: 1,228,800 multiplications, or 4,800 + 49,152 = 53,952 when separable."""
    assert count(conv(3, 256, 5), (12, 12)).madds == 1_228_800
    cost = count(nn.Sequential(*separable(3, 256, 5)), (12, 12))
    assert cost.by_type == {"conv 1x1": Cost(768, 49_152), "depthwise 5x5": Cost(75, 4_800)}
    assert cost.madds == 53_952


def test_a_3x3_convolution_of_five_channels():
    """5 x 10 x 10 -> 64 x 10 x 10: 288,000, or 4,500 + 32,000 = 36,500 when separable."""
    assert count(OnOwnMap(5, conv(5, 64, 3, padding=1)), (10, 10)).madds == 288_000
    cost = count(OnOwnMap(5, *separable(5, 64, 3, padding=1)), (10, 10))
    assert cost.by_type == {"conv 1x1": Cost(320, 32_000), "depthwise 3x3": Cost(45, 4_500)}
    assert cost.madds == 36_500


def test_a_depth_multiplier_of_2_doubles_both_halves():
    """5 channels -> 10 -> 64."""
    cost = count(OnOwnMap(5, conv(5, 10, 3, padding=1, groups=5), conv(10, 64, 1)), (10, 10))
    assert cost.by_type == {"conv 1x1": Cost(640, 64_000), "depthwise 3x3": Cost(90, 9_000)}


def test_a_1x1_reduction_before_a_5x5_convolution():
    """Inception's example, 128 -> 256 channels: 819,200 weights, or through 32 channels 4,096 + 204,800 = 208,896."""
    assert count(OnOwnMap(128, conv(128, 256, 5, padding=2)), (7, 7)).params == 819_200
    cost = count(OnOwnMap(128, conv(128, 32, 1), conv(32, 256, 5, padding=2)), (7, 7))
    assert cost.by_type == {"conv 5x5": Cost(204_800, 204_800 * 49), "conv 1x1": Cost(4_096, 4_096 * 49)}
    assert cost.params == 208_896


def test_stride_2_on_an_odd_map():
    """19 x 19 x 3, kernel 3, stride 2, padding 1 -> 10 x 10 x 4."""
    full, parts = conv(3, 4, 3, stride=2, padding=1), separable(3, 4, 3, stride=2, padding=1)
    assert (
        full(torch.rand(1, 3, 19, 19)).shape == nn.Sequential(*parts)(torch.rand(1, 3, 19, 19)).shape == (1, 4, 10, 10)
    )
    assert parts[0](torch.rand(1, 3, 19, 19)).shape == (1, 3, 10, 10)
    assert count(full, (19, 19)).madds == 3 * 4 * 9 * 100
    assert count(nn.Sequential(*parts), (19, 19)).madds == 3 * 9 * 100 + 3 * 4 * 100


@pytest.mark.parametrize(
    ("k", "m", "n", "side"), [(3, 64, 128, 56), (3, 512, 512, 14), (5, 40, 120, 28), (1, 8, 16, 4)]
)
def test_cost_formulas(k, m, n, side):
    """V1 section 3.1: k k M N F F, separable k k M F F + M N F F, their ratio 1/N + 1/(k k)."""
    full = count(OnOwnMap(m, conv(m, n, k, padding=k // 2)), (side, side)).madds
    apart = count(OnOwnMap(m, *separable(m, n, k, padding=k // 2)), (side, side)).madds
    assert full == k * k * m * n * side * side
    assert apart == k * k * m * side * side + m * n * side * side
    assert apart / full == pytest.approx(1 / n + 1 / k**2, rel=1e-12)
    if k == 3:
        assert 8 < full / apart < 9  # "8 to 9 times less computation"


def test_width_and_resolution_multipliers():
    """V1 section 3.2 and 3.3; only the computation falls with the square of the resolution, the parameters stay."""

    def cost(alpha=1.0, rho=1.0):
        m, n, side = int(64 * alpha), int(128 * alpha), int(56 * rho)
        return count(OnOwnMap(m, *separable(m, n, 3, padding=1)), (side, side))

    assert cost(alpha=0.5).madds == (9 * 32 + 32 * 64) * 56 * 56
    assert cost(alpha=0.5, rho=0.5).madds == (9 * 32 + 32 * 64) * 28 * 28
    assert cost(rho=0.5).madds == cost().madds / 4
    assert cost(rho=0.5).params == cost().params == 9 * 64 + 64 * 128
    assert cost(alpha=0.5).by_type["conv 1x1"].params == cost().by_type["conv 1x1"].params / 4


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
