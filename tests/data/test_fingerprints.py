"""Fingerprints of splits: the same data has the same one in another folder, and a change of it another one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seg_det.data.coco_seg import DrawnMask, Region
from seg_det.data.fingerprints import fingerprint
from seg_det.data.masks import MaskFile, mask_code
from seg_det.data.records import (
    ClassificationRecord,
    ClassificationSource,
    DetectionRecord,
    DetectionSource,
    SegmentationRecord,
    SegmentationSource,
)
from seg_det.types import Category

CLASSES = (Category(1, "cat"), Category(2, "dog"))


def detection(root, moved=0.0):
    def record(name, image_id, count):
        boxes = np.full((count, 4), 8.0, np.float32) + np.float32(moved)
        zeros = np.zeros(count, bool)
        return DetectionRecord(
            root / name, image_id, (48, 64), boxes, np.zeros(count, np.int64), zeros, zeros, boxes.sum(1)
        )

    return DetectionSource(
        "pets train", (record("a/1.jpg", 1, 2), record("b/2.jpg", 2, 0), record("b/3.jpg", 3, 1)), CLASSES
    )


def classification(root, label=0):
    records = tuple(ClassificationRecord(root / "cat", f"{i}.jpg", i, label) for i in range(3))
    return ClassificationSource("pets train", records, CLASSES)


def drawn(root, corner=1.0):
    outlines = [(np.array([0, 0, 9, 0, 9, corner]),), {"size": [48, 64], "counts": b"abc"}]
    mask = DrawnMask((48, 64), tuple(Region(i, outline) for i, outline in enumerate(outlines)), 0)
    return SegmentationSource("pets train", (SegmentationRecord(root / "1.jpg", mask, 1, (48, 64)),), CLASSES)


def masked(root, values=(0, 1), content=b"png"):
    root.mkdir(parents=True, exist_ok=True)
    (root / "1.png").write_bytes(content)
    mask = MaskFile(root / "1.png", mask_code(values))
    return SegmentationSource("pets train", (SegmentationRecord(root / "1.jpg", mask, 1, (48, 64)),), CLASSES)


@pytest.mark.parametrize("read", [detection, classification, drawn, masked])
def test_the_same_data_in_another_folder_and_order(read, tmp_path):
    first = fingerprint(read(tmp_path / "a" / "pets"))
    source = read(tmp_path / "b")
    assert fingerprint(replace(source, records=source.records[::-1])) == first
    assert (first.split, first.images) == ("pets train", len(source.records))


@pytest.mark.parametrize(
    ("read", "change"),
    [
        (detection, {"moved": 0.5}),
        (classification, {"label": 1}),
        (drawn, {"corner": 2.0}),
        (masked, {"values": (0, 2)}),
        (masked, {"content": b"other"}),
    ],
)
def test_other_annotations_of_the_same_images(read, change, tmp_path):
    first, second = fingerprint(read(tmp_path / "a")), fingerprint(read(tmp_path / "b", **change))
    assert first.image_list == second.image_list and first.annotations != second.annotations


def test_other_classes_and_fewer_images():
    source = detection(Path("pets"))
    first = fingerprint(source)
    renamed = fingerprint(replace(source, categories=(Category(1, "cat"), Category(2, "wolf"))))
    assert renamed.image_list == first.image_list and renamed.annotations != first.annotations
    fewer = fingerprint(replace(source, records=source.records[:2]))
    assert fewer.images == 2 and fewer.image_list != first.image_list and fewer.annotations != first.annotations
    assert fingerprint(replace(source, records=())).images == 0
