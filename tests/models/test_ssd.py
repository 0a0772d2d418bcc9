from functools import partial

import pytest
import torch

from seg_det.errors import UserError
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.ssd import SSD, flatten_predictions, merge_outputs
from seg_det.nn.convolutions import SameConv2d

SMALL = partial(MobileNetV2, width=0.35)


def test_rows_of_output_follow_the_anchors():
    x = torch.arange(2 * 6 * 2 * 3, dtype=torch.float32).view(2, 6, 2, 3)  # two anchors of three outputs on 2 x 3 cells
    rows = flatten_predictions(x, 3)
    assert rows.shape == (2, 12, 3)
    # image 1, row 1, column 2, anchor 1 is row (1 * 3 + 2) * 2 + 1
    assert rows[1, 11].tolist() == x[1, 3:6, 1, 2].tolist()


def test_merged_outputs_keep_the_scores_of_the_chosen():
    """exp: 1, 2, 4, 8 of 15; classes 3 and 1 keep 8 and 2, and the background gets 1 + 4."""
    logits = torch.tensor([[1.0, 2, 4, 8]]).log()
    merged = merge_outputs(logits, torch.tensor([3, 1]), torch.tensor([0, 2]))
    assert merged.exp().tolist() == [pytest.approx([5, 8, 2])]
    assert merged.softmax(-1).tolist() == [pytest.approx([5 / 15, 8 / 15, 2 / 15])]


def test_a_detector_of_some_of_its_classes():
    whole = SSD(SMALL, num_classes=4, width=0.35).eval()
    some = SSD(SMALL, num_classes=2, width=0.35, outputs=5, class_outputs=[4, 2]).eval()
    some.load_state_dict(whole.state_dict())
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        scores, all_scores = some(images).logits.softmax(-1), whole(images).logits.softmax(-1)
    assert scores.shape[-1] == 3
    torch.testing.assert_close(scores[..., 1:], all_scores[..., [4, 2]])


@pytest.mark.parametrize("wrong", [[1], [1, 5], [0, 1]])
def test_class_outputs_are_those_of_the_classes(wrong):
    with pytest.raises(UserError, match=r"class_outputs must name 2 of the outputs 1 to 4, got \["):
        SSD(SMALL, num_classes=2, outputs=5, class_outputs=wrong)


@pytest.mark.parametrize("size", [(320, 320), (97, 160)])
def test_an_anchor_for_each_row(size):
    model = SSD(SMALL, num_classes=3, width=0.35).eval()
    with torch.inference_mode():
        raw = model(torch.rand(2, 3, *size))
    anchors = len(model.anchors(size))
    assert raw.logits.shape == (2, anchors, 4) and raw.deltas.shape == (2, anchors, 4)


def test_layers_of_the_full_head():
    """Table 5's SSD: 3x3 convolutions over all channels; every 3x3 of the head but the extra maps' keeps its stride."""
    model = SSD(MobileNetV2, num_classes=80)
    predictor = model.class_predictors[1].project
    assert (predictor.in_channels, predictor.out_channels, predictor.kernel_size) == (1280, 6 * 81, (3, 3))
    shrink = model.extras[0].shrink.conv
    assert (shrink.in_channels, shrink.out_channels, shrink.stride, shrink.groups) == (256, 512, (2, 2), 1)


def test_width_of_the_extra_maps_is_not_rounded():
    model = SSD(SMALL, num_classes=3, width=0.1)
    assert [extra.shrink.conv.out_channels for extra in model.extras] == [51, 25, 25, 16]


def test_padding_of_the_extra_maps():
    kinds = {
        padding: {type(extra.shrink.conv) for extra in SSD(SMALL, num_classes=3, padding=padding).extras}
        for padding in ("symmetric", "same")
    }
    assert kinds == {"symmetric": {torch.nn.Conv2d}, "same": {SameConv2d}}


def test_class_bias_starts_the_focal_loss():
    model = SSD(SMALL, num_classes=3, class_bias=-4.6)
    assert all(p.project.bias.tolist() == pytest.approx([-4.6] * len(p.project.bias)) for p in model.class_predictors)
    assert all(p.project.bias.abs().max() == 0 for p in model.box_predictors)


def test_anchor_shapes_for_another_number_of_maps():
    with pytest.raises(UserError, match=r"one list for each of 6 feature maps \(c4_expand, head and 4 extra\), got 1"):
        SSD(MobileNetV2, num_classes=3, anchor_shapes=[[(0.1, 1.0)]])


@pytest.mark.parametrize(
    "wrong",
    [[[(-0.1, 1.0)]] * 6, [[(0.1, 0)]] * 6, [[0.1]] * 6, [[]] * 6, [[(0.1, 1.0, 2.0)]] * 6, [["ab"]] * 6, "ab", 3],
)
def test_anchor_shapes_that_are_none(wrong):
    with pytest.raises(
        UserError, match=r"anchor_shapes must hold a list of \[scale, width / height\] pairs of positive"
    ):
        SSD(MobileNetV2, num_classes=3, anchor_shapes=wrong)


def test_settings_of_the_extra_maps_that_cannot_be():
    with pytest.raises(UserError, match=r"task\.model\.padding must be one of symmetric, same, got valid"):
        SSD(MobileNetV2, num_classes=3, padding="valid")
    with pytest.raises(UserError, match=r"task\.model\.width must be positive, got 0"):
        SSD(MobileNetV2, num_classes=3, width=0)


def test_scales_for_another_number_of_maps():
    with pytest.raises(
        UserError, match=r"scales must hold one number for each of 6 feature maps and one beyond, got 2"
    ):
        SSD(MobileNetV2, num_classes=3, scales=[0.1, 0.2])


def test_an_unknown_anchor_rule():
    with pytest.raises(UserError, match="anchor_rule must be one of tensorflow, torchvision, mmdet, got 'keras'"):
        SSD(MobileNetV2, num_classes=3, anchor_rule="keras")


@pytest.mark.parametrize("chosen", [{}, {"outputs": 9, "class_outputs": [7, 1, 2]}])
def test_model_is_export_clean(chosen):
    model = SSD(SMALL, num_classes=3, width=0.35, **chosen).eval()
    images = torch.rand(1, 3, 96, 96)
    exported = torch.export.export(model, (images,)).module()
    for ours, theirs in zip(model(images), exported(images), strict=True):
        torch.testing.assert_close(ours, theirs)
