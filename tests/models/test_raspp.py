"""R-ASPP beside DeepLabv3, whose mobile form it is."""

from functools import partial

import pytest
import torch

from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.models.deeplabv3 import DeepLabv3
from seg_det.models.raspp import RASPP


@pytest.mark.parametrize("backbone", [partial(MobileNetV2, width=0.35), partial(MobileNetV3, width=0.35)])
def test_deeplabv3_without_atrous_branches_is_raspp(backbone):
    ours, theirs = RASPP(backbone, num_classes=3).eval(), DeepLabv3(backbone, num_classes=3).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(1, 3, 65, 98)
    assert torch.equal(ours(images).logits, theirs(images).logits)


def test_dropout_lies_before_the_classifier():
    model = RASPP(partial(MobileNetV2, width=0.35), num_classes=3, dropout=1.0).train()
    assert model(torch.rand(2, 3, 64, 64)).logits.abs().max() == 0  # its biases start at 0


def test_all_branches_see_the_deep_map():
    model = RASPP(partial(MobileNetV3, reduced_tail="segmentation"), num_classes=3, channels=8)
    assert model.aspp.image_pooling.conv.in_channels == model.aspp.branches[0].conv.in_channels == 480
    assert model.aspp.project.conv.in_channels == 16
