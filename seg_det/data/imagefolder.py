"""Images with one class each to records: a folder for each class, as ImageNet has it, or a list of files and indices."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seg_det.data.class_lists import class_names
from seg_det.data.images import IMAGE_SUFFIXES
from seg_det.data.places import below
from seg_det.data.problems import Problems, require
from seg_det.data.records import ClassificationRecord, ClassificationSource
from seg_det.errors import UserError
from seg_det.progress import progress_bar
from seg_det.registry import READERS
from seg_det.types import Category

MOST_SHOWN = 8  # names of classes in a message


@READERS.register
def read_imagefolder(
    *,
    root: str | Path,
    split: str,
    split_list: str | Path | None = None,
    images: str | Path | None = None,
    train_split: str = "train",
    train_list: str | Path | None = None,
    categories: Sequence[str] | None = None,
    num_classes: int | None = None,
    on_bad: str = "error",
) -> ClassificationSource:
    """Read one split: the folders root/SPLIT/CLASS/ with images in them at any depth, or what ``split_list`` names.

    A line of a list is ``file<TAB>index``, or ``file<TAB>index<TAB>id<TAB>name``, after a line of headings or none; files
    are relative to ``images``, else to the list's folder. Lists and ``images`` are paths below ``root``, or absolute.

    Names come from ``categories``, else from root/classes.txt, else from what the model trains on, for all splits alike:
    ``train_list`` (last column, else the index), else the sorted folders of root/TRAIN_SPLIT; without either, from the
    split itself. Ids are the indices, from 0. ``num_classes`` says how many a list has, else its highest index does.

    No image is opened. What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``). Raises UserError.
    """
    problems, root = Problems(on_bad), Path(root)
    require(root, "the image folder")
    where = root / split if split_list is None else below(root, split_list, problems)
    require(where, "the folder with a folder for each class" if split_list is None else "the list of images", part=True)
    part = _Part(where, None if split_list is None else _read_list(where, problems))
    names = _class_names(root, categories, num_classes, _training_part(root, train_split, train_list, part))
    if part.rows is None:
        records = _from_folders(where, names, problems, complete=split == train_split)
    else:
        records = _from_list(part, where.parent if images is None else below(root, images, problems), names, problems)
    sentences = problems.settle()
    if not records:
        reason = f": {sentences[0]}" if sentences else ""
        raise UserError(f"{where} has no image that can be used ({', '.join(IMAGE_SUFFIXES)}){reason}")
    listed = tuple(Category(index, name) for index, name in enumerate(names))
    return ClassificationSource(f"{root.name} {split}".strip(), tuple(records), listed, sentences, problems.lost)


class _Row(NamedTuple):
    """A line of a list."""

    line: int  # from 1
    file: str
    label: int  # index of its class
    columns: tuple[str, ...]  # further ones: id, name


class _Part(NamedTuple):
    """Where a split stands: a list with its rows, or a folder of folders."""

    path: Path
    rows: list[_Row] | None


def _training_part(root: Path, train_split: str, train_list: str | Path | None, own: _Part) -> _Part:
    """What the classes are taken from: the split that a model trains on, else the one that is read."""
    if train_list is None:
        folder = root / train_split
        return _Part(folder, None) if folder.is_dir() else own
    path = below(root, train_list)
    # What is wrong with another split's list is told when that split is read.
    return own if path == own.path else _Part(path, _read_list(path, Problems("skip")))


def _read_list(path: Path, problems: Problems) -> list[_Row]:
    require(path, "the list of images")
    # A file name may hold bytes that are no UTF-8; they stand in it as in the names that the system gives.
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        file, *columns = (column.strip() for column in line.split("\t"))
        try:
            rows.append(_Row(number, file, int(columns[0]), tuple(columns[1:])))
        except (IndexError, ValueError):
            headings = number == 1 and columns
            if line.strip() and not headings:
                problems.add(
                    f"{path}, line {number}: {line!r} is not a file, a tab and the whole number of its class",
                    lost="image",
                )
    if not rows:
        problems.settle()
        raise UserError(f"the list {path} names no image; write a line for each: file, tab, index of its class from 0")
    return rows


def _class_names(root: Path, categories: Sequence[str] | None, num_classes: int | None, part: _Part) -> tuple[str, ...]:
    """The names in the order of their indices, from the first that there is of: categories, classes.txt, the part."""
    file = root / "classes.txt"
    if categories is not None:
        source, names = "dataset.categories", [str(name).strip() for name in categories]
    elif file.exists():
        source, names = str(file), class_names(file, known=_folders(part.path))
    elif part.rows is not None:
        source, names = str(part.path), _listed_names(part.rows, num_classes)
    else:
        require(part.path, "the folder with a folder for each class")
        source, names = str(part.path), sorted(_folders(part.path))
    names = [name for name in names if name]
    if not names:
        raise UserError(f"{source} names no class; put the images of each class into a folder with its name")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(f"{source} names the class {twice!r} twice; name it once")
    if num_classes not in (None, len(names)):
        raise UserError(f"dataset.num_classes is {num_classes}, but {source} names {len(names)} classes; leave it out")
    return tuple(names)


def _folders(path: Path) -> set[str]:
    """The names of the folders in a folder; none of a list."""
    return {entry.name for entry in _entries(path) if entry.is_dir()} if path.is_dir() else set()


def _listed_names(rows: list[_Row], num_classes: int | None) -> list[str]:
    """The last column of each index's first line, or the index; a name that two indices have takes the id along."""
    count = max(row.label for row in rows) + 1 if num_classes is None else num_classes
    columns = {row.label: row.columns for row in reversed(rows) if row.columns and row.columns[-1]}
    names = [columns.get(index, (str(index),))[-1] for index in range(count)]
    common = {name for name, uses in Counter(names).items() if uses > 1}
    return [
        f"{name} ({columns[index][0] if len(columns[index]) > 1 else index})" if name in common else name
        for index, name in enumerate(names)
    ]


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What a folder holds, except hidden files: ``._a.jpg`` is a Mac's note about an image, not an image."""
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    return sorted(_entries(folder), key=lambda entry: entry.name)


