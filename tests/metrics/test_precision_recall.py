"""Precision over recall: by hand, and pycocotools' own arrays."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_detection_metric import CATEGORIES, FIRST, RECORDS, corners, found, record

from seg_det.metrics.coco import ground_truth
from seg_det.metrics.detection import DetectionMetric


def test_one_find_of_two_objects_by_hand():
    metric = DetectionMetric(RECORDS, CATEGORIES)
    metric.update([7], [FIRST])
    curves = metric.compute().coco.precision_recall
    half = [1.0] * 51 + [0.0] * 50  # the recalls 0 to 0.50 are reached
    assert list(curves.overall) == ["IoU 0.50", "IoU 0.75", "IoU 0.50:0.95"]
    assert list(curves.per_class) == ["dog"]  # there is no toothbrush
    for line in (*curves.overall.values(), *curves.per_class["dog"].values()):
        assert line == pytest.approx(half)
    plain = metric.compute().to_dict()["precision_recall"]
    assert plain == json.loads(json.dumps(plain, allow_nan=False))
    assert plain["recall"][:3] == [0.0, 0.01, 0.02] and plain["recall"][-1] == 1.0 and len(plain["recall"]) == 101
    assert plain["overall"]["IoU 0.50"] == plain["per_class"]["dog"]["IoU 0.50:0.95"] == half


def test_without_objects_there_is_no_curve():
    metric = DetectionMetric([record(9, [])], CATEGORIES)
    assert metric.compute().to_dict()["precision_recall"]["overall"] == {}


def test_pycocotools_has_the_same_arrays():
    rng = np.random.default_rng(1)
    records = [record(n, corners(rng, 6))._replace(labels=rng.integers(0, 2, 6)) for n in range(12)]
    metric = DetectionMetric(records, CATEGORIES)
    for one in records:
        boxes = np.concatenate([one.boxes + rng.normal(0, 5, one.boxes.shape), corners(rng, 3)])
        guesses = found(boxes, rng.random(len(boxes)).tolist())
        metric.update([one.image_id], [guesses._replace(labels=guesses.labels + (guesses.scores > 0.6).long())])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth(records, CATEGORIES)
        truth.createIndex()
        reference = COCOeval(truth, truth.loadRes(metric.results()), "bbox")
        reference.evaluate()
        reference.accumulate()
    precision = reference.eval["precision"][:, :, :, 0, -1]  # [T, R, K]
    curves = metric.compute().coco.precision_recall
    for k, category in enumerate(CATEGORIES):
        lines = curves.per_class[category.name]
        assert lines["IoU 0.50"] == pytest.approx(precision[0, :, k].tolist(), abs=1e-12)
        assert lines["IoU 0.50:0.95"] == pytest.approx(precision[:, :, k].mean(0).tolist(), abs=1e-12)
    assert curves.overall["IoU 0.75"] == pytest.approx(precision[5].mean(1).tolist(), abs=1e-12)
    mean = np.mean(curves.overall["IoU 0.50:0.95"])
    assert mean == pytest.approx(metric.compute().coco.stats["AP"]) and 0.05 < mean < 0.95
