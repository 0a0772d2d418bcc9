"""The search for boxes that repeat another, and what is said of objects."""

import numpy as np
import planted
import pytest
from planted import add_object, edit, examined, set_box

from seg_det.doctor.boxes import same_boxes


def overlap(a, b):
    common = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def test_boxes_that_repeat_another_are_those_of_a_high_iou():
    rng = np.random.default_rng(0)
    corner, sides = rng.uniform(0, 50, (120, 2)), rng.uniform(20, 60, (120, 2))
    boxes = np.concatenate([corner, corner + sides], axis=1)
    boxes[60:] = boxes[:60] + rng.uniform(-1, 1, (60, 4))
    image = np.arange(120) % 30
    first, second, iou = same_boxes(image, boxes, 0.95)
    expected = {
        (i, j) for i in range(120) for j in range(i + 1, 120)
        if image[i] == image[j] and overlap(boxes[i], boxes[j]) > 0.95
    }  # fmt: skip
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected and len(expected) > 20
    assert iou == pytest.approx([overlap(boxes[i], boxes[j]) for i, j in zip(first, second, strict=True)])


def test_no_boxes_repeat_nothing():
    assert [len(part) for part in same_boxes(np.zeros(0, np.int64), np.zeros((0, 4)))] == [0, 0, 0]


def test_a_finding_names_the_image_the_object_and_both_boxes(tmp_path):
    planted.coco(tmp_path)
    add_object([4, 6, 30, 24], 2)(tmp_path)
    item = examined("coco", tmp_path)["box-of-two-classes"].item(0)
    assert item.sentence == (
        f"{tmp_path}/train/1.jpg (image id 1): object 3 (dog) with the box [x1, y1, x2, y2] = [4, 6, 34, 30] is the same as "
        "object 1 (cat) (IoU 1.000): delete one of them"
    )
    assert (item.file, item.image_id, item.object) == (tmp_path / "train" / "1.jpg", 1, 2)
    assert item.boxes == ((4, 6, 34, 30), (4, 6, 34, 30))


@pytest.mark.parametrize(
    ("small", "severity", "share"),
    [(0, None, ""), (1, "warning", "8 %"), (11, "warning", "92 %"), (12, "error", "100 %")],
)
def test_objects_that_are_all_below_a_pixel_are_an_error(tmp_path, small, severity, share):
    """At 8 x 8 a box of 7 of 64 pixels has 0.9: alone a note, a share of the split a warning, and nothing to learn an error."""
    planted.coco(tmp_path)
    edit("train", lambda document: [entry.update(bbox=[0, 0, 7, 30]) for entry in document["annotations"][:small]])(
        tmp_path
    )
    found = examined("coco", tmp_path, (8, 8)).get("objects-below-pixel")
    assert (found and found.severity) == severity
    if found:
        assert found.item(0).sentence.startswith(
            f"{share} of the objects of {tmp_path.name} train are less than a pixel wide or high at 8 x 8"
        )


@pytest.mark.parametrize(("size", "small"), [(64, set()), (62, {"box-tiny"}), (7, {"box-tiny", "box-below-pixel"})])
def test_small_objects_depend_on_the_input_size(tmp_path, size, small):
    """One of 8.2 x 8.2 pixels of 64: 8.2 at 64, 7.9 at 62, 0.9 at 7, where the others of 40 x 40 have 4.4."""
    planted.coco(tmp_path)
    edit("train", lambda document: [entry.update(bbox=[0, 0, 40, 40]) for entry in document["annotations"]])(tmp_path)
    set_box([4, 6, 8.2, 8.2])(tmp_path)
    found = examined("coco", tmp_path, (size, size))
    assert {"box-tiny", "box-below-pixel"} & set(found) == small
    if small == {"box-tiny"}:
        assert found["box-tiny"].count == 1
        assert "has 7.9 x 7.9 pixels at the input size 62 x 62" in found["box-tiny"].item(0).sentence


def test_images_without_objects_are_counted(tmp_path):
    planted.yolo(tmp_path)
    for number in (1, 2):
        (tmp_path / "labels" / "train" / f"{number}.txt").unlink()
    found = examined("yolo", tmp_path)["images-without-objects"]
    assert found.count == 2 and "no object, as 2 of 6 images" in found.item(1).sentence
