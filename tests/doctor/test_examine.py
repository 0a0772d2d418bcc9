"""The quick checks before a training, the checks of the generated data, and of real data where they are at hand."""

import logging
from dataclasses import replace

import numpy as np
import planted
import pytest
from PIL import Image
from planted import examined

from seg_det.data import similar
from seg_det.data.camvid import read_camvid
from seg_det.data.coco import read_coco
from seg_det.data.problems import Problems
from seg_det.data.shapes import read_shapes
from seg_det.data.voc import read_voc
from seg_det.doctor import duplicates, looks
from seg_det.doctor.examine import FOLLOWING, examine, examine_quickly, warn
from seg_det.doctor.findings import NOTE, Scope, Split
from seg_det.kinds.lookup import KINDS


def scope_of(read, size=(320, 320)):
    return Scope(tuple(Split(role, read(role)) for role in ("train", "val")), size)


def planted_scope(layout, root):
    planted.LAYOUTS[layout].make(root)
    return lambda: scope_of(lambda role: planted.LAYOUTS[layout].read(root, role), (64, 64))


def grave(listed):
    return {one.fault: one.count for one in listed if one.severity != NOTE}


def test_a_training_warns_of_leaks_and_classes_without_reading_pixels(tmp_path, caplog, monkeypatch):
    read = planted_scope("coco", tmp_path)
    planted.copy("train/1.jpg", "val/101.jpg")(tmp_path)
    planted.both(lambda document: document["categories"].append({"id": 3, "name": "owl"}))(tmp_path)
    scope = read()
    monkeypatch.setattr("seg_det.doctor.looks.decode_rgb", None)
    with caplog.at_level(logging.WARNING):
        warn(scope, KINDS["detection"].checks)
    assert [message.partition(":")[0] for message in caplog.messages[:-1]] == ["leak-bytes", "class-unused"]
    assert f"{tmp_path}/val/101.jpg of {scope.splits[1].name} repeats {tmp_path}/train/1.jpg" in caplog.text
    assert caplog.messages[-1] == FOLLOWING == "python -m seg_det doctor with the arguments of this command lists all"


def test_a_training_warns_in_ten_lines_at_most_and_says_nothing_twice(tmp_path, caplog):
    read = planted_scope("coco", tmp_path)
    planted.edit("train", lambda document: document["images"][1].update(file_name="1.jpg"))(tmp_path)
    train, val = read().splits
    (twice,) = train.source.problems  # which the quick checks find too
    noted = [twice, *(f"image id {number}: its box is odd" for number in range(6))]
    splits = tuple(split._replace(source=replace(split.source, problems=tuple(noted))) for split in (train, val))
    with caplog.at_level(logging.WARNING):
        warn(Scope(splits), KINDS["detection"].checks)
    assert caplog.messages == [*noted[:5], f"2 more problems; {FOLLOWING}"]
    caplog.clear()
    warn(
        Scope((splits[0]._replace(source=replace(train.source, problems=tuple(noted[:6]))),)), KINDS["detection"].checks
    )
    assert caplog.messages[-1] == f"1 more problem; {FOLLOWING}"


def test_sound_data_are_trained_on_without_a_word(tmp_path, caplog):
    scope = planted_scope("yolo", tmp_path)()
    with caplog.at_level(logging.WARNING):
        warn(scope, KINDS["detection"].checks)
    assert not caplog.messages


def test_what_the_quick_check_leaves_out_is_said(tmp_path, caplog, monkeypatch):
    read = planted_scope("coco", tmp_path)
    planted.copy("train/1.jpg", "val/101.jpg")(tmp_path)
    monkeypatch.setattr(duplicates, "BUDGET", -1.0)
    with caplog.at_level(logging.WARNING):
        warn(read(), KINDS["detection"].checks)
    assert caplog.messages[0].startswith("leak-unchecked: not all files of the splits were compared within -1.0 s")
    found = {one.fault for one in examine(read(), KINDS["detection"].checks)}
    assert "leak-bytes" in found and "leak-unchecked" not in found


