"""Which data set a folder is taken for, and train.py dataset.root=FOLDER alone."""

import json
from pathlib import Path

import pytest
from commands import run
from omegaconf import OmegaConf
from three_formats import as_three

from seg_det.commands.recognising import learned_from, with_recognised_data
from seg_det.data.recognise import BOXES, CLASSES, MASKS, SHAPES, recognise
from seg_det.errors import UserError
from seg_det.installed import installed


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


VOC = "<annotation><object><name>x</name></object></annotation>"
SHARE = "dataset.val_share=0.2"


@pytest.mark.parametrize(
    ("names", "wanted", "dataset", "settings"),
    [
        # LabelImg: beside the images, in folders of their own, for each part
        (("a.jpg", "a.xml"), BOXES, "custom_voc", ["images=.", "annotations=.", "train_split=null"]),
        (("images/a.jpg", "annotations/a.xml"), BOXES, "custom_voc",
         ["images=images", "annotations=annotations", "train_split=null"]),
        (("JPEGImages/a.jpg", "Annotations/a.xml"), BOXES, "custom_voc", ["train_split=null"]),
        (("JPEGImages/a.jpg", "Annotations/a.xml", "ImageSets/Main/trainval.txt"), BOXES, "custom_voc",
         ["train_split=trainval"]),
        (("JPEGImages/a.jpg", "Annotations/a.xml", "ImageSets/Main/train.txt"), BOXES, "custom_voc", []),
        (("train/a.jpg", "train/a.xml"), BOXES, "custom_voc",
         ["train_images=train", "train_annotations=train", "train_split=null"]),
        # YOLO
        (("images/a.jpg", "labels/a.txt", "classes.txt"), BOXES, "yolo", ["train_split=."]),
        (("images/train/a.jpg", "labels/train/a.txt", "classes.txt"), BOXES, "yolo", []),
        (("a.jpg", "a.txt", "classes.txt"), BOXES, "yolo", ["train_split=."]),
        # masks and classes
        (("images/a.jpg", "masks/a.png", "labels.txt"), MASKS, "custom_masks", ["train_split=."]),
        (("train/images/a.jpg", "train/masks/a.png", "labels.txt"), MASKS, "custom_masks", []),
        (("cat/a.jpg", "dog/b.JPG", ".cache/x"), CLASSES, "imagefolder", ["train_split=."]),
        (("train/cat/a.jpg", "train/dog/b.jpg", "test/cat/c.jpg"), CLASSES, "imagefolder", []),
    ],
)  # fmt: skip
def test_data_of_one_part(names, wanted, dataset, settings, tmp_path):
    touch(tmp_path, *names)
    for path in tmp_path.rglob("*.xml"):
        path.write_text(VOC)
    found = recognise(tmp_path, wanted)
    assert found.dataset == dataset
    assert set(found.settings) == {*(f"dataset.{setting}" for setting in settings), SHARE}


def test_parts_whose_xml_lies_beside_the_images(tmp_path):
    touch(tmp_path, "train/a.jpg", "train/a.xml", "valid/images/b.jpg", "valid/annotations/b.xml")
    for path in tmp_path.rglob("*.xml"):
        path.write_bytes(VOC.encode("utf-16"))
    assert recognise(tmp_path, BOXES)[:3] == (
        "custom_voc",
        (
            "dataset.train_images=train", "dataset.train_annotations=train", "dataset.train_split=null",
            "dataset.val_images=valid/images", "dataset.val_annotations=valid/annotations", "dataset.val_split=null",
        ),
        "the XML files in train",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("file", "image", "folder"),
    [
        ("annotations/instances_default.json", "a.jpg", "images/default"),  # CVAT
        ("annotations/instances_default.json", "a.jpg", "images"),
        ("result.json", "images/a.jpg", "."),  # Label Studio
        ("result.json", "images\\\\a.jpg", "."),
        ("coco.json", "a.jpg", "images"),
        ("_annotations.coco.json", "a.jpg", "."),
    ],
)
def test_one_file_of_coco(file, image, folder, tmp_path):
    coco(tmp_path / file, "x")
    text = json.dumps({"licenses": [], "categories": [], "images": [{"file_name": "x"}], "annotations": []})
    (tmp_path / file).write_text(text.replace('"x"', f'"{image}"'))
    touch(
        tmp_path,
        f"{folder}/{image.replace(chr(92) * 2, '/')}",
        "annotations/person_keypoints_default.json",
        "notes.json",
    )
    for wanted, dataset in ((BOXES, "custom_coco"), (MASKS, "coco_seg")):
        found = recognise(tmp_path, wanted)
        assert found.dataset == dataset and found.told_by == f"{file}, without a val part"
        assert set(found.settings) == {
            SHARE, f"dataset.train_annotations={tmp_path / file}", f"dataset.train_images={tmp_path / folder}",
        }  # fmt: skip
    (tmp_path / file).with_suffix(".cleaned.json").write_text((tmp_path / file).read_text())  # the doctor's copy
    assert recognise(tmp_path, BOXES).settings == found.settings
    (tmp_path / "again.json").write_text((tmp_path / file).read_text())
    (tmp_path / "more.json").write_text((tmp_path / file).read_text())
    if not file.startswith("annotations/instances"):
        with pytest.raises(UserError, match="holds 3 files in COCO's format .*: say which, with dataset=custom_coco"):
            recognise(tmp_path, BOXES)


