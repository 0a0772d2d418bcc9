import inspect
import re
from functools import partial

import pytest
import torch
from references import reference

from seg_det.models.classifier import Classifier
from seg_det.registry import BACKBONES
from seg_det.weights.catalogue import CATALOGUE, CONVENTIONS, Differences
from seg_det.weights.maps import NAMINGS

V2 = "MobileNetV2"
V3 = "MobileNetV3"
MIXNET = "MixNet"


# The table


@pytest.mark.parametrize("published", CATALOGUE.values(), ids=CATALOGUE)
def test_every_row_is_well_formed(published):
    address = published.sources[0].url
    assert address.startswith("https://") and published.filename.endswith((".pth", ".safetensors"))
    assert published.name.split("/")[0] in ("torchvision", "timm")
    assert published.licence in ("BSD-3-Clause", "Apache-2.0")
    assert published.mapping in NAMINGS
    assert re.search(r"\d\d\.\d+ %.* \((torchvision|timm), \w", published.figure) and published.trained_on
    if published.sha256 is None:
        assert address.startswith("https://huggingface.co/timm/")
    else:
        digits = re.search(r"-([0-9a-f]{8})\.pth$", address)[1]
        assert address.endswith(f"/{published.filename}") and published.sha256.startswith(digits)


def test_names_and_files_are_told_apart():
    assert all(name == published.name for name, published in CATALOGUE.items())
    assert len({published.filename for published in CATALOGUE.values()}) == len(CATALOGUE) == 27


@pytest.mark.parametrize("published", CATALOGUE.values(), ids=CATALOGUE)
def test_every_row_builds_its_backbone(published):
    build = as_builder(published)
    stated = {key for key in CONVENTIONS if key in inspect.signature(build.func).parameters} - {"dilation_rule"}
    assert {"width", *stated} <= set(published.backbone)
    assert build(taps=("c5",)).features[0].stride == 32


@pytest.mark.parametrize("published", CATALOGUE.values(), ids=CATALOGUE)
def test_what_the_pixels_were(published):
    own = {
        (123.675, 116.28, 103.53): (58.395, 57.12, 57.375),  # ImageNet's: 0.485, 0.456, 0.406; 0.229, 0.224, 0.225
        (127.5, 127.5, 127.5): (127.5, 127.5, 127.5),  # -1..1
    }
    assert published.std == own[published.mean]
    kind = (published.input_size, published.num_classes)
    assert kind in {(224, 1000), (320, 91), (520, 21)}
    assert (published.trained_on == "ImageNet-1k") == (kind == (224, 1000))


def test_the_table_agrees_with_torchvision():
    models = reference("torchvision.models")
    own = {name: published for name, published in CATALOGUE.items() if name.startswith("torchvision/")}
    assert len(own) == 8
    for published in own.values():
        entry = re.search(r"torchvision, (\w+)\)", published.figure)[1]
        weights = models.get_model_weights(network(published))[entry]
        assert published.sources[0].url == weights.url
        (metrics,) = weights.meta["_metrics"].values()
        figures = [float(number) for number in re.findall(r"(\d+\.\d+) %", published.figure)]
        assert figures == list(metrics.values())


def test_the_table_agrees_with_timm():
    pretrained = reference("timm.models").get_pretrained_cfg
    own = [published for name, published in CATALOGUE.items() if name.startswith("timm/")]
    assert len(own) == 19
    for published in own:
        model = re.search(r"timm, ([\w.]+)\)", published.figure)[1]
        facts = pretrained(model)
        assert published.name == f"timm/{model.split('.')[0]}"
        assert published.sources[0].url == (
            facts.url or f"https://huggingface.co/timm/{model}/resolve/main/model.safetensors"
        )
        assert published.mean == pytest.approx([255 * value for value in facts.mean])
        assert published.std == pytest.approx([255 * value for value in facts.std])
        assert published.licence.lower() == facts.license
        assert (published.num_classes, published.input_size) == (facts.num_classes, facts.input_size[-1])


TIMM = [published for name, published in CATALOGUE.items() if name.startswith("timm/")]


@pytest.mark.parametrize("published", TIMM, ids=lambda published: published.name)
def test_the_networks_are_those_of_timm(published):
    theirs = reference("timm").create_model(published.name.removeprefix("timm/"))
    ours = Classifier(as_builder(published), num_classes=1000)
    assert parameters(ours) == parameters(theirs)
    assert norms(ours) == norms(theirs) == {published.backbone["bn_eps"]}
    convolutions = {type(module).__name__ for module in theirs.modules()}
    assert ("Conv2dSame" in convolutions) == (published.backbone["padding"] == "same")


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name.startswith("torchvision/mobile")])
def test_the_networks_are_those_of_torchvision(name):
    published = CATALOGUE[name]
    theirs = reference("torchvision.models").get_model(network(published), weights=None)
    ours = Classifier(as_builder(published), num_classes=1000)
    assert parameters(ours) == parameters(theirs)
    assert norms(ours) == norms(theirs) == {published.backbone["bn_eps"]}


