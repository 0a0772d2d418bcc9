"""Label Studio's exports JSON and JSON-MIN to records: boxes, polygons, ellipses and brushes, in percent of the image.

Format: https://labelstud.io/guide/export
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from seg_det.data.annotated import AnnotatedImage, Reading, Request, Shape, Tool, size_of
from seg_det.data.annotated_files import SUFFIXES_READ
from seg_det.data.annotated_sources import read_annotated
from seg_det.data.geometry import Geometry, bitmap, ellipse, of_label_studio, polygon, rectangle
from seg_det.data.records import DetectionSource, SegmentationSource
from seg_det.data.texts import load_json
from seg_det.errors import UserError
from seg_det.registry import READERS

UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what an upload puts before the name of its file
NO_AREA = ("keypoint", "vector", "video")  # beginnings of the types of results that are not read
AREAS = ("rectangle", "polygon", "ellipse", "brush", "magicwand", "bitmask", "labels")
DRAWN = {"original_width", "x", "points", "rle"}  # keys of which a region has one at least
ANSWERS = ("choices", "textarea", "rating", "number", "taxonomy", "datetime", "pairwise", "relation")  # about objects


class _Annotation(NamedTuple):
    """What one person drew on one image."""

    results: Sequence[Any]
    rank: tuple[bool, str, int]  # ground truth, when it was changed, id: the highest is taken
    cancelled: bool


@READERS.register
def read_label_studio(
    *,
    root: str | Path,
    split: str | None = None,
    kind: str = "detection",
    categories: Sequence[str] | None = None,
    background: str = "background",
    on_bad: str = "error",
) -> DetectionSource | SegmentationSource:
    """Read the exports in the folder ``split`` below ``root``, or all (None), as boxes or, if ``kind`` says so, as masks.

    Of several annotations of a task the ground truth counts, else the one that was changed last; cancelled ones, predictions
    and tasks without annotations are left out. Classes are ``categories``, else the labels of all splits, sorted; their ids
    count from 1, and a mask's ``background`` is 0. Turned boxes are not read.
    What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``). Raises UserError.
    """
    return read_annotated(TOOL, Request(Path(root), split, kind, categories, background, on_bad))


def _parse(file: Path, reading: Reading) -> Iterator[AnnotatedImage]:
    entries = load_json(file)
    if not isinstance(entries, list):
        raise UserError(f"{file} is no list of tasks: export JSON or JSON-MIN from Label Studio.")
    tasks: dict[tuple[object, str], list[_Annotation]] = {}
    for number, entry in enumerate(entries, start=1):
        data = entry.get("data", entry) if isinstance(entry, dict) else None
        image = _image_of(data) if isinstance(data, dict) else None
        if image is None:
            reading.problems.add(f"{file}: task {number} names no image, or several", lost="image")
            continue
        full = "annotations" in entry or "completions" in entry
        found = _annotations(entry) if full else _shortened(entry, number)
        tasks.setdefault((entry.get("id", f"entry {number}"), image), []).extend(found)
    for (task, image), given in tasks.items():
        if (chosen := _chosen(given, f"{file}: task {task}", reading)) is not None:
            yield _annotated(file, task, image, chosen, reading)


def _annotations(task: dict[str, Any]) -> list[_Annotation]:
    entries = task.get("annotations", task.get("completions")) or []
    return [
        _Annotation(entry.get("result") or [], _rank(entry, entry.get("id")), bool(entry.get("was_cancelled")))
        for entry in entries
        if isinstance(entry, dict)
    ]


def _shortened(task: dict[str, Any], number: int) -> list[_Annotation]:
    """JSON-MIN's: an entry for each annotation, its objects below the names of the controls; or one for a task without any."""
    results = [
        {"type": key, "value": one, **one}
        for value in task.values()
        if isinstance(value, list)
        for one in value
        if isinstance(one, dict) and not DRAWN.isdisjoint(one)
        for key in (_type(one),)
    ]
    identity = task.get("annotation_id")
    if identity is None and not results:
        return []
    return [_Annotation(results, _rank(task, identity if isinstance(identity, int) else number), False)]


def _type(region: Mapping[str, Any]) -> str:
    """Of a region of JSON-MIN: the key of its labels, or of an answer about it; "labels" for one that lacks both."""
    return next((key for key in region if key.endswith("labels") or key in ANSWERS), "labels")


def _rank(entry: dict[str, Any], identity: Any) -> tuple[bool, str, int]:
    changed = str(entry.get("updated_at") or entry.get("created_at") or "")
    return entry.get("ground_truth") is True, changed, identity if isinstance(identity, int) else 0


