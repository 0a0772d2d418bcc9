"""VGG Image Annotator's files to records: projects and annotations of version 2 (JSON, CSV), projects of version 3.

Format: https://www.robots.ox.ac.uk/~vgg/software/via/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from seg_det.data.annotated import AnnotatedImage, Reading, Request, Shape, Tool
from seg_det.data.annotated_sources import read_annotated
from seg_det.data.geometry import Geometry, ellipse, polygon, rectangle
from seg_det.data.records import DetectionSource, SegmentationSource
from seg_det.data.via_files import ViaImage, images_in
from seg_det.errors import UserError
from seg_det.registry import READERS


@READERS.register
def read_via(
    *,
    root: str | Path,
    split: str | None = None,
    kind: str = "detection",
    categories: Sequence[str] | None = None,
    attribute: str | None = None,
    background: str = "background",
    on_bad: str = "error",
) -> DetectionSource | SegmentationSource:
    """Read the files of the folder ``split`` below ``root``, or all (None), as boxes or, if ``kind`` says so, as masks.

    The class of a region is its ``attribute``, by default the only one that a file's regions have; where they have none, and
    ``categories`` is one name, all are of that class. Classes are ``categories``, else the values in all splits, sorted; their
    ids count from 1, and a mask's ``background`` is 0. Points are not read, and lines are refused.
    What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``). Raises UserError.
    """
    only = str(categories[0]).strip() if categories is not None and len(categories) == 1 else None
    tool = Tool("via", partial(_parse, attribute=attribute, only=only))
    return read_annotated(tool, Request(Path(root), split, kind, categories, background, on_bad))


def _parse(file: Path, reading: Reading, *, attribute: str | None, only: str | None) -> Iterator[AnnotatedImage]:
    images = list(images_in(file))
    key = _attribute(images, file, attribute, only)
    for image in images:
        where = f"{file}: {image.name}"
        shapes = [shape for entry in _numbered(image) for shape in _shape(*entry, where, key, only, reading)]
        beside = f"{image.folder.rstrip('/')}/{image.name}" if image.folder else image.name
        yield AnnotatedImage(tuple(dict.fromkeys((beside, image.name))), file, where, None, shapes)


def _numbered(image: ViaImage) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, region in enumerate(image.regions, start=1):
        yield number, region if isinstance(region, dict) else {}


def _attributes(region: Mapping[str, Any]) -> Mapping[str, Any]:
    values = region.get("region_attributes")
    return values if isinstance(values, dict) else {}


def _attribute(images: Sequence[ViaImage], file: Path, wanted: str | None, only: str | None) -> str | None:
    """The attribute that holds the class; None where there is none, and one class."""
    regions = [_attributes(region) for image in images for _, region in _numbered(image)]
    found = dict.fromkeys(chain.from_iterable(regions))
    shown = ", ".join(found)
    if wanted in found or (wanted is not None and not found):
        return wanted
    if wanted is not None:
        raise UserError(
            f"{file}: no region has the attribute {wanted!r} (there are {shown}): set dataset.attribute to one."
        )
    if len(found) > 1:
        raise UserError(
            f"{file}: regions have the attributes {shown}: set dataset.attribute={next(iter(found))}, or the one that "
            "is the class."
        )
    if regions and not found and only is None:
        raise UserError(
            f"{file}: its regions have no attribute that could be the class: give them one, or set dataset.categories=[NAME] if "
            "all are of one class."
        )
    return next(iter(found), None)


def _shape(
    number: int, region: Mapping[str, Any], image: str, key: str | None, only: str | None, reading: Reading
) -> Iterator[Shape]:
    shape = region.get("shape_attributes")
    kind = shape.get("name") if isinstance(shape, dict) else None
    names = [only] if key is None else _chosen(_attributes(region).get(key))
    where = f"{image}, region {number} ({', '.join(map(str, names))})"
    if kind == "point":
        reading.count("points are not read, only what has an area", where)
    elif len(names) > 1:
        reading.problems.add(f"{where} has {len(names)} values of {key!r}, not one: keep one of them", lost="object")
    else:
        yield from reading.shapes(names[0] if names else None, where, lambda: _draw(kind, shape))


def _chosen(value: Any) -> list[Any]:
    """The values of an attribute: of a text, of a choice, or of boxes that are ticked."""
    if isinstance(value, dict):
        return [name for name, ticked in value.items() if ticked]
    return [] if value is None else [value]


def _draw(kind: Any, shape: Any) -> Geometry:
    if kind == "rect":
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return rectangle(x, y, x + width, y + height)
    if kind == "polygon":
        pairs = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        return polygon([number for pair in pairs for number in pair])
    if kind == "circle":
        return ellipse(*(float(shape[key]) for key in ("cx", "cy", "r", "r")))
    if kind == "ellipse":
        if shape.get("theta"):
            raise UserError(
                f"is an ellipse turned by {float(shape['theta']):g} radians, which is not read: draw a polygon"
            )
        return ellipse(*(float(shape[key]) for key in ("cx", "cy", "rx", "ry")))
    raise UserError(f"is a {kind}, which is not read: draw a polygon or a rectangle")
