"""Our networks against independent implementations: random weights are copied through a file and the naming's table."""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import pytest
import torch
from references import reference
from torch import nn

from seg_det.models.backbones.mixnet import MixNet
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.models.classifier import Classifier
from seg_det.models.ssdlite import SSDLite
from seg_det.weights import load_backbone, load_model
from seg_det.weights.fit import arrange
from seg_det.weights.maps import detect

CLASSES = 10
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order: with random weights logits reach a hundred, of which float32 has seven digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SIZES = ((64, 64), (97, 131))


class Case(NamedTuple):
    library: str
    name: str
    settings: dict
    backbone: Callable
    output_stride: int = 32

    def reference(self) -> nn.Module:
        """The other implementation in training mode; its dropout is off."""
        if self.library == "torchvision":
            model = getattr(reference("torchvision.models"), self.name)(num_classes=CLASSES, **self.settings)
        else:
            reference("torchvision")  # timm imports it
            model = reference("timm").create_model(self.name, num_classes=CLASSES, **self.settings)
        for layer in model.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        return randomise(model)

    def ours(self, path, dropout=0.0) -> Classifier:
        model = Classifier(self.backbone, num_classes=CLASSES, dropout=dropout, output_stride=self.output_stride)
        report = load_model(model, path)
        assert report.unused == () and report.kept == () and report.warnings == ()
        return model


def tv(name, backbone, output_stride=32, **settings):
    return Case("torchvision", name, settings, backbone, output_stride)


def timm(name, backbone, **settings):
    return Case("timm", name, {}, partial(backbone, bn_momentum=0.1, **settings))


def v3(**settings):
    return partial(MobileNetV3, **settings)


PYTORCH, TENSORFLOW = {"bn_eps": 1e-5}, {"bn_eps": 1e-3, "padding": "same"}
CASES = (
    tv("mobilenet_v2", MobileNetV2),
    tv("mobilenet_v2", partial(MobileNetV2, width=0.5, scale_head=False), width_mult=0.5),
    tv("mobilenet_v2", partial(MobileNetV2, width=1.4), width_mult=1.4),
    tv("mobilenet_v3_large", v3()),
    tv("mobilenet_v3_small", v3(variant="small")),
    tv("mobilenet_v3_large", v3(width=0.5, width_rule="torchvision"), width_mult=0.5),
    tv("mobilenet_v3_small", v3(variant="small", width=0.5, width_rule="torchvision"), width_mult=0.5),
    tv("mobilenet_v3_large", v3(reduced_tail="detection"), reduced_tail=True),
    tv("mobilenet_v3_small", v3(variant="small", reduced_tail="detection"), reduced_tail=True),
    tv("mobilenet_v3_large", v3(dilation_rule="torchvision"), 16, dilated=True),
    tv("mobilenet_v3_small", v3(variant="small", dilation_rule="torchvision"), 16, dilated=True),
    timm("mobilenetv1_100", MobileNetV1, **PYTORCH),
    timm("mobilenetv2_100", MobileNetV2, **PYTORCH),
    timm("mobilenetv2_050", MobileNetV2, width=0.5, scale_head=False, **PYTORCH),
    timm("mobilenetv3_large_100", MobileNetV3, **PYTORCH),
    timm("mobilenetv3_small_075", MobileNetV3, variant="small", width=0.75, **PYTORCH),
    timm("tf_mobilenetv3_large_075", MobileNetV3, width=0.75, **TENSORFLOW),
    timm("tf_mobilenetv3_small_100", MobileNetV3, variant="small", **TENSORFLOW),
    timm("tf_mobilenetv3_large_minimal_100", MobileNetV3, minimalistic=True, **TENSORFLOW),
    timm("tf_mobilenetv3_small_minimal_100", MobileNetV3, variant="small", minimalistic=True, **TENSORFLOW),
    timm("mixnet_s", MixNet, **PYTORCH),
    timm("mixnet_m", MixNet, variant="m", **PYTORCH),
    timm("mixnet_l", MixNet, variant="l", **PYTORCH),
    timm("tf_mixnet_s", MixNet, **TENSORFLOW),
)
IDS = [
    f"{case.library}-{case.name}{''.join(f'-{key}-{value}' for key, value in case.settings.items())}" for case in CASES
]


def randomise(model: nn.Module) -> nn.Module:
    """Norms that do something, statistics that are no start values, and logits of about 1."""
    torch.manual_seed(3)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.6, 1.4),
                (layer.bias, -0.3, 0.3),
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.5, 1.5),
            ):
                nn.init.uniform_(tensor, low, high)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.1)
    return model


def saved(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "reference.pth")
    return tmp_path / "reference.pth"


def images(count, size):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(5))


