"""Cells to pixels: equal to torch's interpolation where it can say the same, and by hand where it cannot."""

import pytest
import torch
import torch.nn.functional as F

from seg_det.ops.interpolation import Side


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("cells", "length"), [(4, 32), (33, 513), (5, 3), (1, 7), (7, 7)])
def test_equals_torch(cells, length, align_corners):
    x = torch.randn(2, cells, generator=torch.Generator().manual_seed(0))
    side = Side(0, length, length, cells, align_corners)
    expected = F.interpolate(x[None], length, mode="linear", align_corners=align_corners)[0]
    torch.testing.assert_close(side.weights(slice(0, length)).along(x, 1), expected, atol=1e-5, rtol=1e-5)


def test_nearest_equals_torch():
    x = torch.arange(45.0)
    side = Side(0, 360, 360, 45)
    expected = F.interpolate(x[None, None], 360, mode="nearest-exact")[0, 0]
    assert torch.equal(x[side.nearest(slice(0, 360))], expected)


def test_along_any_side():
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x, (20, 7), mode="bilinear")
    weights = Side(0, 20, 20, 5).weights(slice(0, 20))
    torch.testing.assert_close(weights.along(x, 2), expected)
    torch.testing.assert_close(weights.along(x, -2), expected)
    torch.testing.assert_close(weights.part(slice(3, 9)).along(x, 2), expected[:, :, 3:9])


def test_a_map_that_lies_on_a_part_of_the_image():
    side = Side(2, 6, 8, 2)  # cells of two pixels, their centres at 3 and 5
    assert side.covered(100) == slice(2, 6)
    assert side.places(slice(0, 8)).tolist() == [0, 0, 0, 0.25, 0.75, 1, 1, 1]
    corners = Side(2, 6, 8, 2, align_corners=True)  # eight pixels were seen there, their centres from 2.25 to 5.75
    assert corners.places(slice(2, 6)) == pytest.approx([(0.25 + i) / 3.5 for i in range(4)])


def test_what_is_covered_is_cut_to_the_image_and_shares_no_pixel():
    assert Side(-3, 4, 7, 2).covered(10) == slice(0, 4)
    assert Side(4, 13, 9, 2).covered(10) == slice(4, 10)
    # a border on a pixel's centre gives it to what follows
    assert Side(0, 3.5, 4, 2).covered(10) == slice(0, 3)
    assert Side(3.5, 7, 4, 2).covered(10) == slice(3, 7)
