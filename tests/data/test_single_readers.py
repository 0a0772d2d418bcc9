"""Data sets of one part as tools leave them, read whole."""

import numpy as np
import pytest
from PIL import Image

from seg_det.data.custom_masks import read_custom_masks
from seg_det.data.imagefolder import read_imagefolder
from seg_det.data.problems import MissingPart
from seg_det.data.voc import read_voc
from seg_det.data.yolo import read_yolo
from seg_det.errors import UserError


def xml(name, *corners):
    box = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<annotation><object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>"


def image(path, size=(20, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


@pytest.fixture
def labelimg(tmp_path):
    """A folder of images with their XML files beside them, one not yet labelled."""
    for name, kind in (("a", "cat"), ("b", "dog")):
        image(tmp_path / f"{name}.jpg").with_suffix(".xml").write_text(xml(kind, 2, 3, 10, 8))
    image(tmp_path / "c.jpg")
    return tmp_path


def test_xml_beside_the_images(labelimg):
    source = read_voc(root=labelimg, split=None, images=".", annotations=".")
    assert [record.path.name for record in source.records] == ["a.jpg", "b.jpg"]
    assert source.records[0].boxes.tolist() == [[1, 2, 10, 8]] and [c.name for c in source.categories] == ["cat", "dog"]
    assert source.problems == (
        f"{labelimg} has no XML for 1 of the images in {labelimg}, such as c, which are left out: an image without objects "
        "needs an XML without <object>",
    )
    (labelimg / "b.jpg").unlink()
    with pytest.raises(UserError, match=f"{labelimg}/b.xml is there, but {labelimg} holds no b with"):
        read_voc(root=labelimg, split=None, images=".", annotations=".")
    (labelimg / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no XML file: name the folder of the annotations"):
        read_voc(root=labelimg, split=None, images=".", annotations="empty")
    with pytest.raises(MissingPart, match=r"the split list is missing: there is no .*/ImageSets/Main/val.txt") as error:
        read_voc(root=labelimg, split="val", images=".", annotations=".")
    assert error.value.reason == f"there is no {labelimg}/ImageSets/Main/val.txt"


def test_the_classes_of_two_folders_agree(tmp_path):
    for part, kind in (("train", "dog"), ("val", "cat")):
        image(tmp_path / part / f"{kind}.jpg").with_suffix(".xml").write_text(xml(kind, 2, 3, 10, 8))
    for part, label in (("train", 1), ("val", 0)):
        source = read_voc(root=tmp_path, split=None, images=part, annotations=part, named_in=["train", "val"])
        assert [c.name for c in source.categories] == ["cat", "dog"] and source.records[0].labels.tolist() == [label]


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), (".", ".")])
def test_yolo_without_parts(images, labels, tmp_path):
    image(tmp_path / images / "a.jpg")
    (tmp_path / labels).mkdir(exist_ok=True)
    (tmp_path / labels / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("bolt\n")
    (record,) = read_yolo(root=tmp_path, split=".").records
    assert record.boxes.tolist() == [[5, 2.5, 15, 7.5]]
    with pytest.raises(MissingPart):
        read_yolo(root=tmp_path, split="val")


def test_classes_and_masks_without_parts(tmp_path):
    for name in ("cat", "dog"):
        image(tmp_path / "photos" / name / "a.jpg")
    source = read_imagefolder(root=tmp_path / "photos", split=".", train_split=".")
    assert [(str(record.path.relative_to(tmp_path)), record.label) for record in source.records] == [
        ("photos/cat/a.jpg", 0),
        ("photos/dog/a.jpg", 1),
    ]
    image(tmp_path / "scenes" / "images" / "a.jpg", (2, 2))
    (tmp_path / "scenes" / "masks").mkdir()
    Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8)).save(tmp_path / "scenes" / "masks" / "a.png")
    source = read_custom_masks(root=tmp_path / "scenes", split=".", categories=["ground", "tree"])
    assert source.records[0].mask.read().tolist() == [[0, 1], [1, 1]]
    for read, root in ((read_imagefolder, "photos"), (read_custom_masks, "scenes")):
        with pytest.raises(MissingPart):
            read(root=tmp_path / root, split="val", categories=["cat", "dog"])


def test_lists_of_images_count_below_the_root(tmp_path, monkeypatch):
    image(tmp_path / "root" / "images" / "a.jpg")
    (tmp_path / "root" / "train.tsv").write_text("a.jpg\t0\n")
    monkeypatch.chdir(tmp_path)
    words = {"root": "root", "split": "train", "images": "images"}
    for name in ("train.tsv", "root/train.tsv", str(tmp_path / "root" / "train.tsv")):
        assert len(read_imagefolder(**words, split_list=name).records) == 1
