from functools import partial

import pytest
import torch

from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.ssdlite import SSDLite


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("size", [(320, 320), (300, 300), (224, 224), (97, 160)])
def test_an_anchor_for_each_row(size, padding):
    model = SSDLite(partial(MobileNetV2, width=0.35), num_classes=3, width=0.35, padding=padding).eval()
    with torch.inference_mode():
        raw = model(torch.rand(2, 3, *size))
    anchors = len(model.anchors(size))
    assert raw.logits.shape == (2, anchors, 4) and raw.deltas.shape == (2, anchors, 4)


def test_same_raw_output_form_in_training_and_evaluation():
    model = SSDLite(partial(MobileNetV2, width=0.35), num_classes=3)
    shapes = [tuple(x.shape for x in model.train(mode)(torch.rand(2, 3, 96, 96))) for mode in (True, False)]
    assert shapes[0] == shapes[1]


def test_a_finer_tap():
    model = SSDLite(partial(MobileNetV2, width=0.35), num_classes=3, taps=("c3_expand", "c4_expand", "head"))
    assert model.map_sizes((320, 320)) == [(40, 40), (20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def test_every_3x3_of_the_head_is_depthwise():
    model = SSDLite(partial(MobileNetV2, width=0.35), num_classes=3)
    for part in (model.extras, model.class_predictors, model.box_predictors):
        wide = [layer for layer in part.modules() if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3)]
        assert wide and all(layer.groups == layer.in_channels for layer in wide)


def test_model_is_export_clean():
    model = SSDLite(partial(MobileNetV2, width=0.35), num_classes=3, width=0.35).eval()
    images = torch.rand(1, 3, 96, 96)
    exported = torch.export.export(model, (images,)).module()
    for ours, theirs in zip(model(images), exported(images), strict=True):
        torch.testing.assert_close(ours, theirs)
