"""What every backbone promises, by each file of the paper's networks: taps, sizes, dilation, number formats."""

import copy
import inspect
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from seg_det.errors import UserError
from seg_det.models.backbones.base import Backbone, tap_points
from seg_det.models.backbones.mixnet import MixNet
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.nn.blocks import fold_norms
from seg_det.nn.convolutions import MixConv
from seg_det.registry import BACKBONES
from seg_det.types import Feature

CONF = Path(__file__).parents[2] / "conf" / "backbone"
NETWORKS = {
    "v1": MobileNetV1,
    "v2": MobileNetV2,
    "v3_large": MobileNetV3,
    "v3_small": partial(MobileNetV3, variant="small"),
    "v3_minimalistic": partial(MobileNetV3, minimalistic=True),
    "mixnet_s": MixNet,
    "mixnet_m": partial(MixNet, variant="m"),
    "mixnet_l": partial(MixNet, variant="l"),
}
# Channels of cN, cN_depthwise and cN_expand for N = 1..5, then of the head; V3-Small has no map of its own at stride 2
CHANNELS = {
    "v1": ((64, 32, 64), (128, 128, 128), (256, 256, 256), (512, 512, 512), (1024, 1024), 1024),
    "v2": ((16, 32, 96), (24, 144, 144), (32, 192, 192), (96, 576, 576), (320, 960), 1280),
    "v3_large": ((16, 16, 64), (24, 72, 72), (40, 120, 240), (112, 672, 672), (160, 960), 960),
    "v3_small": ((), (16, 16, 72), (24, 88, 96), (48, 144, 288), (96, 576), 576),
    "v3_minimalistic": ((16, 16, 64), (24, 72, 72), (40, 120, 240), (112, 672, 672), (160, 960), 960),
    "mixnet_s": ((16, 16, 96), (24, 72, 144), (40, 240, 240), (120, 360, 720), (200, 1200), 1536),
    "mixnet_m": ((24, 24, 144), (32, 96, 192), (40, 240, 240), (120, 360, 720), (200, 1200), 1536),
    "mixnet_l": ((32, 32, 192), (40, 120, 240), (56, 336, 336), (160, 480, 960), (264, 1584), 1536),
}
# Blocks of stride 2, 4, 8, 16 and 32
BLOCKS = {
    "v1": (1, 2, 2, 6, 2),
    "v2": (1, 2, 3, 7, 4),
    "v3_large": (1, 2, 3, 6, 3),
    "v3_small": (0, 1, 2, 5, 3),
    "v3_minimalistic": (1, 2, 3, 6, 3),
    "mixnet_s": (1, 2, 4, 6, 3),
    "mixnet_m": (1, 2, 4, 8, 4),
    "mixnet_l": (1, 2, 4, 8, 4),
}
every_network = pytest.mark.parametrize("network", NETWORKS)


def all_features(network: str, output_stride: int = 32) -> list[Feature]:
    *levels, head = CHANNELS[network]
    features = []
    for level, channels in enumerate(levels, 1):
        for suffix, width in zip(("", "_depthwise", "_expand"), channels, strict=False):
            features.append(Feature(f"c{level}{suffix}", width, min(2**level, output_stride)))
    return [*features, Feature("head", head, output_stride)]


def build(network: str, **settings) -> Backbone:
    settings.setdefault("taps", [feature.name for feature in all_features(network)])
    return NETWORKS[network](**settings).eval()


def dilations(backbone: Backbone) -> list[int]:
    found = []
    for block in backbone.blocks:
        conv = block.depthwise.conv
        branches = conv.branches if isinstance(conv, MixConv) else [conv]
        (dilation,) = {branch.dilation for branch in branches}
        found.append(dilation[0])
    return found


