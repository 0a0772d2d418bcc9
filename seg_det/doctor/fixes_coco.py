"""A corrected copy of a COCO file: NAME.cleaned.json."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_det.doctor.findings import Scope, Split
from seg_det.doctor.fixes import CLIP, Box, Change, Fixed, clipped, doubled, located, refused, require_new
from seg_det.files import write_whole

PLACE = re.compile(r"annotation (id) (-?\d+)|annotations\[(\d+)\]")


def fix_coco(scope: Scope, sections: Mapping[str, Mapping[str, Any]]) -> Fixed:
    """Write the copies of the splits in which there is something to correct."""
    changes, written, arguments, left = [], [], [], []
    for split in scope.splits:
        path = Path(sections[split.role]["annotations"])
        document = json.loads(path.read_bytes())
        made, rest = _cleaned(document, split)
        left += rest
        if made:
            copy = require_new(path.with_name(f"{path.stem}.cleaned.json"))
            write_whole(copy, json.dumps(document))
            changes += [Change(str(path), sentence) for sentence in made]
            written.append(copy)
            arguments.append(f"dataset.{split.role}.annotations={copy}")
    return Fixed(tuple(changes), tuple(written), tuple(arguments), tuple(left))


def _cleaned(document: dict[str, Any], split: Split) -> tuple[list[str], list[str]]:
    """Correct ``document`` in place; returns what was changed and what could not be."""
    faults, rest = located(refused(split), PLACE)
    changes, aliases = _clean_images(document, split)
    changes += _clean_categories(document)
    own_ids = Counter(entry.get("id") for entry in document["annotations"] if isinstance(entry, dict))
    sizes = {record.image_id: record.size for record in split.source.records}
    kept, left = [], []
    for number, entry in enumerate(document["annotations"]):
        own_id = entry.get("id") if isinstance(entry, dict) else None
        fault = faults.get((str(number),)) or faults.get(("id", str(own_id)))
        if fault and own_ids[own_id] > 1 and (str(number),) not in faults:
            left.append(f"{fault}; several annotations have that id")
            fault = None
        if fault and not CLIP.search(fault):
            changes.append(f"deleted: {fault}")
            continue
        if isinstance(entry, dict):
            entry["image_id"] = aliases.get(entry["image_id"], entry["image_id"])
            if entry["image_id"] not in sizes:  # of an image that was left out
                continue
        if fault:
            _clip(entry, sizes[entry["image_id"]])
            changes.append(f"clipped: {fault}")
        kept.append(entry)
    document["annotations"] = kept
    return changes + _delete_doubled(document), left + _not_dealt_with(rest)


def _clean_images(document: dict[str, Any], split: Split) -> tuple[list[str], dict[int, int]]:
    """Keep each usable file once; returns the changes, and of each id that was left out the one of the same file."""
    usable = {record.image_id: record.path for record in split.source.records}
    kept: dict[int, Any] = {}
    owner: dict[Path, int] = {}
    aliases, changes = {}, []
    for number, entry in enumerate(document["images"]):
        image_id = entry.get("id") if isinstance(entry, dict) else None
        if image_id not in usable or image_id in kept:
            name = entry.get("file_name") if isinstance(entry, dict) else entry
            changes.append(
                f"deleted: images[{number}] ({name}) with its objects: it cannot be used, or has the id of another image"
            )
        elif (first := owner.setdefault(usable[image_id], image_id)) != image_id:
            aliases[image_id] = first
            changes.append(f"moved: the objects of image id {image_id} to {first}, which is the same file")
        else:
            kept[image_id] = entry
    document["images"] = list(kept.values())
    return changes, aliases


def _clean_categories(document: dict[str, Any]) -> list[str]:
    first: dict[int, Any] = {}
    changes = []
    for entry in document["categories"]:
        if first.setdefault(entry["id"], entry) is not entry:
            changes.append(f"deleted: category id {entry['id']} is declared again, as {entry['name']!r}")
    document["categories"] = list(first.values())
    return changes


def _clip(entry: dict[str, Any], size: tuple[int, int]) -> None:
    x, y, width, height = map(float, entry["bbox"])
    x1, y1, x2, y2 = clipped((x, y, x + width, y + height), size[1], size[0])
    entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    if not entry.get("segmentation"):  # else the area is the mask's
        entry["area"] = (x2 - x1) * (y2 - y1)


def _delete_doubled(document: dict[str, Any]) -> list[str]:
    entries = [entry for entry in document["annotations"] if not entry.get("iscrowd")]
    boxes = []
    for entry in entries:
        x, y, width, height = map(float, entry["bbox"])
        boxes.append(Box(entry["image_id"], str(entry["category_id"]), (x, y, x + width, y + height)))
    gone = {id(entries[place]): entries[place] for place in doubled(boxes)}
    document["annotations"] = [entry for entry in document["annotations"] if id(entry) not in gone]
    return [f"deleted: annotation id {entry.get('id')} doubles another one of its class" for entry in gone.values()]


def _not_dealt_with(rest: list[str]) -> list[str]:
    """Sentences that are about neither an annotation nor an image or category, which were dealt with."""
    return [sentence for sentence in rest if not re.search(r"image id|images\[|category id", sentence)]
