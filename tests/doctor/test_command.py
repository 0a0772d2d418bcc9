"""``python -m seg_det doctor`` as a user types it: what it prints, writes and returns."""

import json
import re
import shlex
from dataclasses import replace

import cv2
import numpy as np
import planted
import pytest
from commands import run
from planted import edit, set_box

from seg_det.doctor.findings import FAULTS, Finding, Scope, Split, found
from seg_det.doctor.page import summary, write_results

pytestmark = pytest.mark.usefixtures("no_connections")

COMMAND = ("seg_det.__main__", "doctor")
SMALL = ["backbone.width=0.35", "data.size=64"]


def results(folder, done):
    """The content of doctor.json and the page that the last lines name."""
    paths = [folder / re.search(rf"^{word} +(\S+)$", done.stdout, re.M)[1] for word in ("findings", "page")]
    return json.loads(paths[0].read_text()), paths[1].read_text()


def test_sound_data_pass_and_errors_fail(tmp_path):
    planted.coco(tmp_path / "data")
    arguments = [*COMMAND, "dataset.root=data", *SMALL]
    done = run(tmp_path, *arguments)
    assert "data was recognised by annotations/train.json and annotations/val.json: dataset=custom_coco" in done.stdout
    assert "6 images of data train, 3 images of data val: no errors, no warnings" in done.stdout

    set_box([10, 10, 0, 4])(tmp_path / "data")
    done = run(tmp_path, *arguments, "hydra.run.dir=second", check=False)
    assert done.returncode == 1 and not done.stderr
    assert re.search(
        r"^box-degenerate +error +1 +train\.json: annotation id 11 on image id 1 \(1\.jpg\)", done.stdout, re.M
    )
    content, page = results(tmp_path, done)
    (found,) = [one for one in content["found"] if one["severity"] == "error"]
    (item,) = found["findings"]
    assert content["counts"]["error"] == 1 and found["fault"] == "box-degenerate"
    assert item["file"] == "data/train/1.jpg" and item["image_id"] == 1 and item["boxes"] == [[10, 10, 10, 14]]
    assert "has zero or negative size" in found["findings"][0]["sentence"]
    assert content["command"].startswith("seg-det doctor dataset.root=data")
    assert page.count('<figure><img src="data:image/jpeg') == 1 and "prefers-color-scheme: dark" in page
    assert "has zero or negative size" in page and "default-src &#39;none&#39;" in page


def test_fail_on_decides_the_exit_code(tmp_path):
    planted.yolo(tmp_path / "data")
    planted.replace("images/train/1.jpg", planted.grey(30, 50))(tmp_path / "data")
    arguments = [*COMMAND, "task=ssdlite", "dataset.root=data", *SMALL]
    assert "image-dark  " in run(tmp_path, *arguments).stdout
    assert run(tmp_path, *arguments, "fail_on=warning", "hydra.run.dir=w", check=False).returncode == 1
    assert run(tmp_path, *arguments, "fail_on=never", "hydra.run.dir=n", check=False).returncode == 0
    refused = run(tmp_path, *arguments, "resume=runs/train", "hydra.run.dir=r", check=False)
    assert refused.stderr.startswith("error: resume= names a run and no data")
    refused = run(tmp_path, *arguments, "fail_on=all", "hydra.run.dir=a", check=False)
    assert refused.stderr == "error: fail_on must be one of error, warning, never, got 'all'.\n"


def test_the_corrected_copy_passes(tmp_path):
    planted.voc(tmp_path / "my data")
    (tmp_path / "my data" / "labels.txt").write_text("cat\ndog\n")
    planted.write_xml(
        tmp_path / "my data", 1, [("cat", planted.BOXES[0]), ("owl", planted.BOXES[1]), ("dog", [40, 9, 60, 9])]
    )
    done = run(tmp_path, *COMMAND, "dataset.root=my data", "fix=true", *SMALL, check=False)
    assert done.returncode == 1 and "fixes       2 changes, listed in runs/doctor/ssdlite_v2_custom_voc/" in done.stdout
    assert re.search(r"^class-undeclared +error +1 +1\.xml", done.stdout, re.M)  # without the folder and its blank
    following = shlex.split(re.search(r"^next +python train\.py (.*)$", done.stdout, re.M)[1])
    assert following[0] == "dataset.root=my data"
    assert "fix=true" not in following and "dataset.annotations=Annotations_cleaned" in following
    again = run(tmp_path, *COMMAND, *following, "hydra.run.dir=second")
    assert "no errors, no warnings" in again.stdout
    (fixes,) = tmp_path.glob("runs/doctor/*/*/fixes.json")
    assert [change["sentence"].split(":")[0] for change in json.loads(fixes.read_text())["changes"]] == [
        "deleted",
        "clipped",
    ]


