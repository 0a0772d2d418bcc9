"""Data sets of one part, told by what lies in their folder: which keys say how to read them. Opens no image."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SPLIT = "dataset.val_share=0.2"  # of a data set without a val part
VAL = ("val", "valid", "validation")
FIRST_BYTES = 4096  # of an XML file
MOST_TRIED = 20  # annotations, for an image of the same name
CLASS_FILES = ("classes.txt", "obj.names")
FOLDERS = (  # of images and of annotations
    (".", "."),
    ("JPEGImages", "Annotations"),
    ("images", "annotations"),
    ("images", "Annotations"),
    ("images", "xml"),
    ("images", "xmls"),
    ("images", "labels"),
    ("images", "images"),
)


class Single(NamedTuple):
    """The choice of conf/dataset, its settings, and what it was told by."""

    dataset: str
    settings: tuple[str, ...]
    told_by: str


def voc_lists(root: Path) -> Single:
    """Pascal VOC's own folders, by the lists that there are."""
    lists = {path.stem for path in (root / "ImageSets" / "Main").glob("*.txt")}
    train = next((name for name in ("train", "trainval") if name in lists), None)
    settings = [] if train == "train" else [f"dataset.train_split={train or 'null'}"]
    settings += [] if "val" in lists and train == "train" else [SPLIT]
    return Single("custom_voc", tuple(settings), "Annotations/ and JPEGImages/")


def voc_beside(root: Path) -> Single | None:
    """XML files of Pascal VOC's form without lists: beside the images or in a folder beside theirs, for each part or once."""
    train = _pair(root, "train")
    if train is None:
        pair = _pair(root)
        if pair is None:
            return None
        keys = (f"dataset.images={pair[0]}", f"dataset.annotations={pair[1]}", "dataset.train_split=null", SPLIT)
        return Single("custom_voc", keys, f"the XML files in {pair[1] if pair[1] != '.' else 'it'}")
    val = next((pair for name in VAL if (pair := _pair(root, name))), None)
    given = [f"dataset.train_images={train[0]}", f"dataset.train_annotations={train[1]}", "dataset.train_split=null"]
    if val:
        given += [f"dataset.val_images={val[0]}", f"dataset.val_annotations={val[1]}", "dataset.val_split=null"]
    return Single("custom_voc", (*given, *([] if val else [SPLIT])), f"the XML files in {train[1]}")


def yolo_beside(root: Path) -> Single | None:
    """Label files beside the images, as LabelImg writes them, or in labels/ beside images/; classes.txt names the classes."""
    if any((root / name).is_file() for name in CLASS_FILES) and _same_stems(root, root, ".txt"):
        return Single("yolo", ("dataset.train_split=.", SPLIT), "the text files beside the images and classes.txt")
    return None


def mask_folders(root: Path) -> Single | None:
    """images/ and masks/."""
    both = all((root / name).is_dir() and _pictures(root / name, any_kind=True) for name in ("images", "masks"))
    return Single("custom_masks", ("dataset.train_split=.", SPLIT), "images/ and masks/") if both else None


def class_folders(root: Path) -> Single | None:
    """A folder of images for each class."""
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if len(folders) < 2 or not all(_pictures(folder) for folder in folders):
        return None
    return Single("imagefolder", ("dataset.train_split=.", SPLIT), f"{len(folders)} folders of images")


def yolo_parts(root: Path) -> tuple[str, ...]:
    """The settings for images/, labels/ and classes.txt, where the images lie without a train or a val part."""
    there = {
        name for name in ("train", *VAL) for place in (f"images/{name}", f"{name}/images") if (root / place).is_dir()
    }
    if not there:
        return ("dataset.train_split=.", SPLIT)
    return () if there & set(VAL) else (SPLIT,)


def val_of(root: Path) -> tuple[str, ...]:
    """The settings for folders of parts: the name of the val part where it is not val, or a share where there is none."""
    val = next((name for name in VAL if (root / name).is_dir()), None)
    return (SPLIT,) if val is None else () if val == "val" else (f"dataset.val_split={val}",)


def _pair(root: Path, part: str = "") -> tuple[str, str] | None:
    """The folders of images and of XML files below ``root``, of a part."""
    pairs = list(FOLDERS)
    if part:
        pairs = [(f"{part}/{images}", f"{part}/{xml}") for images, xml in FOLDERS]
        pairs.append((f"images/{part}", f"annotations/{part}"))
    for images, xml in pairs:
        if _same_stems(root / images, root / xml, ".xml", _is_voc):
            return Path(images).as_posix(), Path(xml).as_posix()
    return None


def _same_stems(
    images: Path, annotations: Path, suffix: str, accepts: Callable[[Path], bool] = lambda path: True
) -> bool:
    """Whether annotations of images lie there: files with the suffix and the name of an image, of the first few."""
    if not (images.is_dir() and annotations.is_dir()):
        return False
    files = [path for path in islice(_files(annotations, (suffix,)), MOST_TRIED) if accepts(path)]
    stems = {path.stem for path in _files(images, PICTURES)} if files else set()
    return any(path.stem in stems for path in files)


def _files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower().endswith(suffixes):
                yield Path(entry.path)


def _is_voc(path: Path) -> bool:
    with path.open("rb") as opened:
        head = opened.read(FIRST_BYTES).replace(b"\0", b"")  # UTF-16, near enough
    return re.search(rb"<(\w+:)?annotation[\s>]", head) is not None


def _pictures(folder: Path, *, any_kind: bool = False) -> bool:
    return any(True for _ in _files(folder, PICTURES + ((".tif", ".tiff") if any_kind else ())))
