"""Mask files to class indices, and a sentence for every value and colour that is none."""

import numpy as np
import pytest
from PIL import Image

from seg_det.data.masks import (
    MaskedImage,
    MaskFile,
    mask_code,
    masked_records,
    require_counted_pixels,
    segmentation_source,
)
from seg_det.data.problems import Problems
from seg_det.data.voc_seg import voc_colours
from seg_det.errors import UserError
from seg_det.types import IGNORE, Category

VALUES = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)


def saved(folder, pixels, mode=None, name="m.png", palette=None):
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    if palette is not None:
        image.putpalette(palette)
    image.save(folder / name)
    return folder / name


def test_values_are_indices(tmp_path):
    assert MaskFile(saved(tmp_path, VALUES), mask_code(range(3))).read().tolist() == VALUES.tolist()


def test_palette_files_give_their_indices(tmp_path):
    path = saved(tmp_path, VALUES, palette=voc_colours(256).ravel().tolist())
    assert Image.open(path).mode == "P"
    assert MaskFile(path, mask_code(range(3))).read().tolist() == VALUES.tolist()


def test_values_can_be_any_and_some_ignored(tmp_path):
    path = saved(tmp_path, np.array([[7, 0, 33, 255]], np.uint8))
    mask = MaskFile(path, mask_code([7, 33], ignored=[0]))
    assert mask.read().tolist() == [[0, IGNORE, 1, IGNORE]]
    assert mask.read().dtype == np.uint8
    assert MaskFile(path, mask_code([33, 7, 255, 0])).read().tolist() == [[1, 3, 0, 2]]  # 255 as a class


def test_remapped_to_another_order(tmp_path):
    table = np.arange(256, dtype=np.uint8)
    table[:3] = [2, 0, 1]
    mask = MaskFile(saved(tmp_path, VALUES), mask_code(range(3))).remapped(table)
    assert mask.read().tolist() == [[2, 0, 1], [1, 255, 0]]
    with pytest.raises(UserError, match=r"value 9 in 1 pixels, but there are 3 classes \(0..2\) and 255"):
        MaskFile(saved(tmp_path, np.array([[9]], np.uint8)), mask.code).read()


def test_bits_and_sixteen_bits(tmp_path):
    bits = saved(tmp_path, np.array([[0, 255]], np.uint8), "1")
    assert MaskFile(bits, mask_code(range(2))).read().tolist() == [[0, 1]]
    wide = saved(tmp_path, np.array([[0, 1]], np.uint16), name="w.png")
    assert MaskFile(wide, mask_code(range(2))).read().tolist() == [[0, 1]]
    wider = saved(tmp_path, np.array([[0, 1000, 1000]], np.uint16), name="v.png")
    with pytest.raises(UserError, match=r"v.png holds the value 1000 in 2 pixels, but there are 2 classes"):
        MaskFile(wider, mask_code(range(2))).read()


def test_unknown_value_is_named_with_its_pixels(tmp_path):
    pixels = np.zeros((40, 50), np.uint8)
    pixels[:30, :41] = 37
    pixels[39, 0] = 40
    with pytest.raises(
        UserError,
        match=r"mask .*m.png holds the value 37 in 1,230 pixels, but there are 21 classes \(0..20\) and 255: correct the",
    ):
        MaskFile(saved(tmp_path, pixels), mask_code(range(21))).read()
    with pytest.raises(UserError, match=r"there are 3 classes \(7..8, 11\) and 0, 255: correct"):
        MaskFile(saved(tmp_path, pixels), mask_code([7, 8, 11], ignored=[0])).read()


def test_one_class_is_no_plural(tmp_path):
    with pytest.raises(UserError, match=r"value 3 in 1 pixels, but there is only one class \(0\) and 255"):
        MaskFile(saved(tmp_path, np.array([[0, 3]], np.uint8)), mask_code(range(1))).read()


