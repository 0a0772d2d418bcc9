import sys
from functools import partial

import pytest
import torch
from references import reference

from seg_det.errors import UserError
from seg_det.metrics.complexity import count
from seg_det.models.backbones.timm_features import TimmFeatures, pretrained_state, rename_tensors
from seg_det.models.ssdlite import SSDLite
from seg_det.types import Feature


@pytest.fixture
def timm():
    return reference("timm")


def params(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet_levels_and_parameters(timm):
    backbone = TimmFeatures(taps=("c1", "c2", "c3", "c4", "c5"), name="resnet50")
    assert backbone.features == [
        Feature("c1", 64, 2),
        Feature("c2", 256, 4),
        Feature("c3", 512, 8),
        Feature("c4", 1024, 16),
        Feature("c5", 2048, 32),
    ]
    # 25,557,032 of the classifier less its last layer, 2048 x 1000 + 1000
    assert params(backbone) == 25_557_032 - 2_049_000 == params(timm.create_model("resnet50", num_classes=0))


def test_taps_without_a_place_of_their_own(timm):
    backbone = TimmFeatures(
        taps=("c4_expand", "c3_depthwise", "c2_first", "head", "deep", "c4"), name="resnet18"
    ).eval()
    assert [feature.channels for feature in backbone.features] == [256, 128, 64, 512, 512, 256]
    with torch.inference_mode():
        found = backbone(torch.rand(1, 3, 64, 64))
    assert found["c4_expand"] is found["c4"] and found["deep"] is found["head"]
    assert found["head"].shape == (1, 512, 2, 2)


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "mobilenetv4_conv_small"])
@pytest.mark.parametrize(("output_stride", "strides"), [(16, [8, 16, 16]), (8, [8, 8, 8])])
def test_output_stride(timm, name, output_stride, strides):
    backbone = TimmFeatures(taps=("c3", "c4", "c5"), name=name, output_stride=output_stride).eval()
    assert [feature.stride for feature in backbone.features] == strides
    with torch.inference_mode():
        found = backbone(torch.rand(1, 3, 65, 97))
    assert [tuple(x.shape[2:]) for x in found.values()] == [(-(-65 // s), -(-97 // s)) for s in strides]
    assert [tuple(x.shape[2:]) for x in found.values()] == backbone.map_sizes((65, 97))


@pytest.mark.parametrize("name", ["inception_v3", "inception_v4", "resnet50", "mobilenetv4_conv_small", "vgg16_bn"])
@pytest.mark.parametrize("size", [(299, 299), (300, 260)])
def test_an_anchor_for_each_row_of_unpadded_networks_too(timm, name, size):
    with torch.device("meta"):
        model = SSDLite(partial(TimmFeatures, name=name), num_classes=3).eval()
        rows = model(torch.empty(1, 3, *size)).logits.shape[1]
    with torch.device("cpu"):
        assert model.anchors(size).shape == (rows, 4)


def test_inception_maps_are_smaller_than_the_strides_say(timm):
    backbone = TimmFeatures(taps=("c4_expand", "head"), name="inception_v4").eval()
    assert backbone.map_sizes((299, 299)) == [(17, 17), (8, 8)]  # the paper's figure 9
    with torch.inference_mode():
        found = backbone(torch.rand(1, 3, 139, 107))
    assert [tuple(x.shape[2:]) for x in found.values()] == backbone.map_sizes((139, 107)) == [(7, 5), (3, 2)]
    with pytest.raises(UserError, match="timm's inception_v4 cannot take images of 64x64: .*; change data.size"):
        backbone.map_sizes((64, 64))


def test_channels_that_come_last_are_put_second(timm):
    with torch.device("meta"):
        backbone = TimmFeatures(taps=("c4", "c5"), name="swin_tiny_patch4_window7_224")
        found = backbone(torch.empty(1, 3, 224, 224))
    assert [tuple(x.shape) for x in found.values()] == [(1, 384, 14, 14), (1, 768, 7, 7)]
    assert backbone.map_sizes((224, 224)) == [(14, 14), (7, 7)]


@pytest.mark.parametrize("name", ["resnet18", "inception_v4", "mobilenetv4_conv_small"])
def test_nothing_is_built_after_the_last_tap(timm, name):
    backbone = TimmFeatures(taps=("c2", "c3"), name=name)
    backbone(torch.rand(2, 3, 80, 80))["c3"].sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize("name", ["resnet18", "inception_v4", "mobilenetv4_conv_small", "convnext_atto"])
def test_freezing_takes_the_layers_until_a_tap(timm, name):
    backbone = TimmFeatures(taps=("c4", "head"), name=name)
    for stage in backbone.stages_until("c3"):
        stage.requires_grad_(False)
    frozen = sum(parameter.numel() for parameter in backbone.parameters() if not parameter.requires_grad)
    assert frozen == params(TimmFeatures(taps=("c3",), name=name))


def test_detector_trains_counts_and_exports(timm):
    model = SSDLite(partial(TimmFeatures, name="resnet18"), num_classes=3, width=0.25)
    sum(x.mean() for x in model(torch.rand(2, 3, 64, 64))).backward()
    assert count(model.backbone, (224, 224)).params == params(model.backbone) == 11_689_512 - 513_000
    images = torch.rand(1, 3, 96, 96)
    exported = torch.export.export(model.eval(), (images,)).module()
    for ours, theirs in zip(model(images), exported(images), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnet5O"}, r"backbone.name=resnet5O is no network of timm .*: did you mean resnet\w+"),
        ({"name": "qqqqqqqq"}, r"is no network of timm .*timm.list_models\(\)"),
        ({"name": "hf-hub:timm/resnet50"}, "backbone.name=hf-hub:timm/resnet50 is no network of timm"),
        ({"name": "inception_v1"}, "backbone.name=inception_v1 is not in timm: use backbone=inception_v1."),
        ({"name": "bninception"}, "backbone.name=bninception is not in timm: use backbone=inception_v2."),
        ({"name": "resnet50.unheard_of"}, "timm gives no feature maps of backbone.name=resnet50.unheard_of: .*tag"),
        ({"name": "resnet18", "taps": ("c6",)}, "timm's resnet18 has no tap c6: it has c1, c2, c3, c4, c5 and head"),
        ({"name": "convnext_atto", "taps": ("c1",)}, "has no tap c1: it has c2, c3, c4, c5 and head"),
        ({"name": "resnet18", "taps": ()}, "timm's resnet18 has to be asked for a tap"),
        ({"name": "inception_v3", "output_stride": 16}, "timm's inception_v3 cannot have output stride 16, which the task"),
        ({"name": "inception_v4", "output_stride": 8}, "inception_v4 cannot have output stride 8.* such as resnet50"),
        ({"name": "mobilenetv4_conv_small", "output_stride": 12}, "cannot have output stride 12"),
    ],
)  # fmt: skip
def test_impossible_settings(timm, settings, message):
    with pytest.raises(UserError, match=message):
        TimmFeatures(**{"taps": ("head",), **settings})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "operator torchvision::nms does not exist"),
        ("raise ModuleNotFoundError(\"No module named 'timm'\")", "No module named 'timm'"),
    ],
)
def test_timm_that_cannot_be_imported(tmp_path, monkeypatch, content, reason):
    (tmp_path / "timm.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(UserError, match=rf"^backbone=timm needs timm: pip install -e '\.\[timm\]' \({reason}\)\.$"):
        TimmFeatures(taps=("head",), name="resnet50")


def test_published_weights_fit_a_shortened_network(timm, monkeypatch):
    create = timm.create_model
    published = create("resnet18", features_only=True)

    def create_model(name, *, pretrained=False, **settings):
        return published if pretrained else create(name, **settings)

    monkeypatch.setattr(timm, "create_model", create_model)
    backbone = TimmFeatures(taps=("c3",), name="resnet18")
    state = pretrained_state("resnet18")
    assert backbone.load_state_dict(state, strict=False).missing_keys == []
    assert torch.equal(backbone.network.conv1.weight, published.conv1.weight)


def test_published_weights_that_cannot_be_fetched(timm, monkeypatch):
    create = timm.create_model

    def create_model(name, *, pretrained=False, **settings):
        if pretrained:
            raise OSError("cannot reach the hub\nand more")
        return create(name, **settings)

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(
        UserError, match=r"timm's weights for resnet18 could not be had \(cannot reach the hub\): go online"
    ):
        pretrained_state("resnet18")


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv4_conv_small"])
def test_a_file_of_the_classifier_fills_the_backbone(timm, name):
    torch.manual_seed(0)
    classifier = timm.create_model(name)
    backbone = TimmFeatures(taps=("c4", "head"), name=name)
    found = rename_tensors(backbone, classifier.state_dict())
    backbone.load_state_dict(found)
    ours = {f"backbone.{key}": tensor for key, tensor in backbone.state_dict().items()}
    again = rename_tensors(TimmFeatures(taps=("c4", "head"), name=name), ours)
    assert all(torch.equal(again[key], tensor) for key, tensor in found.items())
    want = timm.create_model(name, features_only=True)
    want.load_state_dict({key.removeprefix("network."): tensor for key, tensor in pretrained(want, found).items()})
    images = torch.rand(1, 3, 64, 64)
    assert torch.allclose(backbone.eval()(images)["head"], want.eval()(images)[-1], atol=1e-5)


def pretrained(network, found):
    return {**network.state_dict(), **{key.removeprefix("network."): tensor for key, tensor in found.items()}}


def test_a_file_of_another_network(timm):
    backbone = TimmFeatures(taps=("head",), name="resnet18")
    with pytest.raises(UserError, match=r"does not fit timm's resnet18: it lacks network.layer1.0.conv1.weight"):
        rename_tensors(backbone, timm.create_model("resnet50").state_dict())
