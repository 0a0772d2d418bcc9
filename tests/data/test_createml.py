"""Create ML's JSON: centres of boxes, the names of its keys, and what is refused."""

import pytest
from tool_files import picture, write

from seg_det.data.createml import read_createml
from seg_det.errors import UserError


def objects(x=30, y=20, width=20, height=10, label="x"):
    return [{"label": label, "coordinates": {"x": x, "y": y, "width": width, "height": height}}]


@pytest.mark.parametrize(
    "entry",
    [
        {"image": "a.png", "annotations": objects()},
        {"imagefilename": "a.png", "annotation": objects()},
        {"imageURL": "file:///Users/x/a.png", "annotations": objects(label=" x ")},
    ],
)
def test_a_box_is_given_by_its_centre(entry, tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "labels.json", [entry])
    source = read_createml(root=tmp_path)
    assert source.records[0].boxes.tolist() == [[20, 15, 40, 25]] and source.categories[0].name == "x"


@pytest.mark.parametrize(
    ("annotations", "sentence"),
    [
        (objects(width=-20), "has the width -20 and the height 10, which must be positive"),
        ([{"label": "x", "coordinates": {"x": 1}}], "lacks numbers of its outline"),
        (objects(label=None), "has no class"),
        (objects(x=float("nan")), "has a coordinate that is not a finite number"),
        (objects(x=0.5, y=0.5, width=0.2, height=0.0), "has the width 0.2 and the height 0"),
    ],
)
def test_annotations_that_are_wrong(annotations, sentence, tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "labels.json", [{"image": "a.png", "annotations": [*objects(), *annotations]}])
    with pytest.raises(UserError, match=rf"labels.json: entry 1 \(a.png\), annotation 2 \(.*\) {sentence}"):
        read_createml(root=tmp_path)
    assert read_createml(root=tmp_path, on_bad="skip").lost == (0, 1)


def test_entries_that_are_wrong_and_masks(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "labels.json", [{"image": "a.png", "annotations": objects()}, {"image": "b.png"}, 3])
    source = read_createml(root=tmp_path, on_bad="skip")
    assert (
        source.lost == (2, 0) and "entry 2 lacks the name of an image and a list of annotations" in source.problems[0]
    )
    with pytest.raises(UserError, match="holds Create ML's boxes, and masks need outlines"):
        read_createml(root=tmp_path, kind="segmentation")


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_shares_of_the_image(tmp_path, on_bad):
    picture(tmp_path / "a.png")
    write(tmp_path / "labels.json", [{"image": "a.png", "annotations": objects(x=0.5, y=0.5, width=0.2, height=0.1)}])
    with pytest.raises(
        UserError, match=r"all 1 objects \(the first: .*annotation 1 \(x\)\) look like shares of the image"
    ):
        read_createml(root=tmp_path, on_bad=on_bad)
