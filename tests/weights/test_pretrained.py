"""Published weights on real images: only equal numerics recognise as many of them as the networks did where they come from."""

from functools import partial
from typing import NamedTuple

import pytest
import torch

from seg_det.data.imagefolder import read_imagefolder
from seg_det.data.loaders import evaluation_loader
from seg_det.data.plain_transforms import centre_crop
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.classifier import Classifier
from seg_det.weights import load_model

SAME = "set backbone.padding=same"


class Normalisation(NamedTuple):
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


TENSORFLOW = Normalisation((127.5,) * 3, (127.5,) * 3)
IMAGENET = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


# The counts of 707 images are those of an implementation that shares no code with this one; the third is what the wrong
# padding costs.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "file", "size", "normalisation", "hits", "warned"),
    [
        (MobileNetV2, "mobilenet_v2_torchvision", 224, IMAGENET, 576, False),
        (partial(MobileNetV1, padding="same"), "mobilenet_v1_1.0_224_tfslim_folded", 224, TENSORFLOW, 611, False),
        (MobileNetV1, "mobilenet_v1_1.0_224_tfslim_folded", 224, TENSORFLOW, 552, True),
        (
            partial(MobileNetV1, padding="same", width=0.25),
            "mobilenet_v1_0.25_128_tfslim_folded",
            128,
            TENSORFLOW,
            317,
            False,
        ),
    ],
    ids=["v2", "v1", "v1-symmetric", "v1-0.25-128"],
)
def test_top_1(real_data, backbone, file, size, normalisation, hits, warned):
    source = read_imagefolder(
        root=real_data / "data" / "imagenet_samples",
        split="val",
        split_list="labels.tsv",
        images="images",
        num_classes=1000,
    )
    model = Classifier(backbone, num_classes=1000).eval()
    report = load_model(model, real_data / "weights" / f"{file}.pth")
    assert report.unused == () and any(SAME in warning for warning in report.warnings) == warned
    mean, std = (torch.tensor(values)[:, None, None] for values in normalisation)
    correct = 0
    with torch.inference_mode():
        for batch in evaluation_loader(source, centre_crop((size, size)), batch_size=32, num_workers=0):
            logits = model((batch.images - mean) / std)
            correct += (logits.argmax(1) == batch.labels).sum().item()
    assert len(source.records) == 707 and abs(correct - hits) <= 2
