"""CVAT's XML for images: every kind of shape, the declared labels, subsets and sub-folders."""

import numpy as np
import pytest
from tool_files import cvat_file, cvat_image, picture, write

from seg_det.data.cvat import read_cvat
from seg_det.data.recognise import BOXES, recognise
from seg_det.errors import UserError

BOX = '<box label="x" xtl="1" ytl="2" xbr="11" ybr="22.5" occluded="1"/>'
MASK = '<mask label="y" rle="1, 2, 1, 2" left="10" top="20" width="3" height="2"/>'  # rows .## and .##


@pytest.fixture
def shapes_read(tmp_path):
    """A function that writes the shapes of a.png and reads them."""
    picture(tmp_path / "images" / "a.png")

    def read(shapes, labels=("x", "y"), **more):
        write(tmp_path / "annotations.xml", cvat_file(cvat_image(shapes), labels))
        return read_cvat(root=tmp_path, **more)

    return read


def test_every_shape_with_an_area(shapes_read):
    polygon = (
        '<polygon label="y" points="10.00,6.00;60.00,6.00;40.00,30.00"><attribute name="x">1</attribute></polygon>'
    )
    ellipse = '<ellipse label=" x " cx="20" cy="30" rx="5" ry="10" rotation="0.0"/>'
    source = shapes_read(BOX + polygon + ellipse + MASK)
    assert source.records[0].boxes.tolist() == [[1, 2, 11, 22.5], [10, 6, 60, 30], [15, 20, 25, 40], [11, 20, 13, 22]]
    assert source.records[0].labels.tolist() == [0, 1, 0, 1] and source.problems == ()
    drawn = shapes_read(MASK, kind="segmentation").records[0].mask.read()
    assert np.argwhere(drawn == 2).tolist() == [[20, 11], [20, 12], [21, 11], [21, 12]]


def test_classes_are_the_declared_labels_in_their_order(shapes_read, tmp_path):
    source = shapes_read(BOX, ["zebra", " x", "ant"])
    assert [(c.id, c.name) for c in source.categories] == [(1, "zebra"), (2, "x"), (3, "ant")]
    assert source.records[0].labels.tolist() == [1]
    with pytest.raises(
        UserError, match=r"annotations.xml: image 0 \(a.png\), box 1 \(x\): its class is not in the class list"
    ):
        shapes_read(BOX, ["y"])
    kinds = "<label><name>eye</name><type>points</type></label><label><name>x</name><type>bbox</type></label>"
    part = "<label><name>paw</name><type>any</type><parent>dog</parent></label>"
    meta = f"<meta><project><labels>{kinds}{part}</labels></project></meta>"
    write(tmp_path / "annotations.xml", f"<annotations>{meta}{cvat_image(BOX)}</annotations>")
    assert [c.name for c in read_cvat(root=tmp_path).categories] == ["x"]
    write(tmp_path / "annotations.xml", f"<annotations>{cvat_image(MASK + BOX)}</annotations>")
    assert [c.name for c in read_cvat(root=tmp_path).categories] == ["x", "y"]


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (BOX.replace("<box", '<box rotation="30.5"'), "is turned by 30.5 degrees, which is not read: draw a polygon"),
        ('<ellipse label="x" cx="20" cy="30" rx="5" ry="10" rotation="45"/>', "is turned by 45 degrees"),
        ('<cuboid label="x" xtl1="1"/>', "is a cuboid, which is not read"),
        ('<box label="x" xtl="1"/>', "lacks numbers of its outline"),
        ('<polygon label="x" points="1,2;3,4"/>', "is a polygon of 2 points"),
        (
            MASK.replace('"1, 2, 1, 2"', '"1, 2, 1"').replace('"y"', '"x"'),
            "has run lengths for 4 pixels in a mask of 3 x 2",
        ),
        (BOX.replace('"x"', '" "'), "has no class"),
    ],
)
def test_shapes_that_are_wrong(shape, sentence, shapes_read):
    with pytest.raises(UserError, match=rf"annotations.xml: image 0 \(a.png\), \w+ 2 \(.*\) {sentence}"):
        shapes_read(BOX + shape)
    assert shapes_read(BOX + shape, on_bad="skip").lost == (0, 1)


