"""Boxes on images: where they lie, in which colour, and that nothing else changes."""

import cv2
import numpy as np
import pytest

from seg_det.report import drawings
from seg_det.report.drawings import PALETTE, WRONG, draw_boxes, encode_jpeg, shrink, side_by_side

GREY = 128


def grey(height=200, width=300):
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def close_to(pixels, colour, tolerance=25):
    return np.abs(pixels.astype(int) - colour).max(axis=-1) <= tolerance


def test_outline_lies_on_the_box_in_the_colour_of_the_class():
    drawn = draw_boxes(grey(), [[100, 80, 200, 160]], [2], ["a", "b", "c"])
    assert close_to(drawn[120, 100], PALETTE[2])
    assert close_to(drawn[120, 199], PALETTE[2])
    assert close_to(drawn[159, 150], PALETTE[2])
    assert (drawn[100:140, 110:190] == GREY).all()
    assert (drawn[170:] == GREY).all()
    assert (drawn[:, 220:] == GREY).all()


def test_the_input_is_left_alone():
    image = grey()
    image.flags.writeable = False
    drawn = draw_boxes(image, [[10, 10, 50, 50]], [0], ["a"])
    assert (image == GREY).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


def test_no_boxes_change_nothing():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert (draw_boxes(image, np.zeros((0, 4)), np.zeros(0), [], np.zeros(0)) == image).all()


def test_caption_stands_above_the_box_and_inside_where_the_image_ends():
    above = draw_boxes(grey(), [[100, 80, 200, 160]], [0], ["circle"])
    assert close_to(above[66:80, 100:130], PALETTE[0]).mean() > 0.4
    inside = draw_boxes(grey(), [[100, 0, 200, 160]], [0], ["circle"])
    assert close_to(inside[2:14, 102:130], PALETTE[0]).mean() > 0.4


def test_caption_is_pushed_back_into_the_image():
    drawn = draw_boxes(grey(), [[280, 80, 299, 160]], [0], ["a long class name"])
    assert close_to(drawn[66:80, 200:270], PALETTE[0]).mean() > 0.4


def test_scores_show_in_the_caption():
    box, names = [[100, 80, 200, 160]], ["circle"]
    plain, sure, unsure = (draw_boxes(grey(), box, [0], names, scores) for scores in (None, [0.98], [0.31]))
    plates = [close_to(drawn[70], PALETTE[0]).sum() for drawn in (plain, sure)]
    assert plates[1] > plates[0]
    assert (sure != unsure).any()


def test_one_score_a_box():
    with pytest.raises(ValueError, match="shorter"):
        draw_boxes(grey(), [[0, 0, 9, 9], [5, 5, 20, 20]], [0, 0], ["a"], [0.5])


def test_small_boxes_lie_above_large_ones_whatever_their_order():
    large, small = [40, 60, 260, 190], [40, 60, 80, 100]
    one = draw_boxes(grey(), [large, small], [0, 1], ["a", "b"])
    other = draw_boxes(grey(), [small, large], [1, 0], ["a", "b"])
    assert (one == other).all()
    assert close_to(one[80, 40], PALETTE[1])


def test_boxes_beyond_the_image_are_cut_and_classes_beyond_the_palette_wrap():
    count = len(PALETTE)
    drawn = draw_boxes(grey(), [[-1e9, 50, np.inf, 1e9]], [count], [str(i) for i in range(count + 1)])
    assert close_to(drawn[50, 150], PALETTE[0])
    assert close_to(drawn[120, (0, -1)], PALETTE[0]).all()
    assert close_to(drawn[-1, 150], PALETTE[0])


def test_a_box_without_size_is_still_to_be_seen():
    assert (draw_boxes(grey(), [[150, 100, 150, 100]], [0], ["a"]) != GREY).any()


def test_lines_grow_with_the_image():
    def thickness(scale):
        drawn = draw_boxes(grey(200 * scale, 300 * scale), np.array([[100, 80, 200, 160]]) * scale, [4], ["x"] * 5)
        return close_to(drawn[120 * scale], PALETTE[4]).sum() / 2

    assert thickness(6) >= 5 > 2 >= thickness(1)


def test_two_views_stand_beside_each_other():
    left, right = grey(), np.full((200, 300, 3), 200, dtype=np.uint8)
    sheet = side_by_side(left, right)
    strip = sheet.shape[0] - 200
    assert strip > 0
    assert (sheet[strip:, :300] == left).all()
    assert (sheet[strip:, -300:] == right).all()
    assert (sheet[:strip, :100].max(), sheet[:strip, 310:410].max()) > (150, 150)
    assert (sheet != side_by_side(left, right, titles=("before", "after"))).any()


def test_views_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"one size, got \(200, 300, 3\) and \(100, 300, 3\)"):
        side_by_side(grey(), grey(100))


def test_jpeg_keeps_the_colour_order():
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    image[..., 0] = 255
    data = encode_jpeg(image, 95)
    assert data[:2] == b"\xff\xd8"
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert close_to(decoded[8, 8], (0, 0, 255))


def test_jpeg_quality_costs_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(encode_jpeg(noise, 95)) > 2 * len(encode_jpeg(noise, 30))


def test_shrink_keeps_the_shape_of_the_image_and_never_enlarges():
    assert shrink(grey(200, 300), 150).shape == (100, 150, 3)
    assert shrink(grey(200, 300), 300).shape == (200, 300, 3)
    assert shrink(grey(1, 3000), 100).shape == (1, 100, 3)


def test_captions_say_the_class_and_its_score(monkeypatch):
    said = []
    monkeypatch.setattr(drawings, "_caption", lambda pen, size, box, text, colour: said.append((text, colour)))
    image, boxes = np.zeros((50, 60, 3), np.uint8), [[1, 2, 50, 45], [5, 6, 20, 30]]  # the larger one is drawn first
    draw_boxes(image, boxes, [2, 0], ("cat", "dog", "cow"), [0.5, 0.25])
    assert said == [("cow 50%", PALETTE[2]), ("cat 25%", PALETTE[0])]
    draw_boxes(image, boxes[:1], [1], ("cat", "dog", "cow"))
    assert said[2:] == [("dog", PALETTE[1])]


def test_errors_are_marked_in_colour_and_in_words_and_lie_on_top(monkeypatch):
    said = []
    monkeypatch.setattr(drawings, "_caption", lambda pen, size, box, text, colour: said.append((text, colour)))
    boxes = [[100, 80, 200, 160], [100, 80, 150, 120]]  # the larger one is wrong
    drawn = draw_boxes(grey(), boxes, [0, 1], ("cat", "dog"), [0.5, 0.25], wrong=[True, False])
    assert said == [("dog 25%", PALETTE[1]), ("\N{BALLOT X} cat 50%", WRONG)]
    assert close_to(drawn[100, 100], WRONG)  # where the two outlines meet
    with pytest.raises(ValueError, match="shorter"):
        draw_boxes(grey(), boxes, [0, 1], ("cat", "dog"), wrong=[True])