def test_masks_and_classes_are_checked_too(tmp_path):
    planted.masks(tmp_path / "masks")
    planted.set_mask("train", planted.filled(7, rows=3))(tmp_path / "masks")
    done = run(tmp_path, *COMMAND, "task=lraspp", "dataset.root=masks", *SMALL, check=False)
    assert done.returncode == 1 and re.search(r"^mask-value-unknown +error +1 ", done.stdout, re.M)
    planted.imagefolder(tmp_path / "folders")
    planted.copy("train/cat/1.jpg", "train/dog/2.jpg")(tmp_path / "folders")
    done = run(tmp_path, *COMMAND, "task=classifier", "dataset.root=folders", *SMALL, check=False)
    assert done.returncode == 1 and re.search(r"^picture-of-two-classes +error +1 ", done.stdout, re.M)


def test_a_split_that_cannot_be_read_does_not_hide_the_other(tmp_path):
    planted.coco(tmp_path / "my data")
    edit("val", lambda document: document.pop("categories"))(tmp_path / "my data")
    done = run(tmp_path, *COMMAND, "dataset.root=my data", *SMALL, check=False)
    assert done.returncode == 1
    assert re.search(
        r"^split-unreadable +error +1 +the split val cannot be read: val.json has no list categories", done.stdout, re.M
    )
    edit("train", lambda document: document.pop("categories"))(tmp_path / "my data")
    done = run(tmp_path, *COMMAND, "dataset.root=my data", *SMALL, "hydra.run.dir=second", check=False)
    assert done.returncode == 1 and done.stderr.startswith(
        "error: my data/annotations/train.json has no list categories"
    )


def test_one_image_is_not_several(tmp_path):
    planted.coco(tmp_path)
    train = Split("train", planted.LAYOUTS["coco"].read(tmp_path, "train"))
    for number, said in ((1, "1 image of a: "), (2, "2 images of a: ")):
        split = train._replace(source=replace(train.source, name="a", records=train.source.records[:number]))
        assert said in summary(Scope((split,)), [], tmp_path)


def test_a_page_of_many_pictures_stays_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 320, 320, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
    findings = [Finding("bad", file=tmp_path / f"{number % 40}.png") for number in range(120)]
    listed = [one for fault in list(FAULTS)[:10] for one in found(fault, findings[:40])]
    write_results(tmp_path, "noise", Scope(()), listed, command="")
    page = (tmp_path / "doctor.html").read_text()
    assert 2_000_000 < len(page) < 3_000_000 and page.count("<figure>") < 120
    assert "The first 30 of 40 findings" in page and "10 more are in doctor.json" in page


def test_data_without_a_val_part_are_read_once_and_each_sentence_is_one_finding(tmp_path):
    planted.coco(tmp_path / "data")
    (tmp_path / "data" / "annotations" / "val.json").unlink()
    edit("train", lambda document: planted.update_all(document, 1, bbox=[10, 10, 0, 4]))(tmp_path / "data")
    edit("train", lambda document: document["categories"].append({"id": 3, "name": "owl"}))(tmp_path / "data")
    edit("train", lambda document: document["annotations"][1].update(category_id=3))(tmp_path / "data")
    done = run(tmp_path, *COMMAND, "dataset.root=data", "fix=true", *SMALL, check=False)
    assert done.stdout.count("data is split: ") == 1
    assert re.search(r"^reader-note +note +1 +data (train|val) has nothing of the class owl", done.stdout, re.M)
    content, _ = results(tmp_path, done)
    (found,) = [one for one in content["found"] if one["severity"] == "error"]
    assert sorted(item["file"] for item in found["findings"]) == [f"data/train/{number}.jpg" for number in range(1, 7)]
    assert all(item["boxes"] for item in found["findings"])
    following = re.search(r"^next +python train\.py (.*)$", done.stdout, re.M)[1].split()
    assert "dataset.train.annotations=annotations/train.cleaned.json" in following
    assert not any(word.startswith("dataset.train_annotations=") for word in following)
    cleaned = json.loads((tmp_path / "data" / "annotations" / "train.cleaned.json").read_text())
    assert len(cleaned["images"]) == 6 and [row["category_id"] for row in cleaned["annotations"]] == [3, 2, 2, 2, 2, 2]
