"""Neighbouring frames of one video in both splits."""

import logging

import numpy as np
import planted
import pytest
from image_files import smooth
from PIL import Image

from seg_det.data.imagefolder import read_imagefolder
from seg_det.data.records import ClassificationRecord, ClassificationSource
from seg_det.doctor.examine import warn
from seg_det.doctor.findings import Checks, Scope, Split
from seg_det.doctor.frames import _neighbours, check_frames

NAME = "street_{:04d}.png"
WIDE = smooth(1, (400, 48))


def video(root, split_of, count=60, name=NAME, sources=(WIDE,)):
    """Frames of a camera that moves over a wide picture, or over each of several, in the splits that ``split_of`` says."""
    for number in range(count):
        wide, place = sources[number % len(sources)], number // len(sources)
        frame = wide.crop((5 * place, 0, 5 * place + 64, 48))
        planted.save(frame, root / split_of(number) / "cat" / name.format(number))
    for seed, split in enumerate(("train", "val")):
        planted.save(smooth(seed + 2), root / split / "dog" / "other.png")
    return Scope(tuple(Split(role, read_imagefolder(root=root, split=role)) for role in ("train", "val")))


def dealt(number):
    return "val" if number % 5 == 2 else "train"


def test_frames_dealt_at_random_are_told_before_a_training(tmp_path, caplog):
    scope = video(tmp_path, dealt)
    with caplog.at_level(logging.WARNING):
        warn(scope, Checks())
    assert caplog.messages[0] == (
        f"leak-frames: 12 of 13 images of {tmp_path.name} val follow or precede an image of {tmp_path.name} train by their "
        "numbers and look like it (street_0002.png and street_0003.png), as frames of one video do, which makes the figures too "
        "good: keep each video in one part, with dataset.group_by where a share validates"
    )
    (found,) = check_frames(scope)
    assert (found.item(0).file.name, found.item(0).other.name) == ("street_0002.png", "street_0003.png")


@pytest.mark.parametrize(
    "make",
    [
        lambda root: video(root, lambda number: "train" if number < 45 else "val"),  # a cut, with one neighbour
        lambda root: video(root, dealt, sources=[smooth(seed, (64, 48)) for seed in range(60)]),  # photos with numbers
        lambda root: video(root, dealt, name="{0:04d}_street_{0:b}.png"),  # no sequence: each has a name of its own
        lambda root: video(root, dealt, count=30),  # too few to tell
        lambda root: video(
            root, dealt, sources=[Image.new("RGB", (400, 48), (9, 99, 9))]
        ),  # all alike, the far ones too
    ],
)
def test_no_frames(tmp_path, make):
    assert not list(check_frames(make(tmp_path)))


@pytest.mark.parametrize(
    "name", ["a/v1_{}.jpg", "a/{:06d}.jpg", "b/x{}_jpg.rf.0123456789abcdef0123.jpg", "b/f{:03d}_left.png"]
)
def test_neighbours_by_the_numbers_in_names(name):
    files = [f"/data/{name.format(3 * number)}" for number in range(50)]
    train, val = (
        ["/data/z/0.jpg", *(file for n, file in enumerate(files) if (n % 5 == 0) == is_val)] for is_val in (0, 1)
    )
    pairs = _neighbours(train, val)
    assert len(pairs) == 10 and all(abs(files.index(train[i]) - files.index(val[j])) == 1 for i, j in pairs)


def test_ids_with_gaps_are_no_frames():
    numbers = np.random.default_rng(0).choice(10**6, 400, replace=False).tolist()
    files = [f"/data/{number:012d}.jpg" for number in numbers]
    assert _neighbours(files[:320], files[320:]) == []


@pytest.mark.parametrize(
    ("folder", "faults"), [("bccd_voc/JPEGImages", 0), ("coco2017_subset/val2017", 0), ("camvid/val", 1)]
)
def test_real_images_dealt_at_random(real_data, folder, faults):
    """Blood cells are numbered one after the other, too, but do not look like their neighbours."""
    rows = list(enumerate(sorted((real_data / "data" / folder).iterdir())))

    def split(role):
        records = [ClassificationRecord(path.parent, path.name, n, 0) for n, path in rows if dealt(n) == role]
        return Split(role, ClassificationSource(role, tuple(records), ()))

    assert len(list(check_frames(Scope((split("train"), split("val")))))) == faults
