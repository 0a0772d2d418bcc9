"""Pascal VOC AP: the protocol by hand, case by case, and the oracles of an independent evaluator."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from seg_det.data.records import DetectionRecord
from seg_det.errors import UserError
from seg_det.metrics.voc import evaluate_voc
from seg_det.types import Category, Detections

OBJECT = (Category(1, "object"),)
FAR = [500, 500, 510, 510]


def record(image_id, boxes, labels=None, difficult=None, crowd=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels, np.int64)
    none = np.zeros(len(boxes), bool)
    difficult = none if difficult is None else np.array(difficult, bool)
    crowd = none if crowd is None else np.array(crowd, bool)
    area = np.ones(len(boxes), np.float32)
    return DetectionRecord(Path(f"{image_id}.jpg"), image_id, (600, 600), boxes, labels, crowd, difficult, area)


def found(boxes, scores, labels=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.tensor(labels)
    return Detections(boxes, torch.tensor(scores, dtype=torch.float32), labels)


def ap(records, detections, **options):
    return evaluate_voc(records, detections, OBJECT, **options).mean_ap


def test_inclusive_pixels_are_the_half_open_box():
    # Inclusive 1..10 and 1..5: VOC says (5 x 10) / (10 x 10) = 0.5; without its + 1 it would be 4 / 9.
    records = [record(1, [[0, 0, 10, 10]])]
    assert ap(records, {1: found([[0, 0, 5, 10]], [0.9])}, iou_threshold=0.5) == 1.0
    assert ap(records, {1: found([[0, 0, 5, 10]], [0.9])}, iou_threshold=0.501) == 0.0


# True, false, true for three objects: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.
CURVE_RECORDS = [record(1, [[0, 0, 10, 10], [20, 0, 30, 10]]), record(2, [[0, 0, 10, 10]])]
CURVE_DETECTIONS = {1: found([[0, 0, 10, 10], FAR], [0.9, 0.8]), 2: found([[0, 0, 10, 10]], [0.7])}


def test_every_point_is_the_area_under_the_interpolated_curve():
    assert ap(CURVE_RECORDS, CURVE_DETECTIONS) == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)


def test_11_points_are_the_mean_at_the_tenths():
    # recalls 0, 0.1, 0.2, 0.3: precision 1; 0.4, 0.5, 0.6: 2/3; the other four are never reached
    assert ap(CURVE_RECORDS, CURVE_DETECTIONS, use_11_points=True) == pytest.approx((4 + 3 * 2 / 3) / 11)


def test_the_tenths_are_the_floating_ones_of_the_published_evaluators():
    records = [record(1, [[20 * n, 0, 20 * n + 10, 10] for n in range(10)])]
    three = found([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0.9, 0.8, 0.7])
    # recall 3 / 10 stays below the fourth point, 0.30000000000000004: three points of eleven, not four
    assert ap(records, {1: three}, use_11_points=True) == pytest.approx(3 / 11)


def test_precision_is_interpolated_from_the_right():
    records = [record(1, [[0, 0, 10, 10], [20, 0, 30, 10]])]
    detections = {1: found([FAR, [0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.8, 0.7])}  # precision 0, 1/2, 2/3
    assert ap(records, detections) == pytest.approx(2 / 3)
    assert ap(records, detections, use_11_points=True) == pytest.approx(2 / 3)


def test_a_second_find_is_false():
    records = [record(1, [[0, 0, 10, 10], [20, 0, 30, 10]])]
    twice = found([[0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.8, 0.7])
    # the better scored find counts, though the other lies closer: precision 1, 1/2, 2/3
    assert ap(records, {1: twice}) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_detection_does_not_turn_to_its_second_best_object():
    records = [record(1, [[0, 0, 10, 10], [0, 0, 10, 14]])]
    both_best_on_first = found([[0, 0, 10, 10], [0, 0, 10, 11]], [0.9, 0.8])  # the second has IoU 11/14 with the other
    assert ap(records, {1: both_best_on_first}) == pytest.approx(0.5)


def test_objects_of_another_class_or_image_do_not_match():
    categories = (Category(3, "cat"), Category(9, "dog"), Category(11, "cow"))
    records = [record(1, [[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1]), record(2, [])]
    detections = {
        1: found([[20, 20, 30, 30], [0, 0, 10, 10]], [0.9, 0.8], [0, 0]),
        2: found([[20, 20, 30, 30]], [0.7], [1]),
    }
    scores = evaluate_voc(records, detections, categories)
    assert scores.per_class == {"cat": pytest.approx(0.5), "dog": 0.0, "cow": None}
    assert scores.mean_ap == pytest.approx(0.25)  # of the two classes that have objects


DIFFICULT = [record(1, [[0, 0, 10, 10], [20, 0, 30, 10]], difficult=[True, False])]
ON_DIFFICULT = {1: found([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], [0.9, 0.8, 0.7])}


def test_difficult_objects_count_neither_way():
    assert ap(DIFFICULT, ON_DIFFICULT) == 1.0  # both detections on the difficult object are left out
    assert ap(DIFFICULT, {1: found([[20, 0, 30, 10]], [0.7])}) == 1.0  # and it need not be found


def test_difficult_objects_can_be_counted():
    assert ap(DIFFICULT, ON_DIFFICULT, count_difficult=True) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert ap(DIFFICULT, {1: found([[20, 0, 30, 10]], [0.7])}, count_difficult=True) == pytest.approx(0.5)


def test_a_class_with_only_difficult_objects_is_absent():
    records = [record(1, [[0, 0, 10, 10]], difficult=[True])]
    assert ap(records, {1: found([FAR], [0.9])}) is None


def test_crowds_stay_ignored_when_difficult_objects_are_counted():
    records = [record(1, [[0, 0, 10, 10], [20, 0, 30, 10]], crowd=[True, False])]
    assert ap(records, ON_DIFFICULT, count_difficult=True) == 1.0


def test_equal_scores_keep_the_order_of_the_records():
    good, bad = found([[0, 0, 10, 10]], [0.5]), found([FAR], [0.5])
    records = [record(1, [[0, 0, 10, 10]]), record(2, [])]
    assert ap(records, {2: bad, 1: good}) == 1.0
    assert ap(records[::-1], {2: bad, 1: good}) == pytest.approx(0.5)


def test_nothing_found_and_nothing_to_find():
    assert ap([record(1, [[0, 0, 10, 10]])], {}) == 0.0
    assert ap([record(1, [[0, 0, 10, 10]])], {1: found([], [])}) == 0.0
    assert ap([record(1, [[0, 0, 10, 10]])], {}, use_11_points=True) == 0.0
    assert ap([], {}) is None


def test_boxes_without_area_are_no_find():
    records = [record(1, [[5, 5, 5, 5], [0, 0, 10, 10]])]
    assert ap(records, {1: found([[5, 5, 5, 5], [0, 0, 10, 10]], [0.9, 0.8])}) == pytest.approx(0.25)


def test_mistakes_name_the_image():
    with pytest.raises(UserError, match="no image with id 8, but there are detections for it"):
        ap([record(1, [])], {8: found([], [])})
    with pytest.raises(UserError, match="not finite numbers in image id 1"):
        ap([record(1, [])], {1: found([FAR], [float("nan")])})


def by_the_book(records, detections, iou_threshold):
    """True or false for each detection that counts, one after the other as the protocol tells it."""
    taken, verdicts = set(), []
    ranked = [(-s, n, i) for n, r in enumerate(records) for i, s in enumerate(detections[r.image_id].scores.tolist())]
    for _, n, i in sorted(ranked):
        a = detections[records[n].image_id].boxes[i].tolist()
        best, best_iou = None, 0.0
        for g, b in enumerate(records[n].boxes.tolist()):
            w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            shared = max(w, 0) * max(h, 0)
            iou = shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
            if iou > best_iou:
                best, best_iou = g, iou
        if best_iou < iou_threshold:
            verdicts.append(False)
        elif not records[n].difficult[best]:
            verdicts.append((n, best) not in taken)
            taken.add((n, best))
    return np.array(verdicts)


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5])
def test_equal_to_the_protocol_step_by_step(iou_threshold):
    rng = np.random.default_rng(5)

    def boxes(n):
        low = rng.integers(0, 12, (n, 2))
        return np.concatenate([low, low + rng.integers(4, 12, (n, 2))], axis=1)

    records = [record(n, boxes(5), difficult=rng.random(5) < 0.3) for n in range(12)]
    detections = {n: found(boxes(9), rng.integers(1, 9, 9) / 10) for n in range(12)}  # with equal scores and IoUs
    true = by_the_book(records, detections, iou_threshold)
    recall = np.cumsum(true) / sum((~r.difficult).sum() for r in records)
    precision = np.cumsum(true) / np.arange(1, len(true) + 1)
    at_tenths = [precision[recall >= t].max(initial=0) for t in np.linspace(0, 1, 11)]
    measured = ap(records, detections, iou_threshold=iou_threshold, use_11_points=True)
    assert 0.02 < measured == pytest.approx(np.mean(at_tenths))
    steps = [(r - q) * precision[recall >= r].max() for q, r in zip([0, *recall], recall, strict=False)]
    assert ap(records, detections, iou_threshold=iou_threshold) == pytest.approx(sum(steps))


def inclusive(x, y, w, h):
    """Both evaluators' corners x..x+w are inclusive, so the half-open box ends one further."""
    return [x, y, x + w + 1, y + h + 1]


