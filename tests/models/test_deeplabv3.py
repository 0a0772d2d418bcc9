"""Mobile DeepLabv3: its branches, and the published weights on real photographs."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.deeplabv3 import DeepLabv3
from seg_det.weights.fit import fill
from seg_det.weights.maps import TF_DEEPLAB_V2

V2 = partial(MobileNetV2, width=0.35)
IGNORED = 255
CANVAS = 513


@pytest.mark.parametrize(("output_stride", "expected"), [(16, [6, 12, 18]), (8, [12, 24, 36]), (32, [3, 6, 9])])
def test_rates_follow_the_output_stride(output_stride, expected):
    model = DeepLabv3(V2, num_classes=3, rates=(6, 12, 18), output_stride=output_stride)
    assert [branch.conv.dilation for branch in model.aspp.branches[1:]] == [(rate, rate) for rate in expected]


def test_rates_that_vanish():
    with pytest.raises(UserError, match=r"rates must be at least 1 at output stride 32: \[1, 6\], .* become \[0, 3\]"):
        DeepLabv3(V2, num_classes=3, rates=(1, 6), output_stride=32)


def test_auxiliary_head_stands_on_its_own_tap():
    model = DeepLabv3(V2, num_classes=3, auxiliary_tap="c4", auxiliary_dropout=0.3).eval()
    assert [feature.name for feature in model.backbone.features] == ["c4", "deep"]
    assert model.auxiliary.dropout.p == 0.3 and model.dropout.p == 0.1
    images = torch.rand(1, 3, 64, 96)
    raw = model(images)
    nn.init.zeros_(model.auxiliary.classifier.weight)
    assert torch.equal(model(images).logits, raw.logits) and model(images).auxiliary.abs().max() == 0


def test_refinement_follows_the_dropout():
    model = DeepLabv3(V2, num_classes=3, channels=8, refine=True, dropout=1.0).train()
    seen = []
    model.refine.conv.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].abs().max().item()))
    model(torch.rand(2, 3, 64, 64))
    assert seen == [0.0]


@pytest.fixture(scope="module")
def published(real_data: Path) -> DeepLabv3:
    path = real_data / "weights" / "deeplabv3_mobilenet_v2_voc_tf_folded.pth"
    model = DeepLabv3(partial(MobileNetV2, padding="same"), num_classes=21)
    report = fill(model, torch.load(path, weights_only=True), TF_DEEPLAB_V2, path)
    assert not report.unused and not report.warnings
    return model.eval()


def segment(model: DeepLabv3, image: Image.Image) -> Tensor:
    """Classes of an image's pixels: its longer side scaled to 513, grey beside it, TensorFlow's aligned corners."""
    scale = CANVAS / max(image.size)
    width, height = (round(side * scale) for side in image.size)
    canvas = np.full((CANVAS, CANVAS, 3), 127.5, np.float32)
    canvas[:height, :width] = image.resize((width, height), Image.Resampling.BILINEAR)
    with torch.inference_mode():
        logits = model(torch.from_numpy(canvas / 127.5 - 1).permute(2, 0, 1)[None]).logits
    logits = F.interpolate(logits, size=(CANVAS, CANVAS), mode="bilinear", align_corners=True)[..., :height, :width]
    return F.interpolate(logits, size=image.size[::-1], mode="bilinear")[0].argmax(0)


@pytest.mark.parametrize(
    ("name", "classes", "accuracy"),
    [
        ("000000078499", {0, 13}, 0.985),  # horse
        ("000000456496", {0, 3, 15}, 0.977),  # bird, person
        ("000000204802", {0, 15, 20}, 0.962),  # person, monitor
    ],
)
def test_published_weights_on_photographs(real_data, published, name, classes, accuracy):
    """Over all 70 images these masks reach mIoU 65.49 and a pixel accuracy of 91.49 %, the figures that came with the weights."""
    folder = real_data / "data" / "voc_seg_from_coco"
    found = segment(published, Image.open(folder / "JPEGImages" / f"{name}.jpg").convert("RGB"))
    wanted = torch.from_numpy(np.array(Image.open(folder / "SegmentationClass" / f"{name}.png"))).long()
    seen = wanted != IGNORED
    assert set(found.unique().tolist()) == classes
    assert (found[seen] == wanted[seen]).double().mean().item() == pytest.approx(accuracy, abs=5e-4)
