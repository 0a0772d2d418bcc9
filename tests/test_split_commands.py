"""A folder with one annotation file, from the command line: split, trained on, measured on the same images ever after."""

import copy
import json
import shutil
from pathlib import Path

import hydra
import numpy as np
import pytest
from commands import ROOT, run
from PIL import Image

from seg_det.commands.labelled_data import read_source, read_training
from seg_det.data.split_file import read_split_file
from seg_det.errors import UserError

SMALL = [
    "backbone.width=0.25", "backbone.weights=none", "data.size=64", "data.batch_size=4", "data.num_workers=0",
    "trainer.max_epochs=1",
]  # fmt: skip
EVALUATE = ["data.num_workers=0", "device=cpu"]


def boards(root: Path, names) -> Path:
    """Images and one file in COCO's format beside them, as Roboflow exports a set that was not split."""
    root.mkdir(exist_ok=True)
    images, annotations = [], []
    for number, name in enumerate(names, start=1):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
        images.append({"id": number, "file_name": name, "width": 64, "height": 48})
        annotations.append({"id": number, "image_id": number, "category_id": 3, "bbox": [number, 4, 30, 20]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "bolt"}]}
    (root / "_annotations.coco.json").write_text(json.dumps(content))
    return root


NAMES = [f"{letter}.png" for letter in "abcdefghijklm"]  # i, j and m have hashes below 0.2


def only(paths):
    (path,) = paths
    return path


def newest(folder, verb):
    return max((folder / "runs" / verb).glob("*/*"), key=lambda path: path.stat().st_mtime_ns)


def measured(folder):
    """The names of the images that the newest evaluation was on, by its predictions, and its figures."""
    run_folder = newest(folder, "evaluate")
    metrics = json.loads((run_folder / "metrics.json").read_text())
    return {row["image_id"] for row in json.loads((run_folder / "predictions.json").read_text())}, metrics


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    root = boards(folder / "boards", NAMES)
    done = run(folder, "train", "dataset.root=boards", *SMALL)
    return folder, root, newest(folder, "train"), done


def test_a_share_of_one_file_validates(trained):
    _, _, found, done = trained
    assert (
        "boards was recognised by _annotations.coco.json, without a val part: dataset=custom_coco dataset.val_share=0.2 "
        "dataset.train_annotations=_annotations.coco.json dataset.train_images=.\n"
    ) in done.stdout
    assert "boards is split: 3 of 13 images (23.1%) validate, 10 train (dataset.val_share=0.2)" in done.stdout
    assert read_split_file(found).names("val") == ["i.png", "j.png", "m.png"]
    metrics = json.loads((found / "metrics.json").read_text())
    assert (metrics["training"]["split"], metrics["training"]["images"]) == ("boards train", 10)
    assert (metrics["evaluation"]["split"], metrics["evaluation"]["images"]) == ("boards val", 3)


def test_the_run_is_measured_on_its_own_val_part(trained, tmp_path):
    """From another working folder, after images came that the hash would have validate, and of a copy of the data."""
    _, root, found, _ = trained
    before = json.loads((found / "metrics.json").read_text())["coco"]
    kept = root.rename(root.with_name("kept"))
    boards(root, [*NAMES, "3.png", "4.png"])
    done = run(tmp_path, "evaluate", f"model={found}", *EVALUATE)
    assert "2 images (3.png, 4.png) came after the run split its data" in done.stdout
    ids, after = measured(tmp_path)
    assert ids == {9, 10, 13} and after["coco"] == before
    root.rename(tmp_path / "copy")
    kept.rename(root)
    done = run(tmp_path, "evaluate", f"model={found}", "dataset.root=copy", *EVALUATE)
    assert "copy was recognised by _annotations.coco.json" in done.stdout
    assert (
        f"copy is split: 3 of 13 images (23.1%) validate, 10 train (dataset.split_file={found}/split.json)"
        in done.stdout
    )
    ids, after = measured(tmp_path)
    assert ids == {9, 10, 13} and after["coco"] == before and after["evaluation"]["split"] == "copy val"


def test_other_data_are_measured_by_their_share(trained, tmp_path):
    _, _, found, _ = trained
    boards(tmp_path / "other", ["w.png", "x.png", "y.png"])
    done = run(tmp_path, "evaluate", f"model={found}", "dataset.root=other", *EVALUATE)
    assert "2 train (dataset.val_share=0.2; dataset.val_share=1 measures all)" in done.stdout
    missing = run(tmp_path, "evaluate", f"model={found}", "dataset.root=none", *EVALUATE, check=False)
    assert "error: dataset.root=none does not exist" in missing.stderr and not (tmp_path / "none").exists()


def test_resuming_and_a_split_file_keep_the_parts(trained, tmp_path):
    _, root, found, _ = trained
    kept = root.rename(root.with_name("kept"))
    try:
        boards(root, [*NAMES, "3.png", "4.png"])
        run(tmp_path, "train", f"resume={found}", "trainer.fast_dev_run=true", "trainer.max_epochs=2")
        assert read_split_file(newest(tmp_path, "train")).images == read_split_file(found).images
        words = [f"dataset.root={root}", f"dataset.split_file={found}", "trainer.fast_dev_run=true", *SMALL]
        done = run(tmp_path, "train", *words, "hydra.run.dir=again")
        images = read_split_file(tmp_path / "again").images
        assert {name: images[name] for name in NAMES} == read_split_file(found).images and len(images) == 15
        assert f"train (dataset.split_file={found})" in done.stdout
    finally:
        shutil.rmtree(root)
        kept.rename(root)


