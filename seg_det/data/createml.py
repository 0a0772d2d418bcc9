"""Create ML's JSON, as Apple's tools and Roboflow write it, to records: boxes given by their centre, in pixels.

Format: https://developer.apple.com/documentation/createml/building-an-object-detector-data-source
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seg_det.data.annotated import AnnotatedImage, Reading, Request, Shape, Tool
from seg_det.data.annotated_sources import read_annotated
from seg_det.data.geometry import Geometry, rectangle
from seg_det.data.records import DetectionSource, SegmentationSource
from seg_det.data.texts import load_json
from seg_det.errors import UserError
from seg_det.registry import READERS

IMAGE_KEYS, LIST_KEYS, CLASS_KEYS = ("image", "imagefilename", "imageURL"), ("annotations", "annotation"), ("label",)


@READERS.register
def read_createml(
    *,
    root: str | Path,
    split: str | None = None,
    kind: str = "detection",
    categories: Sequence[str] | None = None,
    background: str = "background",
    on_bad: str = "error",
) -> DetectionSource | SegmentationSource:
    """Read the files of the folder ``split`` below ``root``, or all (None). There are boxes only, so no masks can be drawn.

    Classes are ``categories``, else the labels of all splits, sorted; their ids count from 1.
    What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``). Raises UserError.
    """
    if kind == SegmentationSource.kind:
        raise UserError(f"{root} holds Create ML's boxes, and masks need outlines: export COCO's JSON with polygons.")
    return read_annotated(TOOL, Request(Path(root), split, kind, categories, background, on_bad))


def _parse(file: Path, reading: Reading) -> Iterator[AnnotatedImage]:
    entries = load_json(file)
    if not isinstance(entries, list):
        raise UserError(f"{file} is no list of images, as Create ML's files are: export it again.")
    for number, entry in enumerate(entries, start=1):
        name = _first(entry, IMAGE_KEYS)
        objects = _first(entry, LIST_KEYS)
        if not isinstance(name, str) or not name.strip() or not isinstance(objects, list):
            needs = "the name of an image and a list of annotations"
            reading.problems.add(f"{file}: entry {number} lacks {needs}", lost="image")
            continue
        where = f"{file}: entry {number} ({name})"
        yield AnnotatedImage((name,), file, where, None, list(_shapes(objects, where, reading)))


def _first(entry: Any, keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if key in entry), None) if isinstance(entry, dict) else None


def _shapes(objects: Sequence[Any], where: str, reading: Reading) -> Iterator[Shape]:
    for number, entry in enumerate(objects, start=1):
        label = _first(entry, CLASS_KEYS)
        yield from reading.shapes(label, f"{where}, annotation {number} ({label})", partial(_draw, entry))


def _draw(entry: dict[str, Any]) -> Geometry:
    x, y, width, height = (float(entry["coordinates"][key]) for key in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0:  # corners would be put into order, and nobody would know
        raise UserError(f"has the width {width:g} and the height {height:g}, which must be positive")
    return rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


TOOL = Tool("createml", _parse)
