"""The collector of an evaluation: once each image, nothing but plain values out."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from seg_det.data.records import DetectionRecord
from seg_det.metrics.detection import DetectionMetric
from seg_det.types import Category, Detections, UserError

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
    assert set(plain["per_class"]["toothbrush"].values()) == {None}
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
    assert kept.boxes.untyped_storage().nbytes() == 16
    assert (kept.scores.dtype, kept.labels.dtype) == (torch.float32, torch.int64)


def test_a_stranger_is_named():
    metric = DetectionMetric(RECORDS, CATEGORIES)
    metric.update([8], [FIRST])
    with pytest.raises(UserError, match="no image with id 8"):
        metric.compute()


def test_as_many_images_as_detections():
    with pytest.raises(ValueError, match="shorter"):
        DetectionMetric(RECORDS, CATEGORIES).update([7, 9], [FIRST])
