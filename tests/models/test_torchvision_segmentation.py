"""torchvision's segmentation networks on MobileNetV3, with their weights copied into ours."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from references import reference
from torch import Tensor, nn

from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.models.deeplabv3 import DeepLabv3
from seg_det.models.lraspp import LRASPP
from seg_det.weights.fit import fill
from seg_det.weights.maps import detect

CLASSES = 7
V3 = partial(MobileNetV3, dilation_rule="torchvision")
# DeepLab's branches are numbered: 0 the 1x1, 1 to 3 the atrous ones, 4 image pooling, whose member 0 has no weights.


def lraspp() -> tuple[nn.Module, nn.Module]:
    theirs = reference("torchvision.models.segmentation").lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES
    )
    form = {"taps": ("c3_first", "deep"), "pool": None, "gate_bias": False, "align_corners": False}
    return LRASPP(V3, num_classes=CLASSES, **form), theirs


def deeplabv3(auxiliary: bool = True) -> tuple[nn.Module, nn.Module]:
    theirs = reference("torchvision.models.segmentation").deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=auxiliary
    )
    form = {"rates": (12, 24, 36), "refine": True, "dropout": 0.5, "pooling_last": True}
    tap = "c3_first" if auxiliary else None
    return DeepLabv3(V3, num_classes=CLASSES, auxiliary_tap=tap, **form), theirs


def copied(pair: tuple[nn.Module, nn.Module]) -> tuple[nn.Module, nn.Module]:
    """Both with the same random weights, without dropout; the statistics are those of noise, so that maps keep their contrast."""
    ours, theirs = pair
    torch.manual_seed(0)
    norms = [layer for layer in theirs.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
    with torch.no_grad():
        theirs.train()(torch.rand(4, 3, 97, 161))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for layer in (*ours.modules(), *theirs.modules()):
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    report = fill(ours, theirs.state_dict(), detect(theirs.state_dict()), Path("torchvision"))
    assert all(key.endswith("num_batches_tracked") for key in report.unused)
    return ours, theirs


def outputs(ours: nn.Module, theirs: nn.Module, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pairs of logits at the size of the images, which torchvision upsamples to by itself."""
    raw, wanted = ours(images), theirs(images)
    given = [x for x in raw if x is not None]
    upsampled = [F.interpolate(x, size=images.shape[2:], mode="bilinear", align_corners=False) for x in given]
    return list(zip(upsampled, wanted.values(), strict=True))


models = pytest.mark.parametrize(
    "build", [lraspp, deeplabv3, partial(deeplabv3, auxiliary=False)], ids=["lraspp", "deeplabv3", "no_auxiliary"]
)


@models
@pytest.mark.parametrize("size", [(97, 161), (128, 66)])
def test_logits_in_evaluation(build, size):
    ours, theirs = copied(build())
    images = torch.rand(1, 3, *size)
    with torch.inference_mode():
        for found, wanted in outputs(ours.eval(), theirs.eval(), images):
            assert wanted.std() > 0.1
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@models
def test_logits_statistics_and_gradients_in_training(build):
    ours, theirs = copied(build())
    pairs = outputs(ours.train(), theirs.train(), torch.rand(2, 3, 65, 98))
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    target = torch.randint(CLASSES, (2, 65, 98))
    for side in zip(*pairs, strict=True):
        sum(F.cross_entropy(logits, target) for logits in side).backward()
    names = {name: key for name, (key,) in detect(theirs.state_dict()).rename(theirs.state_dict()).items()}
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        wanted = expected[names[name]].grad
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-5, rtol=1e-3)
    buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, buffers[names[name]], atol=1e-4, rtol=1e-4)
