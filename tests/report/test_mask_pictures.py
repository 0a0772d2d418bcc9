"""Label maps as PNG files that other tools read back, and as pictures."""

import numpy as np
import pytest
from PIL import Image

from seg_det.data.cityscapes import CLASSES
from seg_det.data.voc_seg import voc_colours
from seg_det.errors import UserError
from seg_det.report.drawings import WRONG
from seg_det.report.masks import UNLABELLED, MaskWriter, beside, legend
from seg_det.types import IGNORE, Category

STREETS = (Category(7, "road"), Category(23, "sky"), Category(33, "bicycle"))


def test_colours_are_pascal_vocs():
    colours = voc_colours(256)
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 5: (128, 0, 128), 15: (192, 128, 128), 20: (0, 64, 128)}
    for label, colour in {**known, 255: (224, 224, 192)}.items():
        assert tuple(colours[label].tolist()) == colour
    assert len(np.unique(colours, axis=0)) == 256


def test_colours_are_those_of_real_masks(real_data):
    path = next((real_data / "data/voc_seg_from_coco").rglob("SegmentationClass/*.png"))
    with Image.open(path) as mask:
        palette = np.array(mask.getpalette()).reshape(-1, 3)
    assert np.array_equal(palette[:21], voc_colours(256)[:21])


def test_palette_files_hold_ids_in_the_colours_of_the_classes(tmp_path):
    labels = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    path = MaskWriter(tmp_path / "new" / "predictions", STREETS, "palette").write("aachen_000000_000019", labels)
    assert path == tmp_path / "new" / "predictions" / "aachen_000000_000019.png"
    with Image.open(path) as mask:
        assert mask.mode == "P"
        assert np.asarray(mask).tolist() == [[7, 23, 33], [33, 33, 7]]
        assert np.array_equal(np.asarray(mask.convert("RGB")), voc_colours(256)[labels])


def test_cityscapes_has_its_own_colours(tmp_path):
    categories = [Category(known.id, known.name) for known in reversed(CLASSES)]
    path = MaskWriter(tmp_path, categories, "palette").write("a", np.array([[18, 5, 0]], np.uint8))
    with Image.open(path) as mask:
        assert np.asarray(mask).tolist() == [[7, 26, 33]]
        assert np.asarray(mask.convert("RGB")).tolist() == [[[128, 64, 128], [0, 0, 142], [119, 11, 32]]]


def test_ids_are_grey_files(tmp_path):
    path = MaskWriter(tmp_path, STREETS, "ids").write("a", np.array([[2, 0]], np.uint8))
    with Image.open(path) as mask:
        assert mask.mode == "L"
        assert np.asarray(mask).tolist() == [[33, 7]]


def test_files_of_one_name_do_not_overwrite_each_other(tmp_path):
    writer = MaskWriter(tmp_path, STREETS, "ids")
    paths = [writer.write("0001", np.full((1, 1), label, np.uint8)) for label in range(3)]
    assert [path.name for path in paths] == ["0001.png", "0001_2.png", "0001_3.png"]
    assert [int(np.asarray(Image.open(path))[0, 0]) for path in paths] == [7, 23, 33]


def test_bad_forms_and_ids(tmp_path):
    with pytest.raises(UserError, match="save_predictions must be one of palette, ids, got 'colour'"):
        MaskWriter(tmp_path / "x", STREETS, "colour")
    with pytest.raises(UserError, match="class ids of 0 to 255, but kite has 1034"):
        MaskWriter(tmp_path / "x", (Category(1034, "kite"),), "ids")
    assert not (tmp_path / "x").exists()


def test_truth_prediction_and_errors_in_a_row():
    image = np.full((40, 60, 3), 10, np.uint8)
    truth = np.full((40, 60), 1, np.uint8)
    truth[:10] = IGNORE
    predicted = truth.copy()
    predicted[:10] = 0  # of pixels without a label: no error
    predicted[20:, 30:] = 2
    sheet = beside(image, truth, predicted, STREETS, 100)
    strip = len(sheet) - 40
    assert strip > 0 and sheet.shape[1] == 3 * 60 + 2 * 4
    views = [sheet[strip:, start : start + 60] for start in (0, 64, 128)]

    def tinted(colour):  # six tenths of the colour, four of the image
        return np.array([round(0.6 * c + 0.4 * 10) for c in colour])

    assert (views[0][1:9] == tinted(UNLABELLED)).all() and (views[0][11:] == tinted((128, 0, 0))).all()
    assert (views[1][1:9] == 10).all()  # a class that is black leaves the image as it is
    assert (views[1][21:, 31:] == tinted((0, 128, 0))).all()
    edge = [c // 3 + 170 for c in (round(0.6 * 128 + 4), 4, 4)]
    assert views[0][10, 5].tolist() == edge  # the first row of another class
    wrong = (views[2] == WRONG).all(-1)
    assert wrong[20:, 30:].all() and wrong.sum() == 20 * 30


def test_large_views_are_shrunk_and_their_classes_are_not_mixed():
    masks = np.zeros((2, 400, 600), np.uint8)
    masks[:, :, 300:] = 2
    sheet = beside(np.zeros((400, 600, 3), np.uint8), *masks, STREETS, 300)
    assert sheet.shape[1] == 3 * 300 + 2 * 4
    assert len(np.unique(sheet[-200:, :300].reshape(-1, 3), axis=0)) == 3  # two classes and the edge between them


def test_the_legend_names_the_colours_that_are_there():
    assert legend(STREETS, [2, 0, 255, 2]) == [
        ("road", (0, 0, 0)),
        ("bicycle", (0, 128, 0)),
        ("not labelled", (224, 224, 192)),
    ]
    assert [name for name, _ in legend(STREETS, range(3))] == ["road", "sky", "bicycle"]
