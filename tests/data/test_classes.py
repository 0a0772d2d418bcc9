from pathlib import Path

import numpy as np
import pytest

from seg_det.data.classes import only_classes, with_categories
from seg_det.data.records import ClassificationSource, DetectionRecord, DetectionSource
from seg_det.errors import UserError
from seg_det.types import Category

CATEGORIES = (Category(3, "cat"), Category(5, "dog"), Category(9, "fox"))


def source():
    labels = np.array([0, 1, 2, 1])
    boxes = np.arange(16, dtype=np.float32).reshape(4, 4)
    flags = np.array([False, True, False, False])
    full = DetectionRecord(Path("a.jpg"), 1, (8, 8), boxes, labels, flags, ~flags, labels.astype(np.float32) + 10)
    empty = DetectionRecord(Path("b.jpg"), 2, (8, 8), boxes[:0], labels[:0], flags[:0], flags[:0], boxes[:0, 0])
    return DetectionSource("pets val", (full, empty), CATEGORIES)


def test_objects_of_the_other_classes_are_left_out():
    found = only_classes(source(), ["fox", "dog"])
    assert found.categories == (Category(9, "fox"), Category(5, "dog"))  # their own ids, in the order that was said
    first, second = found.records
    assert first.labels.tolist() == [1, 0, 1] and first.boxes[:, 0].tolist() == [4.0, 8.0, 12.0]
    assert first.crowd.tolist() == [True, False, False] and first.difficult.tolist() == [False, True, True]
    assert first.area.tolist() == [11.0, 12.0, 11.0]
    assert second.image_id == 2 and len(second.boxes) == 0


@pytest.mark.parametrize("names", [[], ["dog", "dog"], ["dog", "wolf"]])
def test_names_that_choose_nothing(names):
    with pytest.raises(
        UserError, match=r"classes must name some of the classes of pets val \(cat, dog, fox\), each once, got"
    ):
        only_classes(source(), names)


def test_classes_are_of_boxes():
    with pytest.raises(UserError, match="classes= is for data with boxes: leave it out for photos"):
        only_classes(ClassificationSource("photos", (), CATEGORIES), ["dog"])


def test_val_fewer_categories():
    """A class that the split does not declare has no objects in it; its id is one that the split does not use."""
    model = (Category(1, "fox"), Category(5, "cow"), Category(3, "dog"), Category(2, "cat"), Category(4, "emu"))
    found = with_categories(source(), model, "the model m")
    assert [c.name for c in found.categories] == ["fox", "cow", "dog", "cat", "emu"]
    assert [c.id for c in found.categories] == [9, 10, 5, 3, 4]  # cow's 5 is the split's dog
    assert found.records[0].labels.tolist() == [3, 2, 0, 2]
    assert found.problems == (
        "pets val does not declare 2 of the 5 classes of the model m (cow, emu): it is used without objects of them",
    )


def test_names_are_shown_with_their_blanks():
    with pytest.raises(UserError, match=r"only in the data: cat, dog, fox; only in the model m: bird, 'cat '\)"):
        with_categories(source(), (Category(1, "cat "), Category(2, "bird")), "the model m")


def test_two_classes_of_one_name():
    """Data of the same classes in the same order needs no names; any other cannot tell them apart."""
    twice = (Category(3, "cup"), Category(5, "dog"), Category(9, "cup"))
    cups = source()
    cups = DetectionSource(cups.name, cups.records, twice)
    assert with_categories(cups, (Category(1, "cup"), Category(2, "dog"), Category(7, "cup")), "the model") is cups
    with pytest.raises(UserError, match=r"pets val has two classes of the name 'cup' \(ids 3 and 9\)"):
        with_categories(cups, CATEGORIES, "the model")
    with pytest.raises(UserError, match=r"the model has two classes of the name 'cup' \(ids 3 and 9\)"):
        with_categories(source(), twice, "the model")
