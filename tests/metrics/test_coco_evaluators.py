"""The two COCO evaluators side by side: equal figures whatever the data, the published oracle, bounded memory."""

import json
import tracemalloc

import numpy as np
import pytest

from seg_det.errors import UserError
from seg_det.metrics import matching
from seg_det.metrics.arrays import Found, Objects
from seg_det.metrics.coco import EVALUATORS, evaluate_coco
from seg_det.metrics.matching import match, overlapping, rank_within
from seg_det.metrics.precision import coco_curves


def random_case(seed):
    """A small data set with what makes evaluators differ: ties of scores and IoUs, crowds, sizes on the bounds, gaps."""
    rng = np.random.default_rng(seed)
    images, classes, objects = rng.integers(1, 6), rng.integers(1, 4), rng.integers(0, 25)
    found = rng.choice([0, 5, 40, 150, 400], p=[0.05, 0.2, 0.45, 0.2, 0.1])
    side, on_a_grid = rng.choice([8.0, 40.0, 150.0, 400.0]), rng.random() < 0.6

    def boxes(n):
        raw = np.concatenate([rng.random((n, 2)) * side * 2, rng.random((n, 2)) * side], axis=1)
        return np.round(raw / side * 4) * side / 4 if on_a_grid else raw

    truth, guesses = boxes(objects), boxes(found)
    if objects and found:
        near = rng.random(found) < 0.6
        shift = np.round(rng.normal(0, 0.5, (found, 4))) / 16 if on_a_grid else rng.normal(0, 0.08, (found, 4))
        guesses[near] = (truth[rng.integers(0, objects, found)] + shift * side)[near]
        guesses[:, 2:] = guesses[:, 2:].clip(0)
    scores = rng.random(found)
    if rng.random() < 0.7:
        scores = np.round(scores * 5) / 5
    area = truth[:, 2] * truth[:, 3]
    if rng.random() < 0.3:
        area = rng.choice([0, 1023, 1024, 1025, 9215, 9216, 9217, 30000], objects)
    crowd = rng.random(objects) < rng.choice([0, 0.2, 0.6])
    image_ids, category_ids = rng.permutation(50)[:images], rng.permutation(50)[:classes]
    used = rng.integers(1, classes + 1)  # of the classes: the others have no object
    annotations = [
        {
            "id": n,
            "image_id": int(rng.choice(image_ids)),
            "category_id": int(rng.choice(category_ids[:used])),
            "bbox": truth[n].tolist(),
            "area": float(area[n]),
            "iscrowd": int(crowd[n]),
        }
        for n in range(objects)
    ]
    rows = [
        {
            "image_id": int(rng.choice(image_ids)),
            "category_id": int(rng.choice(category_ids)),
            "bbox": guesses[n].tolist(),
            "score": float(scores[n]),
        }
        for n in range(found)
    ]
    return {
        "images": [{"id": int(i)} for i in image_ids],
        "categories": [{"id": int(i), "name": f"class {i}"} for i in category_ids],
        "annotations": annotations,
    }, rows


def assert_equal(dataset, rows):
    fast, reference = (evaluate_coco(dataset, rows, evaluator=evaluator) for evaluator in EVALUATORS)
    assert fast == reference  # to the last bit
    return fast


@pytest.mark.parametrize("block", range(10))
def test_equal_on_random_data(block):
    figures = [assert_equal(*random_case(seed)).stats["AP"] for seed in range(30 * block, 30 * block + 30)]
    assert any(value is not None and 0 < value < 1 for value in figures)  # the cases say something


@pytest.mark.parametrize("kind", ["gt", "dt"])
def test_equal_on_the_published_data(real_data, kind):
    folder = real_data / "data" / "coco_eval_oracle"
    files = json.loads((folder / "expected.json").read_text())["bbox"]
    dataset, rows = (json.loads((folder / files[key]).read_text()) for key in ("gt", "dt"))
    if kind == "gt":  # the objects as their own detections
        rows = [
            {**{key: a[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.5}
            for a in dataset["annotations"]
        ]
    assert assert_equal(dataset, rows).stats["AP"] > 0.5


def one_class(objects, found):
    """COCO data with one image, of (box, crowd) and (box, score)."""
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
        for n, (box, crowd) in enumerate(objects)
    ]
    rows = [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in found]
    return {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}], "annotations": annotations}, rows


