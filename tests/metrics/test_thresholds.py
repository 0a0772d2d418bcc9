"""What another score threshold makes of a detector's errors: by hand, and as if only those detections had been made."""

import numpy as np
import pytest
from test_detection_errors import CAT, DOG, ELSEWHERE, A, B, C, scattered

from seg_det.metrics.arrays import Found, Objects
from seg_det.metrics.cases import case_of, confusion
from seg_det.metrics.errors import analyse_errors
from seg_det.metrics.thresholds import SCORES, at_thresholds
from seg_det.metrics.verdicts import verdicts
from seg_det.types import Category

NAMES = ("cat", "dog")


def columns(objects, found, crowd=(), images=None):
    """Objects and detections from (label, box) and (label, box, score); ``images``: their images, 0 by default."""
    boxes = np.array([box for _, box in objects], np.float64).reshape(-1, 4)
    images = images or ([0] * len(objects), [0] * len(found))
    truth = Objects(
        np.array(images[0], np.int64),
        np.array([label for label, _ in objects], np.int64),
        boxes,
        boxes[:, 2] * boxes[:, 3],
        np.isin(np.arange(len(boxes)), crowd),
    )
    guesses = Found(
        np.array(images[1], np.int64),
        np.array([label for label, _, _ in found], np.int64),
        np.array([box for _, box, _ in found], np.float64).reshape(-1, 4),
        np.array([score for _, _, score in found], np.float64),
    )
    return truth, guesses


OBJECTS = [(CAT, A), (CAT, B), (DOG, C)]
FOUND = [(CAT, A, 0.9), (DOG, B, 0.75), (CAT, ELSEWHERE, 0.5), (DOG, C, 0.25)]


def test_figures_and_confusion_by_hand():
    case = case_of(*columns(OBJECTS, FOUND), 2)
    none, high, middle, low = at_thresholds(case, NAMES, (0.95, 0.8, 0.5, 0.1))
    assert none[:4] == (0.95, None, 0.0, 0.0)
    assert none.confusion == {"cat": {"(missed)": 2}, "dog": {"(missed)": 1}}
    assert high[:4] == (0.8, 1.0, pytest.approx(1 / 3), pytest.approx(2 / 4))
    assert high.confusion == {"cat": {"cat": 1, "(missed)": 1}, "dog": {"(missed)": 1}}
    assert middle[:4] == (0.5, pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(2 / 6))  # 0.5 belongs in
    assert middle.confusion == {
        "cat": {"cat": 1, "dog": 1},
        "dog": {"(missed)": 1},
        "(background)": {"cat": 1},
    }
    assert low[:4] == (0.1, 0.5, pytest.approx(2 / 3), pytest.approx(4 / 7))
    assert low.confusion == {"cat": {"cat": 1, "dog": 1}, "dog": {"dog": 1}, "(background)": {"cat": 1}}


def test_a_lower_threshold_gives_an_object_back_to_its_own_detection():
    # Above 0.5 only the dog lies on the cat; below, the cat's own detection has it, and the dog lies on nothing.
    case = case_of(*columns([(CAT, A)], [(DOG, A, 0.9), (CAT, A, 0.3)]), 2)
    high, low = at_thresholds(case, NAMES, (0.5, 0.2))
    assert high.confusion == {"cat": {"dog": 1}}
    assert low.confusion == {"cat": {"cat": 1}, "(background)": {"dog": 1}}


def test_nothing_to_find_and_nothing_found():
    (at,) = at_thresholds(case_of(*columns([], []), 2), NAMES, (0.5,))
    assert at == (0.5, None, None, None, {})


def test_each_threshold_is_that_of_the_detections_from_it_on():
    objects, found = scattered()
    categories = [Category(n, f"class {n}") for n in range(4)]
    names = [category.name for category in categories]
    case = case_of(objects, found, 4)
    steps = {at.threshold: at for at in at_thresholds(case, names)}
    assert list(steps) == list(SCORES) == [n / 100 for n in range(1, 100)]
    for threshold in (0.01, 0.3, 0.37, 0.8, 0.99):
        cut = found.select(found.score >= threshold)
        assert steps[threshold].confusion == confusion(case_of(objects, cut, 4), None, names)
        table = steps[threshold].confusion
        right = sum(table.get(name, {}).get(name, 0) for name in names)
        assert steps[threshold].precision == pytest.approx(right / max(1, len(cut.score)) if len(cut.score) else None)
        assert steps[threshold].recall == pytest.approx(right / len(objects.label))


def test_at_the_best_threshold_it_is_what_the_evaluation_reports():
    objects, found = scattered()
    categories = [Category(n, f"class {n}") for n in range(4)]
    errors = analyse_errors(objects, found, categories)
    point = errors.operating_point
    (at,) = at_thresholds(case_of(objects, found, 4), [c.name for c in categories], (point.threshold,))
    assert at == (point.threshold, point.precision, point.recall, point.f1, errors.confusion)


def test_verdicts_on_images():
    # Image 0: a cat found, a second one missed, a dog where nothing is. Image 1: nothing at all. Image 2: a cat found twice.
    objects, found = columns(
        [(CAT, A), (CAT, B), (CAT, C)],
        [(CAT, A, 0.9), (DOG, ELSEWHERE, 0.6), (CAT, B, 0.4), (CAT, C, 0.8), (CAT, C, 0.7)],
        images=([0, 0, 2], [0, 0, 0, 2, 2]),
    )
    judged = verdicts(case_of(objects, found, 2), [0.5, 0.55], images=3)
    assert (
        judged.right.tolist() == [1, 0, 1] and judged.false.tolist() == [1, 0, 1] and judged.lost.tolist() == [1, 0, 0]
    )
    assert judged.errors.tolist() == [2, 0, 1]
    assert judged.f1.tolist() == [pytest.approx(2 / 4), 1.0, pytest.approx(2 / 3)]
    first, last = judged.of(0), judged.of(2)
    assert first.boxes.tolist() == [[0, 0, 100, 100], [600, 300, 620, 320]]
    assert (first.labels.tolist(), first.scores.tolist()) == ([CAT, DOG], [0.9, 0.6])
    assert (first.wrong.tolist(), first.missed.tolist()) == ([False, True], [False, True])
    assert (last.wrong.tolist(), last.missed.tolist()) == ([False, True], [False])
    assert len(judged.of(1).boxes) == 0


def test_each_class_has_its_own_threshold_and_crowds_are_no_errors():
    objects, found = columns([(CAT, A), (DOG, B)], [(CAT, A, 0.6), (DOG, B, 0.6)])
    assert verdicts(case_of(objects, found, 2), [0.5, 0.7], 1).of(0).missed.tolist() == [False, True]
    crowd, inside = columns([(CAT, A)], [(CAT, [10, 10, 20, 20], 0.9)], crowd=[0])
    judged = verdicts(case_of(crowd, inside, 2), [0.5, 0.5], 1)
    assert judged.errors.tolist() == [0] and judged.of(0).wrong.tolist() == [False] and judged.f1.tolist() == [1.0]
