"""Each fault planted alone in a tiny data set is found by its name, and nothing else that is grave."""

import numpy as np
import planted
import pytest
from PIL import Image, ImageFilter
from planted import SIDE, add_object, both, copy, edit, examined, filled, replace, rewrite, set_box, set_mask

from seg_det.doctor.findings import FAULTS, NOTE

FIRST = "train/1.jpg"
SMOOTH = planted.picture(1, (200, 200)).filter(ImageFilter.GaussianBlur(25))
TWO_TONES = Image.fromarray((np.asarray(planted.picture(1)) > 128).astype(np.uint8) * 120 + 60)


def lines(path, change):
    return rewrite(path, lambda data: change(data.decode()).encode())


def objects(document, **changes):
    document["annotations"][0].update(changes)


PLANTED = [
    # fault, layout, how it is planted, and what follows of it
    ("image-missing", "coco", lambda root: (root / FIRST).unlink(), ()),
    ("image-empty", "coco", rewrite(FIRST, lambda data: b""), ()),
    ("image-truncated", "coco", rewrite(FIRST, lambda data: data[:-200]), ()),
    ("image-unreadable", "coco", rewrite(FIRST, lambda data: data[:2] + b"\xff\xd9"), ()),
    ("image-damaged", "coco", rewrite(FIRST, lambda data: data[:-300] + bytes(60) + data[-240:]), ()),
    ("image-format-unknown", "yolo", rewrite("images/train/1.jpg", lambda data: b"\0\0\0\x18ftypheic" + data), ()),
    ("image-several-frames", "yolo", lambda root: planted.picture(1).save(
        root / "images/train/1.jpg", "GIF", save_all=True, append_images=[planted.picture(2)]), ()),
    ("image-size-differs", "coco", replace(FIRST, planted.picture(1, (SIDE, 48))), ()),
    ("image-without-annotation", "voc", lambda root: (root / "Annotations" / "1.xml").unlink(), ()),
    ("image-suffix-wrong", "coco", replace(FIRST, planted.picture(1), "PNG"), ()),
    ("image-extreme-aspect", "yolo", replace("images/train/1.jpg", planted.picture(1, (360, 40))), ()),
    ("image-tiny", "yolo", replace("images/train/1.jpg", planted.picture(1, (24, 24))), ()),
    ("image-size-unusual", "yolo", replace("images/train/1.jpg", planted.picture(1, (800, 800))), ()),
    ("image-one-colour", "coco", replace(FIRST, planted.grey(120, 0)), ()),
    ("image-dark", "coco", replace(FIRST, planted.grey(30, 50)), ()),
    ("image-bright", "coco", replace(FIRST, planted.grey(245, 20)), ()),
    ("image-blurry", "yolo", replace("images/train/1.jpg", SMOOTH), ()),
    ("image-low-information", "coco", replace(FIRST, TWO_TONES, "PNG"), ()),
    ("image-greyscale", "coco", replace(FIRST, planted.picture(1).convert("L")), ()),
    ("image-listed-twice", "coco", edit("train", lambda d: d["images"][1].update(file_name="1.jpg")), ()),
    ("id-twice", "coco", edit("train", lambda d: d["images"][1].update(id=1)), ("annotation-lost",)),
    ("duplicate-file", "coco", copy(FIRST, "train/2.jpg"), ()),
    ("duplicate-pixels", "coco", planted.as_png(FIRST, "train/2.jpg"), ()),
    ("near-duplicate", "coco", planted.brighter(FIRST, "train/2.jpg"), ()),
    ("leak-bytes", "coco", copy(FIRST, "val/101.jpg"), ()),
    ("leak-pixels", "coco", planted.as_png(FIRST, "val/101.jpg"), ()),
    ("leak-near", "coco", planted.brighter(FIRST, "val/101.jpg"), ()),
    ("leak-file", "voc", lines("ImageSets/Main/val.txt", lambda text: text + "1\n"), ("leak-bytes",)),
    ("picture-of-two-classes", "imagefolder", copy("train/cat/1.jpg", "train/dog/2.jpg"), ("duplicate-file",)),
    ("box-not-finite", "coco", set_box([1, 1, float("nan"), 4]), ()),
    ("box-degenerate", "coco", set_box([10, 10, 0, 4]), ()),
    ("box-outside", "coco", set_box([100, 10, 8, 8]), ()),
    ("box-reaches-outside", "coco", set_box([40, 10, 40, 20]), ()),
    ("box-identical", "coco", add_object([4, 6, 30, 24], 1), ()),
    ("box-doubled", "coco", add_object([4, 6, 30, 23.5], 1), ()),
    ("box-of-two-classes", "coco", add_object([4, 6, 30, 24], 2), ()),
    ("box-covers-image", "coco", set_box([0, 0, 64, 62]), ()),
    ("box-below-pixel", "coco", set_box([4, 6, 30, 0.5]), ("objects-below-pixel",)),
    ("objects-below-pixel", "coco", set_box([4, 6, 0.5, 30]), ()),
    ("box-tiny", "coco", set_box([4, 6, 7, 3]), ()),
    ("box-in-crowd", "coco", add_object([0, 0, 60, 60], 1, iscrowd=1), ()),
    ("image-crowded", "coco", edit("train", lambda d: d["annotations"].extend(
        {"id": 2000 + i, "image_id": 1, "category_id": 1, "bbox": [i % 10 * 6, i // 10 * 5, 5, 4]} for i in range(110))), ()),
    ("images-without-objects", "yolo", lambda root: (root / "labels/train/1.txt").unlink(), ()),
    ("annotation-malformed", "coco", set_box([1, 2, 3]), ()),
    ("annotation-lost", "coco", edit("train", lambda d: objects(d, image_id=77)), ()),
    ("class-undeclared", "coco", edit("train", lambda d: objects(d, category_id=9)), ()),
    ("class-undeclared", "yolo", lines("labels/train/1.txt", lambda text: "5" + text[1:]), ()),
    ("class-unused", "coco", both(lambda d: d["categories"].append({"id": 3, "name": "owl"})), ()),
    ("class-alike", "coco", both(lambda d: d["categories"][1].update(name="Cats ")), ()),
    ("class-rare", "coco", lambda root: None, ()),
    ("class-not-in-train", "coco", edit("train", lambda d: planted.update_all(d, 2, category_id=1)), ()),
    ("class-not-in-val", "coco", edit("val", lambda d: planted.update_all(d, 2, category_id=1)), ()),
    ("class-imbalance", "coco", edit("train", lambda d: d["annotations"].extend(
        {"id": 2000 + i, "image_id": 1 + i % 6, "category_id": 1, "bbox": [i % 10 * 6, i // 60 * 5, 5, 4]}
        for i in range(620))), ("box-identical",)),
    ("class-only-crowd", "coco", both(lambda d: planted.update_all(d, 2, iscrowd=1)), ()),
    ("class-only-difficult", "voc", lambda root: [planted.write_xml(
        root, n, [("cat", planted.BOXES[0]), ("dog", planted.BOXES[1])], difficult=1)
        for split in ("train", "val") for n in planted.numbers(split)] and None, ()),
    ("class-empty", "imagefolder", lambda root: (root / "train" / "owl").mkdir(), ("class-unused",)),
    ("mask-missing", "masks", lambda root: (root / "train/masks/1.png").unlink(), ()),
    ("mask-without-image", "masks", lambda root: (root / "train/images/1.jpg").unlink(), ()),
    ("mask-size-differs", "masks", set_mask("train", filled(1)[:32]), ()),
    ("mask-value-unknown", "masks", set_mask("train", filled(7, rows=3)), ()),
    ("mask-black-and-white", "masks", set_mask("train", filled(255, rows=32), of_all=True),
     ("masks-of-one-class", "class-not-in-train")),
    ("mask-all-ignored", "masks", set_mask("train", filled(255)), ()),
    ("mask-nearly-ignored", "masks", set_mask("train", filled(255, rest=1, rows=62)), ()),
    ("masks-of-one-class", "masks", set_mask("train", filled(0), of_all=True), ("class-not-in-train",)),
    ("class-few-pixels", "camvid", lambda root: thin(root), ()),
]  # fmt: skip


def thin(root):
    """Class 5 keeps three pixels of one mask of each split."""
    for path in root.glob("*annot/*.png"):
        mask = np.array(Image.open(path))
        mask[mask == 5] = 1
        mask[0, : 3 * (path.stem in ("1", "101"))] = 5
        Image.fromarray(mask).save(path)


@pytest.mark.parametrize("layout", planted.LAYOUTS)
def test_sound_data_have_notes_at_most(tmp_path, layout):
    planted.LAYOUTS[layout].make(tmp_path)
    grave = {name for name, one in examined(layout, tmp_path).items() if one.severity != NOTE}
    assert not grave


@pytest.mark.parametrize(("fault", "layout", "plant", "also"), PLANTED, ids=[f"{row[1]}-{row[0]}" for row in PLANTED])
def test_a_planted_fault_is_found_alone(tmp_path, fault, layout, plant, also):
    planted.LAYOUTS[layout].make(tmp_path)
    plant(tmp_path)
    found = examined(layout, tmp_path)
    assert fault in found, sorted(found)
    assert found[fault].severity == FAULTS[fault].severity
    grave = {name for name, one in found.items() if one.severity != NOTE}
    assert grave <= {fault, *also}
    assert all(str(item.sentence) for item in found[fault].items())


def test_so_many_faults_are_planted():
    assert len({row[0] for row in PLANTED}) >= 60
