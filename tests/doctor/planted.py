"""Tiny data sets without a fault in each layout, and faults to plant in them, one at a time."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from image_files import smooth
from PIL import Image

from seg_det.data.camvid import read_camvid
from seg_det.data.coco import read_coco
from seg_det.data.custom_masks import read_custom_masks
from seg_det.data.imagefolder import read_imagefolder
from seg_det.data.voc import read_voc
from seg_det.data.yolo import read_yolo
from seg_det.doctor.examine import examine
from seg_det.doctor.findings import Found, Scope, Split
from seg_det.kinds.lookup import KINDS

SIDE = 64  # pixels
TRAIN, VAL = 6, 3  # images
BOXES = ([4, 6, 30, 24], [30, 28, 26, 30])  # xywh, of classes 1 and 2


def picture(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    return smooth(seed, size)


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": 90} if path.suffix == ".jpg" else {}))


def numbers(split: str) -> range:
    return range(1, TRAIN + 1) if split == "train" else range(101, 101 + VAL)


def coco(root: Path) -> None:
    """Two boxes an image, one of each class."""
    for split in ("train", "val"):
        images, annotations = [], []
        for number in numbers(split):
            save(picture(number), root / split / f"{number}.jpg")
            images.append({"id": number, "file_name": f"{number}.jpg", "width": SIDE, "height": SIDE})
            for label, box in enumerate(BOXES, start=1):
                entry = {"id": 10 * number + label, "image_id": number, "category_id": label, "bbox": list(box)}
                annotations.append({**entry, "area": box[2] * box[3], "iscrowd": 0})
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        write_json(root, split, {"images": images, "annotations": annotations, "categories": categories})


def write_json(root: Path, split: str, document: dict) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{split}.json").write_text(json.dumps(document))


def voc(root: Path) -> None:
    """The same boxes in XML."""
    for split in ("train", "val"):
        names = [str(number) for number in numbers(split)]
        for number in numbers(split):
            save(picture(number), root / "JPEGImages" / f"{number}.jpg")
            write_xml(root, number, [("cat", BOXES[0]), ("dog", BOXES[1])])
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")


def write_xml(root: Path, number: int, objects: list[tuple[str, list[float]]], *, difficult: int = 0) -> None:
    (root / "Annotations").mkdir(exist_ok=True)
    lines = [
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for name, (x, y, w, h) in objects
    ]
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    (root / "Annotations" / f"{number}.xml").write_text(
        "<annotation>\n" + size + "\n".join(lines) + "\n</annotation>\n"
    )


def yolo(root: Path) -> None:
    """The same boxes as shares of the image."""
    for split in ("train", "val"):
        for number in numbers(split):
            save(picture(number), root / "images" / split / f"{number}.jpg")
            lines = [
                f"{label} {(x + w / 2) / SIDE} {(y + h / 2) / SIDE} {w / SIDE} {h / SIDE}"
                for label, (x, y, w, h) in enumerate(BOXES)
            ]
            path = root / "labels" / split / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\nval: images/val\n")


def masks(root: Path) -> None:
    """Images with masks of two values, a half of each."""
    for split in ("train", "val"):
        for number in numbers(split):
            save(picture(number), root / split / "images" / f"{number}.jpg")
            save(Image.fromarray(half_and_half()), root / split / "masks" / f"{number}.png")
    (root / "labels.txt").write_text("ground\nroad\n")


def half_and_half() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[SIDE // 2 :] = 1
    return mask


def camvid(root: Path) -> None:
    """Masks of the eleven classes, all in each."""
    rows = np.repeat(np.arange(11, dtype=np.uint8), 6)[:SIDE]
    for split in ("train", "val"):
        for number in numbers(split):
            save(picture(number), root / split / f"{number}.jpg")
            save(Image.fromarray(np.repeat(rows[:, None], SIDE, axis=1)), root / f"{split}annot" / f"{number}.png")


def imagefolder(root: Path) -> None:
    """A folder for each of two classes."""
    for split in ("train", "val"):
        for number in numbers(split):
            save(picture(number), root / split / ("cat" if number % 2 else "dog") / f"{number}.jpg")


class Layout(NamedTuple):
    """How a data set is made and read, and the kind of task that it is for."""

    make: Callable[[Path], None]
    read: Callable[[Path, str], object]
    kind: str


def _read_coco(root: Path, split: str) -> object:
    return read_coco(images=root / split, annotations=root / "annotations" / f"{split}.json", on_bad="skip")


LAYOUTS = {
    "coco": Layout(coco, _read_coco, "detection"),
    "voc": Layout(voc, lambda root, split: read_voc(root=root, split=split, on_bad="skip"), "detection"),
    "yolo": Layout(yolo, lambda root, split: read_yolo(root=root, split=split, on_bad="skip"), "detection"),
    "masks": Layout(
        masks, lambda root, split: read_custom_masks(root=root, split=split, on_bad="skip"), "segmentation"
    ),
    "camvid": Layout(camvid, lambda root, split: read_camvid(root=root, split=split, on_bad="skip"), "segmentation"),
    "imagefolder": Layout(
        imagefolder, lambda root, split: read_imagefolder(root=root, split=split, on_bad="skip"), "classification"
    ),
}


def examined(layout: str, root: Path, size: tuple[int, int] = (SIDE, SIDE)) -> dict[str, Found]:
    """What the doctor finds in the data set at ``root``, by fault; errors hide notes of the same fault."""
    how = LAYOUTS[layout]
    splits = tuple(Split(role, how.read(root, role)) for role in ("train", "val"))
    listed = examine(Scope(splits, size), KINDS[how.kind].checks)
    return {one.fault: one for one in reversed(listed)}


# Faults: each changes a data set of its layout.


def edit(split: str, change: Callable[[dict], None]) -> Callable[[Path], None]:
    """A change of a COCO file."""

    def plant(root: Path) -> None:
        document = json.loads((root / "annotations" / f"{split}.json").read_text())
        change(document)
        write_json(root, split, document)

    return plant


def set_box(box: list[float]) -> Callable[[Path], None]:
    return edit("train", lambda document: document["annotations"][0].update(bbox=box))


def add_object(box: list[float], label: int, **more: object) -> Callable[[Path], None]:
    entry = {"id": 999, "image_id": 1, "category_id": label, "bbox": box, "area": 1, "iscrowd": 0, **more}
    return edit("train", lambda document: document["annotations"].append(entry))


def update_all(document: dict, label: int, **more: object) -> None:
    for entry in document["annotations"]:
        if entry["category_id"] == label:
            entry.update(more)


def both(change: Callable[[dict], None]) -> Callable[[Path], None]:
    return lambda root: [edit(split, change)(root) for split in ("train", "val")] and None


def replace(path: str, image: Image.Image, name: str = "") -> Callable[[Path], None]:
    """Another picture in a file."""

    def plant(root: Path) -> None:
        data = io.BytesIO()
        image.save(data, name or "JPEG", quality=90)
        (root / path).write_bytes(data.getvalue())

    return plant


def rewrite(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Other bytes in a file."""
    return lambda root: (root / path).write_bytes(change((root / path).read_bytes())) and None


