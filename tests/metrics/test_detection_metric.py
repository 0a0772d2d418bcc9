"""The collector of an evaluation: once each image, nothing but plain values out."""

import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from seg_det.data.records import DetectionRecord
from seg_det.errors import UserError
from seg_det.metrics.detection import DetectionMetric
from seg_det.types import Category, Detections

CATEGORIES = (Category(18, "dog"), Category(90, "toothbrush"))


def record(image_id, boxes, difficult=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    flags = np.zeros((2, len(boxes)), bool)
    flags[1] = False if difficult is None else difficult
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return DetectionRecord(
        Path(f"{image_id}.jpg"), image_id, (480, 640), boxes, np.zeros(len(boxes), np.int64), *flags, area
    )


def found(boxes, scores):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(boxes, torch.tensor(scores), torch.zeros(len(boxes), dtype=torch.int64))


RECORDS = [record(7, [[0, 0, 100, 100], [200, 200, 300, 300]], difficult=[False, True]), record(9, [])]
FIRST = found([[0, 0, 100, 100]], [0.9])


def test_report_of_one_find_of_two_objects():
    metric = DetectionMetric(RECORDS, CATEGORIES)
    metric.update(torch.tensor([7, 9]), [FIRST, found([], [])])
    report = metric.compute()
    assert (report.images, report.detections) == (2, 1)
    # COCO counts the difficult object: recall 0.5 is 51 of the 101 points; VOC does not.
    assert report.coco.stats["AP"] == pytest.approx(51 / 101)
    assert report.voc_all_point.mean_ap == 1.0
    plain = report.to_dict()
    assert plain == json.loads(json.dumps(plain, allow_nan=False))
    assert plain["voc"] == {"AP50_all_point": 1.0, "AP50_11_point": 1.0, "difficult_counted": False}
    assert plain["per_class"]["dog"]["AP50"] == pytest.approx(51 / 101)
    assert plain["per_class"]["dog"]["VOC_AP50_11_point"] == 1.0
    point = {"best_threshold": pytest.approx(0.9), "F1": pytest.approx(2 / 3), "precision": 1.0, "recall": 0.5}
    assert plain["operating_point"] == point
    assert {name: plain["per_class"]["dog"][name] for name in point} == point
    assert set(plain["per_class"]["toothbrush"].values()) == {None}
    assert plain["error_counts"]["missed"] == 1
    assert plain["AP50_lost"]["missed"] == plain["AP50_lost_large"]["missed"] == pytest.approx(50 / 101)
    assert plain["confusion"] == {"dog": {"dog": 1, "(missed)": 1}}
    assert plain["confused"] == {}
    headline = report.headline()
    assert headline["AP"] == pytest.approx(51 / 101)
    assert headline["VOC_AP50_all_point"] == 1.0
    assert "APs" not in headline and "APl" in headline  # no small object: no figure


def test_difficult_objects_count_when_asked():
    metric = DetectionMetric(RECORDS, CATEGORIES, count_difficult=True)
    metric.update([7], [FIRST])
    report = metric.compute()
    assert report.voc_all_point.mean_ap == pytest.approx(0.5)
    assert report.voc_11_point.mean_ap == pytest.approx(6 / 11)
    assert report.to_dict()["voc"]["difficult_counted"] is True


def test_pycocotools_gives_the_same_report():
    rng = np.random.default_rng(0)
    records = [record(n, corners(rng, 6)) for n in rng.permutation(20)]
    fast, reference = (DetectionMetric(records, CATEGORIES, evaluator=name) for name in ("fast", "pycocotools"))
    for one in records:
        boxes = np.concatenate([one.boxes + rng.normal(0, 4, one.boxes.shape), corners(rng, 3)])
        detections = [found(boxes, rng.integers(1, 9, len(boxes)) / 10)]
        fast.update([one.image_id], detections)
        reference.update([one.image_id], detections)
    assert fast.compute() == reference.compute()
    assert 0.05 < fast.compute().coco.stats["AP"] < 0.95


def corners(rng, count):
    low = rng.random((count, 2)) * 300
    return np.concatenate([low, low + 20 + rng.random((count, 2)) * 100], axis=1)


def test_an_unknown_evaluator_is_named_at_once():
    with pytest.raises(UserError, match="evaluator=slow is unknown; choose one of fast, pycocotools"):
        DetectionMetric(RECORDS, CATEGORIES, evaluator="slow")


def test_an_image_seen_twice_counts_once():
    metric = DetectionMetric(RECORDS, CATEGORIES)
    metric.update([7, 9], [FIRST, found([], [])])
    metric.update([9, 7], [found([], []), FIRST])
    assert len(metric.results()) == 1


def test_processes_are_joined_by_their_states():
    one, other = DetectionMetric(RECORDS, CATEGORIES), DetectionMetric(RECORDS, CATEGORIES)
    one.update([9], [found([], [])])
    other.update([7, 9], [FIRST, found([], [])])
    states = pickle.loads(pickle.dumps([one.state(), other.state()]))
    one.merge(states)
    assert one.results() == other.results() != []


def test_results_and_reset():
    metric = DetectionMetric(RECORDS, CATEGORIES)
    metric.update([7], [found([[1, 2, 4, 8]], [0.5])])
    assert metric.results() == [{"image_id": 7, "category_id": 18, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}]
    metric.reset()
    assert metric.results() == []
    assert metric.compute().coco.stats["AP"] == 0.0


def test_the_batch_that_detections_are_views_of_is_let_go():
    padded = torch.rand(1000, 4)
    metric = DetectionMetric(RECORDS, CATEGORIES)
    metric.update([7], [Detections(padded[:1], torch.ones(1, dtype=torch.float16), torch.zeros(1, dtype=torch.int32))])
    kept = metric.detections[7]
    assert kept.boxes.untyped_storage().nbytes() == 24  # with score and label
    assert (kept.scores.dtype, kept.labels.dtype) == (torch.float32, torch.int64)


def test_memory_of_an_image_with_a_hundred_detections():
    """24 bytes a detection and at most a KiB an image: 3.3 KiB, where 27 were before."""
    metric = DetectionMetric(RECORDS, CATEGORIES)
    found = Detections(torch.rand(100, 4), torch.rand(100), torch.arange(100) % 2)
    metric.update([0], [found])  # what is loaded with the first
    tracemalloc.start()
    try:
        metric.update(range(1, 101), [found] * 100)
        grown, _ = tracemalloc.get_traced_memory()
        held = sum(metric.detections[i].boxes.untyped_storage().nbytes() for i in range(1, 101))  # torch's own memory
    finally:
        tracemalloc.stop()
    assert held == 100 * 2400 and grown < 100 * 1024
    kept = metric.detections[50]
    assert torch.equal(kept.boxes, found.boxes) and torch.equal(kept.labels, found.labels)


def test_a_stranger_is_named():
    metric = DetectionMetric(RECORDS, CATEGORIES)
    metric.update([8], [FIRST])
    with pytest.raises(UserError, match="no image with id 8"):
        metric.compute()


@pytest.mark.parametrize("evaluator", ["fast", "pycocotools"])
def test_scores_that_are_no_numbers_name_their_images(evaluator):
    metric = DetectionMetric(RECORDS, CATEGORIES, evaluator=evaluator)
    metric.update([7, 9], [FIRST, found([[0, 0, 1, 1]] * 2, [0.5, float("nan")])])
    with pytest.raises(UserError, match="scores or boxes of the detections are not finite numbers in image id 9; look"):
        metric.compute()


def test_more_classes_than_categories_name_the_image():
    metric = DetectionMetric(RECORDS, CATEGORIES)
    metric.update([9], [FIRST._replace(labels=torch.tensor([2]))])
    with pytest.raises(UserError, match="image id 9 has label 2, but there are 2 categories; evaluate the model with"):
        metric.compute()


def test_as_many_images_as_detections():
    with pytest.raises(ValueError, match="shorter"):
        DetectionMetric(RECORDS, CATEGORIES).update([7, 9], [FIRST])