def _chosen(annotations: Sequence[_Annotation], where: str, reading: Reading) -> _Annotation | None:
    counted = [one for one in annotations if not one.cancelled]
    if not counted:
        reading.count("tasks without an annotation, or with skipped ones alone, are not read", where)
        return None
    if len(counted) > 1:
        reading.count("tasks have several annotations, of which the ground truth or else the latest is read", where)
    return max(counted, key=lambda one: one.rank)


def _image_of(data: Mapping[str, Any]) -> str | None:
    """The path or URL of a task's image: the value that ends like one, or the one named image; None where that is not clear."""
    found = {key: value for key, value in data.items() if isinstance(value, str) and _looks_like_image(value)}
    if len(found) == 1:
        return next(iter(found.values()))
    named = data.get("image")  # of a URL without the name of a file, say; an image itself has no name
    return named if isinstance(named, str) and (found or not named.startswith("data:")) else None


def _looks_like_image(value: str) -> bool:
    return _path_of(value).lower().endswith(SUFFIXES_READ)


def _path_of(value: str) -> str:
    """The path in a URL, or below the local storage: /data/local-files/?d=folder/name.jpg."""
    if not re.match(r"^[a-z0-9]+://|^/data/", value):
        return value
    parts = urlsplit(value, allow_fragments=False)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)


def _written(image: str) -> tuple[str, ...]:
    path = _path_of(image)
    folder, slash, name = path.replace("\\", "/").rpartition("/")
    plain = UPLOAD.sub("", name)
    return (path,) if plain == name else (path, f"{folder}{slash}{plain}")


def _annotated(file: Path, task: object, image: str, annotation: _Annotation, reading: Reading) -> AnnotatedImage:
    where = f"{file}: task {task}"
    results = [one for one in annotation.results if isinstance(one, dict)]
    size = next((found for one in results if (found := _size(one)) is not None), None)
    shapes = list(_shapes(results, where, reading))
    return AnnotatedImage(_written(image), file, f"{where} ({image})", size, shapes)


def _shapes(results: Sequence[Mapping[str, Any]], where: str, reading: Reading) -> Iterator[Shape]:
    labelled = {one["id"] for one in results if one.get("id") is not None and _labels(one)}
    for number, one in enumerate(results, start=1):
        kind = str(one.get("type") or "").lower()
        if kind.startswith(NO_AREA):
            reading.count("points and lines are not read, only what has an area", where)
        elif kind.startswith(AREAS):
            if _labels(one) or one.get("id") not in labelled:  # a further result of its id may have the labels
                yield from _shape(one, f"{where}, region {one.get('id', number)}", reading)
        elif not kind.startswith(ANSWERS):
            reading.count(f"results of the type {kind or 'nothing'} are not read", where)


def _size(result: Mapping[str, Any]) -> tuple[int, int] | None:
    return size_of(result.get("original_height"), result.get("original_width"))


def _labels(result: Mapping[str, Any]) -> list[Any]:
    value = result.get("value")
    found = value.get(result.get("type")) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _shape(result: Mapping[str, Any], region: str, reading: Reading) -> Iterator[Shape]:
    labels = _labels(result)
    where = f"{region} ({', '.join(map(str, labels))})"
    if len(labels) > 1:
        reading.problems.add(f"{where} has {len(labels)} classes, not one: keep one of them", lost="object")
        return
    yield from reading.shapes(labels[0] if labels else None, where, lambda: _draw(result))


def _draw(result: Mapping[str, Any]) -> Geometry:
    value, size = result["value"], _size(result)
    if size is None:
        raise UserError("lacks original_width and original_height, of which its numbers are a percentage")
    if result.get("image_rotation"):
        raise UserError(f"was drawn on the image turned by {result['image_rotation']} degrees, which is not read")
    height, width = size
    if "rle" in value:
        return bitmap(of_label_studio(value["rle"], height, width))
    if "points" in value:
        return polygon([number for x, y in value["points"] for number in (x * width / 100, y * height / 100)])
    if "imageDataURL" in value:
        raise UserError("is a bitmask, which is not read: draw it with the brush, or as a polygon")
    if round(value.get("rotation") or 0, 3) % 360:
        raise UserError(
            f"is turned by {value['rotation']:g} degrees, which is not read: draw a polygon, or leave it upright"
        )
    x, y = value["x"] * width / 100, value["y"] * height / 100
    if "radiusX" in value:
        return ellipse(x, y, value["radiusX"] * width / 100, value["radiusY"] * height / 100)
    right, bottom = (value["x"] + value["width"]) * width / 100, (value["y"] + value["height"]) * height / 100
    return rectangle(x, y, right, bottom)


TOOL = Tool("label_studio", _parse)
