"""The class names of Pascal VOC's folders: from a list, or from all annotations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize
from xml.etree import ElementTree

from seg_det.data.class_lists import class_names as listed_names
from seg_det.data.names import clean_name
from seg_det.data.voc_xml import parse_annotation, text_of
from seg_det.errors import UserError


def class_names(root: Path, categories: Sequence[str] | None, folders: Sequence[Path]) -> tuple[str, ...]:
    """``categories``, else the lines of labels.txt, else all names in the XML files of ``folders``, sorted.

    Raises UserError for bad ones.
    """
    labels = root / "labels.txt"
    if categories is not None:
        source, names = "dataset.categories", [str(name) for name in categories]
    elif labels.exists():
        source, names = str(labels), list(listed_names(labels, first=(0, 1)))
    else:
        # Of all splits, not of one: train and val must agree on the indices.
        folders = list(dict.fromkeys(folders))
        source = " and ".join(f"{folder} (all files)" for folder in folders)
        names = sorted(set().union(*(_names_in(folder) for folder in folders)))
    names = [clean_name(name, source) for name in names if name.strip()]
    if not names:
        raise UserError(
            f"{source} names no class; set dataset.categories=[NAME,...] or write {labels}, one name a line"
        )
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(f"{source} lists the class {twice!r} twice; list it once")
    return tuple(names)


def _names_in(folder: Path) -> set[str]:
    """The names of all objects in the XML files below a folder. A broken file is left to the split that lists it.

    Raises UserError with the first broken one if there is no name in the others.
    """
    found: set[str] = set()
    broken = []
    for path in sorted(folder.rglob("*.[xX][mM][lL]")):
        # Most files bring no new name, and a look at the text is ten times faster than parsing it.
        data = path.read_bytes()
        texts = re.findall(rb"<name>([^<]*)</name>", data)
        known = len(texts) == data.count(b"<name") and all(_decoded(text) in found for text in texts)
        if not texts or not known:
            try:
                root = parse_annotation(path)
            except UserError as error:
                broken.append(error)
            else:
                found |= {class_of(element) for element in root.findall("object")}
    if broken and not found - {""}:
        raise broken[0]
    return found - {""}


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace").strip()


def class_of(element: ElementTree.Element) -> str:
    """The name of an object; letters composed, so that it is found in lists that were written elsewhere."""
    name = text_of(element, "name")
    return name if name.isascii() else normalize("NFC", name)