def copy(source: str, target: str) -> Callable[[Path], None]:
    return lambda root: shutil.copyfile(root / source, root / target) and None


def as_png(source: str, target: str) -> Callable[[Path], None]:
    """The same pixels in another file."""

    def plant(root: Path) -> None:
        data = io.BytesIO()
        Image.open(root / source).save(data, "PNG")
        (root / target).write_bytes(data.getvalue())

    return plant


def brighter(source: str, target: str) -> Callable[[Path], None]:
    """The same picture a little brighter."""

    def plant(root: Path) -> None:
        pixels = np.asarray(Image.open(root / source)).astype(int)
        Image.fromarray((pixels + 1).clip(0, 255).astype(np.uint8)).save(root / target, "PNG")

    return plant


def grey(level: int, contrast: int, seed: int = 1) -> Image.Image:
    """A picture of tones around a level."""
    noise = np.asarray(picture(seed)).astype(int) * contrast // 255 - contrast // 2
    return Image.fromarray((level + noise).clip(0, 255).astype(np.uint8))


def set_mask(split: str, mask: np.ndarray, *, of_all: bool = False) -> Callable[[Path], None]:
    chosen = numbers(split) if of_all else numbers(split)[:1]
    return lambda root: [save(Image.fromarray(mask), root / split / "masks" / f"{n}.png") for n in chosen] and None


def filled(value: int, rest: int = 0, rows: int = SIDE) -> np.ndarray:
    """A mask of one value in its first rows, of another in the rest."""
    mask = np.full((SIDE, SIDE), rest, np.uint8)
    mask[:rows] = value
    return mask
