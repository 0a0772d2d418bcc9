"""Folders of images and masks with a list of their classes to records: values or colours, as the list says."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np

from seg_det.data.class_lists import Listed, find_class_list, read_class_list
from seg_det.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES, read_values
from seg_det.data.masks import MaskCode, MaskedImage, MaskFile, mask_code, masked_records, segmentation_source
from seg_det.data.pairs import Files, files_below, find_ending, mask_name, same_name
from seg_det.data.problems import Problems, require
from seg_det.data.records import SegmentationSource
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

    Folders below those are read too, the same ones on both sides. Without ``mask_ending``, one that all masks have is found and
    noted. The classes are the lines of root/labels.txt, or of CVAT's labelmap.txt: ``name``, then if you like a tab and its value
    in the masks, a tab and its colour ``r,g,b`` (see :mod:`seg_det.data.class_lists` for further forms); or the names
    ``categories``, with the values 0, 1, ... Names in ``ignore`` are no classes: their pixels are not counted, nor is 255 where
    no class has it. Ids are the values; image ids are places in the sorted list, from 1.

    Only headers of files are read, and a few masks if there are two classes. What is bad is raised (``on_bad="error"``) or
    left out and listed (``"skip"``). Raises UserError.
    """
    problems, root = Problems(on_bad), Path(root)
    require(root / split / "images", "the folder of images", part=True)
    require(root / split / "masks", "the folder of masks")
    file = find_class_list(root)
    labels = _listed(file) if categories is None else _numbered(categories)
    counted = _counted(labels, ignore, file)
    code = mask_code(
        [_value(label) for label in counted],
        ignored=[_value(label) for label in labels if label.name in ignore],
        colours=[label.colour for label in counted],
        void=[label.colour for label in labels if label.name in ignore and label.colour],
    )
    listed = _masked_images(root / split, code, mask_ending, problems)
    if len(counted) == 1:
        raise UserError(_one_class(counted[0], listed, file))
    _check_black_and_white(listed, counted, code, problems)
    name = f"{root.name} {split}"
    classes = [Category(_value(label), label.name) for label in counted]
    return segmentation_source(name, masked_records(listed, problems, name), classes, problems)


def _value(label: Listed) -> int:
    return cast(int, label.value)  # each has one by now


def _numbered(names: Sequence[str]) -> list[Listed]:
    return [Listed(str(name).strip(), value) for value, name in enumerate(names)]


def _listed(path: Path) -> list[Listed]:
    """The classes of a list; a value that is not given is the place in it."""
    require(path, "the list of classes (one name a line, in the order of their values in the masks)")
    labels = read_class_list(path)
    return [label._replace(value=place) if label.value is None else label for place, label in enumerate(labels)]


def _counted(labels: list[Listed], ignore: Sequence[str], path: Path) -> list[Listed]:
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


def _one_class(label: Listed, listed: Sequence[MaskedImage], path: Path) -> str:
    """What to say of data with a single class."""
    found = sorted(_values_in(listed))
    black_and_white = len(found) == 2 and found[0] == 0
    lines = (
        f": the masks hold 0 and {found[1]}, so background<tab>0 and {label.name}<tab>{found[1]}"
        if black_and_white
        else ""
    )
    return f"{path} names only one class, {label.name!r}, which has nothing to be told from; add a line for the background{lines}"


def _masked_images(folder: Path, code: MaskCode, ending: str, problems: Problems) -> list[MaskedImage]:
    images, masks = files_below(folder / "images", problems=problems), files_below(folder / "masks", MASK_SUFFIXES)
    if not images:
        raise UserError(f"{folder / 'images'} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    added = ending or find_ending(images, masks)
    if added is None:
        problems.note(f"{folder / 'masks'}: the masks have the whole names of the images, with their suffixes")
    elif added != ending:
        problems.note(
            f"{folder / 'masks'}: to the names of the images the masks add {added!r} (dataset.mask_ending={added})"
        )
    pairs = _pairs(folder, images, masks, added, problems)
    for path in (path for paths in masks.values() for path in paths):
        problems.add(f"the mask {path} belongs to no image in {folder / 'images'}")
    return [MaskedImage(image, MaskFile(mask, code), number) for number, (image, mask) in pairs]


def _pairs(
    folder: Path, images: Files, masks: dict[str, list[Path]], ending: str | None, problems: Problems
) -> list[tuple[int, tuple[Path, Path]]]:
    """The images with their masks, numbered by their places in the sorted list; the masks are taken out of ``masks``."""
    files = sorted((stem, path) for stem, paths in images.items() for path in paths)
    found = []
    for number, (stem, path) in enumerate(files, start=1):
        name = mask_name(stem, path, ending)
        same = [other for other in images[stem] if other != path] if ending is not None else []
        mask = masks.get(name, [])
        if same:
            problems.add(same_name(path, same[0]), lost="image")
        elif not mask:
            problems.add(
                f"the mask of {path} is missing: {folder / 'masks'} holds no {_wanted(folder, name)}", lost="image"
            )
        elif len(mask) > 1:
            problems.add(f"{path} has two masks, {mask[0]} and {mask[1].name}: remove one", lost="image")
        else:
            found.append((number, (path, mask[0])))
    for stem, path in files:
        masks.pop(mask_name(stem, path, ending), None)
    return found


def _wanted(folder: Path, stem: str) -> str:
    known = ", ".join(MASK_SUFFIXES)
    lossy = next((folder / "masks").glob(f"{glob.escape(stem)}*.jp*g"), None)
    return f"{stem} with {known}" + (f" (as JPEG, {lossy.name} has lost its values)" if lossy else "")


def _values_in(listed: Sequence[MaskedImage]) -> set[int]:
    """The values in a few masks; those that cannot be read are told of when all are looked at."""
    found: set[int] = set()
    for image in listed[:: max(1, len(listed) // LOOKED_AT)][:LOOKED_AT]:
        with suppress(UserError):
            found |= set(np.unique(read_values(image.mask.path)).tolist())
    return found


def _check_black_and_white(
    listed: Sequence[MaskedImage], labels: Sequence[Listed], code: MaskCode, problems: Problems
) -> None:
    """Two classes are often drawn in black and white, 0 and 255: but 255 is ignored unless the list says otherwise."""
    if len(labels) != 2 or code.lookup[IGNORE] != IGNORE or len(code.colours):
        return
    found = _values_in(listed)
    if 255 in found and labels[0].value in found and labels[1].value not in found:
        problems.add(
            f"{listed[0].mask.path.parent}: the masks hold 255, which is ignored, and never {labels[1].value} for "
            f"{labels[1].name!r}; if they are black and white, write {labels[1].name}<tab>255 in labels.txt"
        )
