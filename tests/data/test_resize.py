"""The resize of classification beside Pillow's and torchvision's."""

import numpy as np
import pytest
import torch
from PIL import Image
from references import reference

from seg_det.data.resize import centre_window, resize_antialiased


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(32, 48), (50, 20), (150, 200), (64, 96), (1, 1)])
def test_as_pillow_resizes(size):
    image = noise(64, 96)
    want = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    got = resize_antialiased(image, size)
    assert got.dtype == np.uint8 and got.shape == (*size, 3)
    assert np.abs(got.astype(int) - want).max() <= 1


def test_shrinking_to_half_by_hand():
    image = np.zeros((1, 8, 3), np.uint8)
    image[:, 4:] = 160
    # Half-pixel centres: the filter of output 1 covers inputs 1..4 with the weights 1 3 3 1, of which one is bright.
    assert resize_antialiased(image, (1, 4))[0, :, 0].tolist() == [0, 20, 140, 160]


@pytest.mark.parametrize(
    ("image", "covered", "size", "resized", "corner"),
    [
        ((256, 256), (256, 256), (224, 224), (256, 256), (16, 16)),
        ((500, 333), (256, 256), (224, 224), (384, 256), (80, 16)),  # 384.38
        ((333, 500), (146, 146), (128, 128), (146, 219), (9, 45)),  # 219.2, and the corner at 45.5
        ((100, 400), (256, 128), (224, 112), (256, 1024), (16, 456)),  # tall crop of a wide image
        ((400, 100), (256, 128), (224, 112), (512, 128), (144, 8)),
        ((1, 1), (8, 8), (7, 7), (8, 8), (0, 0)),
    ],
)
def test_window_in_the_middle(image, covered, size, resized, corner):
    got, (rows, columns) = centre_window(image, covered, size)
    assert got == resized
    assert (rows.start, columns.start) == corner
    assert (rows.stop - rows.start, columns.stop - columns.start) == size


@pytest.mark.parametrize("shape", [(256, 341), (375, 500), (601, 400), (97, 103)])
def test_as_torchvision_resizes(shape):
    functional = reference("torchvision.transforms.functional")
    image = noise(*shape)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    resized, window = centre_window(shape, (128 / 0.875, 128 / 0.875), (128, 128))
    want = functional.resize(tensor, list(resized), antialias=True).permute(1, 2, 0).numpy()[window]
    got = resize_antialiased(image, resized)[window]
    assert np.abs(got.astype(int) - want).max() <= 1  # it rounds once, after both passes