def test_what_is_not_read_is_counted(shapes_read):
    others = '<points label="x" points="1,2"/><polyline label="x" points="1,2;3,4"/><tag label="x"/>'
    source = shapes_read(BOX + others + BOX.replace("<box", '<box outside="1"'))
    assert len(source.records[0].boxes) == 1 and source.lost == (0, 0)
    assert source.problems[0].startswith(
        "points, lines, skeletons and tags are not read, only what has an area: 3 (first: "
    )
    assert source.problems[1].startswith("shapes are marked as outside of the image and not read: 1 (first: ")


def test_subsets_are_splits_and_images_lie_in_sub_folders(tmp_path):
    picture(tmp_path / "images" / "one" / "a.png"), picture(tmp_path / "images" / "Validation" / "a.png")
    images = cvat_image(BOX, "one/a.png", more='subset="Train"') + cvat_image(
        "", "a.png", number=1, more='subset="Validation"'
    )
    write(tmp_path / "annotations.xml", cvat_file(images, ["x"]))
    assert recognise(tmp_path, BOXES).settings == ()
    train, val = (read_cvat(root=tmp_path, split=split) for split in ("train", "val"))
    assert [r.path.parent.name for r in train.records] == ["one"] and train.problems == ()
    assert [r.path.parent.name for r in val.records] == ["Validation"] and val.problems == ()
    assert len(read_cvat(root=tmp_path).records) == 2
    write(tmp_path / "annotations.xml", cvat_file(cvat_image(BOX, "one/a.png"), ["x"]))
    assert recognise(tmp_path, BOXES).settings == ("dataset.train_split=null", "dataset.val_share=0.2")
    with pytest.raises(
        UserError, match="annotations.xml puts no image into the split val: put the images of each split into"
    ):
        read_cvat(root=tmp_path, split="val")


def test_a_subsets_images_may_lie_in_a_folder_of_another_splits_name(tmp_path):
    image = picture(tmp_path / "images" / "test" / "a.png")
    write(tmp_path / "annotations.xml", cvat_file(cvat_image(BOX, "test/a.png", more='subset="train"'), ["x"]))
    assert read_cvat(root=tmp_path, split="train").records[0].path == image


def test_problems_of_another_subset_are_not_told(tmp_path):
    picture(tmp_path / "images" / "a.png"), picture(tmp_path / "images" / "b.png")
    turned = BOX.replace("<box", '<box rotation="30.5"')
    images = cvat_image(BOX, more='subset="train"') + cvat_image(turned + MASK, "b.png", number=1, more='subset="val"')
    write(tmp_path / "annotations.xml", f"<annotations>{images}</annotations>")  # which declares no labels
    train = read_cvat(root=tmp_path, split="train")
    assert train.problems == () and [c.name for c in train.categories] == ["x", "y"]
    val = read_cvat(root=tmp_path, split="val", on_bad="skip")
    assert val.lost == (0, 1) and [c.name for c in val.categories] == ["x", "y"]


def test_tracks_of_videos_and_broken_files_are_refused(shapes_read, tmp_path):
    write(tmp_path / "annotations.xml", cvat_file('<track id="0" label="x"><box frame="0" outside="0"/></track>'))
    assert recognise(tmp_path, BOXES).dataset == "cvat"
    with pytest.raises(
        UserError, match="holds tracks of a video, which are not read: export it as CVAT for images 1.1"
    ):
        read_cvat(root=tmp_path)
    write(tmp_path / "annotations.xml", cvat_file(cvat_image(BOX))[:-20])
    with pytest.raises(UserError, match="annotations.xml: not valid XML"):
        read_cvat(root=tmp_path)
    write(tmp_path / "annotations.xml", cvat_file(cvat_image(BOX) + cvat_image(BOX, name=" ", number=1), ["x"]))
    source = read_cvat(root=tmp_path, on_bad="skip")
    assert source.lost == (1, 0) and "image 1 (without a name) has no name" in source.problems[0]