@pytest.mark.parametrize(("kind", "use_11_points"), [("11point", True), ("every_point", False)])
@pytest.mark.parametrize("iou_threshold", ["0.1", "0.3", "0.5", "0.75"])
def test_equal_to_the_text_oracle(real_data, kind, use_11_points, iou_threshold):
    folder = real_data / "data" / "voc_eval_oracle"
    expected = json.loads((folder / "expected.json").read_text())[kind][iou_threshold]
    records, detections = [], {}
    for n, path in enumerate(sorted((folder / "gts").glob("*.txt"))):
        objects = [line.split() for line in path.read_text().splitlines()]
        rows = [line.split() for line in (folder / "dets" / path.name).read_text().splitlines()]
        records.append(record(n, [inclusive(*map(float, o[1:])) for o in objects]))
        detections[n] = found([inclusive(*map(float, r[2:])) for r in rows], [float(r[1]) for r in rows])
    measured = ap(records, detections, iou_threshold=float(iou_threshold), use_11_points=use_11_points)
    assert measured == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def devkit(real_data):
    root = real_data / "data" / "VOCdevkit"
    names = (root / "labels.txt").read_text().split()
    images = (root / "VOC2012" / "ImageSets" / "Main" / "trainval.txt").read_text().split()
    records, detections = [], {}
    for n, image in enumerate(images):
        objects = list(ElementTree.parse(root / "VOC2012" / "Annotations" / f"{image}.xml").iter("object"))
        corners = [[float(o.find(f"bndbox/{k}").text) for k in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
        labels = [names.index(o.find("name").text) for o in objects]
        difficult = [o.findtext("difficult") == "1" for o in objects]
        records.append(record(n, half_open(corners), labels, difficult))
        path = root / "detections_xyx2y2" / f"{image}.txt"
        rows = np.loadtxt(path, ndmin=2).reshape(-1, 6) if path.exists() and path.read_text() else np.empty((0, 6))
        detections[n] = found(half_open(rows[:, 2:]), rows[:, 1].tolist(), rows[:, 0].astype(int).tolist())
    categories = tuple(Category(n, name) for n, name in enumerate(names))
    return records, detections, categories, json.loads((root / "expected_detection_scores.json").read_text())


def half_open(corners):
    return (np.array(corners, float).reshape(-1, 4) - [1, 1, 0, 0]).tolist()


@pytest.mark.parametrize(("kind", "use_11_points"), [("eleven", True), ("every", False)])
@pytest.mark.parametrize("iou_threshold", [0.5, 0.75])
def test_equal_to_the_devkit_oracle(devkit, kind, use_11_points, iou_threshold):
    records, detections, categories, expected = devkit
    expected = expected[f"iou_{iou_threshold}"][kind]
    options = {"iou_threshold": iou_threshold, "use_11_points": use_11_points, "count_difficult": True}
    scores = evaluate_voc(records, detections, categories, **options)
    assert scores.mean_ap == pytest.approx(expected["mAP"], abs=1e-9)
    assert scores.per_class == pytest.approx(expected["per_class"], abs=1e-9)


def test_difficult_objects_change_the_devkit_figure(devkit):
    records, detections, categories, _ = devkit
    assert sum(r.difficult.sum() for r in records) == 18
    counted, ignored = (
        evaluate_voc(records, detections, categories, count_difficult=flag).mean_ap for flag in (True, False)
    )
    assert ignored > counted + 0.01