def test_colours(tmp_path):
    colours = [(128, 64, 0), (0, 0, 0), (0, 0, 255)]
    code = mask_code(range(3), colours=colours, void=[(9, 9, 9)])
    pixels = np.array([[colours[2], colours[0]], [colours[1], (9, 9, 9)]], np.uint8)
    want = [[2, 0], [1, IGNORE]]
    assert MaskFile(saved(tmp_path, pixels), code).read().tolist() == want
    assert MaskFile(saved(tmp_path, pixels, "RGBA", "a.png"), code).read().tolist() == want
    palette = [9, 9, 9, 0, 0, 0, 0, 0, 255, 128, 64, 0]
    path = saved(tmp_path, np.array([[2, 3], [1, 0]], np.uint8), name="p.png", palette=palette)
    assert MaskFile(path, code).read().tolist() == want  # by the colours, not the indices
    table = np.arange(256, dtype=np.uint8)[::-1].copy()
    assert MaskFile(tmp_path / "m.png", code.remapped(table)).read().tolist() == [[253, 255], [254, 0]]


def test_unknown_colour_is_named(tmp_path):
    code = mask_code(range(2), colours=[(0, 0, 0), (10, 10, 10)])
    path = saved(tmp_path, np.array([[(0, 0, 0), (1, 2, 3), (1, 2, 3)]], np.uint8))
    with pytest.raises(
        UserError, match=r"the colour \(1, 2, 3\) in 2 pixels, which is none of the 2 colours of the class"
    ):
        MaskFile(path, code).read()


def test_colour_picture_without_colours(tmp_path):
    path = saved(tmp_path, np.array([[(0, 0, 0), (128, 0, 0), (0, 128, 0)]], np.uint8))
    with pytest.raises(
        UserError,
        match=r"m.png is a colour picture \(3 colours\) and not .*labels.txt and choose dataset=custom_masks",
    ):
        MaskFile(path, mask_code(range(3))).read()


def test_grey_picture_holds_values(tmp_path):
    path = saved(tmp_path, np.repeat(VALUES[..., None], 3, axis=2))
    assert MaskFile(path, mask_code(range(3))).read().tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (np.full((2, 3), -255, np.int32), "m.tif holds the value -255 in 6 pixels"),
        (np.full((2, 3), 1.9, np.float32), "m.tif holds fractions: save it with whole numbers"),
    ],
)
def test_values_that_no_mask_holds(tmp_path, pixels, sentence):
    path = tmp_path / "m.tif"
    Image.fromarray(pixels).save(path)
    with pytest.raises(UserError, match=sentence):
        MaskFile(path, mask_code(range(3))).read()


def test_broken_mask(tmp_path):
    (tmp_path / "m.png").write_bytes(b"no mask")
    with pytest.raises(UserError, match=r"m.png is broken \(no known image format\)"):
        MaskFile(tmp_path / "m.png", mask_code(range(3))).read()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": range(255)}, "there are 255 classes, but masks of one byte a pixel tell 254 apart"),
        ({"values": [0, 256]}, "the value 256 of a class does not fit into masks"),
        ({"values": [0, 4, 4]}, "the value 4 is given to two classes"),
        ({"values": [0, 1], "colours": [(1, 1, 1), (1, 1, 1)]}, r"the colour \(1, 1, 1\) is given to two classes"),
    ],
)
def test_codes_that_cannot_be(arguments, message):
    with pytest.raises(UserError, match=message):
        mask_code(**arguments)


@pytest.fixture
def listed(tmp_path):
    """Three images of 3 x 2 with masks."""
    images = []
    for number in (1, 2, 3):
        path = saved(tmp_path, np.zeros((2, 3, 3), np.uint8), name=f"{number}.jpg")
        images.append(
            MaskedImage(path, MaskFile(saved(tmp_path, VALUES, name=f"{number}.png"), mask_code(range(3))), number)
        )
    return images


CATEGORIES = [Category(i, name) for i, name in enumerate("abc")]


