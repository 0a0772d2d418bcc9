import math

import pytest
import torch

from seg_det.errors import UserError
from seg_det.ops.anchors import best_overlaps, grid_anchors, shape_overlaps, shapes_of, ssd_shapes
from seg_det.ops.boxes import iou, to_centre

MAPS_320 = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
MAPS_300 = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


@pytest.mark.parametrize(
    ("maps", "reduced", "count"), [(MAPS_320, True, 2034), (MAPS_300, True, 1917), (MAPS_320, False, 3234)]
)
def test_published_counts(maps, reduced, count):
    assert len(grid_anchors(ssd_shapes(6, reduce_first_map=reduced), maps, (320, 320))) == count


def test_tensorflow_shapes():
    shapes = ssd_shapes(6)
    assert shapes[0] == [(0.1, 1.0), (0.2, 2.0), (0.2, 0.5)]
    assert [s[0][0] for s in shapes[1:]] == pytest.approx([0.35, 0.5, 0.65, 0.8, 0.95])
    assert shapes[1][5] == (pytest.approx(math.sqrt(0.35 * 0.5)), 1.0)
    assert shapes[5][5] == (pytest.approx(math.sqrt(0.95)), 1.0)


def test_places_and_sides_by_hand():
    anchors = to_centre(grid_anchors([[(0.5, 1.0), (0.5, 4.0)]], [(2, 2)], (100, 100)))
    # the cell of row 0 and column 1 is the second one; its centre lies at x 75, y 25
    torch.testing.assert_close(anchors[2], torch.tensor([75.0, 25, 50, 50]))
    torch.testing.assert_close(anchors[3], torch.tensor([75.0, 25, 100, 25]))


def test_torchvision_shapes():
    """The square halfway to the next scale comes second, and the thirds are exact."""
    first = ssd_shapes(6, rule="torchvision", reduce_first_map=False)[0]
    assert first == [
        (0.2, 1.0),
        (pytest.approx(math.sqrt(0.2 * 0.35)), 1.0),
        (0.2, 2.0),
        (0.2, 0.5),
        (0.2, 3.0),
        (0.2, pytest.approx(1 / 3, abs=1e-12)),
    ]


def test_torchvision_anchors_by_hand():
    """Scales are of each side; a side is no longer than the image's, but an anchor may still reach beyond."""
    anchors = to_centre(grid_anchors([[(0.5, 1.0), (0.95, 4.0)]], [(2, 4)], (100, 200), rule="torchvision"))
    # row 0 and column 1; width min(1, 0.95 * 2) of 200, height 0.95 / 2 of 100
    torch.testing.assert_close(anchors[2], torch.tensor([75.0, 25, 100, 50]))
    torch.testing.assert_close(anchors[3], torch.tensor([75.0, 25, 200, 47.5]))


def test_mmdetection_anchors_by_hand():
    """Its configuration at 320: cells of a 3 x 3 map are 107 pixels apart, sides are 202, sqrt(202 * 253), ..."""
    scales = [48 / 320, 100 / 320, 150 / 320, 202 / 320, 253 / 320, 304 / 320, 1.0]
    shapes = ssd_shapes(6, rule="mmdet", scales=scales, reduce_first_map=False)
    anchors = to_centre(grid_anchors(shapes, MAPS_320, (320, 320), rule="mmdet"))
    assert len(anchors) == 3234
    cell = anchors[(400 + 100 + 25) * 6 + 5 * 6 :][:6]  # row 1 and column 2 of the 3 x 3 map
    wanted = [(202, 202), (math.sqrt(202 * 253),) * 2]
    wanted += [(202 * math.sqrt(r), 202 / math.sqrt(r)) for r in (2, 1 / 2, 3, 1 / 3)]
    torch.testing.assert_close(cell[:, 2:], torch.tensor(wanted))
    torch.testing.assert_close(cell[:, :2], torch.tensor([[2.5 * 107, 1.5 * 107]]).expand(6, -1))
    torch.testing.assert_close(anchors[6, :2], torch.tensor([24.0, 8.0]))  # whole already: 16 pixels apart


def test_scales_by_hand_and_their_number():
    shapes = ssd_shapes(2, scales=[0.1, 0.4, 0.9])
    assert shapes[0] == [(0.05, 1.0), (0.1, 2.0), (0.1, 0.5)]
    assert shapes[1][0] == (0.4, 1.0) and shapes[1][5] == (pytest.approx(0.6), 1.0)
    with pytest.raises(UserError, match="one number for each of 2 feature maps and one beyond, got 2"):
        ssd_shapes(2, scales=[0.1, 0.4])