@every_network
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_taps_promise_what_comes_out(network, output_stride):
    backbone = build(network, output_stride=output_stride)
    assert backbone.features == all_features(network, output_stride)
    for size in [(65, 96), (33, 47)]:
        with torch.inference_mode():
            found = backbone(torch.rand(1, 3, *size))
        assert set(found) == {feature.name for feature in backbone.features}
        for (name, channels, stride), rows_columns in zip(backbone.features, backbone.map_sizes(size), strict=True):
            assert rows_columns == tuple(-(-side // stride) for side in size)
            assert found[name].shape == (1, channels, *rows_columns), name


@every_network
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_padding_changes_no_size(network, padding):
    backbone = build(network, padding=padding, taps=("c2", "c4_expand", "head"))
    found = backbone(torch.rand(1, 3, 50, 64))
    assert [found[tap].shape[-2:] for tap in backbone.taps] == [(13, 16), (4, 4), (2, 2)]


@every_network
def test_dilation_starts_after_the_layer_that_lost_its_stride(network):
    *_, fourth, fifth = BLOCKS[network]
    before = [1] * (sum(BLOCKS[network]) - fourth - fifth)
    late = [1] + [2] * (fifth - 1)
    assert dilations(build(network, output_stride=32)) == [1] * sum(BLOCKS[network])
    assert dilations(build(network, output_stride=16)) == before + [1] * fourth + late
    early = [1] + [2] * (fourth - 1)
    assert dilations(build(network, output_stride=8)) == before + early + [2] + [4] * (fifth - 1)


@every_network
def test_dilation_starts_with_that_layer_by_torchvisions_rule(network):
    *_, fourth, fifth = BLOCKS[network]
    before = [1] * (sum(BLOCKS[network]) - fourth - fifth)
    rule = {"dilation_rule": "torchvision"}
    assert dilations(build(network, output_stride=16, **rule)) == before + [1] * fourth + [2] * fifth
    assert dilations(build(network, output_stride=8, **rule)) == before + [2] * fourth + [4] * fifth


@every_network
@pytest.mark.parametrize("level", [2, 3, 4, 5])
def test_nothing_after_the_last_tap_is_built(network, level):
    blocks = sum(BLOCKS[network][:level])
    for tap in (f"c{level}", f"c{level}_depthwise"):
        backbone = build(network, taps=(tap,))
        assert len(backbone.blocks) == blocks
        assert not [name for name, _ in backbone.named_parameters() if name.startswith("head")]
        assert list(backbone(torch.rand(1, 3, 32, 32))) == [tap]
    if level < 5:
        assert len(build(network, taps=(f"c{level}_expand", "c2")).blocks) == blocks + 1


@every_network
def test_taps_are_the_blocks_own_maps(network):
    backbone = build(network, taps=("c4_expand", "c4", "c3_depthwise", "head"))
    assert [feature.name for feature in backbone.features] == ["c4_expand", "c4", "c3_depthwise", "head"]
    images = torch.rand(1, 3, 48, 48)
    third, fourth = sum(BLOCKS[network][:3]) - 1, sum(BLOCKS[network][:4]) - 1
    expected, x = {}, backbone.stem(images)
    for i, block in enumerate(backbone.blocks):
        widened = block.expand(x) if hasattr(block, "expand") else x
        if i == third:
            expected["c3_depthwise"] = block.depthwise(widened)
        if i == fourth + 1:
            expected["c4_expand"] = widened
        x = block(x)
        if i == fourth:
            expected["c4"] = x
    expected["head"] = backbone.head(x)
    torch.testing.assert_close(backbone(images), expected)


@every_network
def test_double_precision_and_channels_last(network):
    backbone = build(network, taps=("c3", "head")).double()
    images = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    with torch.inference_mode():
        expected = backbone(images)
        found = backbone.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    for tap, wanted in expected.items():
        assert found[tap].dtype == torch.float64
        torch.testing.assert_close(found[tap], wanted)


@every_network
def test_every_parameter_learns(network):
    backbone = build(network, taps=("head",)).train()
    backbone(torch.rand(2, 3, 64, 64))["head"].square().sum().backward()
    without = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    assert all(p.std() > 0 for name, p in backbone.named_parameters() if name.endswith("conv.weight"))


@every_network
def test_batch_norm_constants_reach_every_norm(network):
    backbone = build(network, bn_eps=0.125, bn_momentum=0.5)
    norms = [layer for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.125, 0.5)}


@pytest.mark.parametrize(
    ("network", "constants"),
    [("v1", (1e-3, 0.1)), ("v2", (1e-5, 0.1)), ("v3_large", (1e-3, 0.01)), ("mixnet_s", (1e-3, 0.01))],
)
def test_batch_norm_constants_that_nobody_sets(network, constants):
    norm = build(network).stem.norm
    assert (norm.eps, norm.momentum) == constants


@every_network
def test_stages_to_freeze(network):
    backbone = build(network, taps=("c5",))
    stages = backbone.stages_until("c3")
    assert stages[0] is backbone.stem and stages[1:] == list(backbone.blocks[: sum(BLOCKS[network][:3])])
    with pytest.raises(UserError, match="can be frozen until .*c2, c3, c4, c5, not until head"):
        backbone.stages_until("head")


@every_network
def test_stages_that_training_runs_instead(network):
    backbone = build(network, taps=("c2", "c3", "c4"))
    images = torch.rand(2, 3, 64, 96)
    backbone.train()(images)  # norms get statistics
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    wanted = backbone.eval()(images)
    stages = backbone.stages_until("c3")
    backbone.train_behind([fold_norms(copy.deepcopy(stage)).requires_grad_(False) for stage in stages])
    found = backbone.train()(images)
    for tap in ("c2", "c3"):
        torch.testing.assert_close(found[tap], wanted[tap])
        assert not found[tap].requires_grad
    found["c4"].sum().backward()
    after = backbone.state_dict()
    assert list(before) == list(after)
    kept = ("stem.", *(f"blocks.{i}." for i in range(sum(BLOCKS[network][:3]))))
    for key, value in before.items():
        if "running_mean" in key:
            assert torch.equal(value, after[key]) == key.startswith(kept)


def test_where_taps_lie():
    points = tap_points([1, 2, 1, 2])  # after the stem's 2: strides 2, 4, 4, 8
    assert {tap: tuple(point) for tap, point in points.items()} == {
        "c1_first": (0, "out"),
        "c1": (0, "out"),
        "c1_depthwise": (0, "depthwise"),
        "c1_expand": (1, "expand"),
        "c2_first": (1, "out"),
        "c2": (2, "out"),
        "c2_depthwise": (2, "depthwise"),
        "c2_expand": (3, "expand"),
        "c3_first": (3, "out"),
        "c3": (3, "out"),
        "c3_depthwise": (3, "depthwise"),
    }
    assert "c1" not in tap_points([2, 1])


@pytest.mark.parametrize("network", ["v1", "v2", "v3_large", "v3_small", "mixnet_s"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"taps": ("c3", "c9", "c5_expand")},
            "has no tap c9, c5_expand: it has .*c2, c2_depthwise, c2_expand, .* and head",
        ),
        ({"taps": ()}, "has to be asked for a tap: it has .*c5, c5_depthwise and head"),
        (
            {"output_stride": 12},
            r"The output stride does not fit M.*: expected an output stride of \[2, 4, 8, 16, 32\], got 12",
        ),
        ({"dilation_rule": "keras"}, "backbone.dilation_rule must be one of tf, torchvision, got keras"),
        ({"padding": "valid"}, "backbone.padding must be one of symmetric, same, got valid"),
        (
            {"width": 0},
            r"backbone.width must lie between 0\.0\d+, which leaves one of the \d\d channels .* and 8, got 0",
        ),
        ({"width": -1.0}, r"backbone.width must lie between .*, got -1\.0"),
        ({"width": 0.01}, r"backbone.width must lie between .*, got 0\.01"),
        ({"width": 9}, "backbone.width must lie between .* and 8, got 9"),
        ({"width": float("nan")}, "backbone.width must lie between .* got nan"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_impossible_settings(network, settings, message):
    with pytest.raises(UserError, match=message):
        build(network, **settings)


@pytest.mark.parametrize("network", ["v1", "v2", "mixnet_s"])
@pytest.mark.parametrize("kernels", [[], [4], [3, 5, 7, 9, 11, 13], [-3], [3.0], 5, "3"], ids=str)
def test_kernels_that_no_layer_can_have(network, kernels):
    with pytest.raises(UserError, match="backbone.kernels must list one to five odd sizes, for example .*, got"):
        build(network, kernels=kernels)


@pytest.mark.parametrize(("network", "width"), [("v1", 0.25), ("v2", 0.25), ("mixnet_s", 0.5)])
def test_more_kernels_than_the_narrowest_layer_has_channels(network, width):
    message = r"backbone.kernels are too many for the narrowest layer: 8 channels .* into 5 exponential groups: \[4, 2, 1, 1, 0\]"
    with pytest.raises(UserError, match=message):
        build(network, width=width, kernels=(3, 5, 7, 9, 11), partition="exponential")


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        ("v1", {"act": "gelu"}, "backbone.act must be one of relu, relu6, got gelu"),
        ("v1", {"partition": "half"}, "backbone.partition must be one of equal, exponential, got half"),
        ("v2", {"partition": "half"}, "backbone.partition must be one of equal, exponential, got half"),
        ("v2", {"reduced_tail": "rf2"}, "backbone.reduced_tail must be one of null, detection, segmentation, got rf2"),
        ("v3_large", {"variant": "tiny"}, "backbone.variant must be one of large, small, got tiny"),
        ("v3_large", {"width_rule": "keras"}, "backbone.width_rule must be one of tf, torchvision, got keras"),
        (
            "v3_large",
            {"reduced_tail": "half"},
            "backbone.reduced_tail must be one of null, detection, segmentation, got half",
        ),
        ("mixnet_s", {"variant": "xl"}, "backbone.variant must be one of s, m, l, got xl"),
        ("mixnet_s", {"depth_multiplier": 0}, "backbone.depth_multiplier must be 1 or more, got 0"),
        ("mixnet_s", {"partition": "half"}, "backbone.partition must be one of equal, exponential, got half"),
    ],
)
def test_unknown_names_and_numbers(network, settings, message):
    with pytest.raises(UserError, match=message):
        NETWORKS[network](**{"taps": ("c5",), **settings})


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "mixnet_s"])
def test_configuration_shows_every_argument_with_its_default(name):
    shown = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=True)
    backbone = BACKBONES.get(shown.pop("_target_"))
    assert shown.pop("weights") is None and list(shown)[-1] == "bn_momentum"
    arguments = inspect.signature(backbone).parameters
    defaults = {key: argument.default for key, argument in arguments.items() if key not in ("taps", "output_stride")}
    own = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    heads = ("scale_head", "reduced_tail", "dilation_rule", "bn_momentum")  # have a say in these
    left_to_the_head = {key: shown[key] for key in heads if key in shown}
    assert shown == {**own, **left_to_the_head} and set(left_to_the_head.values()) <= {None, "none"}


@pytest.mark.parametrize("tap", ["c4_expand", "c3_depthwise", "c4"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_parameter_that_is_built_is_used(name, tap):
    model = NETWORKS[name](taps=(tap,))
    model(torch.rand(2, 3, 64, 64))[tap].sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    whole = NETWORKS[name](taps=(tap, "head"))
    assert model.features[0] == whole.features[0]
    assert set(model.state_dict()) < set(whole.state_dict())
