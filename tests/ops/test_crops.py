"""Windows cover the image, and know where they lie in it."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from seg_det.ops.crops import crops, window_starts


@pytest.mark.parametrize(
    ("length", "window", "overlap", "starts"),
    [
        (100, 100, 0.5, [0]),
        (60, 100, 0.5, [0]),
        (200, 100, 0.0, [0, 100]),
        (201, 100, 0.0, [0, 50, 101]),
        (200, 100, 0.5, [0, 50, 100]),
        (2048, 1024, 1 / 3, [0, 512, 1024]),
        (3, 1, 0.9, [0, 1, 2]),
    ],
)
def test_window_starts(length, window, overlap, starts):
    assert window_starts(length, window, overlap) == starts


def test_windows_leave_no_gap_and_share_what_is_asked():
    for length in range(50, 200, 7):
        for overlap in (0.0, 0.25, 0.6):
            starts = window_starts(length, 50, overlap)
            assert starts[0] == 0 and starts[-1] == length - 50
            assert all(b - a <= 50 * (1 - overlap) for a, b in pairwise(starts))


def test_a_whole_image_is_one_crop():
    images = torch.rand(2, 3, 64, 96)
    found = list(crops(images, [(64, 96), (40, 50)]))
    assert [crop.image for crop in found] == [0, 1]
    for crop in found:
        assert crop.box == (0, 0, 96, 64)
        assert torch.equal(crop.pixels, images[crop.image])


def test_windows_cover_the_content_and_not_the_padding():
    images = torch.rand(2, 3, 64, 96)
    found = list(crops(images, [(64, 90), (32, 32)], window=(32, 64), overlap=0.0))
    boxes = [(crop.image, *crop.box) for crop in found]
    assert boxes == [(0, 0, 0, 64, 32), (0, 26, 0, 90, 32), (0, 0, 32, 64, 64), (0, 26, 32, 90, 64), (1, 0, 0, 64, 32)]
    assert torch.equal(found[3].pixels, images[0, :, 32:64, 26:90])


def test_a_window_larger_than_the_image_is_filled():
    images = torch.rand(1, 3, 32, 32) + 1
    (crop,) = crops(images, [(32, 32)], window=(48, 64), overlap=0.5)
    assert crop.pixels.shape == (3, 48, 64)
    assert torch.equal(crop.pixels[:, :32, :32], images[0])
    assert not crop.pixels[:, 32:].any() and not crop.pixels[:, :, 32:].any()
    assert crop.box == (0, 0, 64, 48)


def test_scaled_images_keep_the_box_of_the_canvas():
    images = torch.rand(1, 3, 64, 96)
    (crop,) = crops(images, [(64, 96)], scale=0.5)
    assert crop.box == (0, 0, 96, 64)
    torch.testing.assert_close(crop.pixels[None], F.interpolate(images, (32, 32 * round(1.5)), mode="bilinear"))
    windows = list(crops(images, [(64, 96)], scale=2.0, window=(64, 64)))
    assert len(windows) == 6
    assert windows[-1].box == (64, 32, 96, 64)  # in pixels of the canvas, half of what the window has


def test_scaled_sides_fit_the_strides():
    (crop,) = crops(torch.rand(1, 3, 513, 513), [(513, 513)], scale=1.5)
    assert crop.pixels.shape == (3, 769, 769)
    (crop,) = crops(torch.rand(1, 3, 20, 70), [(20, 70)], scale=0.1)
    assert crop.pixels.shape == (3, 20, 38)
