import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from seg_det.models.backbones.mixnet import MixNet
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.models.classifier import Classifier
from seg_det.types import UserError
from seg_det.weight_catalogue import CATALOGUE
from seg_det.weight_fit import arrange
from seg_det.weight_maps import NAMINGS, detect
from seg_det.weight_naming import Naming, Row
from seg_det.weight_networks import CANDIDATES
from seg_det.weights import describe, load_backbone, load_model

CONF = Path(__file__).parent.parent / "conf" / "backbone"


def save(content, path):
    torch.save(content, path)
    return path


def classifier(backbone, classes=10, **settings):
    return Classifier(partial(backbone, **settings), num_classes=classes).eval()


def randomised(model):
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


def same_tensors(a, b):
    counts = ".num_batches_tracked"
    theirs = b.state_dict()
    return all(torch.equal(tensor, theirs[k]) for k, tensor in a.state_dict().items() if not k.endswith(counts))


# Keys


KEYS = {
    "torchvision MobileNetV2": (
        ("features.1.conv.0.0.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("features.0.1.running_var", "backbone.stem.norm.running_var"),
        ("features.1.conv.1.weight", "backbone.blocks.0.project.conv.weight"),
        ("features.1.conv.2.bias", "backbone.blocks.0.project.norm.bias"),
        ("features.17.conv.3.bias", "backbone.blocks.16.project.norm.bias"),
        ("features.18.0.weight", "backbone.head.conv.weight"),
        ("classifier.1.bias", "classifier.bias"),
    ),
    "torchvision MobileNetV3": (
        ("features.1.block.0.0.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("features.1.block.1.0.weight", "backbone.blocks.0.project.conv.weight"),  # Large
        ("features.1.block.1.fc2.bias", "backbone.blocks.0.squeeze_excite.restore.bias"),  # Small
        ("features.1.block.2.1.weight", "backbone.blocks.0.project.norm.weight"),
        ("features.4.block.2.fc1.weight", "backbone.blocks.3.squeeze_excite.reduce.weight"),
        ("features.4.block.3.0.weight", "backbone.blocks.3.project.conv.weight"),
        ("features.12.0.weight", "backbone.head.conv.weight"),
        ("classifier.0.weight", "hidden.0.weight"),
        ("classifier.3.weight", "classifier.weight"),
    ),
    "torchvision SSDLite320 MobileNetV3": (
        ("backbone.features.0.1.block.0.0.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("backbone.features.0.12.block.3.1.bias", "backbone.blocks.11.project.norm.bias"),
        ("backbone.features.0.13.0.weight", "backbone.blocks.12.expand.conv.weight"),
        ("backbone.features.1.0.1.1.weight", "backbone.blocks.12.depthwise.norm.weight"),
        ("backbone.features.1.0.2.fc1.bias", "backbone.blocks.12.squeeze_excite.reduce.bias"),
        ("backbone.features.1.0.3.0.weight", "backbone.blocks.12.project.conv.weight"),
        ("backbone.features.1.2.block.0.0.weight", "backbone.blocks.14.expand.conv.weight"),
        ("backbone.features.1.3.1.weight", "backbone.head.norm.weight"),
        ("backbone.extra.3.1.0.weight", "extras.3.separable.depthwise.conv.weight"),
        ("head.classification_head.module_list.5.0.1.bias", "class_predictors.5.depthwise.norm.bias"),
        ("head.regression_head.module_list.0.1.bias", "box_predictors.0.project.bias"),
    ),
    "torchvision segmentation MobileNetV3": (
        ("backbone.1.block.0.0.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("backbone.0.0.weight", "backbone.stem.conv.weight"),
        ("backbone.16.1.bias", "backbone.head.norm.bias"),
        ("classifier.low_classifier.weight", None),
        ("aux_classifier.0.weight", None),
    ),
    "TF-slim MobileNetV1": (
        ("MobilenetV1/Conv2d_0/weights", "backbone.stem.conv.weight"),
        ("MobilenetV1/Conv2d_0/BatchNorm/gamma", "backbone.stem.norm.weight"),
        ("MobilenetV1/Conv2d_13_pointwise/biases", "backbone.blocks.12.pointwise.norm.bias"),
        ("MobilenetV1/Conv2d_1_depthwise/depthwise_weights", "backbone.blocks.0.depthwise.conv.weight"),
        ("MobilenetV1/Logits/Conv2d_1c_1x1/biases", "classifier.bias"),
        ("MobilenetV1/Conv2d_1_depthwise/depthwise_weights/RMSProp", None),
        ("global_step", None),
    ),
    "TF-slim MobileNetV2": (
        ("MobilenetV2/Conv/weights", "backbone.stem.conv.weight"),
        ("MobilenetV2/expanded_conv/project/BatchNorm/moving_mean", "backbone.blocks.0.project.norm.running_mean"),
        ("MobilenetV2/expanded_conv_16/expand/BatchNorm/beta", "backbone.blocks.16.expand.norm.bias"),
        ("MobilenetV2/Conv_1/weights", "backbone.head.conv.weight"),
        ("MobilenetV2/Logits/Conv2d_1c_1x1/weights", "classifier.weight"),
    ),
    "TF-slim MobileNetV3": (
        ("MobilenetV3/Conv/weights:0", "backbone.stem.conv.weight"),
        ("MobilenetV3/expanded_conv/squeeze_excite/Conv/biases", "backbone.blocks.0.squeeze_excite.reduce.bias"),
        (
            "MobilenetV3/expanded_conv_3/squeeze_excite/Conv_1/weights",
            "backbone.blocks.3.squeeze_excite.restore.weight",
        ),
        ("MobilenetV3/Conv_1/BatchNorm/moving_variance", "backbone.head.norm.running_var"),
        ("MobilenetV3/Conv_2/biases", "hidden.0.bias"),
    ),
    "TF detection SSDLite MobileNetV2": (
        ("FeatureExtractor/MobilenetV2/Conv/weights", "backbone.stem.conv.weight"),
        ("FeatureExtractor/MobilenetV2/expanded_conv_13/expand/weights", "backbone.blocks.13.expand.conv.weight"),
        ("FeatureExtractor/MobilenetV2/layer_19_1_Conv2d_2_1x1_256/weights", None),
    ),
    "TF DeepLabv3 MobileNetV2": (
        ("image_pooling/weights", None),
        ("MobilenetV2/Conv/weights", "backbone.stem.conv.weight"),
        ("MobilenetV2/expanded_conv_5/depthwise/biases", "backbone.blocks.5.depthwise.norm.bias"),
    ),
    "seg_det model": (("backbone.stem.conv.weight", "backbone.stem.conv.weight"), ("hidden.0.bias", "hidden.0.bias")),
    "seg_det": (("stem.conv.weight", "backbone.stem.conv.weight"),),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys(name):
    naming = detect(key for key, _ in KEYS[name])
    assert naming is NAMINGS[name]
    assert naming.rename(key for key, _ in KEYS[name]) == {
        ours: [key for key, other in KEYS[name] if other == ours] for _, ours in KEYS[name] if ours
    }


TIMM = {
    "v1": (
        ("conv_stem.weight", "backbone.stem.conv.weight"),
        ("bn1.bias", "backbone.stem.norm.bias"),
        ("blocks.0.0.conv_dw.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("blocks.1.0.bn1.weight", "backbone.blocks.1.depthwise.norm.weight"),
        ("blocks.1.1.conv_pw.weight", "backbone.blocks.2.pointwise.conv.weight"),
        ("blocks.4.0.bn1.weight", "backbone.blocks.3.depthwise.norm.weight"),
        ("blocks.4.0.bn2.weight", "backbone.blocks.3.pointwise.norm.weight"),
        ("classifier.weight", "classifier.weight"),
    ),
    "v2, mixnet": (
        ("conv_stem.weight", "backbone.stem.conv.weight"),
        ("blocks.0.0.bn1.weight", "backbone.blocks.0.depthwise.norm.weight"),
        ("blocks.0.0.conv_pw.weight", "backbone.blocks.0.project.conv.weight"),
        ("blocks.0.0.bn2.weight", "backbone.blocks.0.project.norm.weight"),
        ("blocks.1.0.conv_pw.0.weight", "backbone.blocks.1.expand.conv.weight"),
        ("blocks.1.0.conv_pw.1.weight", "backbone.blocks.1.expand.conv.weight"),
        ("blocks.1.0.bn1.weight", "backbone.blocks.1.expand.norm.weight"),
        ("blocks.1.0.bn2.weight", "backbone.blocks.1.depthwise.norm.weight"),
        ("blocks.1.0.conv_pwl.weight", "backbone.blocks.1.project.conv.weight"),
        ("blocks.1.0.bn3.weight", "backbone.blocks.1.project.norm.weight"),
        ("blocks.2.10.conv_dw.3.weight", "backbone.blocks.3.depthwise.conv.branches.3.weight"),
        ("blocks.2.9.se.conv_reduce.bias", "backbone.blocks.2.squeeze_excite.reduce.bias"),
        ("conv_head.weight", "backbone.head.conv.weight"),
        ("bn2.weight", "backbone.head.norm.weight"),
    ),
    "v3": (
        ("conv_stem.weight", "backbone.stem.conv.weight"),
        ("blocks.0.0.bn1.weight", "backbone.blocks.0.depthwise.norm.weight"),
        ("blocks.1.0.conv_pwl.weight", "backbone.blocks.1.project.conv.weight"),
        ("blocks.5.0.conv.weight", "backbone.head.conv.weight"),
        ("blocks.5.0.bn1.weight", "backbone.head.norm.weight"),
        ("conv_head.weight", "hidden.0.weight"),
        ("conv_head.bias", "hidden.0.bias"),
    ),
}


@pytest.mark.parametrize("kind", TIMM)
def test_keys_of_timm(kind):
    naming = detect(key for key, _ in TIMM[kind])
    assert naming is NAMINGS["timm EfficientNet-style"]
    found = naming.rename(key for key, _ in TIMM[kind])
    assert [(key, ours) for ours, keys in found.items() for key in keys] == list(TIMM[kind])


def test_every_published_row_has_its_mapping():
    assert {row.mapping for row in CATALOGUE.values()} <= NAMINGS.keys()


def test_the_average_of_a_variable_goes_before_it():
    naming = Naming("net", "a", (Row(r"(\w+)/weights", "{}.weight"),))
    average = "b/weights/ExponentialMovingAverage"
    for keys in (("a/weights:0", "b/weights", average), (average, "b/weights", "a/weights:0")):
        assert naming.rename(keys) == {"a.weight": ["a/weights:0"], "b.weight": [average]}


def test_placeholders():
    rows = (Row(r"(\d+)\.(\d+)", "{+12}.{-1}.x"), Row(r"b(\d+\.\d+)\.(\w+)", "{#}.{}"))
    naming = Naming("net", "a", rows, block=r"b(\d+\.\d+)\..*")
    assert naming.rename(["0.1", "b10.0.w", "b2.11.w", "b2.9.w"]) == {
        "12.0.x": ["0.1"],
        "2.w": ["b10.0.w"],
        "1.w": ["b2.11.w"],
        "0.w": ["b2.9.w"],
    }


# TensorFlow files


SLIM_LEAVES = {
    "conv.weight": "weights",
    "norm.weight": "BatchNorm/gamma",
    "norm.bias": "BatchNorm/beta",
    "norm.running_mean": "BatchNorm/moving_mean",
    "norm.running_var": "BatchNorm/moving_variance",
    "weight": "weights",
    "bias": "biases",
}


def as_slim_v3(model):
    """The state dict of our MobileNetV3 classifier under TF-slim's names, written down without the table under test."""
    named = {}
    for key, tensor in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        layer, leaf = re.fullmatch(r"(.+?)\.((?:conv\.|norm\.)?\w+)", key).groups()
        layer = layer.removeprefix("backbone.")
        layer = re.sub(r"^blocks\.(\d+)\.", lambda m: f"expanded_conv_{m[1]}/".replace("_0/", "/"), layer)
        for ours, theirs in (
            ("squeeze_excite.reduce", "squeeze_excite/Conv"),
            ("squeeze_excite.restore", "squeeze_excite/Conv_1"),
            ("stem", "Conv"),
            ("head", "Conv_1"),
            ("hidden.0", "Conv_2"),
            ("classifier", "Logits/Conv2d_1c_1x1"),
        ):
            layer = re.sub(rf"{re.escape(ours)}$", theirs, layer)
        depthwise = "depthwise_" if layer.endswith("/depthwise") and leaf == "conv.weight" else ""
        shaped = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        named[f"MobilenetV3/{layer}/{depthwise}{SLIM_LEAVES[leaf]}"] = shaped
    return named


def turned(named):
    """As TensorFlow keeps filters: height, width, inputs, outputs; depthwise ones height, width, channels, multiplier."""
    order = {True: (2, 3, 0, 1), False: (2, 3, 1, 0)}
    return {k: t.permute(order["depthwise_weights" in k]) if t.ndim == 4 else t for k, t in named.items()}


@pytest.mark.parametrize("layout", [dict, turned], ids=["pytorch", "tensorflow"])
@pytest.mark.parametrize("variant", ["large", "small"])
def test_slim_v3_in_both_layouts(tmp_path, variant, layout):
    source = randomised(classifier(MobileNetV3, variant=variant, padding="same"))
    target = classifier(MobileNetV3, variant=variant, padding="same")
    report = load_model(target, save(layout(as_slim_v3(source)), tmp_path / "tf.pth"))
    assert (report.naming, report.unused, report.notes, report.warnings) == ("TF-slim MobileNetV3", (), (), ())
    assert same_tensors(target, source)


def test_a_depth_multiplier_of_tensorflow_becomes_channels(tmp_path):
    source = MixNet(taps=("c5",), width=0.5, kernels=(3,), depth_multiplier=2)
    weight = source.blocks[3].depthwise.conv.weight  # channel c of the input feeds outputs 2c and 2c + 1
    filters = weight.reshape(-1, 2, 3, 3).permute(2, 3, 0, 1)  # height, width, channels, multiplier
    naming = NAMINGS["TF-slim MobileNetV2"]
    found = arrange(
        {
            "MobilenetV2/Conv/weights": torch.zeros(3, 3, 3, 8),
            "MobilenetV2/expanded_conv_3/depthwise/depthwise_weights": filters,
        },
        naming,
    )
    assert torch.equal(found["backbone.blocks.3.depthwise.conv.weight"], weight)
    assert found["backbone.stem.conv.weight"].shape == (8, 3, 3, 3)


def as_folded_slim_v1(model):
    """Weights and biases that compute what our MobileNetV1 does with its norms, under TF-slim's names."""
    named = {}
    layers = {"Conv2d_0": model.backbone.stem}
    for i, block in enumerate(model.backbone.blocks, start=1):
        layers |= {f"Conv2d_{i}_depthwise": block.depthwise, f"Conv2d_{i}_pointwise": block.pointwise}
    for name, layer in layers.items():
        gain = layer.norm.weight / (layer.norm.running_var + layer.norm.eps).sqrt()
        leaf = "depthwise_weights" if "depthwise" in name else "weights"
        named[f"MobilenetV1/{name}/{leaf}"] = layer.conv.weight * gain[:, None, None, None]
        named[f"MobilenetV1/{name}/biases"] = layer.norm.bias - layer.norm.running_mean * gain
    named["MobilenetV1/Logits/Conv2d_1c_1x1/weights"] = model.classifier.weight[:, :, None, None]
    named["MobilenetV1/Logits/Conv2d_1c_1x1/biases"] = model.classifier.bias
    return {key: tensor.detach().clone() for key, tensor in named.items()}


@pytest.mark.parametrize("eps", [1e-3, 0.5])
def test_folded_norms_and_the_background(tmp_path, eps):
    """The folded file computes the same whatever the eps of the norms that it is loaded into."""
    torch.manual_seed(0)
    source = randomised(classifier(MobileNetV1, 1001, width=0.25, padding="same"))
    path = save(as_folded_slim_v1(source), tmp_path / "tf.pth")
    whole, without = (classifier(MobileNetV1, n, width=0.25, padding="same", bn_eps=eps) for n in (1001, 1000))
    reports = [load_model(model, path) for model in (whole, without)]
    assert [report.notes for report in reports] == [
        ("27 batch norms are folded into the convolutions",),
        ("27 batch norms are folded into the convolutions", "output 0 of 1001, the background, was left out"),
    ]
    assert all(report.warnings == () and report.loaded == 27 * 5 + 2 for report in reports)
    images = torch.rand(2, 3, 65, 65)
    with torch.inference_mode():
        logits = source(images)
        assert logits.std() > 0.01
        torch.testing.assert_close(whole(images), logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(without(images), logits[:, 1:], atol=1e-5, rtol=1e-4)


def test_other_counts_of_classes_keep_their_first(tmp_path):
    path = save(as_folded_slim_v1(classifier(MobileNetV1, 11, width=0.25)), tmp_path / "tf.pth")
    with pytest.raises(UserError, match=r"Conv2d_1c_1x1/weights \[11, 256, 1, 1\] for classifier\.weight \[10, 256\]"):
        load_model(classifier(MobileNetV1, 10, width=0.25), path)


def test_a_norm_without_its_statistics_is_no_folded_one_elsewhere(tmp_path):
    state = MobileNetV1(taps=("c5",), width=0.25).state_dict()
    for leaf in ("weight", "running_mean", "running_var"):
        del state[f"stem.norm.{leaf}"]
    with pytest.raises(UserError, match=r"it lacks backbone\.stem\.norm\.weight, backbone\.stem\.norm\.running_mean"):
        load_backbone(MobileNetV1(taps=("c5",), width=0.25), str(save(state, tmp_path / "own.pth")))


# What fits


def as_timm_mixnet(model):
    """Our MixNet-S classifier's expansions and projections in timm's parts; all other keys stay ours and mean nothing."""
    state = {}
    for i, block in enumerate(model.backbone.blocks[1:2], start=1):
        for name, layer in (("conv_pw", block.expand), ("conv_pwl", block.project)):
            for part, weight in enumerate(layer.conv.weight.chunk(2)):
                state[f"blocks.{i}.0.{name}.{part}.weight"] = weight
    return {"conv_stem.weight": model.backbone.stem.conv.weight, "blocks.0.0.bn1.bias": torch.zeros(16), **state}


def test_parts_are_joined_along_the_outputs():
    model = classifier(MixNet)
    parts = as_timm_mixnet(model)
    found = arrange(parts, detect(parts))
    for layer in ("expand", "project"):
        wanted = getattr(model.backbone.blocks[1], layer).conv.weight
        assert torch.equal(found[f"backbone.blocks.1.{layer}.conv.weight"], wanted)
    parts["blocks.1.0.conv_pw.1.weight"] = torch.zeros(48, 9, 1, 1)  # cannot be joined: refused later by its shape
    assert arrange(parts, detect(parts))["backbone.blocks.1.expand.conv.weight"].shape == (48, 8, 1, 1)


def test_a_reduced_tail_stays_as_initialised(tmp_path):
    torch.manual_seed(0)
    source = randomised(MobileNetV3(taps=("head",)))
    target = MobileNetV3(taps=("head",), reduced_tail="detection")
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    report = load_backbone(target, str(save(source.state_dict(), tmp_path / "full.pth")))
    kept = ("blocks.12.project", "blocks.13", "blocks.14", "head")
    assert report.kept == kept
    assert f"left as initialised: {', '.join(kept)}; not needed: blocks.12.project.conv.weight" in str(report)
    for key, tensor in target.state_dict().items():
        assert torch.equal(tensor, (before if key.startswith(kept) else source.state_dict())[key]), key


def test_a_norm_stays_with_its_convolution(tmp_path):
    """The head of MobileNetV2 keeps its 1280 outputs in a reduced tail, but reads fewer inputs."""
    source, target = randomised(MobileNetV2(taps=("head",))), MobileNetV2(taps=("head",), reduced_tail="detection")
    report = load_backbone(target, str(save(source.state_dict(), tmp_path / "full.pth")))
    assert report.kept == ("blocks.13.project", "blocks.14", "blocks.15", "blocks.16", "head")
    assert target.head.norm.bias.count_nonzero() == 0


def test_only_the_tail_may_differ(tmp_path):
    state = MobileNetV3(taps=("head",)).state_dict()
    del state["blocks.3.squeeze_excite.reduce.bias"]
    target = MobileNetV3(taps=("head",), reduced_tail="segmentation")
    before = target.stem.conv.weight.clone()
    with pytest.raises(
        UserError, match=r"does not fit the model: it lacks backbone\.blocks\.3\.squeeze_excite\.reduce\.bias\.$"
    ):
        load_backbone(target, str(save(state, tmp_path / "full.pth")))
    assert torch.equal(target.stem.conv.weight, before)


def test_integers_are_no_weights(tmp_path):
    state = MobileNetV1(taps=("c5",), width=0.25).state_dict()
    state["stem.conv.weight"] = torch.ones(8, 3, 3, 3, dtype=torch.uint8)
    message = r"stem\.conv\.weight \[8, 3, 3, 3\] of torch\.uint8 for backbone\.stem\.conv\.weight \[8, 3, 3, 3\]"
    with pytest.raises(UserError, match=message):
        load_backbone(MobileNetV1(taps=("c5",), width=0.25), str(save(state, tmp_path / "quantised.pth")))


def test_conventions_that_differ_are_warned_of(tmp_path):
    source = classifier(MobileNetV3, variant="small")
    path = save(as_slim_v3(source), tmp_path / "tf.pth")
    padding = (
        "these weights were trained with SAME padding and the model has symmetric padding: set backbone.padding=same"
    )
    eps = "these weights were trained with a batch-norm eps of 0.001 and the model has 1e-05: set backbone.bn_eps=0.001"
    for settings, warnings in (
        ({}, (padding,)),
        ({"padding": "same"}, ()),
        ({"padding": "same", "bn_eps": 1e-5}, (eps,)),
        ({"bn_eps": 1e-5}, (padding, eps)),
    ):
        report = load_model(classifier(MobileNetV3, variant="small", **settings), path)
        assert report.warnings == warnings
        assert str(report).endswith("; ".join(("(TF-slim MobileNetV3 names)", *warnings)))
    # our own names say nothing about either
    own = save(source.state_dict(), tmp_path / "own.pth")
    assert load_model(classifier(MobileNetV3, variant="small", padding="same", bn_eps=1e-5), own).warnings == ()


# What a file holds


HELD = (
    (MobileNetV1, {"width": 0.25}, "MobileNetV1, width 0.25", "v1 backbone.width=0.25"),
    (MobileNetV1, {"width": 0.4}, "MobileNetV1, width 0.4", "v1 backbone.width=0.4"),
    (MobileNetV2, {}, "MobileNetV2, width 1.0", "v2"),
    (MobileNetV2, {"width": 1.4}, "MobileNetV2, width 1.4", "v2 backbone.width=1.4"),
    (MobileNetV2, {"width": 0.5}, "MobileNetV2, width 0.5", "v2 backbone.width=0.5"),
    (
        MobileNetV2,
        {"width": 0.5, "scale_head": False},
        "MobileNetV2, width 0.5, scale_head false",
        "v2 backbone.width=0.5 backbone.scale_head=false",
    ),
    (
        MobileNetV2,
        {"reduced_tail": "segmentation"},  # the same as for detection
        "MobileNetV2, width 1.0, reduced_tail detection",
        "v2 backbone.reduced_tail=detection",
    ),
    (MobileNetV3, {"width": 0.75}, "MobileNetV3 Large, width 0.75", "v3 backbone.width=0.75"),
    (
        MobileNetV3,
        {"width": 0.75, "width_rule": "torchvision"},
        "MobileNetV3 Large, width 0.75, width_rule torchvision",
        "v3 backbone.width=0.75 backbone.width_rule=torchvision",
    ),
    (
        MobileNetV3,
        {"variant": "small", "reduced_tail": "segmentation"},
        "MobileNetV3 Small, width 1.0, reduced_tail segmentation",
        "v3_small backbone.reduced_tail=segmentation",
    ),
    (MobileNetV3, {"minimalistic": True}, "MobileNetV3 Large minimalistic, width 1.0", "v3_minimalistic"),
    (
        MobileNetV3,
        {"variant": "small", "minimalistic": True},
        "MobileNetV3 Small minimalistic, width 1.0",
        "v3_small_minimalistic",
    ),
    (MixNet, {}, "MixNet-S, width 1.0", "mixnet_s"),
    (MixNet, {"variant": "m"}, "MixNet-M, width 1.0", "mixnet_m"),
    (MixNet, {"variant": "l"}, "MixNet-L, width 1.0", "mixnet_l"),
    (MixNet, {"variant": "m", "width": 0.5}, "MixNet-M, width 0.5", "mixnet_m backbone.width=0.5"),
)


@pytest.mark.parametrize(("backbone", "settings", "name", "overrides"), HELD, ids=[overrides for *_, overrides in HELD])
def test_a_file_says_what_it_holds(tmp_path, backbone, settings, name, overrides):
    lines = describe(save(classifier(backbone, 7, **settings).state_dict(), tmp_path / "a.pth")).splitlines()
    assert lines[2:] == [f"holds: {name}, 7 classes", f"fits: backbone={overrides}"]
    bare = backbone(taps=("c5",), **settings)
    lines = describe(save(bare.state_dict(), tmp_path / "b.pth")).splitlines()
    assert lines[1] == "names: seg_det" and lines[2].startswith(f"holds: {name.split(',')[0]}, width")


def test_conventions_belong_to_what_a_file_fits(tmp_path):
    small = as_slim_v3(classifier(MobileNetV3, 1001, variant="small", width=0.75))
    assert describe(save(small, tmp_path / "a.pth")).splitlines()[2:] == [
        "holds: MobileNetV3 Small, width 0.75, 1001 classes",
        "fits: backbone=v3_small backbone.width=0.75 backbone.padding=same",
    ]


def test_an_unknown_network_in_known_names(tmp_path):
    state = classifier(MobileNetV2, kernels=(3, 5), width=0.35).state_dict()
    assert len(describe(save(state, tmp_path / "a.pth")).splitlines()) == 2


def test_every_candidate_is_a_choice_of_the_command_line():
    assert [candidate.yaml for candidate in CANDIDATES if not (CONF / f"{candidate.yaml}.yaml").is_file()] == []


@pytest.mark.parametrize(
    ("file", "held", "overrides"),
    [
        ("mobilenet_v1_0.25_128_tfslim_folded", "MobileNetV1, width 0.25, 1001 classes", "v1 backbone.width=0.25"),
        ("mobilenet_v1_1.0_224_tfslim_folded", "MobileNetV1, width 1.0, 1001 classes", "v1"),
        ("deeplabv3_mobilenet_v2_voc_tf_folded", "MobileNetV2, width 1.0", "v2"),
        ("ssdlite_mobilenet_v2_person_tf", "MobileNetV2, width 1.0", "v2"),
    ],
)
def test_real_files_of_tensorflow(real_data, file, held, overrides):
    path = real_data / "weights" / f"{file}.pth"
    eps = " backbone.bn_eps=0.001" if file.startswith("ssdlite") else ""
    assert describe(path).splitlines()[2:] == [
        f"holds: {held}",
        f"fits: backbone={overrides} backbone.padding=same{eps}",
    ]


def test_the_backbone_of_a_real_detector(real_data):
    """Norms of their own, two heads' worth of tensors that nothing here needs, and a tap inside block 13."""
    backbone = MobileNetV2(taps=("c4_expand", "head"), padding="same", bn_eps=1e-3)
    report = load_backbone(backbone, str(real_data / "weights" / "ssdlite_mobilenet_v2_person_tf.pth"))
    assert (report.loaded, len(report.unused), report.notes, report.warnings) == (260, 144, (), ())
    assert all(re.match(r"BoxPredictor_\d/|FeatureExtractor/MobilenetV2/layer_19_", key) for key in report.unused)


def test_the_backbone_of_a_real_segmenter(real_data):
    path = str(real_data / "weights" / "deeplabv3_mobilenet_v2_voc_tf_folded.pth")
    report = load_backbone(MobileNetV2(taps=("c5",), output_stride=16, padding="same"), path)
    assert report.naming == "TF DeepLabv3 MobileNetV2" and report.loaded == 51 * 5
    assert {key.split("/")[0] for key in report.unused} == {"aspp0", "image_pooling", "concat_projection", "logits"}
    assert report.notes == ("51 batch norms are folded into the convolutions",)
    with pytest.raises(
        UserError, match=r"it lacks backbone\.head\.conv\.weight, .* it holds MobileNetV2, width 1\.0 \(backbone=v2"
    ):
        load_backbone(MobileNetV2(taps=("head",)), path)
