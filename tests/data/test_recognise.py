"""Which data set a folder is taken for, and train.py dataset.root=FOLDER alone."""

import json
from pathlib import Path

import pytest
from commands import run
from test_yolo import as_three

from seg_det.commands.pointing import point_at_data
from seg_det.data.recognise import BOXES, CLASSES, MASKS, recognise
from seg_det.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def coco(path: Path, image="a.jpg") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"info": {}, "images": [{"id": 1, "file_name": image}], "annotations": []}))


@pytest.mark.parametrize(
    ("names", "wanted", "dataset"),
    [
        (("shapes.json",), BOXES, "shapes"),
        (("data.yaml", "images/train/a.jpg"), BOXES, "yolo"),
        (("images/train/a.jpg", "labels/train/a.txt", "classes.txt"), BOXES, "yolo"),
        (("JPEGImages/a.jpg", "Annotations/a.xml", "SegmentationClass/a.png"), BOXES, "custom_voc"),
        (("JPEGImages/a.jpg", "Annotations/a.xml", "SegmentationClass/a.png"), MASKS, "voc_seg"),
        (("leftImg8bit/x", "gtFine/x"), MASKS, "cityscapes"),
        (("train/a.png", "trainannot/a.png"), MASKS, "camvid"),
        (("train/images/a.png", "train/masks/a.png", "labels.txt"), MASKS, "custom_masks"),
        (("train/cat/a.jpg", "train/dog/b.JPEG", "val/cat/c.png"), CLASSES, "imagefolder"),
    ],
)
def test_by_what_lies_in_it(names, wanted, dataset, tmp_path):
    assert recognise(touch(tmp_path, *names), wanted).dataset == dataset


def test_masks_of_yolo_come_with_their_augmentation(tmp_path):
    touch(tmp_path, "data.yaml")
    assert recognise(tmp_path, MASKS).settings == ("augmentation=segmentation",)
    assert recognise(tmp_path / "data.yaml", BOXES) == ("yolo", (), "data.yaml")


@pytest.mark.parametrize(
    ("train", "val", "images"),
    [
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json", ("train2017", "val2017")),
        ("annotations/train.json", "annotations/val.json", ("train", "val")),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json", ("train", "valid")),  # Roboflow
        ("annotations/instances_train.json", "annotations/instances_val.json", ("images/train", "images/val")),  # CVAT
        ("train.json", "val.json", ("images", "images")),
    ],
)
def test_every_layout_of_coco(train, val, images, tmp_path):
    for file, folder, name in ((train, images[0], "a.jpg"), (val, images[1], "b.jpg")):
        coco(tmp_path / file, name)
        touch(tmp_path, f"{folder}/{name}")
    touch(tmp_path, "annotations/captions_train2017.json", "annotations/person_keypoints_train2017.json")
    found = recognise(tmp_path, BOXES)
    assert found.dataset == "custom_coco" and recognise(tmp_path, MASKS).dataset == "coco_seg"
    assert dict(setting.split("=") for setting in found.settings) == {
        "dataset.train_annotations": str(tmp_path / train),
        "dataset.train_images": str(tmp_path / images[0]),
        "dataset.val_annotations": str(tmp_path / val),
        "dataset.val_images": str(tmp_path / images[1]),
    }


@pytest.mark.parametrize("name", ["sub\\a.jpg", "sub/a.jpg", 'sub/\u00e9 "b".jpg'])
def test_names_as_json_and_windows_write_them(name, tmp_path):
    for split in ("train", "val"):
        coco(tmp_path / "annotations" / f"{split}.json", name)
        touch(tmp_path, f"{split}/{name.replace(chr(92), '/')}")
    assert f"dataset.train_images={tmp_path / 'train'}" in recognise(tmp_path, BOXES).settings


def test_what_cannot_be_recognised(tmp_path):
    with pytest.raises(UserError, match="none does not exist: correct the path"):
        recognise(tmp_path / "none", BOXES)
    touch(tmp_path, "a.jpg", "notes.txt")
    with pytest.raises(
        UserError, match=r"holds no data set that is known: it has a.jpg, notes.txt. Recognised are COCO's JSON"
    ):
        recognise(tmp_path, BOXES)
    with pytest.raises(UserError, match="notes.txt is a file: give the folder"):
        recognise(tmp_path / "notes.txt", BOXES)
    coco(tmp_path / "annotations" / "train.json", "gone.jpg")
    with pytest.raises(UserError, match="train.json is in COCO's format, but there is no such file for validation"):
        recognise(tmp_path, BOXES)
    coco(tmp_path / "annotations" / "val.json", "gone.jpg")
    with pytest.raises(UserError, match="names the image gone.jpg, which is in none of"):
        recognise(tmp_path, BOXES)


