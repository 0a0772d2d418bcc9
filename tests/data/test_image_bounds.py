"""Bounds of what decoding one image takes: its pixels, said with the key that raises them, and its memory."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from image_files import noise, sentences
from PIL import Image

from seg_det.data import image_files
from seg_det.data.image_files import limit_pixels
from seg_det.data.images import read_rgb
from seg_det.errors import UserError

ROOT = Path(__file__).parents[2]
# A pixel's bytes at most, beside those of the file: what Pillow holds and the result.
MOST = (
    ("read_rgb", "RGB", "png", 8),
    ("read_rgb", "P", "png", 5),
    ("read_rgb", "RGBA", "tif", 8),
    ("read_rgb", "RGB", "jpg", 8),
    ("read_values", "L", "png", 3),
)
PEAK = """
import sys
from pathlib import Path
from seg_det.data import image_files, images

def peak():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

print(image_files.most_pixels())
for read, path in zip(sys.argv[1::2], sys.argv[2::2]):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    pixels = getattr(images, read)(Path(path))
    print((peak() - before) / (pixels.shape[0] * pixels.shape[1]))
    del pixels
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv(image_files.LIMIT, str(image_files.MOST_PIXELS))


def test_the_bound_is_said_with_the_key_that_raises_it(tmp_path):
    noise(size=(100, 50)).save(path := tmp_path / "x.png")
    limit_pixels(4999)
    for said in sentences(path):
        assert re.search(
            r"x\.png has 100 x 50 pixels, .*at most 0\.005 million .*data\.max_pixels=5000 raises that", said
        )
    limit_pixels(5000)
    assert read_rgb(path).shape == (50, 100, 3)
    limit_pixels(None)
    assert image_files.most_pixels() == image_files.MOST_PIXELS == 2**28
    for wrong in (0, -1, 1.5, "many", True):
        with pytest.raises(UserError, match=f"data.max_pixels must be a whole number from 1, got {wrong}"):
            limit_pixels(wrong)


@pytest.mark.parametrize("name", ["train", "evaluate", "export"])
def test_the_bound_is_a_key_of_each_command(name):
    assert f"max_pixels: {image_files.MOST_PIXELS} " in (ROOT / "conf" / f"{name}.yaml").read_text()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process's peak of memory there")
def test_memory_a_pixel_in_another_process(tmp_path):
    limit_pixels(4096**2)
    words = []
    for side in (16, 4096):  # the first ones load the decoders
        for read, mode, kind, _ in MOST:
            path = tmp_path / f"{mode}{side}.{kind}"
            Image.new(mode, (side, side)).save(path, **({"compression": "tiff_lzw"} if kind == "tif" else {}))
            words += [read, path]
    limit, *found = subprocess.check_output([sys.executable, "-c", PEAK, *words], cwd=ROOT).split()
    assert int(limit) == 4096**2  # another process knows the limit too
    for (read, mode, kind, most), value in zip(MOST, found[len(MOST) :], strict=True):
        assert 1 < float(value) < most, (read, mode, kind)