def test_only_files_of_equal_size_are_read(tmp_path, monkeypatch):
    scope = planted_scope("coco", tmp_path)()
    for number, path in enumerate([*tmp_path.glob("train/*.jpg"), *tmp_path.glob("val/*.jpg")]):
        path.write_bytes(b"x" * (100 + number))
    monkeypatch.setattr(duplicates, "_digest", None)
    assert not grave(examine_quickly(scope, KINDS["detection"].checks))


def test_damage_inside_a_file_is_an_error(tmp_path, monkeypatch):
    planted.coco(tmp_path)
    bad = tmp_path / "train" / "3.jpg"
    sentence = f"the image {bad} is damaged inside"
    monkeypatch.setattr(looks, "damage", lambda path: sentence if path == bad else None)
    found = examined("coco", tmp_path)["image-damaged"]
    assert found.count == 1 and found.severity == "error"
    assert (found.item(0).sentence, found.item(0).file, found.item(0).image_id) == (sentence, bad, 3)


def test_what_many_images_have_in_common_is_a_note(tmp_path):
    planted.coco(tmp_path)
    for number in (1, 2):
        planted.replace(f"train/{number}.jpg", planted.grey(30, 50, number))(tmp_path)
    assert examined("coco", tmp_path)["image-dark"].severity == NOTE


def test_of_many_images_with_one_hash_neighbours_are_compared(tmp_path, monkeypatch):
    planted.coco(tmp_path)
    for number in (2, 3, 4):
        pixels = np.asarray(planted.picture(1)).astype(int) + number
        planted.replace(f"train/{number}.jpg", Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "PNG")(tmp_path)
    assert examined("coco", tmp_path)["near-duplicate"].count == 6
    monkeypatch.setattr(similar, "NEXT", 1)
    assert examined("coco", tmp_path)["near-duplicate"].count == 3


def test_a_problem_that_a_reader_only_notes_is_a_note(tmp_path):
    scope = planted_scope("yolo", tmp_path)()
    problems = Problems("skip")
    problems.note("the labels look odd")
    problems.add("a label is wrong")
    train = replace(scope.splits[0].source, problems=problems.settle())
    found = examine(scope._replace(splits=(Split("train", train),)), KINDS["detection"].checks)
    kinds = {one.fault: one.severity for one in found if one.fault.startswith("reader")}
    assert kinds == {"reader-note": "note", "reader-problem": "error"}


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_the_generated_data_have_notes_at_most(tiny_shapes, kind):
    def read(split):
        return read_shapes(root=tiny_shapes, split=split, kind=kind, on_bad="skip", train_images=24, val_images=8)

    assert grave(examine(scope_of(read, (224, 224)), KINDS[kind].checks)) == {}


def test_two_boxes_of_the_blood_cells_are_errors(real_data):
    scope = scope_of(lambda split: read_voc(root=real_data / "data" / "bccd_voc", split=split, on_bad="skip"))
    assert grave(examine(scope, KINDS["detection"].checks)) == {"box-degenerate": 2}


@pytest.mark.slow
def test_coco_has_notes_at_most(real_data):
    root = real_data / "data" / "coco2017_subset"

    def read(split):
        annotations = root / "annotations" / f"instances_{split}2017.json"
        return read_coco(images=root / f"{split}2017", annotations=annotations, on_bad="skip")

    assert grave(examine(scope_of(read), KINDS["detection"].checks)) == {}


@pytest.mark.slow
def test_camvid_has_notes_at_most(real_data):
    """Its validation frames are of another part of the drive; neighbouring frames of one split do look alike."""
    scope = scope_of(lambda split: read_camvid(root=real_data / "data" / "camvid", split=split, on_bad="skip"))
    listed = {one.fault: one for one in examine(scope, KINDS["segmentation"].checks)}
    assert grave(listed.values()) == {}
    assert listed["near-duplicate"].count > 10
