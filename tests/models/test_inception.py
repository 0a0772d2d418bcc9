from functools import partial

import pytest
import torch
from references import reference
from torch import nn

from seg_det.errors import UserError
from seg_det.metrics.complexity import count
from seg_det.models.backbones import inception
from seg_det.models.backbones.inception import InceptionV1, InceptionV2
from seg_det.models.ssdlite import SSDLite
from seg_det.types import Feature

CLASSIFIER = 1024 * 1000 + 1000
BOTH = pytest.mark.parametrize("network", [InceptionV1, InceptionV2])


def norm_channels(module):
    return sum(layer.num_features for layer in module.modules() if isinstance(layer, nn.BatchNorm2d))


def copied_googlenet(**settings):
    theirs = reference("torchvision.models").googlenet(
        weights=None, aux_logits=False, transform_input=False, init_weights=False
    )
    for layer in theirs.modules():  # statistics and scales other than 0 and 1
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    theirs.dropout, theirs.fc = nn.Identity(), nn.Identity()
    ours = InceptionV1(taps=("head",), variant="torchvision", **settings)
    # both register a convolution and its norm in the order of the table
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    for own, other in pairs:
        own.copy_(other)
    return ours, theirs


@pytest.mark.parametrize("training", [False, True])
def test_v1_gives_what_torchvision_gives(training):
    torch.manual_seed(0)
    ours, theirs = (model.train(training) for model in copied_googlenet())
    images = torch.rand(2, 3, 96, 160)
    means = ours(images)["head"].mean((2, 3))
    assert (means - theirs(images)).abs().max() < 1e-4
    if training:
        means.square().sum().backward()
        theirs(images).square().sum().backward()
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_v1_published_counts():
    # torchvision's googlenet; the Caffe original, which has biases in place of norms
    theirs = InceptionV1(taps=("head",), variant="torchvision")
    assert count(theirs, (224, 224)).params + CLASSIFIER == 6_624_904
    paper = InceptionV1(taps=("head",))
    assert count(paper, (224, 224)).params_without_norm + norm_channels(paper) + CLASSIFIER == 6_998_552


def test_v2_published_counts(monkeypatch):
    # The ports of the Caffe model count 11,295,240 and 2,048.06 M with 128 channels in the pool branches of 4c and 4d,
    # a plain 7x7 stem of 9,408 weights (ours: 24 x 49 + 24 x 64 = 2,712) and biases beside the norms.
    rows = [row._replace(pool=128) if getattr(row, "pool", 0) == 96 else row for row in inception.V2]
    monkeypatch.setattr(inception, "V2", rows)
    wide = InceptionV2(taps=("head",))
    assert [feature.channels for feature in InceptionV2(taps=("c4", "c5")).features] == [608, 1024]
    cost = count(wide, (224, 224))
    assert cost.params + 9_408 - 2_712 + norm_channels(wide) + CLASSIFIER == 11_295_240


@pytest.mark.parametrize(
    ("network", "channels"), [(InceptionV1, (192, 480, 832, 1024)), (InceptionV2, (192, 320, 576, 1024))]
)
def test_taps_and_sizes_of_the_tables(network, channels):
    backbone = network(taps=("c2", "c3", "c4", "c5", "head", "c4_expand", "c3_depthwise")).eval()
    wanted = [Feature(f"c{i}", c, 2**i) for i, c in enumerate(channels, 2)]
    others = [("head", 1024, 32), ("c4_expand", channels[2], 16), ("c3_depthwise", channels[1], 8)]
    assert backbone.features == [*wanted, *others]
    with torch.inference_mode():
        found = backbone(torch.rand(1, 3, 224, 97))
    assert [tuple(found[f.name].shape[1:]) for f in wanted] == [
        (channel, *size) for channel, size in zip(channels, [(56, 25), (28, 13), (14, 7), (7, 4)], strict=True)
    ]
    assert torch.equal(found["c4_expand"], found["c4"]) and torch.equal(found["c3_depthwise"], found["c3"])


@BOTH
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_maps_are_as_promised_at_any_size(network, padding):
    for output_stride in (8, 16, 32):
        backbone = network(taps=("c4", "c5"), output_stride=output_stride, padding=padding).to("meta").eval()
        for size in [(1, 2), (33, 64), (97, 65), (320, 299)]:
            found = backbone(torch.empty(1, 3, *size, device="meta"))
            assert [tuple(x.shape[2:]) for x in found.values()] == backbone.map_sizes(size), (output_stride, size)


def test_dilation_starts_after_the_pooling_that_lost_its_stride():
    backbone = InceptionV1(taps=("c5",), output_stride=8, variant="torchvision")
    modules = [block[0] for block in backbone.blocks[6:] if isinstance(block[0], inception.Inception)]
    assert [module.branches[1][1].conv.dilation[0] for module in modules] == [2] * 5 + [4] * 2
    assert [(b[0].stride, b[0].dilation) for b in (backbone.blocks[6], backbone.blocks[12])] == [(1, 1), (1, 2)]


def test_dilated_v1_samples_the_same_features_more_densely():
    # every second row and column of the denser map is the coarser map, away from the borders
    torch.manual_seed(0)
    coarse = InceptionV1(taps=("c5",)).eval()
    dense = InceptionV1(taps=("c5",), output_stride=16).eval()
    dense.load_state_dict(coarse.state_dict())
    images = torch.rand(1, 3, 544, 544)
    with torch.inference_mode():
        a, b = coarse(images)["c5"], dense(images)["c5"]
    assert a.shape[-1] == 17 and b.shape[-1] == 34
    torch.testing.assert_close(
        a[..., 6:11, 6:11], b[..., 13:22:2, 13:22:2], rtol=1e-3, atol=1e-5 * float(a.abs().max())
    )


@BOTH
def test_detector_trains_and_exports(network):
    model = SSDLite(partial(network), num_classes=3, width=0.25)
    sum(x.mean() for x in model(torch.rand(2, 3, 64, 64))).backward()
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())
    images = torch.rand(1, 3, 96, 75)
    raw = model.eval()(images)
    assert raw.logits.shape[1] == len(model.anchors((96, 75)))
    exported = torch.export.export(model, (images,)).module()
    for ours, theirs in zip(raw, exported(images), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (InceptionV1, {"taps": ("c1",)}, "InceptionV1 has no tap c1: it has c2.* and head"),
        (InceptionV2, {"output_stride": 12}, "The output stride does not fit InceptionV2: .*got 12"),
        (InceptionV1, {"variant": "caffe"}, "backbone.variant must be one of paper, torchvision, got caffe"),
        (InceptionV2, {"padding": "valid"}, "backbone.padding must be one of symmetric, same, got valid"),
    ],
)
def test_impossible_settings(network, settings, message):
    with pytest.raises(UserError, match=message):
        network(**{"taps": ("head",), **settings})
