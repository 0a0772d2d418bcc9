import math

import pytest
import torch

from seg_det.ops.anchors import grid_anchors, ssd_shapes
from seg_det.ops.boxes import to_centre

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


def test_scales_are_of_the_shorter_side():
    anchors = to_centre(grid_anchors([[(0.5, 1.0)]], [(2, 4)], (100, 200)))
    torch.testing.assert_close(anchors[1], torch.tensor([75.0, 25, 50, 50]))


def test_one_list_for_each_map():
    with pytest.raises(ValueError, match="expected anchor shapes for 2 feature maps, got 1"):
        grid_anchors([[(0.5, 1.0)]], [(2, 2), (1, 1)], (10, 10))