def test_what_else_a_folder_holds_is_said(tmp_path, capsys):
    """YOLO's description comes first; the other three, and a second train file, are named with the settings that read them."""
    touch(tmp_path, "data.yaml", "JPEGImages/a.jpg", "Annotations/a.xml", "images/a.jpg", "images/b.jpg")
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "a.json").write_text('{"version": "5.0", "shapes": [], "imagePath": "a.jpg"}')
    coco(tmp_path / "annotations" / "train.json")
    voc, labelme = "dataset=custom_voc (Annotations/ and JPEGImages/)", "dataset=labelme (a.json)"
    others = recognise(tmp_path, BOXES).others
    assert others == (voc, "dataset=custom_coco (annotations/train.json, without a val part)", labelme)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "annotations" / "train_more.json").write_text('{"images": [], "annotations": [], "categories": []}')
    coco(tmp_path / "annotations" / "train.json")
    (tmp_path / "annotations" / "train_settings.json").write_text("{}")
    more = f"dataset.train_annotations={tmp_path}/annotations/train_more.json"
    assert recognise(tmp_path, MASKS).others == (labelme, more)
    for given, left in (("dataset.val_share=0.3", f"{labelme}, "), (more, labelme)):
        with_recognised_data([f"dataset.root={tmp_path}", "task=lraspp", given])
        said = f"{tmp_path} holds more, which is left out: {left}"
        assert said in (out := capsys.readouterr().out) and ("annotations/train_more.json; give one" in out) == (
            given != more
        )


@pytest.mark.parametrize(
    "names", [("shapes.json", "JPEGImages/a.jpg", "Annotations/a.xml"), ("data.yaml", "classes.txt", "labels/a.txt")]
)
def test_one_data_set_is_not_called_two(names, tmp_path):
    assert recognise(touch(tmp_path, *names), BOXES).others == ()


def test_what_is_no_annotation(tmp_path):
    """The settings of a program, another program's XML, and text beside images without names of classes."""
    touch(tmp_path, "a.jpg", "a.xml", "a.txt", "images/a.jpg", "settings.json")
    (tmp_path / "a.xml").write_text("<notes><image/></notes>")
    (tmp_path / "settings.json").write_text('{"images": "images/", "categories": 3}')
    with pytest.raises(UserError, match="holds no data set that is known"):
        recognise(tmp_path, BOXES)


def test_masks_of_yolo_come_with_their_augmentation(tmp_path):
    touch(tmp_path, "data.yaml")
    assert recognise(tmp_path, MASKS).settings == ("augmentation=segmentation",)
    assert recognise(tmp_path / "data.yaml", BOXES)[:3] == ("yolo", (), "data.yaml")


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
    with pytest.raises(UserError, match="names the image gone.jpg, which is in none of"):
        recognise(tmp_path, BOXES)


def test_a_folder_for_another_task_names_the_task(tmp_path):
    touch(
        tmp_path,
        "m/images/a.jpg",
        "m/masks/a.png",
        "c/cat/a.jpg",
        "c/dog/b.jpg",
        "v/JPEGImages/a.jpg",
        "v/Annotations/a.xml",
    )
    for name, wanted, said in (
        (
            "m",
            BOXES,
            r"holds masks \(images/ and masks/\), and the task learns from boxes: set task=lraspp, or another",
        ),
        ("c", BOXES, r"holds classes \(2 folders of images\), and the task learns from boxes: set task=classifier"),
        ("v", MASKS, r"holds boxes \(Annotations/ and JPEGImages/\), and the task learns from masks: set task=ssdlite"),
    ):
        with pytest.raises(UserError, match=said):
            recognise(tmp_path / name, wanted)


