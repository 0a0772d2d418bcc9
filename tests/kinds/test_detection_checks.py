"""What a detector says before it is trained and when it is evaluated: uncovered objects, numbers that are no numbers."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_det import checkpoint
from seg_det.data.records import DetectionRecord, DetectionSource
from seg_det.errors import UserError
from seg_det.facts import SizeFit
from seg_det.kinds import detection
from seg_det.kinds.classification import CLASSIFICATION
from seg_det.kinds.detection import DETECTION
from seg_det.losses import multibox_loss
from seg_det.types import Category, DenseDetections, DetectionBatch, Detections, ModelCard
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


def test_objects_below_a_pixel_are_told():
    small = source((0, 0, 3, 3), MATCHED, size=(200, 328 * 4))
    assert DETECTION.doubts(detector(), small, multibox_loss).startswith(
        "50 % of the objects of pets train are less than a pixel wide or high at 200 x 328 and are left out of the training: "
        "choose a larger data.size"
    )


def test_a_source_of_crowds_alone():
    with pytest.raises(UserError, match="all 1 objects of pets train are marked as crowds"):
        DETECTION.check(source(TINY, crowd=True))


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


def pictured(tmp_path, image_id, boxes, labels, size=(64, 96)):
    """A record with a grey image file."""
    path = tmp_path / f"{image_id}.png"
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    flags = np.zeros((2, len(boxes)), bool)
    return DetectionRecord(
        path, image_id, size, boxes, np.array(labels, np.int64), *flags, (boxes[:, 2:] - boxes[:, :2]).prod(1)
    )


def found(boxes, scores, labels):
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels).long()
    )


@pytest.fixture
def judged(tmp_path):
    """Image 3 is right; in image 4 one object is missed and one detection finds none; image 5 misses its only one."""
    left, right, other = (4, 4, 34, 34), (50, 10, 90, 60), (40, 2, 60, 12)
    records = (
        pictured(tmp_path, 3, [left, right], [0, 1]),
        pictured(tmp_path, 4, [left, right], [0, 1]),
        pictured(tmp_path, 5, [left], [0]),
    )
    source = DetectionSource("pets val", records, (Category(1, "cat"), Category(2, "dog")))
    metric = DETECTION.metric(source)
    metric.update([3], [found([left, right], [0.9, 0.8], [0, 1])])
    metric.update([4], [found([right, other], [0.85, 0.95], [1, 0])])
    metric.update([5], [found([other], [0.2], [1])])
    return source, metric


def test_the_worst_and_the_best_images_with_their_errors(judged, monkeypatch):
    drawn = []
    monkeypatch.setattr(detection, "draw_boxes", lambda image, *rest, wrong: drawn.append((*rest, wrong)) or image)
    source, metric = judged
    report = metric.compute()
    assert DETECTION.thresholds(report) == (pytest.approx(0.9), pytest.approx(0.8))
    details = DETECTION.details(metric, report, source)
    worst, best = details.galleries
    assert [(picture.title, picture.note) for picture in worst.pictures] == [
        ("4.png", "1 of 2 objects found, 1 false detection, F1 0.50"),
        ("5.png", "0 of 1 object found, no false detections, F1 0.00"),
    ]
    assert [(picture.title, picture.note) for picture in best.pictures] == [
        ("3.png", "2 of 2 objects found, no false detections, F1 1.00")
    ]
    assert "Most errors first" in worst.rule and "Fewest errors first" in best.rule
    truth, guess = drawn[:2]  # of image 4
    assert truth[1].tolist() == [0, 1] and truth[-1].tolist() == [True, False]
    assert guess[1].tolist() == [0, 1] and guess[-1].tolist() == [True, False]
    assert guess[0].tolist() == [[40, 2, 60, 12], [50, 10, 90, 60]]
    assert drawn[3][1].tolist() == []  # of image 5: 0.2 is below the dogs' threshold
    assert worst.pictures[0].image.shape[1] == 2 * 96 + 4


def test_the_confusions_by_threshold_are_those_of_the_metric(judged):
    source, metric = judged
    report = metric.compute()
    steps = {at.threshold: at for at in DETECTION.details(metric, report, source).thresholds}
    assert steps[0.8].confusion == report.errors.confusion
    assert steps[0.8].f1 == report.errors.operating_point.f1
    assert steps[0.99].confusion == {"cat": {"(missed)": 3}, "dog": {"(missed)": 2}}


def test_boxes_are_scaled_with_a_large_image(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(detection, "draw_boxes", lambda image, boxes, *rest, **_: drawn.append(boxes) or image)
    record = pictured(tmp_path, 3, [(400, 200, 800, 300)], [0], size=(420, 840))
    source = DetectionSource("pets val", (record,), CATEGORIES)
    metric = DETECTION.metric(source)
    metric.update([3], [found([(400, 200, 800, 300)], [0.9], [0])])
    (gallery,) = DETECTION.details(metric, metric.compute(), source).galleries
    assert gallery.title == "The worst image" and gallery.pictures[0].image.shape[1] == 2 * 420 + 5
    assert drawn[0].tolist() == drawn[1].tolist() == [[200, 100, 400, 150]]


def test_a_single_prediction_is_drawn_from_the_card_s_thresholds_on(judged, monkeypatch):
    drawn = []
    monkeypatch.setattr(detection, "draw_boxes", lambda image, boxes, labels, *rest: drawn.append(labels) or image)
    source, metric = judged
    card = ModelCard("detection", "x", MODEL, {}, source.categories, (64, 64), (0, 0, 0), (255, 255, 255))
    DETECTION.drawn(metric.detections[4], source.records[1], card.replace(score_thresholds=(0.97, None)))
    DETECTION.drawn(metric.detections[4], source.records[1], card)
    assert [labels.tolist() for labels in drawn] == [[1], [1, 0]]  # 0.3 where a class has none of its own


def test_how_well_the_anchors_match_is_what_the_warning_says():
    boxes = source(MATCHED, TINY, THIN)
    one = detector()
    fit = DETECTION.anchors(one.model, one.card, boxes, multibox_loss)
    assert (fit.split, fit.iou, sum(fit.histogram)) == ("pets train", 0.5, 3)
    assert [row.objects for row in fit.sizes.values()] == [3, 1, 1, 1]
    assert fit.sizes["all"].matched == pytest.approx(1 / 3) and fit.sizes["large"].matched == 1.0
    assert fit == DETECTION.anchors(one.model, one.card, boxes, None)
    high = DETECTION.anchors(one.model, one.card, boxes, partial(multibox_loss, match_threshold=0.99))
    assert high.sizes["all"].matched == 0.0
    assert DETECTION.anchors(one.model, one.card, boxes, lambda raw, batch, anchors: None) is None
    assert DETECTION.anchors(torch.nn.Identity(), one.card, boxes, None) is None
    assert CLASSIFICATION.anchors(one.model, one.card, boxes, None) is None


def test_anchors_of_a_split_without_objects():
    one = detector()
    fit = DETECTION.anchors(one.model, one.card, source(), None)
    assert sum(fit.histogram) == 0 and fit.sizes["all"] == SizeFit(objects=0, matched=None, mean_iou=None)
