"""COCO JSON (``instances_*.json``) and its image folder to records. Format: https://cocodataset.org/#format-data"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from operator import index as whole_number
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from seg_det.data.images import verify_image
from seg_det.data.places import below
from seg_det.data.problems import FAULTS, Problems, box_areas, check_boxes, require
from seg_det.data.records import DetectionSource, ImageFile, ObjectTable, build_records
from seg_det.errors import UserError
from seg_det.registry import READERS
from seg_det.types import Category

# A JSON entry that is no dict, lacks a key, or holds a string where a number belongs.
MALFORMED = (KeyError, TypeError, ValueError, AttributeError)


@READERS.register
def read_coco(
    *,
    images: str | Path,
    annotations: str | Path,
    on_bad: str = "error",
    name: str | None = None,
    root: str | Path | None = None,
    known_bad: Sequence[int] = (),
) -> DetectionSource:
    """Read one split in COCO format; images are opened only to verify them, for ``on_bad="skip"``.

    Categories become indices in the order of ascending id and keep their ids; xywh boxes become xyxy; crowd regions are
    flagged; images without annotations stay. What is bad is raised (``on_bad="error"``) or left out and listed
    (``"skip"``); the annotation ids in ``known_bad`` are listed either way, if bad at all. Relative paths
    count below ``root``. Raises UserError.
    """
    problems = Problems(on_bad)
    images, annotations = below(root, images, problems), below(root, annotations, problems)
    require(annotations, "the annotation file", part=True)
    require(images, "the image folder")
    document = load_document(annotations)
    categories = read_categories(document["categories"], annotations, problems)
    files, dropped = read_images(document["images"], images, annotations, problems)
    rows = _read_rows(document["annotations"], annotations, problems)
    rows = _select_declared(rows, files, dropped, categories, annotations, problems)
    objects = _check_objects(rows, files, categories, annotations, set(known_bad), problems)
    sentences = problems.settle()
    if not files:
        raise UserError(f"{annotations}: not one of its {len(document['images'])} images can be used: {sentences[0]}")
    records = build_records(files, objects)
    return DetectionSource(name or default_name(images, annotations), records, categories, sentences, problems.lost)


def default_name(images: Path, annotations: Path) -> str:
    """Of a split: datasets/coco/val2017 and datasets/coco/annotations/... -> "coco val2017"."""
    common = Path(os.path.commonpath([images.absolute().parent, annotations.absolute()]))
    return f"{common.name} {images.name}".strip()


class _Rows(NamedTuple):
    """The annotations as columns: crowd 0 or 1, area NaN where none is given, ``number`` as they stand in the file."""

    image_id: np.ndarray  # i64 [N]
    category_id: np.ndarray  # i64 [N]
    xywh: np.ndarray  # f64 [N, 4]
    crowd: np.ndarray  # bool [N]
    area: np.ndarray  # f64 [N]
    annotation_id: np.ndarray  # i64 [N], -1 where none is given
    number: np.ndarray  # i64 [N]

    def select(self, keep: np.ndarray) -> _Rows:
        return _Rows(*(column[keep] for column in self))

    def describe(self, row: int) -> str:
        own_id, number = self.annotation_id[row], self.number[row]
        return f"annotation id {own_id}" if own_id >= 0 else f"annotations[{number}] (which has no id)"


def load_document(path: Path) -> dict[str, list[Any]]:
    """The lists ``images``, ``annotations`` and ``categories`` of a COCO file. Raises UserError if it has them not."""
    try:
        document = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path}, {where}: not valid JSON ({error.msg}); fetch or export the file again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); fetch or export the file again") from error
    lists = document if isinstance(document, dict) else {}
    lacking = [key for key in ("images", "annotations", "categories") if not isinstance(lists.get(key), list)]
    if lacking:
        raise UserError(
            f"{path} has no list {' nor '.join(lacking)}: export it as COCO instances (object detection) JSON"
        )
    for key in ("images", "categories"):
        if not lists[key]:
            raise UserError(
                f"{path}: its list {key} is empty, so there is nothing to learn or measure; choose another file"
            )
    return lists


def read_categories(entries: list[Any], path: Path, problems: Problems) -> tuple[Category, ...]:
    """The declared categories by ascending id."""
    names: dict[int, str] = {}
    for number, entry in enumerate(entries):
        try:
            category_id, name = whole_number(entry["id"]), str(entry["name"])
        except MALFORMED:
            raise UserError(f"{path}: categories[{number}] needs a whole number id and a name; correct it") from None
        if category_id in names:
            problems.add(f"{path}: category id {category_id} is declared twice, as {names[category_id]!r} and {name!r}")
        else:
            names[category_id] = name
    return tuple(Category(category_id, names[category_id]) for category_id in sorted(names))


def read_images(entries: list[Any], folder: Path, path: Path, problems: Problems) -> tuple[list[ImageFile], np.ndarray]:
    """The usable images, and the ids of the others."""
    listings: dict[Path, set[str]] = {}
    files: dict[int, ImageFile] = {}
    dropped = []
    for number, entry in enumerate(tqdm(entries, desc=f"reading {folder}", unit="image", delay=2, leave=False)):
        try:
            image_id, image = whole_number(entry["id"]), folder / entry["file_name"]
        except MALFORMED:
            problems.add(f"{path}: images[{number}] needs a whole number id and a file_name", lost="image")
            continue
        if image_id in files:
            problems.add(
                f"{path}: image id {image_id} is declared twice, as {files[image_id].path.name} and {image.name}",
                lost="image",
            )
            continue
        try:
            _require_listed(image, listings)
            files[image_id] = ImageFile(image, image_id, _image_size(entry, image, verify=problems.on_bad == "skip"))
        except UserError as error:
            problems.add(f"{path}: image id {image_id}: {error}", lost="image")
            dropped.append(image_id)
    return list(files.values()), np.array(dropped, np.int64)


def _require_listed(image: Path, listings: dict[Path, set[str]]) -> None:
    folder = image.parent
    if folder not in listings:  # one listing a folder instead of one question a file
        listings[folder] = {item.name for item in os.scandir(folder)} if folder.is_dir() else set()
    if image.name not in listings[folder]:
        raise UserError(f"there is no image {image}")


def _image_size(entry: dict[str, Any], image: Path, *, verify: bool) -> tuple[int, int]:
    """(H, W) as declared, else of the file. ``verify`` finds now what would fail in training, hours later."""
    height, width = entry.get("height"), entry.get("width")
    declared = all(isinstance(side, int) and side > 0 for side in (height, width))
    if declared and not verify:
        return height, width
    size = verify_image(image)
    if declared and size != (height, width):
        raise UserError(f"{image} has {size[1]}x{size[0]} pixels, but is declared with {width}x{height}")
    return size


def _read_rows(entries: list[Any], path: Path, problems: Problems) -> _Rows:
    ids, floats, own, numbers = [], [], [], []
    for number, entry in enumerate(entries):
        try:
            x, y, width, height = map(float, entry["bbox"])
            pair = whole_number(entry["image_id"]), whole_number(entry["category_id"])
            area, own_id = entry.get("area"), entry.get("id")
            floats.append(
                (x, y, width, height, float(entry.get("iscrowd") or 0), np.nan if area is None else float(area))
            )
        except MALFORMED:
            own_id = entry.get("id", "none") if isinstance(entry, dict) else "none"
            needs = "a bbox of four numbers, a whole number image_id and category_id"
            problems.add(f"{path}: annotations[{number}] (id {own_id}) needs {needs}", lost="object")
            continue
        ids.append(pair)
        own.append(own_id if isinstance(own_id, int) else -1)
        numbers.append(number)
    image_id, category_id = np.array(ids, np.int64).reshape(-1, 2).T
    table = np.array(floats, np.float64).reshape(-1, 6)
    return _Rows(
        image_id,
        category_id,
        table[:, :4],
        table[:, 4] != 0,
        table[:, 5],
        np.array(own, np.int64),
        np.array(numbers, np.int64),
    )


def _positions(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Where each value stands in ``keys`` (unique, in any order), -1 where it does not."""
    if not len(keys):
        return np.full(len(values), -1)
    order = np.argsort(keys)
    nearest = order[np.searchsorted(keys[order], values).clip(max=len(keys) - 1)]
    return np.where(keys[nearest] == values, nearest, -1)


