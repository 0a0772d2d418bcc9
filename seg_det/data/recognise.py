"""Which data set a folder holds, told by what lies in it; opens no image, and imports none of the readers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from seg_det.data import recognise_single as single
from seg_det.data.recognise_tools import READ as TOOLS_READ
from seg_det.data.recognise_tools import find_tool, first_files, split_settings, tool_of
from seg_det.errors import UserError

BOXES, MASKS, CLASSES = "boxes", "masks", "classes"  # what a task learns from
READ = (
    f"COCO's JSON, Pascal VOC's XML, YOLO's data.yaml or classes.txt, {TOOLS_READ}, Cityscapes, CamVid, images/ and masks/, and "
    "a folder for each class, with train/ and val/ or without"
)
PARTS = {"train": ("train",), "val": ("val", "valid", "validation")}  # of files and folders
TEST = "test"  # a part that is only measured
FIRST_BYTES = 2**20  # of a JSON file, in which the name of an image is looked for
OTHER_COCO = {"captions", "keypoints", "panoptic", "person"}  # words in names of files without boxes
NOT_ONLY = OTHER_COCO | {"val", "valid", "validation", "test"}  # and of files that are no train part
SHAPES = {"seed": 0, "train_images": 1500, "val_images": 200}  # of the generated data set, conf/dataset/shapes.yaml's
TASKS = {BOXES: "ssdlite", MASKS: "lraspp", CLASSES: "classifier"}  # one for each, in messages
COPY = ".cleaned"  # in names of the doctor's copies
MOST_LISTED = 12  # names of a folder in a message


class Recognised(NamedTuple):
    """A data set: the choice of conf/dataset, further settings of it, and what it was told by."""

    dataset: str
    settings: tuple[str, ...] = ()
    told_by: str = ""
    others: tuple[str, ...] = ()  # settings that would read what else the folder holds, some with what tells it


Rule = Callable[[Path, str], Recognised | None]


def recognise(root: Path, wanted: str) -> Recognised:
    """What the folder ``root`` holds, for a task that learns from ``wanted``: boxes, masks or classes.

    Raises UserError for a folder that is not there, for one that holds nothing known, with what lies in it, and for one that
    another task can learn from.
    """
    if not root.exists():
        raise UserError(f"dataset.root={root} does not exist: correct the path, or name the data set with dataset=.")
    if root.is_file():
        if root.suffix.lower() in (".yaml", ".yml"):
            return _yolo(root, wanted)
        if (found := _tools(root, wanted)) is not None:
            return found
        raise UserError(f"dataset.root={root} is a file: give the folder that it lies in.")
    rules = iter(RULES)
    if (found := _by_rules(root, wanted, rules)) is not None:
        return found._replace(others=_others(root, wanted, found, rules))
    for other, task in TASKS.items():
        if other != wanted and (found := _by_rules(root, other, RULES)) is not None:
            raise UserError(
                f"dataset.root={root} holds {other} ({found.told_by}), and the task learns from {wanted}: set task={task}, or "
                f"another that learns from {other}."
            )
    names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir() if not path.name.startswith("."))
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    raise UserError(
        f"dataset.root={root} holds no data set that is known: it has {', '.join(names[:MOST_LISTED]) or 'nothing'}{more}. "
        f"Recognised are {READ}; datasets/README.md has the trees, and dataset= names one."
    )


def _by_rules(root: Path, wanted: str, rules: Iterable[Rule]) -> Recognised | None:
    return next((found for rule in rules if (found := rule(root, wanted)) is not None), None)


def _others(root: Path, wanted: str, found: Recognised, rules: Iterable[Rule]) -> tuple[str, ...]:
    """What would read the data sets beside the one that was found, by the ``rules`` that follow its own."""
    if found.dataset == "shapes" or wanted == CLASSES:
        return ()
    named = {found.dataset: ""}
    for one in (
        *_each(root, wanted, rules),
        *(Recognised(sign.dataset, (), path.name) for path, sign in first_files(root)),
    ):
        named.setdefault(one.dataset, f"dataset={one.dataset} ({one.told_by})")
    files = [*_annotation_files(root, "train")][1:] if "coco" in found.dataset else []
    return (*filter(None, named.values()), *(f"dataset.train_annotations={path}" for path in files if _is_coco(path)))


def _each(root: Path, wanted: str, rules: Iterable[Rule]) -> Iterator[Recognised]:
    for rule in rules:
        try:
            if rule in RULES_OF[wanted] and (found := rule(root, wanted)) is not None:
                yield found
        except UserError:  # a part of a data set
            continue


def _shapes(root: Path, wanted: str) -> Recognised | None:
    if not (file := root / "shapes.json").is_file():
        return None
    try:
        found = json.loads(file.read_bytes())
        settings = [f"dataset.{key}={int(found[key])}" for key, usual in SHAPES.items() if found[key] != usual]
    except (ValueError, KeyError, TypeError):  # which the reader says
        settings = []
    return Recognised("shapes", tuple(settings), file.name)


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
        settings = (*_yolo(root, wanted).settings, *single.yolo_parts(root))
        return Recognised("yolo", settings, "labels/ and classes.txt")
    return None


def _voc(root: Path, wanted: str) -> Recognised | None:
    if wanted == MASKS and (root / "SegmentationClass").is_dir():
        return Recognised("voc_seg", (), "SegmentationClass/")
    if wanted != MASKS and (root / "Annotations").is_dir() and (root / "JPEGImages").is_dir():
        return Recognised(*single.voc_lists(root))
    return None


def _coco(root: Path, wanted: str) -> Recognised | None:
    files = {split: next(_annotation_files(root, split), None) for split in PARTS}
    if files["train"] is None:
        files = {"train": None if files["val"] else _only_coco(root), "val": None}
    if files["train"] is None:
        return None
    settings = [] if files["val"] else [single.SPLIT]
    for split, file in {**files, TEST: next(_annotation_files(root, TEST), None)}.items():
        if file is not None:
            settings += [
                f"dataset.{split}_annotations={file}",
                f"dataset.{split}_images={_image_folder(root, split, file)}",
            ]
    told_by = " and ".join(file.relative_to(root).as_posix() for file in files.values() if file)
    told_by += "" if files["val"] else ", without a val part"
    return Recognised("coco_seg" if wanted == MASKS else "custom_coco", tuple(settings), told_by)


def _only_coco(root: Path) -> Path | None:
    """The one file in COCO's format, whatever its name. Raises UserError where there are several."""
    found = [
        path for folder in (root / "annotations", root) for path in sorted(folder.glob("*.json")) if _is_coco(path)
    ]
    found = [path for path in found if path.stem.startswith("instances")] or found
    if len(found) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in found[:MOST_LISTED])
        raise UserError(
            f"dataset.root={root} holds {len(found)} files in COCO's format ({names}): say which, with dataset=custom_coco "
            "dataset.train_annotations=FILE dataset.train_images=FOLDER."
        )
    return found[0] if found else None


