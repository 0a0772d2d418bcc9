"""Folders of images and masks with a list of their classes to records: values or colours, as the list says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg_det.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES, read_values
from seg_det.data.masks import Colour, MaskCode, MaskedImage, MaskFile, mask_code, masked_records, segmentation_source
from seg_det.data.problems import Problems, require
from seg_det.data.records import SegmentationSource
from seg_det.data.texts import read_text
from seg_det.data.voc import list_images
from seg_det.errors import UserError
from seg_det.registry import READERS
from seg_det.types import IGNORE, Category

LOOKED_AT = 20  # masks, for classes that are written otherwise than the list says


@READERS.register
def read_custom_masks(
    *,
    root: str | Path,
    split: str,
    categories: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    mask_ending: str = "",
    on_bad: str = "error",
) -> SegmentationSource:
    """Read one split: images in root/SPLIT/images/, masks in root/SPLIT/masks/ with their names, ``mask_ending`` added.

    The classes are the lines of root/labels.txt, ``name``, then if you like a tab and its value in the masks, a tab and its
    colour ``r,g,b``; or the names ``categories``, with the values 0, 1, ... Names in ``ignore`` are no classes: their pixels
    are not counted, nor is 255 where no class has it. Ids are the values; image ids are places in the sorted list, from 1.

    Only headers of files are read, and a few masks if there are two classes. What is bad is raised (``on_bad="error"``) or
    left out and listed (``"skip"``). Raises UserError.
    """
    problems, root = Problems(on_bad), Path(root)
    require(root / split / "images", "the folder of images", part=True)
    require(root / split / "masks", "the folder of masks")
    labels = _read_labels(root / "labels.txt") if categories is None else _numbered(categories)
    counted = _counted(labels, ignore, root / "labels.txt")
    code = mask_code(
        [label.value for label in counted],
        ignored=[label.value for label in labels if label.name in ignore],
        colours=[label.colour for label in counted],
        void=[label.colour for label in labels if label.name in ignore and label.colour],
    )
    listed = _masked_images(root / split, code, mask_ending, problems)
    if len(counted) == 2 and code.lookup[IGNORE] == IGNORE and not len(code.colours):
        _check_black_and_white(listed, counted, problems)
    name = f"{root.name} {split}"
    classes = [Category(label.value, label.name) for label in counted]
    return segmentation_source(name, masked_records(listed, problems, name), classes, problems)


class _Label(NamedTuple):
    """A line of the class list."""

    name: str
    value: int
    colour: Colour | None


def _numbered(names: Sequence[str]) -> list[_Label]:
    return [_Label(str(name).strip(), value, None) for value, name in enumerate(names)]


def _read_labels(path: Path) -> list[_Label]:
    require(path, "the list of classes (one name a line, in the order of their values in the masks)")
    labels: list[_Label] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            labels.append(_read_label(line, len(labels), f"{path}, line {number}"))
    return labels


def _read_label(line: str, value: int, where: str) -> _Label:
    name, *columns = (column.strip() for column in line.split("\t"))
    colour = None
    for column in columns:
        numbers = [int(digits) for digits in re.findall(r"\d+", column)]
        if re.fullmatch(r"\d+", column):
            value = numbers[0]
        elif re.fullmatch(r"\d+[ ,]+\d+[ ,]+\d+", column) and max(numbers) <= 255:
            colour = (numbers[0], numbers[1], numbers[2])
        elif column:
            raise UserError(
                f"{where}: {column!r} is neither a value (7) nor a colour (128,64,0); separate them by tabs"
            )
    return _Label(name, value, colour)


def _counted(labels: list[_Label], ignore: Sequence[str], path: Path) -> list[_Label]:
    """The labels that are classes."""
    names = [label.name for label in labels]
    if missing := sorted(set(ignore) - set(names)):
        raise UserError(f"dataset.ignore names {missing[0]!r}, which {path} does not list; correct the name")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path} lists the class {twice!r} twice; list it once")
    counted = [label for label in labels if label.name not in ignore]
    if not counted:
        raise UserError(f"{path} names no class; write one name a line, in the order of their values in the masks")
    if coloured := [label for label in labels if label.colour]:
        bare = next((label.name for label in labels if not label.colour), None)
        if bare:
            raise UserError(f"{path} gives a colour to {coloured[0].name!r}, but none to {bare!r}; give one to each")
    return counted


def _masked_images(folder: Path, code: MaskCode, ending: str, problems: Problems) -> list[MaskedImage]:
    images, masks = list_images(folder / "images"), list_images(folder / "masks", MASK_SUFFIXES)
    if not images:
        raise UserError(f"{folder / 'images'} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    listed = []
    for number, (stem, path) in enumerate(sorted(images.items()), start=1):
        if mask := masks.pop(stem + ending, None):
            listed.append(MaskedImage(path, MaskFile(mask, code), number))
        else:
            problems.add(
                f"the mask of {path} is missing: {folder / 'masks'} holds no {_wanted(folder, stem + ending)}",
                lost="image",
            )
    for path in masks.values():
        problems.add(f"the mask {path} belongs to no image in {folder / 'images'}")
    return listed


def _wanted(folder: Path, stem: str) -> str:
    known = ", ".join(MASK_SUFFIXES)
    lossy = next((folder / "masks").glob(f"{stem}.jp*g"), None)
    return f"{stem} with {known}" + (f" (as JPEG, {lossy.name} has lost its values)" if lossy else "")


def _check_black_and_white(listed: list[MaskedImage], labels: list[_Label], problems: Problems) -> None:
    """Two classes are often drawn in black and white, 0 and 255: but 255 is ignored unless the list says otherwise."""
    found: set[int] = set()
    for image in listed[:: max(1, len(listed) // LOOKED_AT)][:LOOKED_AT]:
        found |= set(np.unique(read_values(image.mask.path)).tolist())
    if 255 in found and labels[0].value in found and labels[1].value not in found:
        problems.add(
            f"{listed[0].mask.path.parent}: the masks hold 255, which is ignored, and never {labels[1].value} for "
            f"{labels[1].name!r}; if they are black and white, write {labels[1].name}<tab>255 in labels.txt"
        )
