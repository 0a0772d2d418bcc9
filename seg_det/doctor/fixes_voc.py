"""Corrected copies of VOC's files: Annotations_cleaned/ and ImageSets/Main/SPLIT_cleaned.txt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from seg_det.data.places import below
from seg_det.data.records import DetectionRecord, Record
from seg_det.data.voc import CORNERS
from seg_det.data.voc_xml import parse_annotation
from seg_det.doctor.findings import Scope
from seg_det.doctor.fixes import CLIP, Box, Change, Fixed, clipped, doubled, located, refused, require_new
from seg_det.errors import UserError
from seg_det.files import write_whole

PLACE = re.compile(r"^(.+\.xml)(?:, line \d+)?: object (\d+) \(")
ENDING = "_cleaned"


def fix_voc(scope: Scope, sections: Mapping[str, Mapping[str, Any]]) -> Fixed:
    """Write the copies, of all XML files, so that the classes stay the same; nothing where nothing is to be corrected."""
    section = sections[scope.splits[0].role]
    root = Path(section["root"])
    folder = below(root, section.get("annotations") or root / "Annotations")
    images = below(root, section.get("images") or root / "JPEGImages")
    trees, changes = _corrected(scope, images, folder)
    if not changes:
        return Fixed()
    lists = {_list(root, str(sections[split.role]["split"] or "all")): split for split in scope.splits}
    if len({sections[split.role].get("annotations") for split in scope.splits}) > 1 or len(lists) < len(scope.splits):
        raise UserError(
            "fix=true needs the XML files of all parts in one folder and a list of images for each part: correct them by hand."
        )
    copy = root / f"Annotations{ENDING}" if folder == root else folder.with_name(f"{folder.name}{ENDING}")
    for path in (copy, *lists):
        require_new(path)
    for path in sorted(folder.rglob("*.xml")):
        _write(copy / path.relative_to(folder), trees[path] if path in trees else path.read_bytes())
    for path, split in lists.items():
        write_whole(path, "".join(f"{_name(record, images)}\n" for record in split.source.records))
    arguments = [f"dataset.annotations={copy.relative_to(root) if copy.is_relative_to(root) else copy}"]
    arguments += [f"dataset.{split.role}_split={path.stem}" for path, split in lists.items()]
    return Fixed(tuple(changes), (copy, *lists), tuple(arguments))


def _corrected(scope: Scope, images: Path, folder: Path) -> tuple[dict[Path, bytes], list[Change]]:
    """The files that change, and all changes. Raises UserError for an annotation of another name than its image."""
    sentences = list(dict.fromkeys(sentence for split in scope.splits for sentence in refused(split)))
    faults, rest = located(sentences, PLACE)
    trees, changes = {}, []
    for record in (record for split in scope.splits for record in split.of_boxes.records):
        path = folder / f"{_name(record, images)}.xml"
        if not path.is_file():
            raise UserError(
                f"fix=true needs annotations named as their images, and there is no {path}: rename the file."
            )
        own = {int(number): said for (file, number), said in faults.items() if Path(file) == path}
        tree, made = _cleaned(path, record, own)
        if made:
            trees[path] = ElementTree.tostring(tree, encoding="utf-8")
            changes += [Change(str(path), sentence) for sentence in made]
    return trees, changes + [Change(str(folder), f"left out of the split: {sentence}") for sentence in rest]


def _name(record: Record, images: Path) -> str:
    """What a list calls an image: its path below ``images``, without the suffix."""
    path = record.path.with_suffix("")
    return path.relative_to(images).as_posix() if path.is_relative_to(images) else path.name


def _list(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}{ENDING}.txt"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _cleaned(path: Path, record: DetectionRecord, faults: Mapping[int, str]) -> tuple[ElementTree.Element, list[str]]:
    """The corrected tree of a file, and what was changed; ``faults`` by the number of the object, from 1."""
    tree = parse_annotation(path)
    changes, boxes, elements = [], [], []
    for number, element in enumerate(tree.findall("object"), start=1):
        fault = faults.get(number, "")
        if fault and not CLIP.search(fault):
            tree.remove(element)
            changes.append(f"deleted: {fault}")
            continue
        if fault:
            _clip(element, record.size)
            changes.append(f"clipped: {fault}")
        elements.append((number, element))
        boxes.append(Box(0, _text(element, "name"), _corners(element)))
    for place in sorted(doubled(boxes)):
        number, element = elements[place]
        tree.remove(element)
        changes.append(f"deleted: {path}: object {number} ({boxes[place].label}) doubles another one of its class")
    return tree, changes


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _corners(element: ElementTree.Element) -> tuple[float, float, float, float]:
    """Half-open xyxy pixels, from 0."""
    x1, y1, x2, y2 = (float(_text(element, f"bndbox/{corner}")) for corner in CORNERS)
    return x1 - 1, y1 - 1, x2, y2


def _clip(element: ElementTree.Element, size: tuple[int, int]) -> None:
    x1, y1, x2, y2 = clipped(_corners(element), size[1], size[0])
    for corner, value in zip(CORNERS, (x1 + 1, y1 + 1, x2, y2), strict=True):
        if (place := element.find(f"bndbox/{corner}")) is not None:  # or its number could not have been read
            place.text = f"{value:g}"
