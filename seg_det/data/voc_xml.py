"""XML files of Pascal VOC as they were meant: with namespaces, wrappers, other capitals, and in other encodings than they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from seg_det.data.texts import read_text
from seg_det.errors import UserError

BOXES = {
    "bndbox",
    "robndbox",
    "box",
    "bbox",
    "rectangle",
    "polygon",
    "points",
    "xmin",
    "keypoints",
    "cuboid",
}  # elements
CORNERS = {"xmin", "xtl", "x1"}  # attributes of boxes in other formats


def parse_annotation(path: Path) -> ElementTree.Element:
    """The root of a file, with all its objects as direct children ``object``.

    Raises UserError for a file that is missing or no XML, and for one that has boxes but no object of Pascal VOC.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        remedy = "an image without objects needs an XML without <object>"
        raise UserError(f"the annotation {path} is missing ({remedy})") from None
    except OSError as error:
        raise UserError(f"{path}: not valid XML ({error})") from error
    root = _parsed(data, path)
    _normalise(root)
    _require_no_boxes(root, path)
    return root


def text_of(element: ElementTree.Element, tag: str) -> str:
    """The text of the first ``tag``, a path below ``element``, without blanks around it; empty where there is none."""
    return (element.findtext(tag) or "").strip()


def _parsed(data: bytes, path: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if (text := _decoded(data, path)) is None:
            raise UserError(f"{path}: not valid XML ({error})") from error
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path}: not valid XML ({error})") from error


def _decoded(data: bytes, path: Path) -> str | None:
    """The text of a file in an encoding that the parser has not, or in another one than it declares; else None.

    Raises UserError where the encoding cannot be known.
    """
    declared = re.match(rb"""\s*<\?xml[^>]{0,100}encoding\s*=\s*["']([\w.-]{1,40})["']""", data)
    name = declared.group(1).decode("ascii", "replace") if declared else "utf-8"
    try:
        text = data.decode(name)
    except LookupError:
        raise UserError(f"{path} declares the encoding {name}, which is not known: save it as UTF-8") from None
    except ValueError:
        return read_text(path)
    return None if name.lower() in ("utf-8", "utf8") else text  # the parser knows that, so there is another fault


def _normalise(root: ElementTree.Element) -> None:
    """Take namespaces and capitals off the tags, and bring objects from wrappers to the root."""
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2].lower()
    root.extend([one for child in root if child.tag != "object" for one in _wrapped(child)])


def _wrapped(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """The objects below ``element``; what lies in an object is its own."""
    for child in element:
        if child.tag == "object":
            yield child
        else:
            yield from _wrapped(child)


def _require_no_boxes(root: ElementTree.Element, path: Path) -> None:
    if root.find("object") is not None:
        return
    found = next((one for one in root.iter() if one.tag in BOXES or CORNERS & set(one.attrib)), None)
    if found is not None:
        raise UserError(
            f"{path} has boxes (<{found.tag}>), but no <object> of Pascal VOC: export the annotations as Pascal VOC"
        )