@pytest.mark.parametrize("name", ["ssdlite320", "lraspp", "deeplabv3"])
def test_the_backbones_are_those_of_torchvision(name):
    published = CATALOGUE[f"torchvision/{name}_mobilenet_v3_large"]
    get_model = reference("torchvision.models").get_model
    theirs = get_model(network(published), weights=None, weights_backbone=None).backbone
    trunk = theirs.features if hasattr(theirs, "features") else theirs
    ours = as_builder(published)(taps=("head",))
    assert parameters(ours) == parameters(trunk)
    assert norms(ours) == norms(trunk) == {published.backbone["bn_eps"]}


def network(published):
    """torchvision's name of the network, without the generation of the weights that ours ends in."""
    name = published.name.removeprefix("torchvision/")
    return name.removesuffix("_v2") if "IMAGENET1K_V2" in published.figure else name


def as_builder(published):
    settings = dict(published.backbone)
    return partial(BACKBONES.get(settings.pop("_target_")), **settings)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def norms(module):
    return {layer.eps for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)}


# What a row fits


def test_fits_tells_the_networks_apart():
    told = {name: dict(published.fits) for name, published in CATALOGUE.items()}
    assert told["torchvision/mobilenet_v2"] == {"backbone": "MobileNetV2", "width": 1.0}
    assert told["timm/mixnet_l"] == {"backbone": "MixNet", "variant": "l", "width": 1.0}
    assert told["timm/tf_mobilenetv3_small_minimal_100"] == {
        "backbone": "MobileNetV3", "variant": "small", "minimalistic": True, "width": 1.0,
    }  # fmt: skip


DEPARTURES = (
    ("torchvision/mobilenet_v2", {"_target_": V2}, [], [], []),
    ("torchvision/mobilenet_v2", {"_target_": V2, "width": 1, "kernels": [3], "weights": None}, [], [], []),
    ("torchvision/mobilenet_v2", {"_target_": V2, "bn_momentum": 0.5, "dilation_rule": "torchvision"}, [], [], []),
    ("torchvision/mobilenet_v2", {"_target_": V2, "width": 0.5}, ["width 1.0, not 0.5"], [], []),
    ("torchvision/mobilenet_v2", {"_target_": V2, "kernels": [3, 5]}, ["kernels [3], not [3, 5]"], [], []),
    ("torchvision/mobilenet_v2", {"_target_": V3, "width": 0.5}, ["backbone MobileNetV2, not MobileNetV3"], [], []),
    (
        "torchvision/mobilenet_v2",
        {"_target_": V2, "padding": "same", "bn_eps": 1e-3, "reduced_tail": "detection"},
        [],
        ["reduced_tail null, not detection"],
        ["padding symmetric, not same", "bn_eps 1e-05, not 0.001"],
    ),
    ("timm/mobilenetv2_050", {"_target_": V2, "width": 0.5}, [], ["scale_head false, not true"], []),
    (
        "torchvision/mobilenet_v3_large",
        {"_target_": V3, "variant": "small", "minimalistic": True},
        ["variant large, not small", "minimalistic false, not true"],
        [],
        [],
    ),
    ("torchvision/mobilenet_v3_large", {"_target_": V3, "width_rule": "torchvision"}, [], [], []),
    (
        "timm/tf_mobilenetv3_large_075",
        {"_target_": V3, "width": 0.75, "width_rule": "torchvision", "padding": "same"},
        ["width_rule tf, not torchvision"],
        [],
        [],
    ),
    (
        "torchvision/lraspp_mobilenet_v3_large",
        {"_target_": V3, "output_stride": 16},
        [],
        [],
        ["dilation_rule torchvision, not tf"],
    ),
    (
        "timm/tf_mixnet_s",
        {"_target_": MIXNET, "variant": "m"},
        ["variant s, not m"],
        [],
        ["padding same, not symmetric"],
    ),
)


@pytest.mark.parametrize(("name", "backbone", "shapes", "tail", "conventions"), DEPARTURES)
def test_differences_are_named_by_what_they_do(name, backbone, shapes, tail, conventions):
    assert CATALOGUE[name].differences(backbone) == Differences(shapes, tail, conventions)