@pytest.mark.slow
def test_the_jobs_of_a_sweep_share_one_split(trained, tmp_path):
    _, root, found, _ = trained
    words = ["-m", f"dataset.root={root}", "seed=0,1", "trainer.fast_dev_run=true", "hydra.sweep.dir=sweep", *SMALL]
    run(tmp_path, "train", *words, check=False)  # a run of one batch leaves no figures
    splits = [read_split_file(tmp_path / "sweep" / job).images for job in "01"]
    assert splits == [read_split_file(found).images] * 2


def test_anchors_and_the_preview_see_the_train_part(trained, tmp_path):
    _, root, _, _ = trained
    done = run(tmp_path, "seg_det.anchors", f"dataset.root={root}", "data.size=64", "fit.rounds=1")
    assert "boards train, 10 objects in 10 images at 64 x 64" in done.stdout
    done = run(tmp_path, "train", f"dataset.root={root}", *SMALL, "preview=true")
    assert "3 of 13 images (23.1%) validate" in done.stdout and only(
        (tmp_path / "runs" / "preview").glob("*/*/split.json")
    )


@pytest.fixture(scope="module")
def by_hand(trained):
    """The data set as dataset=custom_coco names it."""
    _, root, _, _ = trained
    words = ["dataset=custom_coco", f"dataset.root={root}", "dataset.train_images=."]
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose("train", [*words, "dataset.train_annotations=_annotations.coco.json"])


def test_no_val_part_by_hand(trained, by_hand, caplog):
    _, root, _, _ = trained
    caplog.set_level("INFO")
    parts = read_training(by_hand.dataset)
    assert (len(parts.val.records), len(read_source(by_hand.dataset, "train").records)) == (3, 10)
    assert f"{root} has no val part (there is no {root}/annotations/val.json): 3 of 13 images" in caplog.text
    assert [len(read_source(changed(by_hand, val_share=share), "val").records) for share in (0.35, 1)] == [4, 13]
    assert len(read_source(changed(by_hand, val_annotations=None), "val").records) == 3


def changed(config, **values):
    """The data set with other values."""
    config = copy.deepcopy(config)
    for key, value in values.items():
        config.dataset[key] = value
    return config.dataset


@pytest.mark.parametrize("val", ["", "val: ../valid/images\n"])
def test_roboflow_s_train_and_test_part(val, tmp_path, caplog):
    """Its data.yaml may name the folder of a part that it did not export."""
    for part, names in (("train", NAMES), ("test", ["t.png"])):
        (tmp_path / part / "images").mkdir(parents=True)
        (tmp_path / part / "labels").mkdir()
        for name in names:
            Image.new("RGB", (40, 40)).save(tmp_path / part / "images" / name)
            (tmp_path / part / "labels" / f"{name[0]}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    text = f"train: ../train/images\n{val}test: ../test/images\nnames: [bolt]\n"
    (tmp_path / "data.yaml").write_text(text)
    caplog.set_level("INFO")
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = ["dataset=yolo", f"dataset.root={tmp_path}/data.yaml", "dataset.near_duplicates=false"]
        config = hydra.compose("train", [*words, "dataset.group_by='(.)\\.png'"])
    parts = read_training(config.dataset)
    assert {place.group for place in parts.split.images.values()} == {name[0] for name in NAMES}
    assert len(parts.train.records) + len(parts.val.records) == 13
    reason = "there is no ../valid/images" if val else f"{tmp_path}/data.yaml names none"
    assert f"{tmp_path} has no val part ({reason}): " in caplog.text


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"val_share": None}, "if there is no val part, dataset.val_share=0.2 takes a share of the train part."),
        ({"val_share": 1}, "boards train has no image: set dataset.val_share to a share below 1, such as 0.2."),
        ({"val_share": "two"}, "dataset.val_share must be auto, null or a number above 0, such as 0.2, got two."),
        ({"near_duplicates": 1}, "dataset.near_duplicates must be true or false, got 1."),
        ({"split_file": "none.json"}, "boards/none.json: there is no such file"),
        ({"train_annotations": "none.json"}, "boards/none.json"),
    ],
)
def test_mistakes_get_one_sentence(by_hand, values, sentence):
    with pytest.raises(UserError) as error:
        read_training(changed(by_hand, **values))
    assert sentence in str(error.value)


def test_a_val_part_that_is_named_must_be_there(trained, tmp_path):
    _, root, found, _ = trained
    words = [f"dataset.root={root}", "dataset.val_annotations=val.json", "hydra.run.dir=run", *SMALL]
    done = run(tmp_path, "train", *words, check=False)
    assert f"error: the annotation file is missing: there is no {root}/val.json" in done.stderr
    shutil.copytree(found, tmp_path / "broken")
    (tmp_path / "broken" / "split.json").write_text("{}")
    done = run(tmp_path, "evaluate", "model=broken", *EVALUATE, check=False)
    assert "error: dataset.split_file=broken/split.json is no split.json of a run (it lacks 'format')" in done.stderr