BOX, FAR = [0, 0, 100, 100], [500, 500, 100, 100]


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_only_the_hundred_best_detections_of_a_class_in_an_image_count(evaluator):
    case = one_class([(BOX, 0)], [(FAR, 0.9)] * 100 + [(BOX, 0.5)])
    assert evaluate_coco(*case, evaluator=evaluator).stats["AR100"] == 0.0
    case = one_class([(BOX, 0)], [(FAR, 0.9)] * 99 + [(BOX, 0.5)])
    stats = evaluate_coco(*case, evaluator=evaluator).stats
    assert (stats["AR10"], stats["AR100"], stats["AP"]) == (0.0, 1.0, pytest.approx(0.01))


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_objects_that_count_come_before_the_crowd(evaluator):
    # The detection lies wholly in the crowd, but the object, with IoU 0.64, is taken first.
    case = one_class([([0, 0, 200, 200], 1), (BOX, 0)], [([0, 0, 80, 80], 0.9), ([10, 10, 20, 20], 0.8)])
    stats = evaluate_coco(*case, evaluator=evaluator).stats
    assert (stats["AP50"], stats["AP75"]) == (pytest.approx(1.0), 0.0)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_of_equal_overlaps_the_later_object_is_taken(evaluator):
    # Both objects fit the first detection equally; only the first object is left to be found by the second.
    objects = [([0, 0, 60, 100], 0), ([40, 0, 60, 100], 0)]
    case = one_class(objects, [([0, 0, 100, 100], 0.9), ([0, 0, 60, 100], 0.8)])
    assert evaluate_coco(*case, evaluator=evaluator).stats["AP50"] == pytest.approx(1.0)
    case = one_class(objects, [([0, 0, 100, 100], 0.9), ([40, 0, 60, 100], 0.8)])
    assert evaluate_coco(*case, evaluator=evaluator).stats["AP50"] == pytest.approx(51 / 101)


def test_objects_of_images_or_classes_that_are_not_listed_are_left_out():
    dataset, rows = one_class([(BOX, 0), (FAR, 0), (FAR, 0)], [(BOX, 0.9)])
    dataset["annotations"][1]["image_id"] = 2
    dataset["annotations"][2]["category_id"] = 2
    assert assert_equal(dataset, rows).stats["AP"] == pytest.approx(1.0)


def test_an_unknown_evaluator_is_named():
    with pytest.raises(UserError, match="evaluator=slow is unknown; choose one of fast, pycocotools"):
        evaluate_coco(*one_class([(BOX, 0)], []), evaluator="slow")


def crowded(images=20, each=30):
    """Images full of small boxes, no two alike."""
    rng = np.random.default_rng(0)
    image, label = np.repeat(np.arange(images), each), np.zeros(images * each, np.int64)
    boxes = np.concatenate([rng.random((len(image), 2)) * 60, 10 + rng.random((len(image), 2)) * 30], axis=1)
    objects = Objects(image, label, boxes, boxes[:, 2] * boxes[:, 3], np.zeros(len(image), bool))
    return objects, Found(image, label, boxes + rng.normal(0, 2, boxes.shape), rng.random(len(image)))


def test_blocks_of_pairs_change_nothing(monkeypatch):
    objects, found = crowded()
    whole = coco_curves(objects, found, 1)
    for most in (1, 7, 1000):
        monkeypatch.setattr(matching, "MOST_PAIRS", most)
        parts = coco_curves(objects, found, 1)
        assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))
    assert 0 < whole.precision.mean() < 1


def test_memory_is_bounded_by_the_blocks(monkeypatch):
    objects, found = crowded(images=4, each=500)  # a million pairs, of which few overlap
    monkeypatch.setattr(matching, "MOST_PAIRS", 20_000)
    tracemalloc.start()
    pairs = overlapping(objects, found, 0.95)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs.iou) < 5000
    assert peak < 8e6  # all pairs at once take 8 MB a column


def test_pairs_are_in_order_and_of_one_image_and_class():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 10], [0, 0, 10, 10.0]])
    image, label = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])
    objects = Objects(image, label, boxes, np.full(4, 100.0), np.zeros(4, bool))
    found = Found(np.array([0]), np.array([0]), boxes[:1], np.array([0.5]))
    pairs = overlapping(objects, found, 0.5)
    assert (pairs.detection.tolist(), pairs.object.tolist(), pairs.iou.tolist()) == ([0, 0], [1, 0], [0.8, 1.0])
    assert overlapping(objects, found, 0.5, across_classes=True).object.tolist() == [1, 0, 2]


def test_a_matched_object_is_not_free_for_the_next_detection_of_its_group():
    pairs = matching.Pairs(np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([0.9, 0.6, 0.8]))
    nothing = np.zeros(2, bool)
    matches = match(pairs, np.array([5, 5]), np.array([0.5, 0.7]), ignored=nothing[None], crowd=nothing)
    assert matches.object.tolist() == [[[0, 1], [0, -1]]]
    apart = match(pairs, np.array([5, 6]), np.array([0.5]), ignored=nothing[None], crowd=~nothing)
    assert apart.object.tolist() == [[[0, 0]]]  # a crowd is always free


def test_rank_within_counts_what_stood_before():
    assert rank_within(np.array([7, 3, 7, 7, 3])).tolist() == [0, 0, 1, 2, 1]
