"""YOLO's layout: what tools write, what it means, and that the same data gives the same records in every format."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run
from three_formats import as_three
from tool_files import NAMES, picture

from seg_det.data.coco import read_coco
from seg_det.data.coco_seg import read_coco_seg
from seg_det.data.voc import read_voc
from seg_det.data.yolo import read_yolo
from seg_det.data.yolo_files import label_file
from seg_det.errors import UserError


def labels(image: Path, *lines: str) -> None:
    path = label_file(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def root(tmp_path):
    """Two images to train on, of which one has no label file, and one to validate."""
    labels(picture(tmp_path / "images" / "train" / "a.png"), "0 0.5 0.5 0.25 0.5", "1 0.125 0.25 0.25 0.1")
    picture(tmp_path / "images" / "train" / "b.png", (40, 40))
    labels(picture(tmp_path / "images" / "val" / "c.png"), "1 0.5 0.5 1 1")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: {0: open, 1: short}\n")
    return tmp_path


def test_boxes_by_hand(root):
    source = read_yolo(root=root, split="train")
    assert source.name == f"{root.name} train" and [(c.id, c.name) for c in source.categories] == [
        (0, "open"),
        (1, "short"),
    ]
    first, second = source.records
    assert first.boxes.tolist() == [[30, 15, 50, 45], [0, 12, 20, 18]] and first.labels.tolist() == [0, 1]
    assert first.size == (60, 80) and first.area.tolist() == [600, 120] and not first.crowd.any()
    assert second.boxes.shape == (0, 4) and second.size == (40, 40)
    assert source.problems == ()


def test_an_image_may_be_called_0(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [bolt]\ntrain: images\nval: images\n")
    labels(picture(tmp_path / "images" / "0.png"), "0 0.5 0.5 0.2 0.2")
    assert [record.image_id for record in read_yolo(root=tmp_path, split="train").records] == [0]


def test_a_label_lies_in_the_place_of_the_last_images():
    assert label_file(Path("/images/x/images/train/a.b.jpg")) == Path("/images/x/labels/train/a.b.txt")
    assert label_file(Path("data/train/a.jpg")) == Path("data/train/a.txt")


@pytest.mark.parametrize(
    "text",
    [
        "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['open', 'short']\n",  # Roboflow
        "path: /home/somebody/data\ntrain: train/images\nval: valid/images\nnames: [open, short]\n",
        "train: C:\\Users\\x\\data\\train\\images\nval: valid/images\nnames: [open, short]\n",
        "path: ../datasets/x\ntrain: [train/images]\nval: valid\nnames: [open, short]\n",
    ],
)
def test_paths_as_tools_write_them(text, tmp_path):
    labels(picture(tmp_path / "train" / "images" / "a.jpg"), "0 0.5 0.5 0.5 0.5")
    labels(picture(tmp_path / "valid" / "images" / "b.jpg"), "1 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").write_text(text)
    train, val = (read_yolo(root=tmp_path, split=split) for split in ("train", "val"))
    assert [r.path.name for r in train.records] == ["a.jpg"] and [r.path.name for r in val.records] == ["b.jpg"]
    assert val.records[0].labels.tolist() == [1]
    assert read_yolo(root=tmp_path / "data.yaml", split="train").records[0].path == train.records[0].path


def test_a_list_of_images_and_class_names_in_a_text(tmp_path):
    for name in ("a", "b"):
        labels(picture(tmp_path / "images" / f"{name}.jpg"), "0 0.5 0.5 0.5 0.5")
    (tmp_path / "train.txt").write_text("./images/a.jpg\nimages\\b.jpg\nimages/gone.jpg\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [x]\n")
    source = read_yolo(root=tmp_path, split="train", on_bad="skip")
    assert [record.path.name for record in source.records] == ["a.jpg", "b.jpg"]
    assert f"train.txt, line 3: there is no image {tmp_path / 'images' / 'gone.jpg'}" in source.problems[0]
    assert "1 of 3 files are spelled otherwise" not in str(source.problems)  # backslashes are usual in lists
    with pytest.raises(UserError, match="names no images for val"):
        read_yolo(root=tmp_path, split="val")


def test_folders_with_class_names_beside_them(tmp_path):
    labels(picture(tmp_path / "images" / "train" / "a.jpg"), "1 0.5 0.5 0.5 0.5")
    (tmp_path / "classes.txt").write_text("\ufeffopen\r\nshort\r\n")
    assert [c.name for c in read_yolo(root=tmp_path, split="train").categories] == NAMES
    with pytest.raises(UserError, match="has no images/val nor images/valid nor images/validation"):
        read_yolo(root=tmp_path, split="val")


def test_polygons_as_boxes_and_as_masks(tmp_path):
    image = picture(tmp_path / "images" / "train" / "a.jpg")
    labels(image, "0 0.25 0.5 0.75 0.5 0.75 1.0 0.25 1.0 0.2 0.75", "1 0 0 0.5 0 0.5 0.25")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [open, short]\n")
    boxes = read_yolo(root=tmp_path, split="train").records[0].boxes
    assert boxes.tolist() == [[16, 30, 60, 60], [0, 0, 40, 15]]
    source = read_yolo(root=tmp_path, split="train", kind="segmentation")
    assert [(c.id, c.name) for c in source.categories] == [(0, "background"), (1, "open"), (2, "short")]
    mask = source.records[0].mask.read()
    assert mask[45, 40] == 1 and mask[2, 30] == 2 and mask[20, 70] == 0 and mask.shape == (60, 80)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("7 0.5 0.5 0.1 0.1", "line 1: the class 7 is none of 0 to 1"),
        ("0.5 0.5 0.5 0.1 0.1", "line 1: the class 0.5 is none of 0 to 1"),
        ("0 320 200 50 50", "line 1: the numbers reach 320, so they are pixels"),
        ("0 0.5 0.5 0.1 0.1 0.9", "line 1: six numbers are a prediction with its score"),
        ("0 0.5 0.5", "line 1: 3 numbers are not class x y width height"),
        ("torn 0.5 0.5 0.1 0.1", "line 1: 'torn' is neither the number of a class nor one of the names"),
        ("0 0.5 0.5 0 0.1", "line 1: its box 0.5 0.5 0 0.1 has zero or negative size"),
        ("0 nan 0.5 0.2 0.1", "line 1: its box nan 0.5 0.2 0.1 has a coordinate that is not a finite number"),
        ("0 1.5 0.5 0.2 0.1", "line 1: its box 1.5 0.5 0.2 0.1 lies wholly outside its image"),
    ],
)
def test_lines_that_are_wrong(line, sentence, root):
    labels(root / "images" / "train" / "a.png", line, "0 0.5 0.5 0.5 0.5")
    with pytest.raises(UserError) as error:
        read_yolo(root=root, split="train")
    assert f"{root / 'labels' / 'train' / 'a.txt'}, {sentence}" in str(error.value)
    source = read_yolo(root=root, split="train", on_bad="skip")
    assert len(source.records[0].boxes) == 1 and len(source.problems) == 1


def test_oriented_boxes_and_poses_are_refused_by_name(root):
    oriented = "0 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4"
    labels(root / "images" / "train" / "a.png", oriented, oriented)
    with pytest.raises(UserError, match="have four corners, as oriented boxes have, which are not read"):
        read_yolo(root=root, split="train")
    assert read_yolo(root=root, split="train", polygons=True).records[0].boxes.shape == (2, 4)
    with (root / "data.yaml").open("a") as file:
        file.write("kpt_shape: [17, 3]\n")
    with pytest.raises(UserError, match="describes poses"):
        read_yolo(root=root, split="train")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: images/train\n", "has no names"),
        ("names: [a, a]\ntrain: images/train\n", "names the class 'a' twice"),
        ("names: [a, '']\ntrain: images/train\n", "has a class without a name"),
        ("names: {1: a, 2: b}\ntrain: images/train\n", r"the numbers of names must be 0 to 1, got \[1, 2\]"),
        ("names: [a]\nnc: 2\ntrain: images/train\n", "says nc: 2, but has 1 names"),
        ("names: [a]\ntrain: 7\n", "train must be a folder of images"),
        ("names: [a]\ntrain: images/none\n", "there is no images/none"),
        ("names: [a\n", "cannot be read as YAML"),
        ("just text", "holds no keys"),
    ],
)
def test_descriptions_that_are_wrong(text, sentence, root):
    (root / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_yolo(root=root, split="train")


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match="has neither data.yaml nor classes.txt"):
        read_yolo(root=tmp_path, split="train")
    picture(tmp_path / "images" / "train" / "a.jpg")
    (tmp_path / "classes.txt").write_text("x\n")
    with pytest.raises(
        UserError, match=r"not one image of .* has labels: those of .*a.jpg would be .*labels/train/a.txt"
    ):
        read_yolo(root=tmp_path, split="train")


def test_the_same_data_gives_the_same_records_in_three_formats(tmp_path):
    truth = as_three(tmp_path)
    sources = [
        read_coco(images=tmp_path / "images" / "train", annotations=tmp_path / "coco.json"),
        read_voc(root=tmp_path, split="train"),
        read_yolo(root=tmp_path, split="train"),
    ]
    assert sum(map(len, truth.values())) > 10
    for records in zip(*(source.records for source in sources), strict=True):
        assert records[0].boxes.tolist() == [list(map(float, box)) for box in truth[records[0].image_id]]
        for other in records[1:]:
            assert other.path.name == records[0].path.name and other.size == records[0].size
            assert other.image_id == records[0].image_id
            for field in ("boxes", "labels", "crowd", "difficult", "area"):
                ours, theirs = getattr(records[0], field), getattr(other, field)
                assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs), field
    assert len({tuple(c.name for c in source.categories) for source in sources}) == 1


def test_polygons_give_the_masks_of_coco(tmp_path):
    image = picture(tmp_path / "images" / "train" / "1.png", (80, 50))
    shapes = [(0, [8.0, 5.0, 60.0, 5.0, 60.0, 40.0, 30.0, 45.0]), (1, [20.0, 10.0, 40.0, 10.0, 32.0, 35.0])]
    labels(image, *(f"{c} " + " ".join(repr(v / s) for v, s in zip(p, [80, 50] * 4, strict=False)) for c, p in shapes))
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [open, short]\n")
    rows = [{"id": i, "image_id": 1, "category_id": c, "segmentation": [p]} for i, (c, p) in enumerate(shapes)]
    categories = [{"id": label, "name": name} for label, name in enumerate(NAMES)]
    images = [{"id": 1, "file_name": "1.png", "width": 80, "height": 50}]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    theirs = read_coco_seg(images=image.parent, annotations=tmp_path / "coco.json")
    ours = read_yolo(root=tmp_path, split="train", kind="segmentation", polygons=True)
    assert np.array_equal(ours.records[0].mask.read(), theirs.records[0].mask.read())


def test_a_training_and_its_evaluation(tmp_path):
    as_three(tmp_path / "data")
    small = ["backbone.width=0.25", "backbone.weights=none", "data.size=64", "data.batch_size=4", "data.num_workers=0"]
    words = ["dataset=yolo", f"dataset.root={tmp_path / 'data'}", "trainer.max_epochs=1", "augmentation=light", *small]
    assert "AP" in run(tmp_path, "train", *words).stdout
    (rows,) = (tmp_path / "runs" / "train").rglob("predictions.json")
    assert {row["category_id"] for row in json.loads(rows.read_text())} <= {0, 1}


def test_real_circuit_boards(real_data):
    """Counts of the data set's own README, and of the label files' lines."""
    root = real_data / "data" / "deeppcb_yolo"
    for split, images in (("train", 420), ("val", 140)):
        source = read_yolo(root=root, split=split)
        lines = sum(len(path.read_text().split("\n")) - 1 for path in (root / "labels" / split).glob("*.txt"))
        assert len(source.records) == images and len(source.categories) == 6 and not source.problems
        assert sum(len(record.boxes) for record in source.records) == lines
