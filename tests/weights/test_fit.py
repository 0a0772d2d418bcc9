import re

import pytest
import torch
from weight_files import as_folded_slim_v1, as_slim_v3, classifier, randomised, save

from seg_det.errors import UserError
from seg_det.models.backbones.mixnet import MixNet
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.weights import load_backbone, load_model
from seg_det.weights.fit import arrange
from seg_det.weights.maps import NAMINGS, detect


def same_tensors(a, b):
    counts = ".num_batches_tracked"
    theirs = b.state_dict()
    return all(torch.equal(tensor, theirs[k]) for k, tensor in a.state_dict().items() if not k.endswith(counts))


# TensorFlow files


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


def as_timm_parts(block):
    """The expansion and projection of our block, in two groups each, as timm's second stage keeps them."""
    state = {"conv_stem.weight": torch.zeros(16, 3, 3, 3), "blocks.0.0.bn1.bias": torch.zeros(16)}
    for name, layer in (("conv_pw", block.expand), ("conv_pwl", block.project)):
        for part, weight in enumerate(layer.conv.weight.chunk(2)):
            state[f"blocks.1.0.{name}.{part}.weight"] = weight
    return state


def test_parts_are_joined_along_the_outputs():
    block = MixNet(taps=("c5",)).blocks[1]
    parts = as_timm_parts(block)
    found = arrange(parts, detect(parts))
    for layer in ("expand", "project"):
        assert torch.equal(found[f"backbone.blocks.1.{layer}.conv.weight"], getattr(block, layer).conv.weight)
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


@pytest.mark.parametrize("odd", [torch.tensor(1.0), torch.zeros(0), torch.zeros(0, 3, 3, 3), torch.eye(3).to_sparse()])
def test_tensors_of_any_other_form_are_refused(tmp_path, odd):
    good = as_folded_slim_v1(classifier(MobileNetV1, 1001, width=0.25))
    path = save(dict.fromkeys(good, odd), tmp_path / "odd.pth")
    target = classifier(MobileNetV1, 1000, width=0.25)
    before = target.classifier.bias.clone()
    with pytest.raises(UserError, match=r"odd\.pth \(TF-slim MobileNetV1 names\) does not fit the model: "):
        load_model(target, path)
    assert torch.equal(target.classifier.bias, before)


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
        UserError,
        match=r"it lacks backbone\.head\.conv\.weight, .* it holds MobileNetV2, width 1\.0, 21 classes \(backbone=v2",
    ):
        load_backbone(MobileNetV2(taps=("head",)), path)
