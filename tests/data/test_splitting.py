"""Data sets of one part: which images validate, what stays together, and what moves when images are added."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_files import smooth
from PIL import Image

from seg_det.data.grouping import near_duplicates
from seg_det.data.masks import MaskFile, mask_code
from seg_det.data.records import (
    ClassificationRecord,
    ClassificationSource,
    DetectionRecord,
    DetectionSource,
    SegmentationRecord,
    SegmentationSource,
)
from seg_det.data.split_file import Place, Split, read_split_file, write_split
from seg_det.data.splitting import Rule, describe, names_below, share_of, split_source
from seg_det.errors import UserError
from seg_det.types import Category

ROOT = Path("/data/boards")
BY_NAME = Rule(0.2, near_duplicates=False)
CATEGORIES = (Category(1, "open"), Category(2, "short"))


def source_of(*names, labels=None, root=ROOT):
    """A detection source of images with one object each."""
    labels = labels or [0] * len(names)
    empty, box = np.zeros(1, bool), np.array([[0, 0, 2, 2]], np.float32)
    records = tuple(
        DetectionRecord(root / name, number, (8, 8), box, np.array([label]), empty, empty, np.array([4.0]))
        for number, (name, label) in enumerate(zip(names, labels, strict=True), start=1)
    )
    return DetectionSource("boards train", records, CATEGORIES, ("one doubt",))


def files(part, root=ROOT):
    return names_below([record.path for record in part.records], root)


LETTERS = [f"{letter}.jpg" for letter in "abcdefghi"]


def test_the_hash_of_the_name_decides():
    """sha256 of a.jpg begins with 509b0d4641a7c3ba, of e.jpg and h.jpg with less than 0.2 of 2**64."""
    assert share_of("a.jpg") == 0x509B0D4641A7C3BA / 2**64
    assert [name for name in LETTERS if share_of(name) < 0.2] == ["e.jpg", "h.jpg"]
    parts = split_source(source_of(*LETTERS), ROOT, BY_NAME)
    assert files(parts.val) == ["e.jpg", "h.jpg"] and len(parts.train.records) == 7
    assert [record.image_id for record in parts.val.records] == [5, 8]
    assert (parts.train.name, parts.val.name) == ("boards train", "boards val")
    assert parts.train.problems == ("one doubt",) and parts.val.problems == ()
    assert describe(parts) == "2 of 9 images (22.2%) validate, 7 train"
    assert files(split_source(source_of(*LETTERS), ROOT, Rule(0.3, near_duplicates=False)).val) == [
        "e.jpg",
        "g.jpg",
        "h.jpg",
    ]


def test_neither_more_images_nor_another_place_moves_one():
    before = split_source(source_of(*LETTERS), ROOT, BY_NAME).split.images
    more = [f"sub/{number}.jpg" for number in range(40)]
    after = split_source(source_of(*more, *LETTERS), ROOT, BY_NAME).split.images
    assert {name: after[name] for name in LETTERS} == before
    moved = split_source(source_of(*LETTERS, root=Path("elsewhere/x")), Path("elsewhere/x"), BY_NAME)
    assert moved.split.images == before
    assert names_below([Path("/a/x/1.jpg"), Path("/a/y/2.jpg")], Path("/b")) == ["x/1.jpg", "y/2.jpg"]
    assert names_below([Path("/b/../b/x/1.jpg")], Path("/b")) == ["x/1.jpg"]


def test_groups_by_a_pattern_of_the_names():
    """p2 and p3 have hashes below 0.3, p1 and p4 above."""
    names = [f"scans/{patient}_{view}.png" for patient in ("p1", "p2", "p3", "p4") for view in range(3)]
    for pattern in (r"/(p\d)_\d", r"p\d(?=_)"):
        parts = split_source(source_of(*names), ROOT, Rule(0.3, pattern, near_duplicates=False))
        assert files(parts.val) == names[3:9]
        assert {place.group for place in parts.split.images.values()} == {"p1", "p2", "p3", "p4"}
    assert describe(parts) == "6 of 12 images (50.0%) validate, 6 train, in 4 groups that stay together"
    parts = split_source(source_of(*names, "other.png"), ROOT, Rule(0.3, r"(p\d)_", near_duplicates=False))
    assert parts.val.problems == (
        r"dataset.group_by=(p\d)_ does not match 1 of 13 names, such as other.png: each is a group of its own",
    )
    with pytest.raises(UserError, match=r"group_by=x\(\.\) matches none of the 12 names of images, such as scans/p1_0"):
        split_source(source_of(*names), ROOT, Rule(0.3, "x(.)", near_duplicates=False))
    with pytest.raises(UserError, match=r"group_by=\( is no regular expression \(missing \), unterminated"):
        split_source(source_of(*names), ROOT, Rule(0.3, "(", near_duplicates=False))


def test_augmented_copies_of_roboflow_stay_together():
    names = [f"train/{stem}_jpg.rf.{copy * 32}.jpg" for stem in "abcdefgh" for copy in "0a9"]
    images = split_source(source_of(*names), ROOT, Rule(0.5, near_duplicates=False)).split.images
    assert {place.group for place in images.values()} == {f"train/{stem}_jpg" for stem in "abcdefgh"}
    assert all(len({images[name].part for name in names[start : start + 3]}) == 1 for start in range(0, 24, 3))
    assert {place.part for place in images.values()} == {"train", "val"}


def test_images_that_look_alike(tmp_path):
    first, other = smooth(1, most=200), smooth(2, most=200)
    variants = {
        "a.jpg": first, "b.png": first, "c.jpg": first.resize((300, 200)), "d.png": first.point(lambda value: value + 20),
        "e.jpg": other, "f.png": Image.new("RGB", (96, 64), "grey"), "g.png": Image.new("RGB", (96, 64), "black"),
        "h.png": Image.new("RGB", (64, 64), "black"), "i.png": other.convert("P"),
        "j.png": Image.fromarray(np.asarray(smooth(3, most=200).convert("L"), np.uint16) * 256),
    }  # fmt: skip
    for name, image in variants.items():
        image.save(tmp_path / name)
    (tmp_path / "k.jpg").write_bytes(b"no image")
    names = [*variants, "k.jpg", "gone.jpg"]
    pairs = {tuple(names[i][0] for i in pair) for pair in near_duplicates([tmp_path / name for name in names])}
    assert pairs == {*(tuple(pair) for pair in ("ab", "ac", "ad", "bc", "bd", "cd", "ei", "gh"))}
    assert near_duplicates([tmp_path / "a.jpg"]) == []


def pictures(root, **seeds):
    """Images by name and what they show."""
    root.mkdir(exist_ok=True)
    for name, seed in seeds.items():
        smooth(seed, most=200).save(root / f"{name}.png")
    return source_of(*(f"{name}.png" for name in seeds), root=root)


def test_a_group_has_its_first_name_for_a_key(tmp_path):
    """So that later photos of a burst, IMG_10 after IMG_9, move nothing."""
    seeds = {"IMG_9": 1, "IMG_30": 2, "IMG_31": 3}
    first = split_source(pictures(tmp_path, **seeds), tmp_path, Rule(0.2)).split.images
    later = split_source(pictures(tmp_path, **seeds, IMG_10=1, IMG_8=4), tmp_path, Rule(0.2)).split.images
    assert {name: later[name] for name in first} == first
    assert later["IMG_10.png"] == later["IMG_9.png"] == Place("train", "IMG_9.png")
    assert later["IMG_8.png"].group == "IMG_8.png"


def test_a_split_file_holds_what_a_new_name_would_move(tmp_path):
    """i.png validates; a.png, which looks like it, comes first in the order and would take it to train."""
    assert share_of("i.png") < 0.2 < share_of("a.png")
    before = split_source(pictures(tmp_path, i=1, b=2), tmp_path, Rule(0.2))
    assert files(before.val, tmp_path) == ["i.png"]
    grown = pictures(tmp_path, i=1, b=2, a=1)
    assert split_source(grown, tmp_path, Rule(0.2)).split.images["i.png"].group == "a.png"
    kept = split_source(grown, tmp_path, Rule(0.2), before.split).split.images
    assert kept["i.png"] == before.split.images["i.png"] and kept["a.png"] == Place("val", "i.png")


def test_an_image_between_both_parts_of_a_split_file_is_said(tmp_path):
    source = pictures(tmp_path, a=1, b=1, c=1, d=2)
    earlier = Split(0.2, {"a.png": Place("train", "a.png"), "b.png": Place("val", "b.png")})
    parts = split_source(source, tmp_path, Rule(0.2), earlier)
    assert parts.split.images["a.png"].part == "train" and parts.split.images["b.png"].part == "val"
    assert (
        "1 image (c.png): alike are images of both parts of the split file, so that train was taken"
        in parts.val.problems
    )


def test_no_part_is_empty():
    three = split_source(source_of("a.jpg", "b.jpg", "c.jpg"), ROOT, BY_NAME)
    assert files(three.val) == ["a.jpg"]  # the lowest hash
    assert three.val.problems == (
        "by its hash no image belongs to the val part, so the group 'a.jpg' (1 of 3 images) was moved there; keep it there "
        "when images are added with dataset.split_file",
    )
    two = split_source(source_of("e.jpg", "h.jpg"), ROOT, BY_NAME)
    assert files(two.train) == ["e.jpg"] and files(two.val) == ["h.jpg"]
    large = split_source(source_of("p3_1", "p3_2", "p4_1"), ROOT, Rule(0.2, r"p\d", near_duplicates=False))
    assert files(large.val) == ["p4_1"]  # though the hash of p3 is lower: it has most of the images
    with pytest.raises(
        UserError, match=r"boards train has no val part, and its 1 images cannot be split \(it has but one\)"
    ):
        split_source(source_of("a.jpg"), ROOT, BY_NAME)
    with pytest.raises(UserError, match=r"they belong together by their names, group 'p1'"):
        split_source(source_of("p1_1.jpg", "p1_2.jpg"), ROOT, Rule(0.2, "p1", near_duplicates=False))
    everything = split_source(source_of("a.jpg"), ROOT, Rule(1, near_duplicates=False))
    assert files(everything.val) == ["a.jpg"] and not everything.train.records


def test_one_group_of_most_images_is_said():
    names = [f"p1_{number}" for number in range(60)] + ["p2_0", "p3_0", "p4_0"]
    parts = split_source(source_of(*names), ROOT, Rule(0.3, r"p\d", near_duplicates=False))
    assert parts.val.problems == (
        "2 of 63 images validate instead of a share of 0.3: groups stay together, and the largest, 'p1', has 60",
    )


def test_a_share_that_chance_made_small_is_not_laid_to_groups():
    names = [f"{number}.jpg" for number in range(60)]
    chosen = [name for name in names if share_of(name) > 0.2][:48] + [name for name in names if share_of(name) < 0.2][
        :2
    ]
    parts = split_source(source_of(*chosen), ROOT, Rule(0.2, near_duplicates=False))
    assert parts.val.problems == (
        "2 of 50 images validate instead of a share of 0.2: hashes of the names decide, and among few images that share varies",
    )


def test_classes_that_a_part_lacks_are_named(tmp_path):
    labels = [int(name in ("e.jpg", "h.jpg")) for name in LETTERS]
    parts = split_source(source_of(*LETTERS, labels=labels), ROOT, BY_NAME)
    sentences = (
        "boards train has nothing of the class short, so it cannot be learned: set another dataset.val_share, or add images",
        "boards val has nothing of the class open, so it is not measured: set another dataset.val_share, or add images",
    )
    assert parts.val.problems == sentences and parts.train.problems == ("one doubt", *sentences)
    records = tuple(ClassificationRecord(ROOT, name, i, labels[i]) for i, name in enumerate(LETTERS))
    parts = split_source(ClassificationSource("boards train", records, CATEGORIES), ROOT, BY_NAME)
    assert parts.val.problems == sentences and files(parts.val) == ["e.jpg", "h.jpg"]
    code = mask_code([0, 1])
    for label in (0, 1):
        Image.fromarray(np.array([[label, 255]], np.uint8)).save(tmp_path / f"{label}.png")
    records = tuple(
        SegmentationRecord(ROOT / name, MaskFile(tmp_path / f"{labels[i]}.png", code), i, (1, 2))
        for i, name in enumerate(LETTERS)
    )
    assert (
        split_source(SegmentationSource("boards train", records, CATEGORIES), ROOT, BY_NAME).val.problems == sentences
    )


def test_a_run_s_own_split_leaves_out_what_came_later():
    split = split_source(source_of(*LETTERS), ROOT, BY_NAME).split
    grown = source_of("0.jpg", *LETTERS[1:])
    parts = split_source(grown, ROOT, BY_NAME, split, frozen=True)
    assert files(parts.val) == ["e.jpg", "h.jpg"] and files(parts.train) == [
        "b.jpg",
        "c.jpg",
        "d.jpg",
        "f.jpg",
        "g.jpg",
        "i.jpg",
    ]
    assert parts.val.problems == (
        "1 image (0.jpg) came after the run split its data, and belong to neither part of it: left out",
        "1 image (a.jpg) of the run's train part are no longer in boards train",
    )
    with pytest.raises(
        UserError, match=r"not one of the 1 images of boards train \(z.jpg, ...\) is named by the split"
    ):
        split_source(source_of("z.jpg"), ROOT, BY_NAME, split, frozen=True)


def test_a_split_file_is_read_as_it_was_written(tmp_path):
    split = Split(0.25, {"a é.jpg": Place("train", "a"), "sub/b.jpg": Place("val", "b"), "c.jpg": Place("train", "a")})
    path = write_split(tmp_path / "split.json", split)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "format": 1, "val_share": 0.25, "train": {"a é.jpg": "a", "c.jpg": "a"}, "val": {"sub/b.jpg": "b"},
    }  # fmt: skip
    found = read_split_file(path)
    assert found.images == split.images and found.share == 0.25 and read_split_file(tmp_path).images == split.images
    names = [name for name in split.images if name != "c.jpg"]
    again = split_source(source_of(*names), ROOT, BY_NAME, found)
    assert again.split.images == {name: split.images[name] for name in names}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is no split.json of a run"),
        ("[]", "is no split.json of a run"),
        ("{}", "it lacks 'format'"),
        ('{"format": 2}', "its format is 2 and not 1"),
        ('{"format": 1, "val_share": 2}', "its val_share is 2"),
        ('{"format": 1, "val_share": 0.2, "train": {}}', "it lacks 'val'"),
        ('{"format": 1, "val_share": 0.2, "train": {"a": 1}, "val": {}}', "a group of train is no text"),
        ('{"format": 1, "val_share": 0.2, "train": [], "val": {}}', "is no split.json of a run"),
    ],
)
def test_split_files_that_are_none(text, sentence, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_split_file(tmp_path / "x.json")
    with pytest.raises(UserError, match="there is no such file; a run that splits its data writes split.json"):
        read_split_file(tmp_path / "y.json")


@pytest.mark.parametrize("share", [0, 1.5, -1, "much", True, None])
def test_shares_that_are_none(share):
    with pytest.raises(UserError, match="dataset.val_share must be auto, null or a number above 0, such as 0.2, got"):
        Rule(share)
    assert replace(BY_NAME, share=1).share == 1
