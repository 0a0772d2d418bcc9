"""Training objects as boxes of the input, without a pixel read."""

from pathlib import Path

import numpy as np
import torch

from seg_det.data.objects import input_boxes, share_lost, why_none
from seg_det.data.plain_transforms import resize_only
from seg_det.data.records import DetectionRecord


def record(boxes, size, crowd=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    flags = np.zeros((2, len(boxes)), bool)
    flags[0, list(crowd)] = True
    return DetectionRecord(Path("none.jpg"), 1, size, boxes, np.zeros(len(boxes), np.int64), *flags, boxes[:, 0])


def test_boxes_are_stretched_with_their_images():
    records = [
        record([[0, 0, 100, 50], [10, 20, 30, 40]], (100, 200)),
        record([], (5, 5)),
        record([[1, 2, 3, 4]], (4, 4)),
    ]
    # to 50 x 400: the first image is halved in height and doubled in width, the last becomes 12.5 and 100 times as large
    wanted = [[0.0, 0, 200, 25], [20, 10, 60, 20], [100, 25, 300, 50]]
    torch.testing.assert_close(input_boxes(records, (50, 400)), torch.tensor(wanted))


def test_as_the_resize_of_the_images_does_it():
    boxes = [[3, 4, 50, 61], [100, 7, 180, 99]]
    resized = resize_only((64, 97))(np.zeros((100, 200, 3), np.uint8), np.array(boxes, np.float32), seed=0)
    torch.testing.assert_close(input_boxes([record(boxes, (100, 200))], (64, 97)), torch.from_numpy(resized.boxes))


def test_crowds_and_what_training_drops_are_left_out():
    boxes = [[0, 0, 50, 50], [0, 0, 40, 40], [0, 0, 1.9, 40]]  # half a size: 0.95 pixels wide
    assert input_boxes([record(boxes, (100, 100), crowd=[0])], (50, 50)).tolist() == [[0, 0, 20, 20]]
    assert input_boxes([], (50, 50)).shape == input_boxes([record([], (9, 9))], (50, 50)).shape == (0, 4)


def test_objects_below_a_pixel():
    """Boxes of 6 x 6 in an image of 960 x 720 are 0.6 pixels wide at 96 x 96; crowds are not counted."""
    drone = record([[0, 0, 6, 6], [9, 9, 15, 15], [0, 0, 6, 6], [0, 0, 300, 300]], (720, 960), crowd=[2])
    assert share_lost([drone], (96, 96)) == 1 - 1 / 3
    assert share_lost([drone], (720, 960)) == share_lost([], (9, 9)) == 0
    small = record([[0, 0, 6, 6], [9, 9, 15, 15]], (720, 960))
    assert why_none("x train", [small], (96, 96)).startswith(
        "all 2 objects of x train are less than a pixel wide or high at 96"
    )


def test_why_there_is_no_object():
    crowds, empty = record([[0, 0, 6, 6]], (9, 9), crowd=[0]), record([], (9, 9))
    assert why_none("x", [crowds, empty]).startswith("all 1 objects of x are marked as crowds (iscrowd=1)")
    assert why_none("x", [crowds, empty], (9, 9)).startswith("all 1 objects of x are marked as crowds (iscrowd=1)")
    assert why_none("x", [empty]) == "x has no object in any of its 1 images: check its annotations."