def _is_coco(path: Path) -> bool:
    if _is_copy(path) or set(re.split(r"[^a-z]+", path.stem.lower())) & NOT_ONLY:
        return False
    with path.open("rb") as opened:
        head = opened.read(FIRST_BYTES)
        opened.seek(max(0, path.stat().st_size - FIRST_BYTES))
        text = head + opened.read(FIRST_BYTES)
    return all(re.search(rb'"%b"\s*:\s*\[' % key, text) for key in (b"images", b"categories")) or (
        b'"file_name"' in text and b'"image_id"' in text
    )


def _annotation_files(root: Path, split: str) -> Iterator[Path]:
    """Files that may be COCO's, the most usual names first; those of captions and keypoints are none."""
    for part in PARTS.get(split, (split,)):
        yield from (path for path in (root / part).glob("*.coco.json") if path.is_file())
    for folder in (root / "annotations", root):
        for path in sorted(folder.glob("*.json"), key=lambda path: (not path.stem.startswith("instances"), path.name)):
            words = re.split(r"[^a-z]+", path.stem.lower())
            wanted = set(words) & set(PARTS.get(split, (split,))) and not set(words) & OTHER_COCO and not _is_copy(path)
            if wanted and tool_of(path) is None:
                yield path


def _is_copy(path: Path) -> bool:
    """Whether the doctor corrected the file beside it: then its own command names this one."""
    return path.stem.endswith(COPY) and path.with_name(path.name.replace(f"{COPY}.", ".")).is_file()


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
    folders = [root / stem, *(root / part for part in PARTS.get(split, (split,))), root / "images" / stem]
    folders += [*(root / "images" / part for part in PARTS.get(split, (split,))), root / "images", root, file.parent]
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


def _has_respelled(folder: Path, name: str | None) -> bool:
    """Whether the reader will find ``name`` there in another spelling."""
    from seg_det.data.spelling import Spellings  # imports numpy, which --help need not

    try:
        return name is not None and Spellings(folder).find(name).is_file()
    except UserError:
        return False


def _tools(root: Path, wanted: str) -> Recognised | None:
    found = find_tool(root) if wanted != CLASSES else None
    if found is None:
        return None
    settings = split_settings(found.splits) + (("augmentation=segmentation",) if wanted == MASKS else ())
    file = found.first.relative_to(root).as_posix() if root.is_dir() else found.first.name
    return Recognised(found.sign.dataset, settings, f"{file}, a file of {found.sign.tool}")


def _cityscapes(root: Path, wanted: str) -> Recognised | None:
    both = all((root / name).is_dir() for name in ("leftImg8bit", "gtFine"))
    return Recognised("cityscapes", (), "leftImg8bit/ and gtFine/") if both else None


def _camvid(root: Path, wanted: str) -> Recognised | None:
    both = all((root / name).is_dir() for name in ("train", "trainannot"))
    return Recognised("camvid", (), "train/ and trainannot/") if both else None


def _mask_folders(root: Path, wanted: str) -> Recognised | None:
    both = all((root / "train" / name).is_dir() for name in ("images", "masks"))
    return Recognised("custom_masks", single.val_of(root), "train/images/ and train/masks/") if both else None


def _class_folders(root: Path, wanted: str) -> Recognised | None:
    folders = [path for path in (root / "train").glob("*") if path.is_dir()]
    if len(folders) > 1 and all(_holds_pictures(folder) for folder in folders[:3]):
        return Recognised("imagefolder", single.val_of(root), f"train/ with {len(folders)} folders of images")
    return None


def _one_part(root: Path, wanted: str) -> Recognised | None:
    rules = {
        BOXES: (single.voc_beside, single.yolo_beside),
        MASKS: (single.mask_folders, single.yolo_beside),
        CLASSES: (single.class_folders,),
    }
    found = next((one for rule in rules[wanted] if (one := rule(root)) is not None), None)
    return found and Recognised(*found)


def _holds_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in single.PICTURES for path in folder.iterdir())


RULES: Sequence[Rule] = (
    _shapes,
    _described_yolo,
    _voc,
    _coco,
    _tools,
    _cityscapes,
    _camvid,
    _mask_folders,
    _plain_yolo,
    _class_folders,
    _one_part,
)
OF_BOXES = (_described_yolo, _voc, _coco, _plain_yolo, _one_part)
RULES_OF: Mapping[str, Sequence[Rule]] = {  # what several may fit one folder
    BOXES: OF_BOXES,
    MASKS: (*OF_BOXES, _cityscapes, _camvid, _mask_folders),
}
