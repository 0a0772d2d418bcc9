"""COCO JSON (``instances_*.json``) and its image folder to records. Format: https://cocodataset.org/#format-data"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seg_det.data.coco_entries import (
    FLAGS,
    MALFORMED,
    Declared,
    describe,
    keys_of,
    load_document,
    number,
    read_categories,
    shortened,
)
from seg_det.data.coco_images import read_images
from seg_det.data.doubts import counted, judge_crowds, look_like_corners, note_repeats, require_pixels
from seg_det.data.images import image_size
from seg_det.data.places import below
from seg_det.data.problems import FAULTS, Problems, box_areas, check_boxes, require
from seg_det.data.records import DetectionSource, ImageFile, ObjectTable, build_records
from seg_det.errors import UserError
from seg_det.registry import READERS

NEEDS = "a bbox of four numbers, an image_id and a category_id"


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
    categories, labels = read_categories(document["categories"], annotations, problems)
    files, places = read_images(document["images"], images, annotations, problems)
    objects = _Objects(annotations, document["annotations"], files, problems)
    table = objects.checked(objects.rows(Declared(places, labels)), set(known_bad))
    sentences = problems.settle()
    if not files:
        raise UserError(f"{annotations}: not one of its {len(document['images'])} images can be used: {sentences[0]}")
    judge_crowds(table.labels, table.crowd, categories, str(annotations), problems)
    records = build_records(files, table)
    return DetectionSource(
        name or default_name(images, annotations), records, categories, problems.settle(), problems.lost
    )


def default_name(images: Path, annotations: Path) -> str:
    """Of a split: datasets/coco/val2017 and datasets/coco/annotations/... -> "coco val2017"."""
    common = Path(os.path.commonpath([images.absolute().parent, annotations.absolute()]))
    return f"{common.name} {images.name}".strip()


class _Rows(NamedTuple):
    """The annotations of usable images as columns: area NaN where none is given, ``number`` as they stand in the file."""

    image: np.ndarray  # i64 [N], place in the list of files
    label: np.ndarray  # i64 [N]
    crowd: np.ndarray  # bool [N]
    xywh: np.ndarray  # f64 [N, 4]
    area: np.ndarray  # f64 [N]
    number: np.ndarray  # i64 [N]


class _Objects(NamedTuple):
    """The annotations of a file, and what is known of it."""

    path: Path
    entries: list[Any]
    files: list[ImageFile]
    problems: Problems

    def rows(self, declared: Declared) -> _Rows:
        """What can be read. Annotations of images that were left out go silently with them."""
        rows: list[tuple[float, ...]] = []
        places, labels = declared
        for at, entry in enumerate(self.entries):
            try:
                x, y, width, height = map(float, entry["bbox"])
                area, crowd = entry.get("area"), FLAGS[entry.get("iscrowd")]
                keys = places[entry["image_id"]], labels[entry["category_id"]]
                rows.append((*keys, crowd, x, y, width, height, math.nan if area is None else float(area), at))
            except MALFORMED:
                try:
                    rows.append((*_read_carefully(entry, declared), at))
                except UserError as error:
                    self.problems.add(f"{self.path}: {describe(entry, at)} {error}", lost="object")
        table = np.array(rows, np.float64).reshape(-1, 9)
        table = table[table[:, 0] >= 0]
        image, label, own = (table[:, column].astype(np.int64) for column in (0, 1, 8))
        return _Rows(image, label, table[:, 2] != 0, table[:, 3:7], table[:, 7], own)

    def checked(self, rows: _Rows, known_bad: set[Any]) -> ObjectTable:
        """The objects with usable boxes, clipped to their images."""
        sizes = np.array([file.size for file in self.files]).reshape(-1, 2)[rows.image]
        self._check_form(rows, sizes)
        boxes = np.concatenate([rows.xywh[:, :2], rows.xywh[:, :2] + rows.xywh[:, 2:]], axis=1)
        checked = check_boxes(boxes, sizes)
        for place, row in enumerate(np.flatnonzero(checked.faults).tolist()):
            expected = self._known(rows.number[row], known_bad)
            # A wrong size of the image may be the reason; to open one image a box would take too long.
            size = "" if place else _other_size(self.files[rows.image[row]])
            sentence = f"{self._where(rows, row)} {FAULTS[checked.faults[row]]}{size}"
            self.problems.add(sentence, lost="" if checked.usable[row] else "object", expected=expected)
        area = self._areas(rows, box_areas(checked.boxes), checked.usable)
        table = ObjectTable(rows.image, checked.boxes, rows.label, rows.crowd, np.zeros(len(sizes), bool), area)
        table = ObjectTable(*(column[checked.usable] for column in table))
        own = rows.number[checked.usable]
        note_repeats(
            table.image, table.labels, table.boxes, lambda row: f"{self.path}: {self._name(own[row])}", self.problems
        )
        return table

    def _check_form(self, rows: _Rows, sizes: np.ndarray) -> None:
        finite = np.isfinite(rows.xywh).all(axis=1)
        xywh, sizes = rows.xywh[finite], sizes[finite]
        require_pixels(xywh, sizes, f"{self.path}: the boxes of all {len(xywh)} annotations")
        shares = np.flatnonzero(((xywh >= 0) & (xywh <= 1)).all(axis=1) & (xywh.max(axis=1) > 0))
        if len(shares):
            first = self._name(rows.number[finite][shares[0]])
            self.problems.note(
                f"{self.path}: {len(shares)} of {len(xywh)} boxes have no number above 1 (the first: {first}): they lie in the "
                "corner pixel of their images, or are written as shares of them"
            )
        if look_like_corners(xywh, sizes):
            self.problems.add(
                f"{self.path}: the boxes look like [x1, y1, x2, y2], corners, since as [x, y, width, height] many reach outside "
                f"their images, such as {_listed(xywh[0])} of {self._name(rows.number[finite][0])}: write widths and heights"
            )

    def _areas(self, rows: _Rows, of_boxes: np.ndarray, usable: np.ndarray) -> np.ndarray:
        """Those of the file, the box's where there is none that can be."""
        given = ~np.isnan(rows.area)
        possible = given & np.isfinite(rows.area) & (rows.area > 0)
        wrong = np.flatnonzero(given & ~possible & usable)
        if len(wrong):
            self.problems.note(
                f"{self.path}: {counted(len(wrong), 'annotation has', 'annotations have')} an area that is not above 0 "
                f"(the first: {self._name(rows.number[wrong[0]])}, {rows.area[wrong[0]]:g}); the area of the box is taken"
            )
        return np.where(possible, rows.area, of_boxes)

    def _known(self, at: int, known_bad: set[Any]) -> bool:
        own_id = self.entries[at].get("id")
        return isinstance(own_id, int) and own_id in known_bad

    def _name(self, at: int) -> str:
        return describe(self.entries[at], at)

    def _where(self, rows: _Rows, row: int) -> str:
        at, file = rows.number[row], self.files[rows.image[row]]
        image = f"image id {self.entries[at]['image_id']} ({file.path.name})"
        return f"{self.path}: {self._name(at)} on {image}: its box [x, y, w, h] = {_listed(rows.xywh[row])}"


def _listed(numbers: np.ndarray) -> str:
    return f"[{', '.join(f'{value:g}' for value in numbers)}]"


def _other_size(file: ImageFile) -> str:
    """What is wrong with the declared size of an image."""
    try:
        size = image_size(file.path)
    except UserError:
        return ""
    if size == file.size:
        return ""
    exchanged = ", that is exchanged" if size == file.size[::-1] else ""
    declared = f"width {file.size[1]} and height {file.size[0]}{exchanged}"
    return f" (the image has {size[1]} x {size[0]} pixels, but is declared with {declared})"


def _read_carefully(entry: Any, declared: Declared) -> tuple[float, ...]:
    """The row of an annotation that is written unusually. Raises UserError that says what is wrong with it."""
    keys = keys_of(entry, declared, NEEDS)
    try:
        box = tuple(map(float, entry["bbox"]))
    except OverflowError:
        raise UserError(f"has the bbox {shortened(entry['bbox'])}, with a number beyond all bounds") from None
    except MALFORMED:
        raise UserError(f"needs {NEEDS}") from None
    if len(box) != 4:
        raise UserError(f"needs {NEEDS}")
    return (*keys, *box, number(entry.get("area"), "area"))