def test_a_command_line(tmp_path, capsys):
    touch(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "data.yaml")
    root = f"dataset.root={tmp_path}"
    assert with_recognised_data([root, "task=ssdlite"]) == [root, "task=ssdlite", "dataset=yolo"]
    assert f"{tmp_path} was recognised by data.yaml: dataset=yolo" in capsys.readouterr().out
    assert with_recognised_data([root, "task=lraspp_os32"])[-1] == "augmentation=segmentation"
    assert with_recognised_data([root, "task=lraspp", "augmentation=flip"]) == [
        root,
        "task=lraspp",
        "augmentation=flip",
        "dataset=yolo",
    ]
    assert with_recognised_data(["dataset=auto", root]) == [root, "dataset=yolo"]
    for named in ("dataset=coco", "experiment=bccd", "resume=runs/x"):
        assert with_recognised_data([root, named]) == [root, named]
    assert with_recognised_data(["data.size=64"]) == ["data.size=64"]
    with pytest.raises(SystemExit, match="error: dataset=auto wants the folder"):
        with_recognised_data(["dataset=auto"])
    with pytest.raises(SystemExit, match="error: dataset.root=.*none does not exist"):
        with_recognised_data([f"dataset.root={tmp_path}/none"])


def test_the_folders_and_tasks_of_a_sweep(tmp_path, capsys):
    for name in ("a", "b"):
        coco(tmp_path / name / "coco.json")
        touch(tmp_path, f"{name}/a.jpg")
    text = json.dumps({"images": [{"file_name": "a.jpg"}], "annotations": [], "categories": []})
    for name in ("a", "b"):
        (tmp_path / name / "coco.json").write_text(text)
    roots = f"dataset.root={tmp_path}/a,{tmp_path}/b"
    assert with_recognised_data(["-m", roots]) == [
        "-m",
        roots,
        "dataset=custom_coco",
        "dataset.val_share=0.2",
        "dataset.train_annotations=${dataset.root}/coco.json",
        "dataset.train_images=${dataset.root}",
    ]
    touch(tmp_path, "b/data.yaml")
    with pytest.raises(
        SystemExit, match=r"a and .*b are laid out differently \(dataset=custom_coco by .*run them one by one"
    ):
        with_recognised_data(["-m", roots])
    with pytest.raises(SystemExit, match="error: dataset.root=.*/c does not exist"):
        with_recognised_data(["-m", f"{roots},{tmp_path}/c"])
    one = f"dataset.root={tmp_path}/b"
    assert with_recognised_data(["-m", one, "task=ssdlite,ssd"])[-1] == "dataset=yolo"
    with pytest.raises(SystemExit, match="do not learn from the same .task=ssd from boxes, task=lraspp from masks"):
        with_recognised_data(["-m", one, "task=ssd,lraspp"])


def test_a_missing_folder_is_never_drawn_into(tmp_path):
    """An experiment of the user's own may name no data set, and the default one is generated."""
    root = f"dataset.root={tmp_path}/none"
    for words in ([root], [root, "experiment=mine"], [root, "dataset=auto"]):
        with pytest.raises(SystemExit, match="error: dataset.root=.*/none does not exist"):
            with_recognised_data(words)
    assert with_recognised_data([root, "dataset=shapes"]) == [root, "dataset=shapes"]


def test_shapes_as_they_were_generated(tmp_path):
    (tmp_path / "shapes.json").write_text('{"format": 1, "seed": 0, "train_images": 24, "val_images": 200}')
    assert recognise(tmp_path, MASKS)[:3] == ("shapes", ("dataset.train_images=24",), "shapes.json")
    defaults = OmegaConf.load(installed("conf") / "dataset" / "shapes.yaml").dataset
    assert {key: defaults[key] for key in SHAPES} == SHAPES


@pytest.mark.parametrize(
    ("kind", "wanted"), [("detection", BOXES), ("segmentation", MASKS), ("classification", CLASSES)]
)
def test_a_folder_is_read_for_the_model_that_is_measured(kind, wanted, tmp_path):
    run_folder = Path(__file__).parents[1] / "fixtures" / "earlier" / kind
    assert learned_from(str(run_folder)) == wanted
    assert learned_from(str(next(run_folder.glob("*.onnx")))) == wanted
    touch(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "data.yaml", "SegmentationClass/a.png")
    words = [f"model={run_folder}", f"dataset.root={tmp_path}"]
    found = with_recognised_data(words, of_model=True)
    assert found[2] == "dataset=yolo" and ("augmentation=segmentation" in found) == (wanted == MASKS)
    assert with_recognised_data([words[0]], of_model=True) == [words[0]]


def test_published_weights_need_the_data_set_s_name(tmp_path):
    with pytest.raises(SystemExit, match="error: other.pth was not trained here: name the data set beside its folder"):
        with_recognised_data(["model=other.pth", f"dataset.root={tmp_path}"], of_model=True)


def test_what_says_where_the_val_part_is_needs_no_share(tmp_path):
    coco(tmp_path / "train.json")
    touch(tmp_path, "a.jpg")
    root = f"dataset.root={tmp_path}"
    assert "dataset.val_share=0.2" in with_recognised_data([root])
    for own in ("dataset.val_annotations=other.json", "dataset.split_file=runs/x", "dataset.val_share=0.3"):
        assert "dataset.val_share=0.2" not in with_recognised_data([root, own])


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
