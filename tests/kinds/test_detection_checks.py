"""What a detector says before it is trained and when it is evaluated: uncovered objects, numbers that are no numbers."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from seg_det import checkpoint
from seg_det.data.records import DetectionRecord, DetectionSource
from seg_det.errors import UserError
from seg_det.kinds.detection import DETECTION
from seg_det.losses import multibox_loss
from seg_det.types import Category, DenseDetections, DetectionBatch, ModelCard
from seg_det.weights import load_model

BACKBONE = {"_target_": "MobileNetV2", "width": 0.35}
MODEL = {"_target_": "SSDLite", "num_classes": 1, "backbone": BACKBONE}
CATEGORIES = (Category(1, "cat"),)


def detector(size=(200, 328), **settings):
    model = {**MODEL, **settings}
    card = ModelCard("detection", "x", model, {}, CATEGORIES, size, (0, 0, 0), (255, 255, 255))
    return DETECTION.task.predictor(checkpoint.build_model(model), card).eval()


def source(*boxes, size=(200, 328), crowd=False):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    flags = np.zeros((2, len(boxes)), bool)
    flags[0] = crowd
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    record = DetectionRecord(Path("none.jpg"), 7, size, boxes, np.zeros(len(boxes), np.int64), *flags, area)
    return DetectionSource("pets train", (record,), CATEGORIES)


MATCHED = (69, 0, 259, 190)  # nearly the square of 190 around (164, 100), an anchor
TINY, THIN = (20, 20, 25, 25), (0, 90, 328, 98)


def test_objects_without_an_anchor_are_told_with_their_sizes():
    sentence = DETECTION.doubts(detector(), source(MATCHED, TINY, THIN), multibox_loss)
    assert sentence == (
        "67 % of the 3 objects of pets train match no anchor by an IoU of 0.5 at 200 x 328 (100 % of the small ones, 100 % of "
        "the medium ones, 0 % of the large ones) and will be learned badly: python -m seg_det.anchors with the arguments of "
        "this command fits the anchors to them; a larger data.size or a finer tap in task.model.taps helps small ones."
    )


def test_a_small_share_is_no_reason_to_warn():
    assert DETECTION.doubts(detector(), source(*[MATCHED] * 3, TINY), multibox_loss) is None
    assert "40 % of the 5 objects" in DETECTION.doubts(detector(), source(*[MATCHED] * 3, TINY, THIN), multibox_loss)


def test_boxes_are_judged_at_the_input_s_size_and_the_loss_s_threshold():
    assert (
        DETECTION.doubts(detector(), source([34, 0, 130, 95], size=(100, 164)), multibox_loss) is None
    )  # twice as large there
    near = source((69, 0, 259, 110))  # IoU 0.55 or so with the square
    assert DETECTION.doubts(detector(), near, partial(multibox_loss, match_threshold=0.5)) is None
    assert "IoU of 0.9" in DETECTION.doubts(detector(), near, partial(multibox_loss, match_threshold=0.9))


def test_fitted_anchors_need_no_warning():
    x, y = 1.5 * 328 / 21, 1.5 * 200 / 13  # the centre of the second cell of the second row
    boxes = source((x - 2.5, y - 2.5, x + 2.5, y + 2.5), MATCHED)
    assert "50 % of the 2 objects" in DETECTION.doubts(detector(), boxes, multibox_loss)
    shapes = [[(0.025, 1.0)], *([(0.5, 1.0)] for _ in range(4)), [(0.95, 1.0)]]
    assert DETECTION.doubts(detector(anchor_shapes=shapes), boxes, multibox_loss) is None


def test_crowds_and_other_tasks_have_nothing_to_say():
    assert DETECTION.doubts(detector(), source(TINY, crowd=True), multibox_loss) is None


def test_limits_of_the_decoder_are_looked_at_before_training():
    model = checkpoint.build_model(MODEL)
    reading = {"score": "softmax", "max_detections": 0}
    card = ModelCard("detection", "x", MODEL, reading, CATEGORIES, (64, 64), (0, 0, 0), (255, 255, 255))
    with pytest.raises(UserError, match=r"postprocess\.max_detections must be a whole number from 1, got 0"):
        DETECTION.task.predictor(model, card)


def batch(count):
    nothing = torch.zeros(count, 0, dtype=torch.bool)
    ids, sizes = torch.arange(7, 7 + count), torch.full((count, 2), 64)
    images = torch.zeros(count, 3, 64, 64, dtype=torch.uint8)
    return DetectionBatch(images, torch.zeros(count, 0, 4), nothing.long(), nothing, nothing, ids, sizes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["logits", "deltas"])
def test_raw_output_that_is_not_finite_names_its_images(value, field):
    """NaN scores would vanish among those below the threshold, and the model look like one that finds nothing."""
    predictor = detector((64, 64))
    anchors = len(predictor.anchors)
    raw = DenseDetections(torch.zeros(3, anchors, 2), torch.zeros(3, anchors, 4))
    assert len(predictor.decode(raw, (64, 64), [(64, 64)] * 3)) == 3
    getattr(raw, field)[1, -1, 0] = value
    with pytest.raises(UserError, match="the model's output for the image 1 is not finite .NaN or infinity."):
        predictor.decode(raw, (64, 64), [(64, 64)] * 3)


def test_weights_of_more_classes_than_the_head_has(tmp_path):
    other = checkpoint.build_model({**MODEL, "num_classes": 3})
    torch.save(other.state_dict(), tmp_path / "three.pth")
    with pytest.raises(
        UserError,
        match=r"three\.pth finds 3 classes and the data has 1: weights= takes a detector of the same classes; backb",
    ):
        load_model(checkpoint.build_model(MODEL), tmp_path / "three.pth", ["cat"])
    assert load_model(
        checkpoint.build_model({**MODEL, "num_classes": 3}), tmp_path / "three.pth", ["a", "b", "c"]
    ).loaded


def test_an_image_that_is_not_in_the_annotations_is_named():
    metric = DETECTION.metric(source(MATCHED))
    predictor = detector((64, 64))
    raw = DenseDetections(torch.zeros(2, len(predictor.anchors), 2), torch.zeros(2, len(predictor.anchors), 4))
    metric.update(batch(2).image_ids, predictor.decode(raw, (64, 64), [(64, 64)] * 2))
    with pytest.raises(UserError, match="the ground truth has no image with id 8, but there are detections for it"):
        metric.compute()
