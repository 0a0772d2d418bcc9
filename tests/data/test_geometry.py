"""What labelling tools draw: boxes, polygons, ellipses and masks, by hand."""

import math

import numpy as np
import pytest
from pycocotools import mask as rle

from seg_det.data.geometry import bitmap, by_rows, ellipse, of_label_studio, placed, polygon, rectangle
from seg_det.errors import UserError


def test_boxes_of_shapes():
    assert rectangle(5, 9, 1, 2).box == (1, 2, 5, 9)
    assert polygon([1, 2, 8, 0.5, 3, 7]) == ((1, 0.5, 8, 7), ([1, 2, 8, 0.5, 3, 7],))
    round_one = ellipse(10, 20, 4, 6)
    assert round_one.box == (6, 14, 14, 26) and rectangle(0, 0, 1, 1).parts == ()
    assert rle.area(placed(round_one.parts[0], (40, 40))) == pytest.approx(
        math.pi * 24, abs=3
    )  # pixels at the edge count wholly


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: polygon([1, 2, 3, 4]), "is a polygon of 2 points, which encloses nothing"),
        (lambda: polygon([1, 2, float("nan"), 4, 5, 6]), "not a finite number"),
        (lambda: polygon([1, 2, 3, 4, 5, 2e6]), "reaches more than 1,000,000 pixels from the image's corner"),
        (lambda: ellipse(1, 2, 2e6, 4), "reaches more than 1,000,000 pixels from the image's corner"),
        (lambda: rectangle(1, 2, float("inf"), 4), "not a finite number"),
        (lambda: ellipse(1, 2, 0, 4), "has the radii 0 and 4, which must be positive"),
        (lambda: bitmap(np.zeros((3, 4))), "is a mask without a pixel"),
        (lambda: by_rows([3, 4], 2, 4), "has run lengths for 7 pixels in a mask of 4 x 2"),
        (
            lambda: by_rows([10**12], 10**6, 10**6),
            "is a mask of 1000000 x 1000000 pixels, and masks of 1 to 268,435,456 are",
        ),
        (lambda: by_rows([9, -1], 2, 4), "has run lengths for 8 pixels"),
    ],
)
def test_what_encloses_nothing(draw, sentence):
    with pytest.raises(UserError, match=sentence):
        draw()


def test_a_bitmap_is_cut_to_its_pixels_and_placed():
    pixels = np.zeros((4, 5), np.uint8)
    pixels[1, 2:4], pixels[2, 2] = 255, 7
    box, (part,) = bitmap(pixels, left=10, top=20)
    assert box == (12, 21, 14, 23)
    whole = rle.decode(placed(part, (30, 20)))
    assert np.argwhere(whole).tolist() == [[21, 12], [21, 13], [22, 12]] and whole.shape == (30, 20)
    beyond = rle.decode(placed(part, (22, 13)))  # the right column and the lower row are cut off
    assert np.argwhere(beyond).tolist() == [[21, 12]]


@pytest.mark.parametrize("seed", range(3))
def test_placed_bitmaps_are_those_of_the_library(seed):
    pixels = np.random.default_rng(seed).random((9, 7)) < 0.5
    whole = np.zeros((20, 30), np.uint8)
    whole[4:13, 5:12] = pixels
    ours = placed(bitmap(pixels, left=5, top=4).parts[0], (20, 30))
    assert ours["counts"] == rle.encode(np.asfortranarray(whole))["counts"]


def test_runs_by_rows():
    assert by_rows([2, 3, 1], 2, 3).tolist() == [[False, False, True], [True, True, False]]


def packed(*fields) -> list[int]:
    """Bytes of numbers of so many bits each, the last filled up with zeros."""
    bits = "".join(f"{number:0{width}b}" for number, width in fields)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def test_run_lengths_of_label_studio():
    """Two pixels, 8 values: 4 equal ones in a run of zeros, then one by one 1, 2, 3, 255; sizes of lengths 3, 4, 8, 16 bits."""
    header = [(8, 32), (7, 5), (2, 4), (3, 4), (7, 4), (15, 4)]
    run = [(1, 1), (0, 2), (3, 3), (0, 8)]
    single = [(0, 1), (1, 2), (3, 4), (1, 8), (2, 8), (3, 8), (255, 8)]
    assert of_label_studio(packed(*header, *run, *single), 1, 2).tolist() == [[False, True]]
    with pytest.raises(UserError, match="has run lengths that are cut off"):
        of_label_studio(packed(*header, *run), 1, 2)
    with pytest.raises(UserError, match="has run lengths that are cut off"):
        of_label_studio([], 1, 2)
    with pytest.raises(UserError, match="has run lengths for 2 pixels in an image of 6"):
        of_label_studio(packed(*header, *run, *single), 2, 3)
    with pytest.raises(UserError, match="has run lengths that are cut off"):  # a run that is longer than the image
        of_label_studio(packed(*header, (1, 1), (2, 2), (200, 8), (0, 8), (0, 99)), 1, 2)


def test_a_brush_of_two_pixels_by_hand():
    """A mask of 4 x 3 whose pixels [1, 1] and [1, 2] are set: 20 zeros, 8 times 255, 20 zeros, and a byte of filling."""
    content = [0, 0, 0, 48, 57, 27, 254, 19, 0, 159, 255, 9, 128, 0]
    assert np.argwhere(of_label_studio(content, 3, 4)).tolist() == [[1, 1], [1, 2]]