def _ids(items: Sequence[Category] | Sequence[ImageFile]) -> np.ndarray:
    return np.array([item.id if isinstance(item, Category) else item.image_id for item in items], np.int64)


def _select_declared(
    rows: _Rows,
    files: list[ImageFile],
    dropped: np.ndarray,
    categories: tuple[Category, ...],
    path: Path,
    problems: Problems,
) -> _Rows:
    """The annotations of usable images and declared categories; those of dropped images go silently with them."""
    has_image = _positions(rows.image_id, _ids(files)) >= 0
    lost_image = ~has_image & ~np.isin(rows.image_id, dropped)
    lost_category = _positions(rows.category_id, _ids(categories)) < 0
    for row in np.flatnonzero(lost_image | (has_image & lost_category)):
        missing = f"image id {rows.image_id[row]}" if lost_image[row] else f"category id {rows.category_id[row]}"
        problems.add(f"{path}: {rows.describe(row)} is about {missing}, which the file does not declare", lost="object")
    return rows.select(has_image & ~lost_category)


def _check_objects(
    rows: _Rows,
    files: list[ImageFile],
    categories: tuple[Category, ...],
    path: Path,
    known_bad: set[int],
    problems: Problems,
) -> ObjectTable:
    image = _positions(rows.image_id, _ids(files))
    sizes = np.array([file.size for file in files]).reshape(-1, 2)[image]
    boxes = np.concatenate([rows.xywh[:, :2], rows.xywh[:, :2] + rows.xywh[:, 2:]], axis=1)
    checked = check_boxes(boxes, sizes)
    for row in np.flatnonzero(checked.faults):
        box = ", ".join(f"{value:g}" for value in rows.xywh[row])
        where = f"{path}: {rows.describe(row)} on image id {rows.image_id[row]} ({files[image[row]].path.name})"
        expected = int(rows.annotation_id[row]) in known_bad
        sentence = f"{where}: its box [x, y, w, h] = [{box}] {FAULTS[checked.faults[row]]}"
        problems.add(sentence, lost="" if checked.usable[row] else "object", expected=expected)
    labels = _positions(rows.category_id, _ids(categories))
    area = np.where(np.isfinite(rows.area), rows.area, box_areas(checked.boxes))
    table = ObjectTable(image, checked.boxes, labels, rows.crowd, np.zeros(len(image), bool), area)
    return ObjectTable(*(column[checked.usable] for column in table))
