"""Images far larger than memory allows: named with their size, before a decoder reserves memory for them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seg_det.data import images
from seg_det.data.coco import read_coco
from seg_det.data.images import image_size, read_rgb, read_values, verify_image
from seg_det.data.jpeg import read_header
from seg_det.errors import UserError

SENTENCE = (
    r"bomb\.\w+ has 60000 x 50000 pixels, which would take 9\.0 GB of memory .*268 million pixels.*; make it smaller"
)


def png_header(path, width, height):
    """A PNG of that size with hardly any pixels in it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ]
    body = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    return path


def jpeg_header(path, width, height):
    """A small JPEG whose frame header says that size."""
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("read", [read_rgb, image_size, verify_image, read_values])
def test_a_png_of_three_thousand_million_pixels(tmp_path, read):
    with pytest.raises(UserError, match=SENTENCE):
        read(png_header(tmp_path / "bomb.png", 60000, 50000))


@pytest.mark.parametrize("read", [read_rgb, image_size, verify_image])
def test_a_jpeg_of_three_thousand_million_pixels(tmp_path, read):
    with pytest.raises(UserError, match=SENTENCE):
        read(jpeg_header(tmp_path / "bomb.jpg", 60000, 50000))


@pytest.mark.parametrize("progressive", [False, True])
def test_the_size_in_a_jpeg_is_found_behind_other_headers(tmp_path, progressive):
    exif = Image.Exif()
    exif[37500] = bytes(5000)
    Image.new("RGB", (70, 30)).save(tmp_path / "a.jpg", exif=exif, progressive=progressive, comment=b"\xff\xc0")
    assert read_header((tmp_path / "a.jpg").read_bytes()).size == (70, 30)
    data = (tmp_path / "a.jpg").read_bytes()
    assert read_header(data[:2] + b"\xff\xff\xff" + data[2:]).size == (70, 30)  # fill bytes before a marker
    assert read_header(b"\xff\xd8").size == read_header(b"\xff\xd8\xff\xe0\x00\x00rubbish").size == (0, 0)


def test_two_hundred_million_pixels_are_fine(tmp_path, recwarn):
    assert image_size(png_header(tmp_path / "phone.png", 16320, 12240)) == (12240, 16320)
    assert not recwarn.list


def test_memory_that_does_not_suffice(tmp_path, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")

    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr(images, "pixels_of", refuse)
    with pytest.raises(UserError, match=r"the memory does not suffice for the image .*a\.png; make it smaller"):
        read_rgb(tmp_path / "a.png")


def test_a_reader_leaves_it_out_when_asked(tmp_path):
    png_header(tmp_path / "bomb.png", 60000, 50000)
    Image.new("RGB", (20, 20)).save(tmp_path / "good.png")
    listed = ", ".join(
        f'{{"id": {i}, "file_name": "{name}", "width": {w}, "height": {h}}}'
        for i, name, w, h in ((1, "bomb.png", 60000, 50000), (2, "good.png", 20, 20))
    )
    box = '{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 1, 9, 9]}'
    file = tmp_path / "instances.json"
    file.write_text(f'{{"images": [{listed}], "annotations": [{box}], "categories": [{{"id": 1, "name": "cat"}}]}}')
    source = read_coco(images=tmp_path, annotations=file, on_bad="skip")
    assert [record.path.name for record in source.records] == ["good.png"]
    assert len(source.problems) == 1 and "bomb.png has 60000 x 50000 pixels" in source.problems[0]


@pytest.mark.parametrize("name", ["x.tif", "x.png", "x.gif", "x.bmp", "x.webp"])
def test_pillow_s_own_limit_is_not_ours_and_stays_as_it_was(tmp_path, monkeypatch, recwarn, name):
    """Pillow looks at its limit again while it decodes some TIFFs."""
    options = {"compression": "group4"} if name == "x.tif" else {}
    Image.new("1" if name == "x.tif" else "RGB", (40, 50)).save(tmp_path / name, **options)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert read_rgb(tmp_path / name).shape == (50, 40, 3)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(UserError):
        read_rgb(tmp_path / "broken.png")
    assert Image.MAX_IMAGE_PIXELS == 50
    assert not [warning for warning in recwarn if "Bomb" in warning.category.__name__]
