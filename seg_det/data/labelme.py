"""labelme's JSON files, one beside each image, to records; versions 3 to 5, and X-AnyLabeling's.

Format: https://github.com/labelmeai/labelme
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from seg_det.data.annotated import AnnotatedImage, Reading, Request, Shape, Tool, size_of
from seg_det.data.annotated_sources import read_annotated
from seg_det.data.geometry import Geometry, bitmap, ellipse, polygon, rectangle
from seg_det.data.records import DetectionSource, SegmentationSource
from seg_det.data.texts import load_json
from seg_det.errors import UserError
from seg_det.registry import READERS

NO_AREA = ("point", "points", "line", "linestrip")
PNG = b"\x89PNG\r\n\x1a\n"
LABELS = re.compile(rb'"label"\s*:\s*("(?:[^"\\]|\\.)*")')


@READERS.register
def read_labelme(
    *,
    root: str | Path,
    split: str | None = None,
    kind: str = "detection",
    categories: Sequence[str] | None = None,
    background: str = "background",
    on_bad: str = "error",
) -> DetectionSource | SegmentationSource:
    """Read the JSON files in the folder ``split`` below ``root``, or all (None), as boxes or, if ``kind`` says so, as masks.

    Shapes of one label and group_id are one object. Classes are ``categories``, else the labels of all splits, sorted; their
    ids count from 1, and a mask's ``background`` is 0. Points and lines are not read, nor images without a JSON file.
    What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``). Raises UserError.
    """
    return read_annotated(TOOL, Request(Path(root), split, kind, categories, background, on_bad))


def _parse(file: Path, reading: Reading) -> Iterator[AnnotatedImage]:
    document = load_json(file)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise UserError(f"{file} has no list shapes, as labelme's files have: save it with labelme again")
    declared = size_of(document.get("imageHeight"), document.get("imageWidth"))
    path = str(document.get("imagePath") or "")
    beside = file.stem + (PureWindowsPath(path).suffix or ".jpg")
    written = tuple(filter(None, (path, beside)))
    yield AnnotatedImage(written, file, str(file), declared, _shapes(document["shapes"], file, reading))


def _shapes(entries: Sequence[Any], file: Path, reading: Reading) -> list[Shape]:
    shapes: list[Shape] = []
    groups: dict[tuple[object, str], int] = {}  # the place of the first shape
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            reading.problems.add(f"{file}: shape {number} is no shape: save the file with labelme again", lost="object")
            continue
        for shape in _shape(entry, f"{file}: shape {number} ({entry.get('label')})", reading):
            group = entry.get("group_id")
            place = groups.setdefault((repr(group), shape.name), len(shapes)) if group is not None else len(shapes)
            if place == len(shapes):
                shapes.append(shape)
            else:
                shapes[place] = shapes[place]._replace(geometry=_joined(shapes[place].geometry, shape.geometry))
                reading.count("shapes belong to an earlier one of the same label and group_id", shape.where)
    return shapes


def _joined(one: Geometry, other: Geometry) -> Geometry:
    left, top = map(min, one.box[:2], other.box[:2])
    right, bottom = map(max, one.box[2:], other.box[2:])
    box = (left, top, right, bottom)
    return Geometry(box, one.parts + other.parts if one.parts and other.parts else ())


def _shape(entry: dict[str, Any], where: str, reading: Reading) -> Iterator[Shape]:
    kind = entry.get("shape_type") or "polygon"  # which the first versions do not say
    if kind in NO_AREA:
        reading.count("points and lines are not read, only what has an area", where)
        return
    flags = entry.get("flags")
    hard = entry.get("difficult") is True or (isinstance(flags, dict) and flags.get("difficult") is True)
    yield from reading.shapes(entry.get("label"), where, lambda: _draw(kind, entry), difficult=hard)


def _draw(kind: str, entry: dict[str, Any]) -> Geometry:
    points = [(float(x), float(y)) for x, y in entry["points"]]
    if kind == "polygon":
        return polygon([value for point in points for value in point])
    if kind == "rectangle":
        return _rectangle(points)
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points
        radius = math.hypot(edge_x - x, edge_y - y)
        return ellipse(x, y, radius, radius)
    if kind == "mask":
        (left, top), (right, bottom) = points
        corner = round(left), round(top)
        return bitmap(_pixels(entry["mask"], (round(bottom) - corner[1], round(right) - corner[0])), *corner)
    raise UserError(
        f"is a shape of the type {kind}, which is not read: draw a polygon, or a rectangle with sides along the image's"
    )


def _rectangle(points: Sequence[tuple[float, float]]) -> Geometry:
    """Of two opposite corners, or of four, as X-AnyLabeling writes them."""
    xs, ys = zip(*points, strict=True)
    if len(points) == 4 and (len(set(xs)) != 2 or len(set(ys)) != 2):
        raise UserError("is a rotated rectangle, which is not read: draw a polygon")
    if len(points) not in (2, 4):
        raise UserError(f"is a rectangle of {len(points)} points, not of two")
    return rectangle(*points[0], *points[len(points) // 2])


def _pixels(content: str, between: tuple[int, int]) -> np.ndarray:
    """u8 [h, w] of a PNG in base64, whose height and width lie ``between`` the corners, the last pixel included or not."""
    try:
        data = base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise UserError(f"has a mask that is no base64 ({error}): save the file with labelme again") from error
    if not data.startswith(PNG) or len(data) < 24:
        raise UserError("has a mask that is no PNG: save the file with labelme again")
    width, height = struct.unpack(">II", data[16:24])
    if any(side - distance not in (0, 1) for side, distance in zip((height, width), between, strict=True)):
        raise UserError(f"has a mask of {width} x {height} pixels between corners {between[1]} x {between[0]} apart")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return np.asarray(image.convert("L"))
    except Exception as error:  # a broken file makes the decoder raise nearly anything
        raise UserError(f"has a mask that cannot be decoded ({error}): save the file with labelme again") from error


def _names(file: Path) -> set[str]:
    """Every label in a file, of points too, found ten times faster than by parsing it with its image."""
    found = set()
    for text in set(LABELS.findall(file.read_bytes())):
        try:
            found.add(str(json.loads(text)).strip())
        except ValueError:
            return {""}  # a name of no class: the file will be parsed
    return found


TOOL = Tool("labelme", _parse, names=_names, one_image=True)
