"""Corrected copies of YOLO's files: labels_cleaned/, lists of the usable images, and data.cleaned.yaml, which names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from seg_det.data.texts import read_text
from seg_det.data.yolo_files import LABELS, label_file, read_description
from seg_det.doctor.findings import Scope, Split
from seg_det.doctor.fixes import CLIP, Box, Change, Fixed, clipped, doubled, located, refused, require_new
from seg_det.errors import UserError
from seg_det.files import write_whole

PLACE = re.compile(r"^(.+\.txt), line (\d+)[: ]")
ENDING = "_cleaned"


def fix_yolo(scope: Scope, sections: Mapping[str, Mapping[str, Any]]) -> Fixed:
    """Write the copies; nothing where nothing is to be corrected."""
    section = sections[scope.splits[0].role]
    description = read_description(Path(section["root"]))
    folder = f"{section.get('labels', LABELS)}{ENDING}"
    texts, changes = _corrected(scope, str(section.get("labels", LABELS)), folder)
    if not changes:
        return Fixed()
    described = require_new(description.file.parent / "data.cleaned.yaml")
    folders = tuple(require_new(path) for path in dict.fromkeys(path.parent for path in texts))
    for path, text in texts.items():
        write_whole(path, text)
    lists = {split.role: _write_list(described.parent, split) for split in scope.splits}
    content = {"names": list(description.names), **{role: path.name for role, path in lists.items()}}
    write_whole(described, yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    arguments = [f"dataset.root={described}", f"dataset.labels={folder}"]
    arguments += [f"dataset.{role}_split={role}" for role in lists]
    return Fixed(tuple(changes), (described, *folders, *lists.values()), tuple(arguments))


def _corrected(scope: Scope, old: str, new: str) -> tuple[dict[Path, str], list[Change]]:
    """The texts of all label files by their places in the folder ``new``, and the changes from those in ``old``."""
    texts, changes = {}, []
    for split in scope.splits:
        faults, rest = located(refused(split), PLACE)
        changes += [Change(split.name, f"left out of the split: {sentence}") for sentence in rest]
        for path, copy in _label_files(split, old, new).items():
            own = {int(number): said for (file, number), said in faults.items() if file == str(path)}
            texts[copy], made = _cleaned(path, own)
            changes += [Change(str(path), sentence) for sentence in made]
    return texts, changes


def _label_files(split: Split, old: str, new: str) -> dict[Path, Path]:
    """The label files of a split that there are, and where their copies belong."""
    places = {label_file(record.path, old): label_file(record.path, new) for record in split.source.records}
    if beside := next((path for path, copy in places.items() if path == copy), None):
        raise UserError(
            f"{beside} lies beside its image: fix=true needs the images in images/ and the labels in labels/."
        )
    return {path: copy for path, copy in places.items() if path.is_file()}


def _write_list(folder: Path, split: Split) -> Path:
    """The images of a split, relative to ``folder`` where they lie below it."""
    root = folder.absolute()
    paths = [record.path.absolute() for record in split.source.records]
    lines = [path.relative_to(root) if path.is_relative_to(root) else path for path in paths]
    return write_whole(folder / f"{split.role}{ENDING}.txt", "".join(f"{line.as_posix()}\n" for line in lines))


def _cleaned(path: Path, faults: Mapping[int, str]) -> tuple[str, list[str]]:
    """The corrected text of a label file, and what was changed; ``faults`` by the number of the line, from 1."""
    changes, kept, boxes = [], [], []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fault = faults.get(number, "")
        if not line.strip():
            continue
        if fault and not CLIP.search(fault):
            changes.append(f"deleted: {fault}")
            continue
        label, *numbers = line.split()
        values = [float(value) for value in numbers]
        if fault:
            values = _clipped(values)
            line = " ".join([label, *(f"{value:.9g}" for value in values)])
            changes.append(f"clipped: {fault}")
        kept.append((number, line))
        boxes.append(Box(0, label, _corners(values)))
    gone = doubled(boxes)
    changes += [f"deleted: {path}, line {kept[place][0]} doubles another one of its class" for place in sorted(gone)]
    return "".join(f"{line}\n" for place, (_, line) in enumerate(kept) if place not in gone), changes


def _corners(values: list[float]) -> tuple[float, float, float, float]:
    """xyxy as shares of the image."""
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])


def _clipped(values: list[float]) -> list[float]:
    if len(values) != 4:
        return [min(max(value, 0.0), 1.0) for value in values]
    x1, y1, x2, y2 = clipped(_corners(values), 1, 1)
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
