"""Image files in all their kinds come out upright, RGB and whole, or with one sentence that names the file."""

import cv2
import numpy as np
import pytest
from PIL import Image

from seg_det.data.images import image_size, is_turned, read_rgb, verify_image
from seg_det.errors import UserError


def corner_image():
    """20 high, 40 wide, black, with a red patch in its upper left quarter."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:10, :20] = (255, 0, 0)
    return Image.fromarray(pixels)


def save(path, image, **options):
    image.save(path, **options)
    return path


def turned(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def noise_jpeg(path, **options):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return save(path, Image.fromarray(pixels), **options)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
def test_colours_are_in_rgb_order(tmp_path, suffix):
    pixels = read_rgb(save(tmp_path / f"a.{suffix}", corner_image()))
    assert pixels.shape == (20, 40, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable
    assert pixels[4, 4, 0] > 240 and pixels[4, 4, 1:].max() < 15
    assert pixels[15, 30].max() < 15


@pytest.mark.parametrize("suffix", ["jpg", "png"])
# where the patch of the stored upper left quarter lies once the image is upright, as (y, x)
@pytest.mark.parametrize(
    ("orientation", "shape", "patch"),
    [(3, (20, 40), (15, 30)), (6, (40, 20), (10, 15)), (8, (40, 20), (30, 5))],
)
def test_exif_orientation_is_applied(tmp_path, suffix, orientation, shape, patch):
    path = save(tmp_path / f"a.{suffix}", corner_image(), exif=turned(orientation))
    pixels = read_rgb(path)
    assert pixels.shape[:2] == shape
    assert pixels[patch][0] > 200 and pixels[19 if shape[0] == 40 else 4, 4].max() < 60
    assert image_size(path) == verify_image(path) == shape
    assert is_turned(path) == (orientation != 3)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = save(tmp_path / "a.png", corner_image().convert(mode))
    pixels = read_rgb(path)
    assert pixels.shape == (20, 40, 3)
    assert pixels[15, 30].max() < 30
    if mode in ("P", "RGBA"):
        assert pixels[4, 4].tolist() == [255, 0, 0]
    if mode in ("L", "LA"):
        assert pixels[4, 4].tolist() == [76, 76, 76]  # ITU-R 601: 0.299 * 255


def test_greyscale_and_cmyk_jpeg(tmp_path):
    grey = read_rgb(save(tmp_path / "l.jpg", corner_image().convert("L")))
    assert grey.shape == (20, 40, 3) and (grey[..., 0] == grey[..., 2]).all() and abs(int(grey[4, 4, 0]) - 76) < 3
    cmyk = read_rgb(save(tmp_path / "cmyk.jpg", corner_image().convert("CMYK"), quality=95))
    assert cmyk[4, 4, 0] > 240 and cmyk[4, 4, 1] < 15


def test_palette_with_transparency_drops_it_without_a_warning(tmp_path, recwarn):
    palette = corner_image().quantize(4)
    pixels = read_rgb(save(tmp_path / "a.png", palette, transparency=bytes([0, 100, 200, 255])))
    assert pixels[4, 4].tolist() == [255, 0, 0] and not recwarn.list


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((5, 6), 0x8040, np.uint16))
    cv2.imwrite(str(tmp_path / "colour.png"), np.full((5, 6, 3), 0x8040, np.uint16))
    for name in ("grey.png", "colour.png"):
        pixels = read_rgb(tmp_path / name)
        assert pixels.shape == (5, 6, 3) and pixels.dtype == np.uint8 and (pixels == 0x80).all()


def test_bytes_after_the_end_of_a_jpeg_are_harmless(tmp_path):
    path = noise_jpeg(tmp_path / "a.jpg")
    whole = read_rgb(path)
    path.write_bytes(path.read_bytes() + b"\0" * 1000 + b"camera")
    assert (read_rgb(path) == whole).all()
    assert verify_image(path) == (64, 64)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("rest", [b"", b"\0" * 3000])
def test_truncated_jpeg_is_an_error(tmp_path, progressive, rest):
    path = noise_jpeg(tmp_path / "a.jpg", progressive=progressive)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + rest)
    for read in (read_rgb, verify_image):
        with pytest.raises(UserError, match=r"a\.jpg is truncated .*fetch the file again or take it out"):
            read(path)
    assert image_size(path) == (64, 64)  # the header is sound


def test_the_end_of_a_thumbnail_does_not_hide_a_truncation(tmp_path):
    noise_jpeg(tmp_path / "thumbnail.jpg")
    exif = Image.Exif()
    exif[37500] = (tmp_path / "thumbnail.jpg").read_bytes()  # MakerNote, where cameras keep such things
    path = noise_jpeg(tmp_path / "a.jpg", exif=exif)
    data = path.read_bytes()
    assert data.count(b"\xff\xd9") == 2
    path.write_bytes(data[:-500])
    with pytest.raises(UserError, match=r"a\.jpg is truncated"):
        read_rgb(path)


def test_truncated_png_is_an_error(tmp_path):
    path = noise_jpeg(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:-2000])
    for read in (read_rgb, verify_image):
        with pytest.raises(UserError, match=r"a\.png is broken \(.*truncated.*\); fetch"):
            read(path)


@pytest.mark.parametrize("read", [read_rgb, image_size, verify_image])
def test_no_image_at_all(tmp_path, read):
    with pytest.raises(UserError, match=r"there is no image .*missing\.jpg; fetch the file again"):
        read(tmp_path / "missing.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UserError, match=r"empty\.jpg is (empty|broken)"):
        read(tmp_path / "empty.jpg")
    (tmp_path / "page.jpg").write_text("<html>404 not found</html>")
    with pytest.raises(UserError, match=r"page\.jpg is broken \(no known image format\)"):
        read(tmp_path / "page.jpg")
    with pytest.raises(UserError, match=r"cannot be read|is broken"):
        read(tmp_path)


def test_a_jpeg_of_rubbish_is_broken(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8" + b"rubbish" * 50 + b"\xff\xd9")
    with pytest.raises(UserError, match=r"a\.jpg is broken"):
        read_rgb(path)


def test_real_greyscale_jpegs(real_data):
    folder = real_data / "data" / "raccoon_voc" / "JPEGImages"
    images = {path.stem: read_rgb(path) for path in sorted(folder.glob("*.jpg"))}
    assert len(images) == 142
    assert all(image.shape[2] == 3 for image in images.values())
    grey = [name for name, image in images.items() if (image[..., 0] == image[..., 2]).all()]
    assert len(grey) == 2
    assert all(image_size(folder / f"{name}.jpg") == image.shape[:2] for name, image in images.items())
