"""The files of the VGG Image Annotator, brought into one form: that of version 2's JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seg_det.data.texts import load_json, read_text
from seg_det.errors import UserError

SHAPES_OF_3 = {  # by number: the name in version 2, and the names of the numbers that follow
    1: ("point", ("cx", "cy")),
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
    5: ("line", ()),
    6: ("polyline", ()),
    7: ("polygon", ()),
    8: ("rect", ("x", "y", "width", "height")),  # drawn by its four extreme points
    9: ("circle", ("cx", "cy", "r")),
}
LONGEST_FIELD = 2**24  # characters of a cell: of a polygon, more than the 131,072 that csv takes by default
AGAIN = "export the annotations again"


class ViaImage(NamedTuple):
    """An image: its name, the folder that the project gives, and its regions as version 2 has them."""

    name: str
    folder: str
    regions: list[Any]  # dicts of shape_attributes and region_attributes, in sound files


def images_in(file: Path) -> Iterator[ViaImage]:
    """The images of a file. Raises UserError for one of another form."""
    if file.suffix.lower() == ".csv":
        yield from _of_table(file)
        return
    document = load_json(file)
    if not isinstance(document, dict):
        raise UserError(f"{file} is no project of VIA: {AGAIN}.")
    if "_via_img_metadata" not in document and "metadata" in document and "file" in document:
        yield from _of_version_3(document, file)
    else:
        yield from _of_version_2(document, file)


def _of_version_2(document: Mapping[str, Any], file: Path) -> Iterator[ViaImage]:
    """A project, or its annotations alone; in version 1 regions are numbered."""
    try:
        folder = str(document["_via_settings"]["core"]["default_filepath"] or "")
    except (KeyError, TypeError):
        folder = ""
    for key, entry in document.get("_via_img_metadata", document).items():
        if not isinstance(entry, dict) or not str(entry.get("filename") or "").strip():
            raise UserError(f"{file}: the entry {key!r} has no filename: {AGAIN}.")
        regions = entry.get("regions") or []
        yield ViaImage(str(entry["filename"]), folder, list(regions.values()) if isinstance(regions, dict) else regions)


def _of_table(file: Path) -> Iterator[ViaImage]:
    """A line a region; the line of an image without regions has an empty shape."""
    found: dict[str, list[Any]] = {}
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.DictReader(io.StringIO(read_text(file)))
    try:
        reader.fieldnames = [name.lstrip("#\ufeff ").strip() for name in reader.fieldnames or []]
        for row in reader:
            regions = found.setdefault(row["filename"], [])
            if shape := json.loads(row["region_shape_attributes"] or "{}"):
                attributes = json.loads(row["region_attributes"] or "{}")
                regions.append({"shape_attributes": shape, "region_attributes": attributes})
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{file}, line {reader.line_num}: no row of VIA's table ({error}); {AGAIN}.") from error
    for name, regions in found.items():
        yield ViaImage(name, "", regions)


def _of_version_3(document: Mapping[str, Any], file: Path) -> Iterator[ViaImage]:
    try:
        yield from _views(document)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{file} is no sound project of VIA 3 ({type(error).__name__}: {error}): {AGAIN}.") from error


def _views(document: Mapping[str, Any]) -> Iterator[ViaImage]:
    """The views of one file each. Raises ValueError for a region on another view, and KeyError and the like."""
    files = document["file"]
    views = document.get("view") or {key: {"fid_list": [key]} for key in files}
    regions: dict[str, list[Any]] = {key: [] for key, view in views.items() if len(view["fid_list"]) == 1}
    for entry in document["metadata"].values():
        if entry.get("xy"):
            if entry["vid"] not in regions:
                raise ValueError(f"a region on the view {entry['vid']}, which does not show one file")
            regions[entry["vid"]].append(_region(entry, document.get("attribute") or {}))
    for key, some in regions.items():
        entry = files[str(views[key]["fid_list"][0])]
        source = str(entry.get("src") or "")
        folder = "" if source.startswith(("data:", "blob:")) else source.rpartition("/")[0]
        yield ViaImage(str(entry["fname"]), folder, some)


def _region(entry: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A region with its attributes' names, and the texts of their options, as version 3 shows them."""
    kind, *numbers = entry["xy"]
    name, keys = SHAPES_OF_3.get(kind, (f"shape {kind}", ()))
    if keys:
        shape = {"name": name, **dict(zip(keys, numbers, strict=True))}
    else:
        shape = {"name": name, "all_points_x": numbers[0::2], "all_points_y": numbers[1::2]}
    values = {}
    for key, value in (entry.get("av") or {}).items():
        attribute = attributes.get(key) or {}
        options = attribute.get("options") or {}
        chosen = {options.get(one, one): True for one in str(value).split(",")} if options else value
        values[str(attribute.get("aname", key)).strip()] = chosen
    return {"shape_attributes": shape, "region_attributes": values}