@pytest.mark.parametrize("wrong", [{"scales": [-0.1, 0.2, 0.3]}, {"min_scale": 0.0}, {"max_scale": float("inf")}])
def test_scales_are_positive(wrong):
    with pytest.raises(UserError, match="scales, min_scale and max_scale must be positive numbers"):
        ssd_shapes(2, **wrong)


def test_rules_have_names():
    with pytest.raises(UserError, match="anchor_rule must be one of tensorflow, torchvision, mmdet, got 'coco'"):
        ssd_shapes(6, rule="coco")


def test_scales_are_of_the_shorter_side():
    anchors = to_centre(grid_anchors([[(0.5, 1.0)]], [(2, 4)], (100, 200)))
    torch.testing.assert_close(anchors[1], torch.tensor([75.0, 25, 50, 50]))


def test_one_list_for_each_map():
    with pytest.raises(ValueError, match="expected anchor shapes for 2 feature maps, got 1"):
        grid_anchors([[(0.5, 1.0)]], [(2, 2), (1, 1)], (10, 10))


MAPS_200_328 = [(13, 21), (7, 11), (4, 6), (2, 3), (1, 2), (1, 1)]


def test_a_size_that_is_no_multiple_of_32_by_hand():
    """200 x 328: cells of the 13 x 21 map are 200 / 13 and 328 / 21 pixels apart, sides are of the shorter side, 200."""
    anchors = to_centre(grid_anchors(ssd_shapes(6), MAPS_200_328, (200, 328)))
    assert len(anchors) == 13 * 21 * 3 + (77 + 24 + 6 + 2 + 1) * 6 == 1479
    row_2_column_5 = anchors[(2 * 21 + 5) * 3]
    torch.testing.assert_close(row_2_column_5, torch.tensor([5.5 * 328 / 21, 2.5 * 200 / 13, 20.0, 20.0]))
    last = anchors[-6]  # the single cell of the coarsest map
    torch.testing.assert_close(last, torch.tensor([164.0, 100.0, 190.0, 190.0]))


@pytest.mark.parametrize("rule", ["tensorflow", "torchvision", "mmdet"])
@pytest.mark.parametrize(("maps", "size"), [(MAPS_320, (320, 320)), (MAPS_200_328, (200, 328))])
def test_best_overlaps_are_those_with_all_anchors(rule, maps, size, monkeypatch):
    monkeypatch.setattr("seg_det.ops.anchors.BOXES_AT_A_TIME", 64)
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(200, 2, generator=generator) * torch.tensor([size[1], size[0]])
    boxes = torch.cat([low, low + 2 + 150 * torch.rand(200, 2, generator=generator) ** 2], 1)
    shapes = ssd_shapes(6, rule=rule)
    every = iou(boxes, grid_anchors(shapes, maps, size, rule=rule)).amax(1)
    torch.testing.assert_close(best_overlaps(boxes, shapes, maps, size, rule=rule), every, rtol=0, atol=1e-5)


def test_overlap_with_the_nearest_anchor_by_hand():
    # Cells of 50 x 50; the box's centre (20, 30) lies in the first, whose anchor of 50 x 50 covers 40 x 40 of it.
    overlaps = shape_overlaps(torch.tensor([[0.0, 10, 40, 50]]), [(0.5, 1.0), (0.5, 4.0)], (2, 2), (100, 100))
    # 100 x 25 around (25, 25): rows 12.5 to 37.5 of the box's 10 to 50, columns 0 to 40
    torch.testing.assert_close(overlaps, torch.tensor([[1600 / 2500, 1000 / (1600 + 2500 - 1000)]]))


@pytest.mark.parametrize("rule", ["tensorflow", "torchvision"])
def test_shapes_of_sides_undo_the_sides_of_shapes(rule):
    anchors = to_centre(grid_anchors([[(0.3, 1.5), (0.5, 0.5)]], [(1, 1)], (200, 328), rule=rule))
    torch.testing.assert_close(shapes_of(anchors[:, 2:], (200, 328), rule=rule), torch.tensor([[0.3, 1.5], [0.5, 0.5]]))
