"""The numbers of one look at an image, computed by hand."""

import numpy as np
import pytest
from PIL import Image

from seg_det.doctor.looks import look_at, look_at_all


def saved(path, pixels, name="PNG"):
    Image.fromarray(pixels).save(path, name)
    return look_at(path)


def test_halves_of_two_greys(tmp_path):
    pixels = np.full((40, 60, 3), 60, np.uint8)
    pixels[:, 30:] = 180
    look = saved(tmp_path / "a.png", pixels)
    assert look.size == (40, 60) and look.format == "PNG" and look.suffix_fits and not look.fault
    assert (look.entropy, look.spread, look.colour) == pytest.approx((1, 60, 0))
    assert (look.bright, look.dark) == pytest.approx((60 / 255, 180 / 255), abs=1e-4)
    assert look.sharpness == pytest.approx(120)  # 60 + 180 - 2 x 60


def test_brightness_weighs_green_most(tmp_path):
    """sqrt(0.241 R^2 + 0.691 G^2 + 0.068 B^2)."""
    for channel, weight in enumerate((0.241, 0.691, 0.068)):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., channel] = 255
        look = saved(tmp_path / f"{channel}.png", pixels)
        assert (look.dark, look.bright) == pytest.approx((weight**0.5, weight**0.5), abs=1e-4)
        assert look.colour == 255 and look.entropy == 0 and look.spread == 0


def test_equal_pixels_have_equal_hashes_whatever_the_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    first, second = saved(tmp_path / "a.png", pixels), saved(tmp_path / "b.jpg", pixels, "BMP")
    assert (
        first.pixels == second.pixels and first.content != second.content and first.digest.dhash == second.digest.dhash
    )
    assert second.format == "BMP" and not second.suffix_fits


def test_bad_files_become_sentences(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    looks = look_at_all([tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "a.jpg"], "images")
    assert "a.jpg is empty (0 bytes)" in looks[tmp_path / "a.jpg"].fault
    assert "b.jpg cannot be read (No such file or directory)" in looks[tmp_path / "b.jpg"].fault and len(looks) == 2
