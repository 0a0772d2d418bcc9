from functools import partial

import pytest
import torch

from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.ssdlite import SSDLite, flatten_predictions
from seg_det.types import UserError


def test_rows_of_output_follow_the_anchors():
    x = torch.arange(2 * 6 * 2 * 3, dtype=torch.float32).view(2, 6, 2, 3)  # two anchors of three outputs on 2 x 3 cells
    rows = flatten_predictions(x, 3)
    assert rows.shape == (2, 12, 3)
    # image 1, row 1, column 2, anchor 1 is row (1 * 3 + 2) * 2 + 1
    assert rows[1, 11].tolist() == x[1, 3:6, 1, 2].tolist()


@pytest.mark.parametrize("size", [(320, 320), (300, 300), (224, 224), (97, 160)])
def test_an_anchor_for_each_row(size):
    model = SSDLite(partial(MobileNetV2, width=0.35), num_classes=3, width=0.35).eval()
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


def test_class_bias_starts_the_focal_loss():
    model = SSDLite(partial(MobileNetV2, width=0.35), num_classes=3, class_bias=-4.6)
    assert all(p.project.bias.tolist() == pytest.approx([-4.6] * len(p.project.bias)) for p in model.class_predictors)
    assert all(p.project.bias.abs().max() == 0 for p in model.box_predictors)


def test_anchor_shapes_for_another_number_of_maps():
    with pytest.raises(UserError, match=r"one list for each of 6 feature maps \(c4_expand, head and 4 extra\), got 1"):
        SSDLite(MobileNetV2, num_classes=3, anchor_shapes=[[(0.1, 1.0)]])


def test_model_is_export_clean():
    model = SSDLite(partial(MobileNetV2, width=0.35), num_classes=3, width=0.35).eval()
    images = torch.rand(1, 3, 96, 96)
    exported = torch.export.export(model, (images,)).module()
    for ours, theirs in zip(model(images), exported(images), strict=True):
        torch.testing.assert_close(ours, theirs)