def apart(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_logits(case, tmp_path):
    theirs = case.reference().eval()
    ours = case.ours(saved(theirs, tmp_path)).eval()
    for size in SIZES:
        with torch.inference_mode():
            wanted, got = theirs(images(1, size)), ours(images(1, size))
        assert wanted.std() > 0.05 and apart(got, wanted) < TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_training_step(case, tmp_path):
    """Logits on batch statistics, the gradients of cross entropy, and all tensors after a step of SGD."""
    theirs = case.reference()
    ours = case.ours(saved(theirs, tmp_path))
    labels = torch.tensor([1, 7, 3])
    logits = []
    for model in (theirs.train(), ours.train()):
        logits.append(model(images(3, SIZES[1])))
        nn.functional.cross_entropy(logits[-1], labels).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert apart(*logits) < TOLERANCE
    naming = detect(theirs.state_dict())
    gradients = arrange({name: parameter.grad for name, parameter in theirs.named_parameters()}, naming)
    # Relative to the largest of each tensor, of the median tensor where that is larger: a norm behind a shift makes
    # the shift's gradient zero but for rounding.
    largest = {name: gradient.abs().max().item() for name, gradient in gradients.items()}
    common = median(largest.values())
    for name, parameter in ours.named_parameters():
        wanted = gradients[name].reshape(parameter.shape)
        assert apart(parameter.grad, wanted) < TOLERANCE * max(largest[name], common), name
    stepped = arrange(theirs.state_dict(), naming)
    for name, tensor in ours.state_dict().items():
        assert apart(tensor, stepped[name].reshape(tensor.shape)) < TOLERANCE, name


@pytest.mark.parametrize(
    "case", [CASES[0], CASES[3], CASES[11], CASES[14]], ids=lambda case: f"{case.library}-{case.name}"
)
def test_dropout_lies_before_the_classifier(case, tmp_path):
    theirs = case.reference()
    ours = case.ours(saved(theirs, tmp_path), dropout=0.3).train()
    for layer in theirs.train().modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.3
    if case.library == "timm":
        theirs.drop_rate = 0.3
    logits = []
    for model in (theirs, ours):
        torch.manual_seed(0)
        logits.append(model(images(2, SIZES[0])))
    assert apart(*logits) < TOLERANCE
    assert apart(ours.train()(images(2, SIZES[0])), logits[1]) > 0.1  # another mask


def test_dropout_rates_are_torchvisions():
    library = reference("torchvision.models")
    for name in ("mobilenet_v2", "mobilenet_v3_large"):
        rates = [layer.p for layer in getattr(library, name)().modules() if isinstance(layer, nn.Dropout)]
        assert rates == [Classifier(MobileNetV2, num_classes=2).dropout.p]


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize(
    ("name", "backbone", "taps"),
    [
        ("mobilenetv1_100", partial(MobileNetV1, **PYTORCH), ("c1", "c2", "c3", "c4", "c5")),
        ("mobilenetv2_100", partial(MobileNetV2, **PYTORCH), ("c1", "c2", "c3", "c4", "c5")),
        ("mobilenetv3_large_100", partial(MobileNetV3, **PYTORCH), ("c1", "c2", "c3", "c4", "head")),
        ("tf_mobilenetv3_small_100", partial(MobileNetV3, variant="small", **TENSORFLOW), ("c2", "c3", "c4", "head")),
        ("mixnet_s", partial(MixNet, **PYTORCH), ("c1", "c2", "c3", "c4", "c5")),
        ("tf_mixnet_m", partial(MixNet, variant="m", **TENSORFLOW), ("c1", "c2", "c3", "c4", "c5")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_dilated_features_of_timm(name, backbone, taps, output_stride, tmp_path):
    reference("torchvision")
    library = reference("timm")
    theirs = randomise(library.create_model(name, features_only=True, output_stride=output_stride)).eval()
    ours = backbone(taps=taps, output_stride=output_stride).eval()
    report = load_backbone(ours, str(saved(theirs, tmp_path)))
    assert report.naming == "timm EfficientNet-style" and report.unused == ()
    with torch.inference_mode():
        wanted, got = theirs(images(1, SIZES[1])), ours(images(1, SIZES[1]))
    for tap, feature in zip(taps, wanted[-len(taps) :], strict=True):  # V3-Small's first is its stem
        assert feature.std() > 0.1 and apart(got[tap], feature) < TOLERANCE * feature.abs().max(), tap


def test_ssdlite320(tmp_path):
    library = reference("torchvision.models.detection")
    theirs = randomise(library.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)).eval()
    backbone = partial(MobileNetV3, reduced_tail="detection")
    ours = SSDLite(backbone, num_classes=4, reduce_first_map=False).eval()
    report = load_model(ours, saved(theirs, tmp_path))
    assert report.naming == "torchvision SSDLite320 MobileNetV3" and report.unused == () and report.warnings == ()
    for size in ((320, 320), (97, 131)):
        with torch.inference_mode():
            wanted = theirs.head(list(theirs.backbone(images(1, size)).values()))
            got = ours(images(1, size))
        assert apart(got.logits, wanted["cls_logits"]) < TOLERANCE
        assert apart(got.deltas, wanted["bbox_regression"]) < TOLERANCE


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_backbone_of_torchvisions_segmenters(name, tmp_path):
    library = reference("torchvision.models.segmentation")
    theirs = randomise(getattr(library, name)(weights=None, weights_backbone=None, num_classes=5)).eval()
    ours = MobileNetV3(taps=("head",), output_stride=16, dilation_rule="torchvision").eval()
    report = load_backbone(ours, str(saved(theirs, tmp_path)))
    assert report.naming.endswith("MobileNetV3") and report.warnings == ()
    assert all(key.startswith(("classifier.", "aux_classifier.")) for key in report.unused)
    with torch.inference_mode():
        wanted = list(theirs.backbone(images(1, SIZES[1])).values())[-1]
        assert apart(ours(images(1, SIZES[1]))["head"], wanted) < TOLERANCE
