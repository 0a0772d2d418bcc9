"""Pascal VOC XML folders to records. Format: development kit of VOC2012, http://host.robots.ox.ac.uk/pascal/VOC/"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from tqdm import tqdm

from seg_det.data.images import IMAGE_SUFFIXES, is_turned, verify_image
from seg_det.data.problems import FAULTS, Problems, box_areas, check_boxes, require
from seg_det.data.records import DetectionSource, ImageFile, ObjectTable, build_records
from seg_det.data.texts import read_lines
from seg_det.errors import UserError
from seg_det.registry import READERS
from seg_det.types import Category

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@READERS.register
def read_voc(
    *,
    root: str | Path,
    split: str,
    annotations: str = "Annotations",
    categories: Sequence[str] | None = None,
    on_bad: str = "error",
) -> DetectionSource:
    """Read one split in VOC format: JPEGImages/, Annotations/, ImageSets/Main/SPLIT.txt under ``root``.

    ``annotations`` is another name for the folder Annotations/. Class names come from ``categories``, else from
    root/labels.txt, else sorted from all of Annotations/; ids count from 1. The 1-based inclusive corners become half-open
    xyxy pixels. Sizes are the image files' own, upright. What is bad is raised (``on_bad="error"``) or left out and listed
    (``"skip"``). Raises UserError.
    """
    problems = Problems(on_bad)
    root = Path(root)
    for part in ("", annotations, "JPEGImages"):
        require(root / part, "the VOC folder")
    stems = read_split(root / "ImageSets" / "Main" / f"{split}.txt", problems)
    names = _class_names(root, annotations, categories)
    files, objects = _read_annotations(root, annotations, stems, problems)
    table = _check_objects(objects, files, names, problems)
    sentences = problems.settle()
    if not files:
        raise UserError(f"{root}: not one of the {len(stems)} images of split {split} can be used: {sentences[0]}")
    listed = tuple(Category(number, name) for number, name in enumerate(names, start=1))
    return DetectionSource(
        f"{root.name} {split}".strip(), build_records(files, table), listed, sentences, problems.lost
    )


class _Object(NamedTuple):
    """One <object>, as it stands in the XML."""

    image: int  # position in the split
    path: Path
    number: int  # from 1, in its file
    name: str
    corners: tuple[float, ...]  # xmin ymin xmax ymax, 1-based, inclusive
    difficult: bool

    def describe(self) -> str:
        return _describe_object(self.path, self.number, self.name)


def _describe_object(path: Path, number: int, name: str) -> str:
    # ElementTree forgets the lines; asking the text again costs time only where something is wrong.
    text = path.read_text(encoding="utf-8", errors="replace")
    starts = [match.start() for match in re.finditer(r"<object\b", text)]
    line = f", line {text.count(chr(10), 0, starts[number - 1]) + 1}" if number <= len(starts) else ""
    return f"{path}{line}: object {number} ({name or 'without a name'})"


def read_split(path: Path, problems: Problems) -> list[str]:
    """The names in a split list, each once."""
    require(path, "the split list")
    lines = read_lines(path)
    stems = list(dict.fromkeys(line for line in lines if line))
    if not stems:
        raise UserError(f"the split list {path} is empty; write one image name without suffix on each line")
    for stem, count in Counter(lines).items():
        if stem and count > 1:
            problems.add(f"{path}: {stem} stands in the list {count} times")
    return stems


def _class_names(root: Path, annotations: str, categories: Sequence[str] | None) -> tuple[str, ...]:
    labels = root / "labels.txt"
    if categories is not None:
        source, names = "dataset.categories", [str(name).strip() for name in categories]
    elif labels.exists():
        source, names = str(labels), read_lines(labels)
    else:
        # Of all splits, not of one: train and val must agree on the indices.
        source, names = f"{root / annotations} (all files)", sorted(_names_in(root / annotations))
    names = [name for name in names if name]
    if not names:
        raise UserError(
            f"{source} names no class; set dataset.categories=[NAME,...] or write {labels}, one name a line"
        )
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(f"{source} lists the class {twice!r} twice; list it once")
    return tuple(names)


def _names_in(folder: Path) -> set[str]:
    """The names of all objects in a folder of XML files; a broken file is left to the split that lists it."""
    found: set[str] = set()
    for path in sorted(folder.glob("*.xml")):
        # Most files bring no new name, and a look at the text is ten times faster than parsing it.
        texts = re.findall(rb"<name>([^<]*)</name>", path.read_bytes())
        if not texts or any(text.decode(errors="replace").strip() not in found for text in texts):
            try:
                root = ElementTree.parse(path).getroot()
            except (ElementTree.ParseError, ValueError):
                continue
            found |= {_text(element, "name") for element in root.findall("object")}
    return found - {""}


def image_ids(stems: Sequence[str]) -> dict[str, int]:
    """2007_000027 -> 2007000027 where all names are like that, else the 1-based position in the sorted list."""
    numbers = [int(stem.replace("_", "")) for stem in stems if re.fullmatch(r"_*[0-9][0-9_]{0,17}", stem)]
    if len(set(numbers)) == len(stems):
        return dict(zip(stems, numbers, strict=True))
    return {stem: position for position, stem in enumerate(sorted(stems), start=1)}


def list_images(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Image files by stem; of several the first by ``suffixes``. Hidden files are passed over."""
    paths = [Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    known = [path for path in paths if path.suffix.lower() in suffixes]
    ordered = sorted(known, key=lambda path: (suffixes.index(path.suffix.lower()), path.name), reverse=True)
    return {path.stem: path for path in ordered}


def _read_annotations(
    root: Path, annotations: str, stems: list[str], problems: Problems
) -> tuple[list[ImageFile], list[_Object]]:
    images, ids = list_images(root / "JPEGImages"), image_ids(stems)
    files: list[ImageFile] = []
    objects: list[_Object] = []
    for stem in tqdm(stems, desc=f"reading {root}", unit="image", delay=2, leave=False):
        path = root / annotations / f"{stem}.xml"
        try:
            if stem not in images:
                known = ", ".join(IMAGE_SUFFIXES)
                raise UserError(f"the split lists {stem}, but {root / 'JPEGImages'} holds no {stem} with {known}")
            tree = _parse(path)
            size = _true_size(tree, path, images[stem])
        except UserError as error:
            problems.add(str(error), lost="image")
            continue
        objects += _read_objects(tree, path, len(files), problems)
        files.append(ImageFile(images[stem], ids[stem], size))
    return files, objects


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        remedy = "an image without objects needs an XML without <object>"
        raise UserError(f"the annotation {path} is missing ({remedy})") from None
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise UserError(f"{path}: not valid XML ({error})") from error


def _true_size(tree: ElementTree.Element, path: Path, image: Path) -> tuple[int, int]:
    """(H, W) from the image: many tools write none, zeros or swapped sides into the XML."""
    size = verify_image(image)
    written = tuple(_text(tree, f"size/{side}") for side in ("width", "height"))
    if size[0] != size[1] and written == (str(size[0]), str(size[1])) and is_turned(image):
        stored = f"it gives the size {written[0]}x{written[1]} that {image.name} has before its EXIF rotation"
        remedy = "save the image upright or correct the size"
        raise UserError(f"{path}: {stored}, so its boxes may be unrotated too ({remedy})")
    return size


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _read_objects(tree: ElementTree.Element, path: Path, image: int, problems: Problems) -> Iterable[_Object]:
    # Direct children only: the <part>s of a person have names and boxes of their own.
    for number, element in enumerate(tree.findall("object"), start=1):
        name = _text(element, "name")
        try:
            corners = tuple(float(_text(element, f"bndbox/{corner}")) for corner in CORNERS)
        except ValueError:
            problems.add(
                f"{_describe_object(path, number, name)} has no bndbox with four numbers {' '.join(CORNERS)}",
                lost="object",
            )
            continue
        yield _Object(image, path, number, name, corners, _text(element, "difficult") == "1")


def _check_objects(
    objects: list[_Object], files: list[ImageFile], names: tuple[str, ...], problems: Problems
) -> ObjectTable:
    index = {name: label for label, name in enumerate(names)}
    labels = np.array([index.get(item.name, -1) for item in objects], np.int64)
    image = np.array([item.image for item in objects], np.int64)
    corners = np.array([item.corners for item in objects], np.float64).reshape(-1, 4)
    boxes = corners - (1, 1, 0, 0)
    # Equal inclusive corners would be a pixel, but nobody draws one: it is a click without a drag.
    checked = check_boxes(boxes, np.array([file.size for file in files]).reshape(-1, 2)[image], smallest=1.0)
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    for row in np.flatnonzero((checked.faults > 0) | (labels < 0)):
        if labels[row] < 0:
            problems.add(f"{objects[row].describe()}: its class is not in the class list ({shown})", lost="object")
        else:
            box = ", ".join(f"{value:g}" for value in corners[row])
            fault = FAULTS[checked.faults[row]]
            sentence = f"{objects[row].describe()}: its box [{', '.join(CORNERS)}] = [{box}] {fault}"
            problems.add(sentence, lost="" if checked.usable[row] else "object")
    difficult = np.array([item.difficult for item in objects], bool)
    crowd, area = np.zeros(len(objects), bool), box_areas(checked.boxes)
    table = ObjectTable(image, checked.boxes, labels, crowd, difficult, area)
    return ObjectTable(*(column[checked.usable & (labels >= 0)] for column in table))
