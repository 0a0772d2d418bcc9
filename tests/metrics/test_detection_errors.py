"""Why a detector loses AP: one small case for each kind of error, its figures by hand, and the published tool's."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from seg_det.metrics.arrays import Found, Objects
from seg_det.metrics.errors import KINDS, analyse_errors
from seg_det.types import Category

CAT, DOG = 0, 1
CATEGORIES = (Category(3, "cat"), Category(9, "dog"))
A, B, C = [0, 0, 100, 100], [200, 0, 100, 100], [400, 0, 100, 100]  # xywh, all of them large
PART_OF_B = [200, 0, 100, 40]  # IoU 0.4
ELSEWHERE = [600, 300, 20, 20]
HALF = 51 / 101  # AP of one right detection where there are two objects: precision 1 at the recalls 0 to 0.50


def analyse(objects, found, crowd=()):
    """Of one image, from (label, box) and (label, box, score)."""
    boxes = np.array([box for _, box in objects], np.float64).reshape(-1, 4)
    truth = Objects(
        np.zeros(len(boxes), np.int64),
        np.array([label for label, _ in objects], np.int64),
        boxes,
        boxes[:, 2] * boxes[:, 3],
        np.isin(np.arange(len(boxes)), crowd),
    )
    guesses = Found(
        np.zeros(len(found), np.int64),
        np.array([label for label, _, _ in found], np.int64),
        np.array([box for _, box, _ in found], np.float64).reshape(-1, 4),
        np.array([score for _, _, score in found], np.float64),
    )
    return analyse_errors(truth, guesses, CATEGORIES)


def only(**figures):
    return {**dict.fromkeys(KINDS, 0), **figures}


def test_a_perfect_detector_has_no_errors():
    errors = analyse([(CAT, A), (DOG, B)], [(CAT, A, 0.9), (DOG, B, 0.8)])
    assert errors.counts == only()
    assert errors.lost == pytest.approx(only())
    assert errors.confusion == {"cat": {"cat": 1}, "dog": {"dog": 1}}
    assert errors.confused() == {}


def test_a_missed_object():
    errors = analyse([(CAT, A), (CAT, B)], [(CAT, A, 0.9)])
    assert errors.counts == only(missed=1)
    assert errors.lost == pytest.approx(only(missed=1 - HALF))
    assert errors.confusion == {"cat": {"cat": 1, "(missed)": 1}}


def test_a_box_beside_its_object():
    errors = analyse([(CAT, A), (CAT, B)], [(CAT, A, 0.9), (CAT, PART_OF_B, 0.8)])
    assert errors.counts == only(localisation=1)  # and B does not count as missed
    assert errors.lost == pytest.approx(only(localisation=1 - HALF))


def test_the_wrong_class():
    errors = analyse([(CAT, A), (CAT, B)], [(CAT, A, 0.9), (DOG, B, 0.95)])
    assert errors.counts == only(classification=1)
    assert errors.lost == pytest.approx(only(classification=1 - HALF))
    assert errors.confusion == {"cat": {"cat": 1, "dog": 1}}
    assert errors.confused() == {"cat taken for dog": 1}


def test_the_wrong_class_and_beside_its_object():
    # The dog is found behind a false alarm: precision 1/2. Without it, 1; the cats' figure stays.
    objects = [(CAT, A), (CAT, B), (DOG, C)]
    errors = analyse(objects, [(CAT, A, 0.9), (DOG, PART_OF_B, 0.8), (DOG, C, 0.7)])
    assert errors.counts == only(both=1, missed=1)
    assert errors.lost == pytest.approx(only(both=0.5 / 2, missed=(1 - HALF) / 2))


def test_a_second_find_of_one_object():
    # Right, wrong, right: precision 1 up to recall 0.5, 2/3 beyond.
    errors = analyse([(CAT, A), (CAT, B)], [(CAT, A, 0.9), (CAT, A, 0.8), (CAT, B, 0.7)])
    assert errors.counts == only(duplicate=1)
    assert errors.lost == pytest.approx(only(duplicate=50 / 101 / 3))
    assert errors.confusion == {"cat": {"cat": 2}, "(background)": {"cat": 1}}


def test_a_find_where_nothing_is():
    errors = analyse([(CAT, A)], [(CAT, ELSEWHERE, 0.95), (CAT, A, 0.9)])
    assert errors.counts == only(background=1)
    assert errors.lost == pytest.approx(only(background=0.5))
    assert errors.confusion == {"(background)": {"cat": 1}, "cat": {"cat": 1}}


def test_every_find_in_an_empty_image_is_background():
    errors = analyse([], [(CAT, A, 0.9), (DOG, B, 0.8)])
    assert errors.counts == only(background=2)


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ([0, 0, 100, 50], "duplicate"),  # IoU 0.5: found
        ([0, 0, 100, 49], "localisation"),
        ([0, 0, 100, 10], "localisation"),  # IoU 0.1: meant
        ([0, 0, 100, 9], "background"),
    ],
)
def test_the_bounds_belong_to_the_better_kind(box, kind):
    assert analyse([(CAT, A)], [(CAT, A, 0.9), (CAT, box, 0.8)]).counts == only(**{kind: 1})


def test_an_object_is_mended_once_by_the_best_detection():
    # Of two boxes beside B, mending turns the better one right and takes the other away: 1; without both: one half.
    found = [(CAT, A, 0.9), (CAT, PART_OF_B, 0.8), (CAT, [200, 0, 40, 100], 0.7)]
    errors = analyse([(CAT, A), (CAT, B)], found)
    assert errors.counts == only(localisation=2)
    assert errors.lost == pytest.approx(only(localisation=1 - HALF))


def test_an_error_on_a_found_object_only_goes_away():
    # wrong, right: precision 1/2; the object is found without the better box beside it
    errors = analyse([(CAT, B)], [(CAT, PART_OF_B, 0.9), (CAT, B, 0.8)])
    assert errors.counts == only(localisation=1)
    assert errors.lost == pytest.approx(only(localisation=0.5))


def test_detections_of_a_crowd_are_no_errors_and_a_crowd_is_not_missed():
    errors = analyse([(CAT, A), (CAT, B)], [(CAT, A, 0.9), (CAT, PART_OF_B, 0.95)], crowd=[1])
    assert errors.counts == only()
    assert errors.confusion == {"cat": {"cat": 1}}
    assert analyse([(CAT, A), (CAT, B)], [(CAT, A, 0.9)], crowd=[1]).counts == only()


def test_a_class_that_is_never_found_loses_all_of_its_ap_to_misses():
    errors = analyse([(CAT, A), (DOG, B)], [(CAT, A, 0.9), (DOG, ELSEWHERE, 0.8)])
    assert errors.counts == only(background=1, missed=1)
    assert errors.lost == pytest.approx(only(missed=0.5))


def test_errors_by_the_size_of_what_they_are_about():
    small, medium = [0, 0, 20, 20], [100, 0, 50, 50]
    found = [(CAT, ELSEWHERE, 0.9), (CAT, [100, 0, 50, 20], 0.8)]  # a small false alarm, IoU 0.4 with the medium object
    errors = analyse([(CAT, small), (CAT, medium), (CAT, B)], found)
    assert errors.counts == only(background=1, localisation=1, missed=2)
    # AP is 0 before. With the medium object found behind the false alarm: precision 1/2 up to recall 1/3.
    assert errors.lost_by_size == {
        "small": pytest.approx(only()),
        "medium": pytest.approx(only(localisation=34 / 101 / 2)),
        "large": pytest.approx(only()),
    }
    assert errors.lost["localisation"] == pytest.approx(34 / 101 / 2)


def test_missed_objects_by_size():
    errors = analyse([(CAT, A), (CAT, [300, 0, 20, 20]), (CAT, [400, 0, 32, 32])], [(CAT, A, 0.9)])
    assert errors.counts == only(missed=2)
    third = 34 / 101  # of three objects one is found; of two: HALF
    assert errors.lost == pytest.approx(only(missed=1 - third))
    assert errors.lost_by_size["small"] == pytest.approx(only(missed=HALF - third))
    assert errors.lost_by_size["medium"] == pytest.approx(only(missed=HALF - third))  # 32 x 32 is the smallest medium
    assert errors.lost_by_size["large"] == pytest.approx(only())


def test_the_threshold_with_the_best_f1():
    # F1 after each: 2/3, 1/2, 4/5, 2/3; at 0.7 two of three are right and both objects are found.
    found = [(CAT, A, 0.9), (CAT, ELSEWHERE, 0.8), (CAT, B, 0.7), (CAT, ELSEWHERE, 0.6)]
    errors = analyse([(CAT, A), (CAT, B)], found)
    best = {"threshold": 0.7, "f1": pytest.approx(0.8), "precision": pytest.approx(2 / 3), "recall": 1.0}
    assert asdict(errors.per_class["cat"]) == best
    assert asdict(errors.operating_point) == best
    assert asdict(errors.per_class["dog"]) == dict.fromkeys(best)


def test_a_threshold_does_not_part_equal_scores():
    errors = analyse([(CAT, A)], [(CAT, A, 0.5), (CAT, ELSEWHERE, 0.5)])
    best = errors.per_class["cat"]
    assert (best.threshold, best.f1, best.precision) == (0.5, pytest.approx(2 / 3), 0.5)


def test_one_threshold_for_all_classes_is_not_that_of_each():
    # Over all, F1 is 4/5 at 0.8 and 6/8 at 0.3, where the third object is found; for the dogs alone it is 0 and 2/4.
    found = [(CAT, A, 0.9), (CAT, B, 0.8), (DOG, ELSEWHERE, 0.5), (DOG, ELSEWHERE, 0.4), (DOG, C, 0.3)]
    errors = analyse([(CAT, A), (CAT, B), (DOG, C)], found)
    assert errors.operating_point.threshold == 0.8
    assert errors.per_class["dog"].threshold == 0.3


def test_below_the_threshold_nothing_is_confused():
    errors = analyse([(CAT, A), (CAT, B)], [(CAT, A, 0.9), (DOG, B, 0.1)])
    assert errors.operating_point.threshold == 0.9
    assert errors.confusion == {"cat": {"cat": 1, "(missed)": 1}}


def test_nothing_right_has_no_threshold():
    errors = analyse([(CAT, A)], [(DOG, A, 0.9)])
    assert asdict(errors.operating_point) == {"threshold": None, "f1": 0.0, "precision": None, "recall": 0.0}
    assert errors.confusion == {"cat": {"dog": 1}}
    assert errors.lost == pytest.approx(only(classification=1.0))


def test_its_own_object_comes_before_a_nearer_one_of_another_class():
    # A rider and the horse: the detection of the cat lies nearer to the dog's box, which its own detection finds.
    cat, dog = [0, 0, 100, 100], [0, 0, 100, 80]
    errors = analyse([(CAT, cat), (DOG, dog)], [(CAT, [0, 0, 100, 82], 0.9), (DOG, [0, 0, 100, 90], 0.8)])
    assert errors.counts == only()
    assert errors.confusion == {"cat": {"cat": 1}, "dog": {"dog": 1}}


def test_the_most_confused_come_first_and_not_too_many():
    objects = [(CAT, [200 * n, 0, 100, 100]) for n in range(3)] + [(DOG, [0, 300, 100, 100])]
    found = [(DOG, box, 0.9) for _, box in objects[:2]] + [(CAT, objects[3][1], 0.9), (CAT, objects[2][1], 0.9)]
    errors = analyse(objects, found)
    assert errors.confused() == {"cat taken for dog": 2, "dog taken for cat": 1}
    assert list(errors.confused()) == ["cat taken for dog", "dog taken for cat"]
    assert errors.confused(most=1) == {"cat taken for dog": 2}


def test_nothing_at_all():
    errors = analyse([], [])
    assert errors.counts == only()
    assert errors.lost == dict.fromkeys(KINDS)
    assert set(errors.lost_by_size["small"].values()) == {None}
    assert set(asdict(errors.operating_point).values()) == {None}
    assert errors.confusion == {}
    json.dumps(asdict(errors), allow_nan=False)


def scattered(images=60, classes=4):
    """Objects and detections of which most are near one: all kinds of errors in numbers. No two scores are equal."""
    rng = np.random.default_rng(0)
    objects, found = images * 5, images * 30
    image, label = rng.integers(0, images, objects), rng.integers(0, classes, objects)
    boxes = np.concatenate([rng.random((objects, 2)) * 300, 20 + rng.random((objects, 2)) * 80], axis=1)
    found_image, found_label = rng.integers(0, images, found), rng.integers(0, classes, found)
    found_boxes = np.concatenate([rng.random((found, 2)) * 300, 20 + rng.random((found, 2)) * 80], axis=1)
    about, near = rng.integers(0, objects, found), rng.random(found) < 0.7
    spread = rng.choice([0.05, 0.15, 0.4], found)[:, None]
    moved = boxes[about] + rng.normal(0, 1, (found, 4)) * spread * boxes[about][:, [2, 3, 2, 3]]
    found_boxes[near], found_image[near] = moved[near], image[about][near]
    found_boxes[:, 2:] = np.maximum(found_boxes[:, 2:], 3)
    same = near & (rng.random(found) < 0.6)
    found_label[same] = label[about][same]
    truth = Objects(image, label, boxes, boxes[:, 2] * boxes[:, 3], np.zeros(objects, bool))
    return truth, Found(found_image, found_label, found_boxes, rng.permutation(found) / found * 0.99 + 0.005)


def test_equal_to_the_tool_of_the_paper():
    # Made once with tidecv 1.0.1, the authors' own tool, from these very boxes.
    errors = analyse_errors(*scattered(), [Category(n, f"class {n}") for n in range(4)])
    assert list(errors.counts.values()) == [225, 350, 236, 278, 459, 3]
    lost = [0.076553789246, 0.086495606504, 0.035609592419, 0.01235416782, 0.054491397016, 0.002036243731]
    assert list(errors.lost.values()) == pytest.approx(lost, abs=1e-9)
