"""A corrected copy of a COCO file: NAME.cleaned.json."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_det.doctor.findings import Scope, Split
from seg_det.doctor.fixes import CLIP, Box, Change, Fixed, clipped, doubled, located, refused, require_new
from seg_det.files import write_whole

SAME_FILE = re.compile(r"image id (\d+): its file .* is that of image id (\d+), too")
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
    by_entry, left = _by_entry(faults, document["annotations"])
    sizes = {record.image_id: record.size for record in split.of_boxes.records}
    kept = []
    for number, entry in enumerate(document["annotations"]):
        fault = by_entry.get(number)
        if fault and not CLIP.search(fault):
            changes.append(f"deleted: {fault}")
        elif (image_id := aliases.get(entry["image_id"], entry["image_id"])) in sizes:
            kept.append({**entry, "image_id": image_id, **(_clipped(entry, sizes[image_id]) if fault else {})})
            changes += [f"clipped: {fault}"] if fault else []
    document["annotations"] = kept
    return changes + _delete_doubled(document), left + _not_dealt_with(rest)


def _by_entry(faults: Mapping[tuple[str, ...], str], entries: Sequence[Any]) -> tuple[dict[int, str], list[str]]:
    """The faults by the position of the annotation; and those that name an id which several have."""
    positions: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        positions["id", str(_id_of(entry))].append(number)
        positions[str(number),].append(number)
    by_entry = {positions[place][0]: fault for place, fault in faults.items() if len(positions[place]) == 1}
    return by_entry, [
        f"{fault}; several annotations have that id" for place, fault in faults.items() if len(positions[place]) > 1
    ]


def _id_of(entry: Any) -> Any:
    return entry.get("id") if isinstance(entry, dict) else None


def _clean_images(document: dict[str, Any], split: Split) -> tuple[list[str], dict[int, int]]:
    """Keep each usable file once; returns the changes, and of each id that was left out the one of the same file."""
    usable = {record.image_id for record in split.source.records}
    same = dict(pair for sentence in refused(split) for pair in SAME_FILE.findall(sentence))
    kept: dict[int, Any] = {}
    aliases, changes = {}, []
    for number, entry in enumerate(document["images"]):
        image_id = entry.get("id") if isinstance(entry, dict) else None
        if str(image_id) in same and isinstance(image_id, int):
            aliases[image_id] = int(same[str(image_id)])
            changes.append(f"moved: the objects of image id {image_id} to {aliases[image_id]}, which is the same file")
        elif image_id not in usable or image_id in kept:
            name = entry.get("file_name") if isinstance(entry, dict) else entry
            changes.append(
                f"deleted: images[{number}] ({name}) with its objects: it cannot be used, or has the id of another image"
            )
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


def _clipped(entry: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """The box of an annotation within an image of ``size`` (H, W); and its area, unless that is a mask's."""
    x, y, width, height = map(float, entry["bbox"])
    x1, y1, x2, y2 = clipped((x, y, x + width, y + height), size[1], size[0])
    area = {} if entry.get("segmentation") else {"area": (x2 - x1) * (y2 - y1)}
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], **area}


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
