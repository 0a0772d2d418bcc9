"""CVAT's XML "for images" 1.1 to records: boxes, polygons, ellipses and masks.

Format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from seg_det.data.annotated import AnnotatedImage, Reading, Request, Shape, Tool
from seg_det.data.annotated_sources import read_annotated
from seg_det.data.geometry import Geometry, bitmap, by_rows, ellipse, polygon, rectangle
from seg_det.data.records import DetectionSource, SegmentationSource
from seg_det.errors import UserError
from seg_det.registry import READERS

AREAS = ("box", "polygon", "ellipse", "mask", "cuboid")
NO_AREA = ("points", "polyline", "skeleton", "tag")  # of shapes, and types of labels that never have an area
CORNERS = ("xtl", "ytl", "xbr", "ybr")


@READERS.register
def read_cvat(
    *,
    root: str | Path,
    split: str | None = None,
    kind: str = "detection",
    categories: Sequence[str] | None = None,
    background: str = "background",
    on_bad: str = "error",
) -> DetectionSource | SegmentationSource:
    """Read the files of the folder ``split`` below ``root``, or the images whose subset that is, or all (None).

    They give boxes or, if ``kind`` says so, masks. Classes are ``categories``, else the labels that the files declare, in
    their order, used or not; their ids count from 1, and a mask's ``background`` is 0. Points, lines and tags are not read.
    What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``). Raises UserError.
    """
    return read_annotated(TOOL, Request(Path(root), split, kind, categories, background, on_bad))


def _elements(file: Path, tags: Sequence[str]) -> Iterator[ElementTree.Element]:
    """The elements of these tags as they end; what they held is freed after them, since files reach gigabytes."""
    try:
        for _, element in ElementTree.iterparse(file, events=("end",)):
            if element.tag in tags:
                yield element
                element.clear()
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise UserError(f"{file}: not valid XML ({error}); export it again") from error


def _parse(file: Path, reading: Reading) -> Iterator[AnnotatedImage]:
    for element in _elements(file, ("image", "track")):
        if element.tag == "track":
            raise UserError(f"{file} holds tracks of a video, which are not read: export it as CVAT for images 1.1.")
        name = (element.get("name") or "").strip()
        where = f"{file}: image {element.get('id')} ({name or 'without a name'})"
        if not name:
            reading.problems.add(f"{where} has no name: export it again", lost="image")
            continue
        subset = element.get("subset")
        if not reading.wants(subset):
            continue
        written = (*([f"images/{subset}/{name}"] if subset else []), f"images/{name}", name)
        yield AnnotatedImage(written, file, where, _size(element), list(_shapes(element, where, reading)))


def _size(element: ElementTree.Element) -> tuple[int, int] | None:
    sides = [element.get(key, "") for key in ("height", "width")]
    return (int(sides[0]), int(sides[1])) if all(side.isdecimal() and int(side) for side in sides) else None


def _shapes(image: ElementTree.Element, where: str, reading: Reading) -> Iterator[Shape]:
    for number, element in enumerate(image, start=1):
        place = f"{where}, {element.tag} {number} ({element.get('label')})"
        if element.tag in NO_AREA:
            reading.count("points, lines, skeletons and tags are not read, only what has an area", place)
        elif element.get("outside") == "1":
            reading.count("shapes are marked as outside of the image and not read", place)
        elif element.tag in AREAS:
            yield from reading.shapes(element.get("label"), place, partial(_draw, element.tag, element.attrib))


def _draw(tag: str, given: Mapping[str, str]) -> Geometry:
    if round(float(given.get("rotation") or 0), 3) % 360:
        raise UserError(
            f"is turned by {float(given['rotation']):g} degrees, which is not read: draw a polygon, or leave it upright"
        )
    if tag == "box":
        return rectangle(*(float(given[corner]) for corner in CORNERS))
    if tag == "polygon":
        return polygon([float(number) for point in given["points"].split(";") for number in point.split(",")])
    if tag == "ellipse":
        return ellipse(*(float(given[key]) for key in ("cx", "cy", "rx", "ry")))
    if tag == "mask":
        height, width = int(given["height"]), int(given["width"])
        return bitmap(
            by_rows(list(map(int, given["rle"].split(","))), height, width), int(given["left"]), int(given["top"])
        )
    raise UserError(f"is a {tag}, which is not read: draw a box or a polygon")


def _declared(file: Path) -> list[str]:
    """The labels of the file's <meta> that may have an area, in their order; those of a skeleton's parts do not."""
    meta = next(_elements(file, ("meta",)), None)
    entries = meta.iter("label") if meta is not None else ()
    named = [
        (entry.findtext("name") or "").strip()
        for entry in entries
        if (entry.findtext("type") or "") not in NO_AREA and entry.find("parent") is None
    ]
    return [name for name in named if name]


TOOL = Tool("cvat", _parse, declared=_declared, subsets=True)