def check_problem(listed, pattern, kept):
    """on_bad=error raises the sentence with its remedy, skip lists it."""
    with pytest.raises(UserError, match=f"{pattern}.*; correct the data, or set dataset.on_bad=skip to leave out"):
        problems = Problems("error")
        segmentation_source("x", masked_records(listed, problems, "x"), CATEGORIES, problems)
    problems = Problems("skip")
    source = segmentation_source("x", masked_records(listed, problems, "x"), CATEGORIES, problems)
    assert len(source.problems) == 1 and [record.image_id for record in source.records] == kept
    with pytest.raises(UserError, match=pattern):
        raise UserError(source.problems[0])


def test_records(listed):
    records = masked_records(listed, Problems("error"), "x")
    assert [(record.path.name, record.image_id, record.size) for record in records] == [
        (f"{n}.jpg", n, (2, 3)) for n in (1, 2, 3)
    ]
    assert records[0].mask.read().tolist() == VALUES.tolist()


def test_missing_mask(listed):
    listed[1].mask.path.unlink()
    check_problem(listed, r"the mask of .*2.jpg is missing: there is no .*2.png", [1, 3])


def test_missing_image(listed):
    listed[1].path.unlink()
    check_problem(listed, r"there is no image .*2.jpg", [1, 3])


def test_other_size(listed, tmp_path):
    saved(tmp_path, np.zeros((2, 4), np.uint8), name="3.png")
    check_problem(listed, r"the mask .*3.png has 4 x 2 pixels, its image .*3.jpg has 3 x 2", [1, 2])


def test_mask_of_the_unrotated_image(listed):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 2)).save(listed[0].path, exif=exif)
    check_problem(listed, r"1.png has 3 x 2 pixels, its image .*1.jpg has 2 x 3, which its EXIF rotation turns", [2, 3])


def test_truncated_files_are_found_before_training_if_skipped(listed):
    listed[0].path.write_bytes(listed[0].path.read_bytes()[:-4])
    problems = Problems("skip")
    assert [record.image_id for record in masked_records(listed, problems, "x")] == [2, 3]
    assert "1.jpg is truncated" in problems.settle()[0]


def test_nothing_usable(listed):
    for image in listed:
        image.mask.path.unlink()
    problems = Problems("skip")
    records = masked_records(listed, problems, "x")
    with pytest.raises(UserError, match=r"not one image of pets val can be used: the mask of .*1.jpg is missing"):
        segmentation_source("pets val", records, CATEGORIES, problems)


def test_every_pixel_ignored(listed, tmp_path):
    problems = Problems("error")
    source = segmentation_source("pets val", masked_records(listed, problems, "x"), CATEGORIES, problems)
    require_counted_pixels(source)
    for number in (1, 2, 3):
        saved(tmp_path, np.full((2, 3), 255, np.uint8), name=f"{number}.png")
    with pytest.raises(UserError, match="every pixel of the 3 masks of pets val is ignored"):
        require_counted_pixels(source)


def test_one_labelled_mask_among_ignored_ones_is_enough(listed, tmp_path):
    for number in (1, 2):
        saved(tmp_path, np.full((2, 3), 255, np.uint8), name=f"{number}.png")
    problems = Problems("error")
    source = segmentation_source("pets val", masked_records(listed, problems, "x"), CATEGORIES, problems)
    require_counted_pixels(source)
    require_counted_pixels(source, every=True)


def test_a_wrong_value_in_the_last_mask_is_found_before_training(listed, tmp_path):
    saved(tmp_path, np.full((2, 3), 77, np.uint8), name="3.png")
    problems = Problems("error")
    source = segmentation_source("pets val", masked_records(listed, problems, "x"), CATEGORIES, problems)
    with pytest.raises(UserError, match=r"3\.png holds the value 77 in 6 pixels"):
        require_counted_pixels(source, every=True)
    problems = Problems("skip")
    assert [record.image_id for record in masked_records(listed, problems, "x")] == [1, 2]
    assert "holds the value 77" in problems.settle()[0]
