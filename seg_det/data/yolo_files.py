"""Where a data set in YOLO's layout has its images, labels and class names.

Format: https://docs.ultralytics.com/datasets/detect/ ; what tools really write differs in the paths, so several are tried.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seg_det.data.class_lists import class_names
from seg_det.data.images import IMAGE_SUFFIXES
from seg_det.data.names import clean_name
from seg_det.data.problems import MissingPart, Problems, require
from seg_det.data.spelling import Spellings
from seg_det.data.texts import read_text
from seg_det.errors import UserError

SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # of keys and folders
WHOLE = "."  # as a split: all images, of a data set without parts
MOST_BYTES = 2**24  # of a description: names of classes and paths
LABELS = "labels"  # the usual name of the folder of labels
KEYPOINTS = "kpt_shape"  # the key that only pose data has


class Description(NamedTuple):
    """What a data.yaml says, or in its place classes.txt and the folders."""

    file: Path  # which said it, for messages
    folder: Path  # that relative paths of the splits count from
    names: tuple[str, ...]
    splits: dict[str, list[str]]  # keys as they stand in the file; empty where there is none


def read_description(root: Path) -> Description:
    """The description of the data set at ``root``, a folder or its YAML file. Raises UserError."""
    if root.suffix.lower() in (".yaml", ".yml"):
        require(root, "the data set's description")
        return _of_yaml(root)
    require(root, "the YOLO folder")
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return _of_yaml(root / name)
    for file in (root / "classes.txt", root / "labels" / "classes.txt", root / "obj.names"):
        if file.is_file():
            return Description(file, root, _checked(class_names(file), file), {})
    raise UserError(f"{root} has neither data.yaml nor classes.txt, which name the classes: write one of them.")


def _of_yaml(file: Path) -> Description:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UserError(f"{file} has more than {MOST_BYTES} bytes, so it is no description of a data set.")
        content = yaml.safe_load(read_text(file))
    except (OSError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file} cannot be read as YAML ({reason}): export the data set again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no keys: a data.yaml has names, train and val.")
    if KEYPOINTS in content:
        raise UserError(f"{file} describes poses ({KEYPOINTS}), which are not read: export boxes or polygons.")
    base = Path(str(content.get("path") or "."))
    folder = base if base.is_absolute() and base.is_dir() else file.parent / base
    folder = folder if folder.is_dir() else file.parent  # where it was on somebody else's machine
    splits = {key: _listed(content[key], key, file) for key in _keys(content)}
    return Description(file, folder, _names(content, file), splits)


def _keys(content: dict[Any, Any]) -> list[str]:
    known = [name for names in SPLIT_NAMES.values() for name in names]
    return [key for key in known if content.get(key)]


def _listed(value: Any, key: str, file: Path) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise UserError(f"{file}: {key} must be a folder of images, a list of files (.txt), or several, got {value!r}.")
    return values


def _names(content: dict[Any, Any], file: Path) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise UserError(
                f"{file}: the numbers of names must be 0 to {len(names) - 1}, got {sorted(names, key=str)[:20]}."
            )
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(f"{file} has no names: write names: [first class, second class, ...].")
    count = content.get("nc")
    if isinstance(count, int) and count != len(names):
        raise UserError(f"{file} says nc: {count}, but has {len(names)} names: correct one of them.")
    return _checked(["" if name is None else name for name in names], file)


def _checked(names: list[Any], file: Path) -> tuple[str, ...]:
    if not names or not all(str(name).strip() for name in names):
        raise UserError(f"{file} has a class without a name: give each one.")
    names = [clean_name(name, f"{file}: class {number}") for number, name in enumerate(names)]
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{file} names the class {doubled[0]!r} twice: give each a name of its own.")
    return tuple(names)


def images_of(description: Description, split: str, problems: Problems) -> list[Path]:
    """The image files of a split, sorted, each once. Raises UserError where there is no such split, or nothing in it."""
    folders = _places(description, split)
    paths = [path for folder in folders for path in _paths(folder, problems)]
    if not paths:
        raise UserError(
            f"{folders[0]} holds no image ({', '.join(IMAGE_SUFFIXES)}): check the split {split} of {description.file}."
        )
    for path, count in Counter(paths).items():
        if count > 1:
            problems.add(f"{description.file}: {path} is listed {count} times in the split {split}")
    return sorted(set(paths))


def _places(description: Description, split: str) -> list[Path]:
    """The folders and lists of a split."""
    if not description.splits:
        return [_folder_of(description.folder, split)]
    places = [place for key in SPLIT_NAMES.get(split, (split,)) for place in description.splits.get(key, [])]
    if not places:
        have = ", ".join(description.splits)
        raise MissingPart(
            f"{description.file} names no images for {split} (it has {have}): add {split}: FOLDER to it.",
            f"{description.file} names none",
        )
    return [_found(place, description) for place in places]


def _found(place: str, description: Description) -> Path:
    """The folder or list that ``place`` names; tools also write paths of the machine that they ran on."""
    written = Path(place.replace("\\", "/"))
    parts = [part for part in written.parts if part not in ("..", ".", "/")]
    tried = [description.folder / written, description.file.parent / written]
    tried += [description.file.parent.joinpath(*parts[start:]) for start in range(len(parts))]
    if (found := next((path for path in tried if path.exists()), None)) is not None:
        return found
    raise MissingPart(
        f"{description.file}: there is no {written}, beside it neither: correct the path.", f"there is no {written}"
    )


def _folder_of(root: Path, split: str) -> Path:
    names = SPLIT_NAMES.get(split, (split,))
    if split == WHOLE:
        return root / "images" if (root / "images").is_dir() else root
    for name in names:
        for folder in (root / "images" / name, root / name / "images"):
            if folder.is_dir():
                return folder
    shown = " nor ".join(f"images/{name}" for name in names)
    raise MissingPart(f"{root} has no {shown}: put the images of the split {split} there, or describe it in data.yaml.")


def _paths(place: Path, problems: Problems) -> Iterable[Path]:
    """The images in a folder and below it, or those of a list."""
    if place.is_dir():
        for folder, _, names in os.walk(place):
            for name in names:
                if not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES):
                    yield Path(folder) / name
        return
    spellings, lines = Spellings(place.parent), read_text(place).splitlines()
    for number, line in enumerate(lines, start=1):
        if text := line.strip().replace("\\", "/"):
            try:
                yield Path(text) if Path(text).is_file() else spellings.find(text)
            except UserError as error:
                problems.add(f"{place}, line {number}: {error}", lost="image")
    spellings.note(str(place), len(lines), problems)


def label_file(image: Path, labels: str = LABELS) -> Path:
    """Where the labels of an image lie: ``labels`` in the place of the last images/ of its path, else beside it."""
    parts = list(image.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places:
        parts[places[-1]] = labels
    return Path(*parts).with_suffix(".txt")
