"""labelme's JSON files: every kind of shape, groups, and the forms of versions 3 to 5."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from tool_files import OUTLINE, labelme_file, labelme_shape, picture, write

from seg_det.data.coco_seg import read_coco_seg
from seg_det.data.labelme import read_labelme
from seg_det.errors import UserError

PAIRS = [OUTLINE[i : i + 2] for i in range(0, len(OUTLINE), 2)]


@pytest.fixture
def shapes_read(tmp_path):
    """A function that writes shapes for a.png and reads them."""
    picture(tmp_path / "a.png")

    def read(*shapes, **more):
        write(tmp_path / "a.json", labelme_file("a.png", list(shapes)))
        return read_labelme(root=tmp_path, **more)

    return read


def png(pixels) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.array(pixels, bool)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_every_shape_with_an_area_has_a_box(shapes_read):
    mask = [[0, 0, 0], [0, 1, 1], [0, 0, 1]]
    source = shapes_read(
        labelme_shape("x", PAIRS, "polygon"),
        labelme_shape("x", [[40, 30], [43, 34]], "circle"),
        labelme_shape("x", [[10, 20], [12, 22]], "mask", mask=png(mask)),
        labelme_shape("x", [[1, 2], [9, 2], [9, 7], [1, 7]], "rectangle"),
    )
    assert source.records[0].boxes.tolist() == [[10, 5, 60, 45], [35, 25, 45, 35], [11, 21, 13, 23], [1, 2, 9, 7]]


def test_masks_of_polygons_are_cocos_and_bitmaps_their_pixels(shapes_read, tmp_path):
    polygon = labelme_shape("x", PAIRS, "polygon")
    small = labelme_shape("y", [[70, 50], [71, 51]], "mask", mask=png([[1, 0], [1, 1]]))
    source = shapes_read(polygon, small, kind="segmentation")
    assert [(c.id, c.name) for c in source.categories] == [(0, "background"), (1, "x"), (2, "y")]
    row = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [OUTLINE]}
    images = [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}]
    document = {"images": images, "annotations": [row], "categories": [{"id": 1, "name": "x"}]}
    theirs = read_coco_seg(images=tmp_path, annotations=write(tmp_path / "other" / "coco.json", document))
    drawn, expected = source.records[0].mask.read(), theirs.records[0].mask.read()
    assert np.argwhere(drawn == 2).tolist() == [[50, 70], [51, 70], [51, 71]]
    assert np.array_equal(drawn == 1, expected == 1) and (drawn == 1).sum() > 1000


def test_shapes_of_a_group_are_one_object(shapes_read):
    left = labelme_shape("x", [[0, 0], [10, 0], [0, 10]], "polygon") | {"group_id": 1}
    right = labelme_shape("x", [[30, 20], [40, 20], [40, 30]], "polygon") | {"group_id": 1}
    other = labelme_shape("y", [[30, 20], [40, 20], [40, 30]], "polygon") | {"group_id": 1}
    source = shapes_read(left, right, other, labelme_shape("x", [[1, 1], [5, 5]], "rectangle"))
    assert source.records[0].boxes.tolist() == [[0, 0, 40, 30], [30, 20, 40, 30], [1, 1, 5, 5]]
    assert source.problems[0].startswith("shapes belong to an earlier one of the same label and group_id: 1 (first")
    regions = shapes_read(left, right, kind="segmentation").records[0].mask.regions
    assert len(regions) == 1 and len(regions[0].outline) == 2
    mask = labelme_shape("x", [[70, 50], [70, 50]], "mask", mask=png([[1]]), group_id=1)
    drawn = shapes_read(left, mask, kind="segmentation").records[0].mask.read()
    assert drawn[50, 70] == drawn[2, 2] == 1 and drawn[30, 30] == 0


def test_points_and_lines_are_counted_and_not_read(shapes_read):
    kinds = ["point", "line", "linestrip", "points"]
    source = shapes_read(labelme_shape("x", PAIRS, "polygon"), *(labelme_shape("p", [[1, 2]], kind) for kind in kinds))
    assert [c.name for c in source.categories] == ["x"] and source.lost == (0, 0)
    assert source.problems[0].startswith("points and lines are not read, only what has an area: 4 (first: ")
    assert "a.json: shape 2 (p)" in source.problems[0]


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (
            labelme_shape("x", [[1, 2], [9, 2], [9, 7], [1, 7]], "rotation"),
            "is a shape of the type rotation, which is not",
        ),
        (
            labelme_shape("x", [[1, 2], [9, 3], [8, 7], [0, 6]], "rectangle"),
            "is a rotated rectangle, which is not read",
        ),
        (labelme_shape("x", [[1, 2]], "rectangle"), "is a rectangle of 1 points, not of two"),
        (labelme_shape("x", [[1, 2], [3, 4]], "polygon"), "is a polygon of 2 points"),
        (labelme_shape("x", [[1, 2], ["a", 4]], "rectangle"), "lacks numbers of its outline"),
        (labelme_shape("x", [[1, 2], [2, 3]], "mask"), "lacks numbers of its outline"),
        (labelme_shape("x", [[1, 2], [2, 3]], "mask", mask="%"), "has a mask that is no base64"),
        (labelme_shape("x", [[1, 2], [2, 3]], "mask", mask="AAAA"), "has a mask that is no PNG"),
        (
            labelme_shape("x", [[1, 2], [9, 3]], "mask", mask=png([[1, 1]])),
            "has a mask of 2 x 1 pixels between corners 8 x 1",
        ),
        (labelme_shape("x", [[1, 2], [2, 3]], "mask", mask=png([[0, 0], [0, 0]])), "is a mask without a pixel"),
    ],
)
def test_shapes_that_are_wrong(shape, sentence, shapes_read):
    fine = labelme_shape("x", PAIRS, "polygon")
    with pytest.raises(UserError, match=rf"a.json: shape 2 \(x\) {sentence}"):
        shapes_read(fine, shape)
    source = shapes_read(fine, shape, on_bad="skip")
    assert len(source.records[0].boxes) == 1 and source.lost == (0, 1)


def test_a_cut_off_mask(shapes_read):
    content = base64.b64encode(base64.b64decode(png([[1, 0], [0, 1]]))[:40]).decode()
    with pytest.raises(UserError, match="has a mask that cannot be decoded"):
        shapes_read(labelme_shape("x", [[1, 2], [2, 3]], "mask", mask=content))


def test_the_form_of_version_3_and_difficult_objects(tmp_path):
    picture(tmp_path / "a.jpg")
    old = {
        "flags": {},
        "shapes": [{"label": "x", "line_color": None, "fill_color": None, "points": PAIRS}],
        "lineColor": [],
    }
    write(tmp_path / "a.json", {**old, "imagePath": "a.jpg", "imageData": "AAAA"})
    picture(tmp_path / "b.jpg")
    hard = [
        labelme_shape("x", PAIRS, "polygon", difficult=True),
        labelme_shape("x", PAIRS, "polygon") | {"flags": {"difficult": True}},
        labelme_shape("x", PAIRS, "polygon", difficult=False),
    ]
    write(tmp_path / "b.json", labelme_file("b.jpg", hard) | {"imageData": None})
    first, second = read_labelme(root=tmp_path).records
    assert first.boxes.tolist() == [[10, 5, 60, 45]] and second.difficult.tolist() == [True, True, False]


def test_files_that_are_broken(tmp_path):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    write(tmp_path / "a.json", labelme_file("a.png", [labelme_shape("x", PAIRS, "polygon"), "no shape"]))
    (tmp_path / "b.json").write_text('{"version": "5",\n "shapes": [{],\n "imagePath": "b.png"}')
    with pytest.raises(UserError, match=r"a.json: shape 2 is no shape: .* \(the first of 2 problems"):
        read_labelme(root=tmp_path)
    source = read_labelme(root=tmp_path, on_bad="skip")
    assert "b.json, line 2, column 14: not valid JSON" in source.problems[1] and source.lost == (1, 1)
    assert len(source.records) == 1


def test_a_file_of_an_image_that_is_empty_or_another_tools(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    write(tmp_path / "a.json", labelme_file("a.png", [labelme_shape("x", PAIRS, "polygon")]))
    write(tmp_path / "b.json", ""), write(tmp_path / "c.json", {"x": 1}), write(tmp_path / "settings.json", {})
    with pytest.raises(UserError, match=r"b.json is no file of labelme, or broken: .* \(the first of 2 problems"):
        read_labelme(root=tmp_path)
    assert read_labelme(root=tmp_path, on_bad="skip").lost == (2, 0)


def test_an_image_before_the_shapes(tmp_path):
    picture(tmp_path / "a.png")
    content = {"imageData": "A" * 2**19, "imagePath": "a.png", "shapes": [{"label": "x", "points": PAIRS}]}
    write(tmp_path / "a.json", content)
    assert len(read_labelme(root=tmp_path).records[0].boxes) == 1


def test_labels_of_the_other_split_are_looked_up_whatever_their_spelling(tmp_path):
    for split, label in (("train", "x"), ("val", 'gr\u00fc"n')):
        picture(tmp_path / split / "a.png")
        shapes = [labelme_shape(label, PAIRS, "polygon"), labelme_shape("spot", [[1, 2]], "point")]
        write(tmp_path / split / "a.json", labelme_file("a.png", shapes))
    assert [c.name for c in read_labelme(root=tmp_path, split="train").categories] == ['gr\u00fc"n', "x"]
