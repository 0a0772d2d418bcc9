"""Which data set a folder holds, told by what lies in it; opens no image, and imports none of the readers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seg_det.errors import UserError

BOXES, MASKS, CLASSES = "boxes", "masks", "classes"  # what a task learns from
READ = (
    "COCO's JSON, Pascal VOC's XML, YOLO's data.yaml, Cityscapes, CamVid, images/ and masks/ below train/ and val/, and a folder "
    "for each class below train/ and val/"
)
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
PARTS = {"train": ("train",), "val": ("val", "valid", "validation")}  # of files and folders
FIRST_BYTES = 2**20  # of a JSON file, in which the name of an image is looked for
MOST_LISTED = 12  # names of a folder in a message


class Recognised(NamedTuple):
    """A data set: the choice of conf/dataset, further settings of it, and what it was told by."""

    dataset: str
    settings: tuple[str, ...] = ()
    told_by: str = ""


def recognise(root: Path, wanted: str) -> Recognised:
    """What the folder ``root`` holds, for a task that learns from ``wanted``: boxes, masks or classes.

    Raises UserError for a folder that is not there, and for one that holds nothing known, with what lies in it.
    """
    if not root.exists():
        raise UserError(f"dataset.root={root} does not exist: correct the path, or name the data set with dataset=.")
    if root.is_file():
        if root.suffix.lower() in (".yaml", ".yml"):
            return _yolo(root, wanted)
        raise UserError(f"dataset.root={root} is a file: give the folder that it lies in.")
    for rule in RULES:
        if (found := rule(root, wanted)) is not None:
            return found
    names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir() if not path.name.startswith("."))
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    raise UserError(
        f"dataset.root={root} holds no data set that is known: it has {', '.join(names[:MOST_LISTED]) or 'nothing'}{more}. "
        f"Recognised are {READ}; datasets/README.md has the trees, and dataset= names one."
    )


def _shapes(root: Path, wanted: str) -> Recognised | None:
    return Recognised("shapes", (), "shapes.json") if (root / "shapes.json").is_file() else None


def _described_yolo(root: Path, wanted: str) -> Recognised | None:
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return _yolo(root / name, wanted)
    return None


def _yolo(file: Path, wanted: str) -> Recognised:
    augmentation = ("augmentation=segmentation",) if wanted == MASKS else ()
    return Recognised("yolo", augmentation, file.name)


def _plain_yolo(root: Path, wanted: str) -> Recognised | None:
    names = [root / "classes.txt", root / "labels" / "classes.txt", root / "obj.names"]
    if (root / "labels").is_dir() and any(path.is_file() for path in names):
        return _yolo(root / "labels/ and classes.txt", wanted)
    return None


def _voc(root: Path, wanted: str) -> Recognised | None:
    if wanted == MASKS and (root / "SegmentationClass").is_dir():
        return Recognised("voc_seg", (), "SegmentationClass/")
    if wanted != MASKS and (root / "Annotations").is_dir() and (root / "JPEGImages").is_dir():
        return Recognised("custom_voc", (), "Annotations/ and JPEGImages/")
    return None


def _coco(root: Path, wanted: str) -> Recognised | None:
    files = {split: next(_annotation_files(root, split), None) for split in PARTS}
    if files["train"] is None:
        return None
    if files["val"] is None:
        raise UserError(
            f"{files['train']} is in COCO's format, but there is no such file for validation: split the images, and name it "
            "val.json."
        )
    settings = []
    for split, file in files.items():
        settings += [
            f"dataset.{split}_annotations={file}",
            f"dataset.{split}_images={_image_folder(root, split, file)}",
        ]
    told_by = " and ".join(file.relative_to(root).as_posix() for file in files.values())
    return Recognised("coco_seg" if wanted == MASKS else "custom_coco", tuple(settings), told_by)


def _annotation_files(root: Path, split: str) -> Iterator[Path]:
    """Files that may be COCO's, the most usual names first; those of captions and keypoints are none."""
    for part in PARTS[split]:
        yield from (path for path in (root / part).glob("*.coco.json") if path.is_file())
    for folder in (root / "annotations", root):
        for path in sorted(folder.glob("*.json"), key=lambda path: (not path.stem.startswith("instances"), path.name)):
            words = re.split(r"[^a-z]+", path.stem.lower())
            if set(words) & set(PARTS[split]) and not set(words) & {"captions", "keypoints", "panoptic", "person"}:
                yield path


def _image_folder(root: Path, split: str, file: Path) -> Path:
    """Where the first image lies that the file names. Raises UserError where it is nowhere."""
    with file.open("rb") as opened:
        head = opened.read(FIRST_BYTES).decode("utf-8", "replace")
    named = re.search(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)+")', head)
    try:
        name = json.loads(named.group(1)).replace("\\", "/") if named else None
    except ValueError:  # no JSON, which the reader says with its place
        name = None
    stem = re.sub(r"^instances_", "", file.stem)  # instances_train2017.json and train2017/
    folders = [root / stem, *(root / part for part in PARTS[split]), root / "images" / stem]
    folders += [*(root / "images" / part for part in PARTS[split]), root / "images", root, file.parent]
    existing = [folder for folder in folders if folder.is_dir()]
    there = [folder for folder in existing if name is None or (folder / name).is_file()]
    there = there or [folder for folder in existing if _has_respelled(folder, name)][:1]
    if not there:
        tried = ", ".join(dict.fromkeys(map(str, folders)))
        raise UserError(
            f"{file} names the image {name}, which is in none of {tried}: say where the images are, with dataset=custom_coco "
            f"dataset.{split}_images=FOLDER."
        )
    return there[0]


def _has_respelled(folder: Path, name: str) -> bool:
    """Whether the reader will find ``name`` there in another spelling."""
    from seg_det.data.spelling import Spellings  # imports numpy, which --help need not

    try:
        return Spellings(folder).find(name).is_file()
    except UserError:
        return False


def _cityscapes(root: Path, wanted: str) -> Recognised | None:
    both = all((root / name).is_dir() for name in ("leftImg8bit", "gtFine"))
    return Recognised("cityscapes", (), "leftImg8bit/ and gtFine/") if both else None


def _camvid(root: Path, wanted: str) -> Recognised | None:
    both = all((root / name).is_dir() for name in ("train", "trainannot"))
    return Recognised("camvid", (), "train/ and trainannot/") if both else None


def _mask_folders(root: Path, wanted: str) -> Recognised | None:
    both = all((root / "train" / name).is_dir() for name in ("images", "masks"))
    return Recognised("custom_masks", (), "train/images/ and train/masks/") if both else None


def _class_folders(root: Path, wanted: str) -> Recognised | None:
    folders = [path for path in (root / "train").glob("*") if path.is_dir()]
    if len(folders) > 1 and all(_holds_pictures(folder) for folder in folders[:3]):
        val = next((name for name in PARTS["val"] if (root / name).is_dir()), "val")
        settings = () if val == "val" else (f"dataset.val_split={val}",)
        return Recognised("imagefolder", settings, f"train/ with {len(folders)} folders of images")
    return None


def _holds_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in PICTURES for path in folder.iterdir())


RULES: Sequence[Callable[[Path, str], Recognised | None]] = (
    _shapes,
    _described_yolo,
    _voc,
    _coco,
    _cityscapes,
    _camvid,
    _mask_folders,
    _plain_yolo,
    _class_folders,
)