def test_a_command_line(tmp_path, capsys):
    touch(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "data.yaml")
    root = f"dataset.root={tmp_path}"
    assert point_at_data([root, "task=ssdlite"]) == [root, "task=ssdlite", "dataset=yolo"]
    assert f"{tmp_path} was recognised by data.yaml: dataset=yolo" in capsys.readouterr().out
    assert point_at_data([root, "task=lraspp_os32"])[-1] == "augmentation=segmentation"
    assert point_at_data([root, "task=lraspp", "augmentation=flip"]) == [
        root,
        "task=lraspp",
        "augmentation=flip",
        "dataset=yolo",
    ]
    assert point_at_data(["dataset=auto", root]) == [root, "dataset=yolo"]
    for named in ("dataset=coco", "experiment=bccd", "resume=runs/x"):
        assert point_at_data([root, named]) == [root, named]
    assert point_at_data(["data.size=64"]) == ["data.size=64"]
    assert point_at_data(["-m", f"dataset.root={tmp_path}/a,{tmp_path}/b"]) == [
        "-m",
        f"dataset.root={tmp_path}/a,{tmp_path}/b",
    ]
    with pytest.raises(SystemExit, match="error: dataset=auto wants the folder"):
        point_at_data(["dataset=auto"])
    with pytest.raises(SystemExit, match="error: dataset.root=.*none does not exist"):
        point_at_data([f"dataset.root={tmp_path}/none"])


def test_one_command_from_a_folder_to_a_model(tmp_path):
    """A folder with a blank and an equals sign in its name, as COCO's JSON and as YOLO's."""
    small = ["backbone.width=0.25", "backbone.weights=none", "data.size=64", "data.batch_size=4", "data.num_workers=0"]
    as_three(tmp_path / "my data")
    for name in ("Annotations", "JPEGImages"):
        (tmp_path / "my data" / name).rename(tmp_path / f"{name} of VOC")
    words = ["dataset.root='my data'", "trainer.max_epochs=1", *small]
    done = run(tmp_path, "train", *words)
    assert "was recognised by data.yaml: dataset=yolo" in done.stdout
    assert list((tmp_path / "runs" / "train" / "ssdlite_v2_yolo").glob("*/checkpoints/best.ckpt"))
    (tmp_path / "my data" / "data.yaml").unlink()
    (tmp_path / "my data" / "images" / "val").symlink_to(tmp_path / "my data" / "images" / "train")
    (tmp_path / "my data" / "val.json").write_text((tmp_path / "my data" / "coco.json").read_text())
    (tmp_path / "my data" / "coco.json").rename(tmp_path / "my data" / "train.json")
    done = run(tmp_path, "train", *words)
    assert "was recognised by train.json and val.json: dataset=custom_coco" in done.stdout
    assert list((tmp_path / "runs" / "train" / "ssdlite_v2_custom_coco").glob("*/checkpoints/best.ckpt"))


def test_real_folders(real_data):
    data = real_data / "data"
    expected = {
        "deeppcb_yolo": (BOXES, "yolo"), "facemask_coco": (BOXES, "custom_coco"), "facades_coco": (MASKS, "coco_seg"),
        "coco2017_subset": (BOXES, "custom_coco"), "bccd_voc": (BOXES, "custom_voc"), "camvid": (MASKS, "camvid"),
        "camvid_cityscapes_layout": (MASKS, "cityscapes"), "voc_seg_from_coco": (MASKS, "voc_seg"),
    }  # fmt: skip
    assert {
        name: (wanted, recognise(data / name, wanted).dataset) for name, (wanted, _) in expected.items()
    } == expected


def test_images_in_another_spelling_than_the_json_has(tmp_path):
    """The reader finds a.jpg as a.JPG and, with a backslash, below images/; so the folder is recognised too."""
    for name, written, there in (("one", "a.jpg", "a.JPG"), ("two", "images\\a.jpg", "images/a.jpg")):
        for split in ("train", "val"):
            (tmp_path / name / split / there).parent.mkdir(parents=True)
            (tmp_path / name / split / there).touch()
            (tmp_path / name / f"{split}.json").write_text(json.dumps({"images": [{"id": 1, "file_name": written}]}))
        settings = recognise(tmp_path / name, BOXES).settings
        assert f"dataset.train_images={tmp_path / name / 'train'}" in settings