def _from_folders(
    folder: Path, names: Sequence[str], problems: Problems, *, complete: bool
) -> list[ClassificationRecord]:
    """The images below ``folder``; if ``complete`` there must be some of every class."""
    require(folder, "the folder with a folder for each class")
    found = _folders(folder)
    _find_strangers(folder, found, names, problems)
    records: list[ClassificationRecord] = []
    for label, name in enumerate(progress_bar(names, desc=f"listing {folder}", unit="class")):
        before = len(records)
        if name in found:
            images = _images_below(folder / name)
            records += [ClassificationRecord(path, file, i, label) for i, (path, file) in enumerate(images, before + 1)]
        if len(records) == before and (name in found or complete):
            problems.add(f"the class {name!r} has no image: none lies in {folder / name}")
    return records


def _find_strangers(folder: Path, found: set[str], names: Sequence[str], problems: Problems) -> None:
    """Images beside the folders of the classes, and of the folders ``found`` those of no class."""
    for entry in _sorted_entries(folder):
        if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.name not in found:
            problems.add(f"{entry.path} lies beside the folders of the classes, not in one", lost="image")
    shown = ", ".join(names[:MOST_SHOWN]) + (", ..." if len(names) > MOST_SHOWN else "")
    for name in sorted(found - set(names)):
        problems.add(f"the folder {folder / name} is none of the {len(names)} classes ({shown})")


def _images_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """(folder, file) of all images, sorted; folders do without a Path for each file, which would take most of the time."""
    for entry in _sorted_entries(folder):
        if entry.is_dir():
            yield from _images_below(folder / entry.name)
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield folder, entry.name


def _from_list(part: _Part, images: Path, names: Sequence[str], problems: Problems) -> list[ClassificationRecord]:
    """The listed images that are there; each of their folders is looked through once."""
    require(images, "the folder of the listed images")
    folders: dict[str, tuple[Path, set[str]]] = {}
    first: dict[tuple[str, str], int] = {}
    records = []
    rows = progress_bar(part.rows, desc=f"reading {part.path}", unit="image")
    for image_id, row in enumerate(rows, start=1):
        parent, _, file = row.file.rpartition("/")
        if parent not in folders:
            folders[parent] = (images / parent, _files_in(images / parent))
        folder, there = folders[parent]
        if not 0 <= row.label < len(names):
            fault = f"its index {row.label} is none of the {len(names)} classes, which count from 0 to {len(names) - 1}"
        elif (line := first.setdefault((parent, file), row.line)) != row.line:
            fault = f"it stands in line {line} already"
        elif file not in there:
            fault = f"there is no such file in {folder}"
        else:
            records.append(ClassificationRecord(folder, file, image_id, row.label))
            continue
        problems.add(f"{part.path}, line {row.line}: {row.file}: {fault}", lost="image")
    return records


def _files_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except OSError:
        return set()
