"""The figures of label maps by hand; that each image counts once, whichever process saw it; what is kept of it."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from seg_det.data.records import SegmentationRecord
from seg_det.errors import UserError
from seg_det.metrics.segmentation import LabelMaps, SegmentationMetric, count_pixels
from seg_det.types import IGNORE, Category

NAMES = ["sky", "road", "car", "tram"]
CATEGORIES = tuple(Category(10 * i, name) for i, name in enumerate(NAMES))
RECORDS = [SegmentationRecord(Path("photos") / f"{i}.jpg", None, i, (2, 4)) for i in (5, 9, 2)]


def maps(predicted, truth):
    return LabelMaps(torch.tensor(predicted, dtype=torch.uint8), torch.tensor(truth, dtype=torch.uint8))


FIRST = maps([[0, 0, 1, 1], [1, 1, 3, 0]], [[0, 0, 1, 1], [0, 1, 1, IGNORE]])
SECOND = maps([[0, 0, 0, 0], [1, 2, 2, 2]], [[0, 0, 0, 0], [1, 1, IGNORE, IGNORE]])
# True class by predicted class, the ignored pixels left out:
#   sky   2 + 4 | 1     |   |
#   road        | 3 + 1 | 1 | 1
CONFUSION = [[6, 1, 0, 0], [0, 4, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


def filled(**settings):
    metric = SegmentationMetric(RECORDS, CATEGORIES, **settings)
    metric.update(torch.tensor([5, 9]), [FIRST, SECOND])
    return metric


def test_figures_by_hand():
    report = filled().compute()
    assert report.confusion.tolist() == CONFUSION
    assert report.iou() == [pytest.approx(6 / 7), pytest.approx(4 / 7), 0.0, 0.0]
    assert report.headline() == {
        "mIoU": pytest.approx((6 / 7 + 4 / 7) / 2),
        "pixel_accuracy": pytest.approx(10 / 13),
        "mean_accuracy": pytest.approx((6 / 7 + 4 / 6) / 2),
        "mIoU_strict": pytest.approx((6 / 7 + 4 / 7) / 4),  # car and tram are predicted, though there are none
    }


def test_plain_values():
    report = filled().compute()
    plain = report.to_dict()
    assert plain == json.loads(json.dumps(plain, allow_nan=False))
    assert plain["images"] == 2
    assert plain["segmentation"] == {**report.headline(), "labelled_pixels": 13}
    assert plain["per_class"]["road"] == {
        "IoU": pytest.approx(4 / 7),
        "accuracy": pytest.approx(4 / 6),
        "pixels": 6,
        "predicted_pixels": 5,
    }
    assert plain["per_class"]["car"] == {"IoU": None, "accuracy": None, "pixels": 0, "predicted_pixels": 1}
    assert plain["absent"] == ["car", "tram"]
    assert plain["confusion"] == CONFUSION
    assert list(plain["per_class"]) == NAMES


def test_classes_of_one_name_have_a_figure_each():
    metric = SegmentationMetric(RECORDS, (*CATEGORIES[:3], Category(30, "sky")))
    metric.update(torch.tensor([5, 9]), [FIRST, SECOND])
    assert list(metric.compute().to_dict()["per_class"]) == ["sky (id 0)", "road", "car", "sky (id 30)"]


def test_the_figure_of_each_class_that_is_labelled():
    assert filled().compute().by_class() == {"sky": pytest.approx(6 / 7), "road": pytest.approx(4 / 7)}


def test_a_class_that_is_nowhere_is_in_no_mean():
    metric = SegmentationMetric(RECORDS, CATEGORIES)
    metric.update([5], [maps([[0, 0, 0, 1]], [[0, 0, 1, 1]])])
    report = metric.compute()
    assert report.iou() == [pytest.approx(2 / 3), pytest.approx(1 / 2), None, None]
    assert report.headline()["mIoU"] == report.headline()["mIoU_strict"] == pytest.approx(7 / 12)


def test_rows_of_the_predictions():
    rows = filled().results()
    assert rows == json.loads(json.dumps(rows, allow_nan=False))
    assert rows[0] == {
        "image_id": 5,
        "image": "photos/5.jpg",
        "pixel_accuracy": pytest.approx(5 / 7),
        "mIoU": pytest.approx((2 / 3 + 3 / 5) / 2),
    }
    assert [row["image_id"] for row in rows] == [5, 9]


def test_an_image_without_a_label_has_no_figures_and_changes_none():
    metric = filled()
    metric.update([2], [maps([[1, 2]], [[IGNORE, IGNORE]])])
    assert metric.results()[2] == {"image_id": 2, "image": "photos/2.jpg", "pixel_accuracy": None, "mIoU": None}
    assert metric.compute().confusion.tolist() == CONFUSION
    assert metric.compute().images == 3


def test_every_pixel_ignored():
    metric = SegmentationMetric(RECORDS, CATEGORIES)
    metric.update([5, 9], [maps([[1, 2]], [[IGNORE, IGNORE]])] * 2)
    with pytest.raises(
        UserError, match="every pixel of the 2 images is ignored .255 in the mask., so there is nothing"
    ):
        metric.compute()


def test_a_split_without_labels_can_be_predicted():
    saved = []
    metric = SegmentationMetric(RECORDS, CATEGORIES, save=lambda record, labels: saved.append(record.image_id))
    metric.update([5, 9], [maps([[1, 2]], [[IGNORE, IGNORE]])] * 2)
    report = metric.compute()
    assert saved == [5, 9] and set(report.headline().values()) == {None} and report.images == 2
    assert set(report.to_dict()["segmentation"].values()) == {None, 0}


def test_an_image_counts_once():
    metric = filled()
    metric.update([9, 5], [FIRST, SECOND])
    assert metric.compute().confusion.tolist() == CONFUSION


def test_processes_are_joined():
    parts = [SegmentationMetric(RECORDS, CATEGORIES, worst=1) for _ in range(2)]
    parts[0].update([5], [FIRST])
    parts[1].update([9, 5], [SECOND, FIRST])
    states = pickle.loads(pickle.dumps([part.state() for part in parts]))
    for part in parts:
        part.merge(states)
        assert part.compute().confusion.tolist() == CONFUSION
        assert list(part.samples) == [5]


def test_a_state_is_not_changed_by_a_reset():
    metric = filled()
    state = metric.state()
    metric.reset()
    assert metric.results() == []
    metric.merge([state])
    assert metric.compute().confusion.tolist() == CONFUSION


def test_the_label_maps_of_the_worst_and_the_best_are_kept():
    assert not filled().samples
    metric = filled(worst=1)
    # Image 5: (2/3 + 3/5) / 2, image 9: (4/4 + 1/2) / 2.
    assert list(metric.samples) == [5] and metric.miou(5) == pytest.approx(19 / 30) and metric.miou(9) == 0.75
    assert torch.equal(filled(best=1).samples[9].predicted, SECOND.predicted)
    both = filled(worst=1, best=1)
    both.update([2], [maps([[0, 0]], [[0, 1]])])  # (1/2 + 0) / 2
    assert both.ranked() == [2, 9] and both.counted(2) == (2, 1) and both.counted(5) == (7, 2)
    both.reset()
    assert not both.samples


def test_an_image_without_a_label_is_no_sample():
    metric = SegmentationMetric(RECORDS, CATEGORIES, worst=3)
    metric.update([2], [maps([[1, 2]], [[IGNORE, IGNORE]])])
    assert metric.ranked() == [] and metric.miou(2) is None


def test_the_extremes_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    records = [RECORDS[0]._replace(image_id=i) for i in range(30)]
    images = {i: maps(*rng.integers(0, 4, (2, 2, 4)).tolist()) for i in range(30)}
    every = SegmentationMetric(records, CATEGORIES, worst=30)
    every.update(images, images.values())
    for order in (range(30), rng.permutation(30).tolist()):
        metric = SegmentationMetric(records, CATEGORIES, worst=4, best=3)
        for i in order:
            metric.update([i], [images[i]])
        assert metric.ranked() == every.ranked()[:4] + every.ranked()[-3:]


def test_each_prediction_is_handed_over_once():
    seen = []
    metric = filled(save=lambda record, labels: seen.append((record.path.stem, labels.tolist())))
    metric.update([5], [SECOND])
    assert seen == [("5", FIRST.predicted.tolist()), ("9", SECOND.predicted.tolist())]


@pytest.mark.parametrize("classes", [1, 2, 19, 180, 181, 254])
def test_counting_equals_numpy(classes):
    rng = np.random.default_rng(classes)
    truth, predicted = rng.integers(0, classes, (2, 60, 70)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.2] = IGNORE
    counts = count_pixels(LabelMaps(torch.from_numpy(predicted), torch.from_numpy(truth)), classes)
    expected = np.zeros((classes, classes), np.int64)
    valid = truth != IGNORE
    np.add.at(expected, (truth[valid], predicted[valid]), 1)
    found = np.zeros(classes * classes, np.int64)
    found[counts.cells] = counts.pixels
    assert np.array_equal(found.reshape(classes, classes), expected)


def test_wrong_label_maps():
    metric = SegmentationMetric(RECORDS, CATEGORIES)
    with pytest.raises(ValueError, match=r"expected label maps of one size, got \[1, 2\] and \[2, 1\]"):
        metric.update([5], [maps([[0, 0]], [[0], [0]])])
    with pytest.raises(ValueError, match="expected predicted classes below 4, got 4"):
        metric.update([5], [maps([[0, 4]], [[0, 0]])])
    with pytest.raises(ValueError, match="expected true classes below 4 or 255, got others"):
        metric.update([5], [maps([[0, 0]], [[0, 4]])])
    with pytest.raises(UserError, match="there is no image with id 7 among the 3 that are evaluated"):
        metric.update([7], [FIRST])
    assert metric.results() == []
