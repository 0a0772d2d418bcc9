"""Pascal VOC XML folders to records. Format: development kit of VOC2012, http://host.robots.ox.ac.uk/pascal/VOC/"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from seg_det.data.doubts import note_repeats, require_pixels
from seg_det.data.images import IMAGE_SUFFIXES, is_turned, verify_image
from seg_det.data.places import below
from seg_det.data.problems import FAULTS, Problems, box_areas, check_boxes, require
from seg_det.data.records import DetectionSource, ImageFile, ObjectTable, build_records
from seg_det.data.spelling import Spellings
from seg_det.data.texts import read_lines
from seg_det.data.voc_classes import class_names, class_of
from seg_det.data.voc_xml import parse_annotation, text_of
from seg_det.errors import UserError
from seg_det.progress import progress_bar
from seg_det.registry import READERS
from seg_det.types import Category

TRUE = ("1", "true", "yes")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@READERS.register
def read_voc(
    *,
    root: str | Path,
    split: str | None,
    images: str | Path | None = None,
    annotations: str | Path | None = None,
    categories: Sequence[str] | None = None,
    named_in: Sequence[str] = (),
    on_bad: str = "error",
) -> DetectionSource:
    """Read one split in VOC format: JPEGImages/, Annotations/, ImageSets/Main/SPLIT.txt under ``root``.

    ``images`` and ``annotations`` are other folders below the root, or one that has both; ``split`` None reads all XML files.
    Class names come from ``categories``, else from root/labels.txt, else sorted from all files in ``named_in``, by default
    the annotations: those of all splits, so that these agree on the indices. Ids count from 1. The 1-based inclusive
    corners become half-open xyxy pixels. Sizes are the image files' own, upright. What is bad is raised
    (``on_bad="error"``) or left out and listed (``"skip"``). Raises UserError.
    """
    problems = Problems(on_bad)
    root = Path(root)
    folders = Folders(
        below(root, images or root / "JPEGImages", problems),
        below(root, annotations or root / "Annotations", problems),
        split is not None,
    )
    for folder in (root, folders.annotations, folders.images):
        require(folder, "the VOC folder")
    stems = _stems(root, split, folders, problems)
    names = class_names(root, categories, [below(root, folder) for folder in named_in] or [folders.annotations])
    files, objects = _read_annotations(folders, stems, problems)
    table = _check_objects(objects, files, names, folders.annotations, problems)
    sentences = problems.settle()
    if not files:
        of_split = f"split {split}" if split else str(folders.annotations)
        raise UserError(f"{root}: not one of the {len(stems)} images of {of_split} can be used: {sentences[0]}")
    listed = tuple(Category(number, name) for number, name in enumerate(names, start=1))
    return DetectionSource(
        f"{root.name} {split or folders.images.name}".strip(),
        build_records(files, table),
        listed,
        sentences,
        problems.lost,
    )


class Folders(NamedTuple):
    """Where a data set has its files; both can be one folder."""

    images: Path
    annotations: Path
    listed: bool  # whether a list names the images


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

    def describe_box(self) -> str:
        box = ", ".join(f"{value:g}" for value in self.corners)
        return f"{self.describe()}: its box [{', '.join(CORNERS)}] = [{box}]"


def _describe_object(path: Path, number: int, name: str) -> str:
    state = path.stat()
    lines = _object_lines(path, state.st_mtime_ns, state.st_size)
    line = f", line {lines[number - 1]}" if number <= len(lines) else ""
    return f"{path}{line}: object {number} ({name or 'without a name'})"


@lru_cache(maxsize=1)  # a file with many faults is read once
def _object_lines(path: Path, changed: int, size: int) -> list[int]:
    """The line of each object, which ElementTree forgets; asking the text again costs time only where something is wrong."""
    text = path.read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"<!--.*?-->", lambda comment: "\n" * comment.group().count("\n"), text, flags=re.DOTALL)
    starts = [match.start() for match in re.finditer(r"<(?:\w+:)?object\b", text, re.IGNORECASE)]
    ends = [match.start() for match in re.finditer("\n", text)]
    return [bisect_left(ends, start) + 1 for start in starts]


def _stems(root: Path, split: str | None, folders: Folders, problems: Problems) -> list[str]:
    """The names of the images of a split: those of its list, else of all XML files."""
    if split is not None:
        return read_split(root / "ImageSets" / "Main" / f"{split}.txt", problems)
    stems = sorted(path.stem for path in folders.annotations.glob("*.xml") if not path.name.startswith("."))
    if not stems:
        raise UserError(f"{folders.annotations} holds no XML file: name the folder of the annotations.")
    if without := sorted(set(images_by_stem(folders.images)) - set(stems)):
        problems.note(
            f"{folders.annotations} has no XML for {len(without)} of the images in {folders.images}, such as {without[0]}, which "
            "are left out: an image without objects needs an XML without <object>"
        )
    return stems


def read_split(path: Path, problems: Problems) -> list[str]:
    """The names in a split list, each once."""
    require(path, "the split list", part=True)
    lines = read_lines(path)
    stems = list(dict.fromkeys(line for line in lines if line))
    if not stems:
        raise UserError(f"the split list {path} is empty; write one image name without suffix on each line")
    for stem, count in Counter(lines).items():
        if stem and count > 1:
            problems.add(f"{path}: {stem} stands in the list {count} times")
    return stems


def image_ids(stems: Sequence[str]) -> dict[str, int]:
    """2007_000027 -> 2007000027 where all names are like that, else the 1-based position in the sorted list."""
    numbers = [int(stem.replace("_", "")) for stem in stems if re.fullmatch(r"_*[0-9][0-9_]{0,17}", stem)]
    if len(set(numbers)) == len(stems):
        return dict(zip(stems, numbers, strict=True))
    return {stem: position for position, stem in enumerate(sorted(stems), start=1)}


def images_by_stem(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, list[Path]]:
    """All image files of a stem, ordered by ``suffixes``. Hidden files are passed over."""
    paths = [Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    known = [path for path in paths if path.suffix.lower() in suffixes]
    found: dict[str, list[Path]] = {}
    for path in sorted(known, key=lambda path: (suffixes.index(path.suffix.lower()), path.name)):
        found.setdefault(path.stem, []).append(path)
    return found


class _Files:
    """The images and annotations that the lines of a split list mean."""

    def __init__(self, folders: Folders) -> None:
        self.images = Spellings(folders.images, IMAGE_SUFFIXES)
        self.annotations = Spellings(folders.annotations)
        self.listed = folders.listed
        self._by_stem = images_by_stem(self.images.folder)
        self._lines: dict[Path, str] = {}

    def image(self, line: str, problems: Problems) -> Path:
        """Raises UserError where there is none, several could be meant, or another line means it too."""
        paths = self._by_stem.get(line) or [self._below(line)]
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths[:2])
            sentence = f"{self.images.folder} holds {names}, which both are {line}: remove or rename one of them"
            if not (paths := self._named(paths)):
                raise UserError(sentence)
            problems.add(sentence, lost="image")
        if (first := self._lines.setdefault(paths[0], line)) != line:
            raise UserError(f"the split lists {line} and {first}, which both are {paths[0]}: keep one of the lines")
        return paths[0]

    def _named(self, paths: list[Path]) -> list[Path]:
        """The image of ``paths`` that their XML names, if any: nothing else tells which of them is meant."""
        name = text_of(parse_annotation(self.annotation(paths[0])), "filename")
        return [path for path in paths if path.name == name]

    def annotation(self, image: Path) -> Path:
        """The XML of an image, in the same sub-folder."""
        name = image.relative_to(self.images.folder).with_suffix(".xml").as_posix()
        try:
            return self.annotations.find(name)
        except UserError:
            return self.annotations.folder / name  # which parse_annotation says is missing

    def _below(self, line: str) -> Path:
        try:
            return self.images.find_stem(line)
        except UserError as error:
            known = ", ".join(IMAGE_SUFFIXES)
            folder = self.images.folder
            named = f"the split lists {line}" if self.listed else f"{self.annotations.folder / line}.xml is there"
            raise UserError(f"{named}, but {folder} holds no {line} with {known} ({error})") from None


def _read_annotations(folders: Folders, stems: list[str], problems: Problems) -> tuple[list[ImageFile], list[_Object]]:
    found, ids = _Files(folders), image_ids(stems)
    files: list[ImageFile] = []
    objects: list[_Object] = []
    for stem in progress_bar(stems, desc=f"reading {folders.annotations}", unit="image"):
        try:
            image = found.image(stem, problems)
            path = found.annotation(image)
            tree = parse_annotation(path)
            size = _true_size(tree, path, image)
        except UserError as error:
            problems.add(str(error), lost="image")
            continue
        objects += _read_objects(tree, path, len(files), problems)
        files.append(ImageFile(image, ids[stem], size))
    for spellings in (found.images, found.annotations):
        spellings.note(str(spellings.folder), len(stems), problems)
    return files, objects


def _true_size(tree: ElementTree.Element, path: Path, image: Path) -> tuple[int, int]:
    """(H, W) from the image: many tools write none, zeros or exchanged sides into the XML.

    Raises UserError for a size that shows that the boxes are for another image: before its EXIF rotation, or resized.
    """
    height, width = verify_image(image)
    written = tuple(_side(text_of(tree, f"size/{side}")) for side in ("width", "height"))
    if written == (height, width) and height != width and is_turned(image):
        stored = f"it gives the size {height}x{width} that {image.name} has before its EXIF rotation"
        remedy = "save the image upright or correct the size"
        raise UserError(f"{path}: {stored}, so its boxes may be unrotated too ({remedy})")
    if min(written) > 0 and written not in ((width, height), (height, width)):
        raise UserError(
            f"{path}: it gives the size {written[0]:g}x{written[1]:g}, but {image.name} has {width}x{height} pixels, so "
            "its boxes may be for another size of it (take the image that was annotated, or scale the boxes and correct the size)"
        )
    return height, width


def _side(text: str) -> float:
    """A width or height; 0 where there is none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _read_objects(tree: ElementTree.Element, path: Path, image: int, problems: Problems) -> Iterable[_Object]:
    # Direct children only: the <part>s of a person have names and boxes of their own.
    for number, element in enumerate(tree.findall("object"), start=1):
        name = class_of(element)
        try:
            corners = tuple(float(text_of(element, f"bndbox/{corner}")) for corner in CORNERS)
        except ValueError:
            problems.add(
                f"{_describe_object(path, number, name)} has no bndbox with four numbers {' '.join(CORNERS)}",
                lost="object",
            )
            continue
        yield _Object(image, path, number, name, corners, text_of(element, "difficult").lower() in TRUE)


def _check_objects(
    objects: list[_Object], files: list[ImageFile], names: tuple[str, ...], where: Path, problems: Problems
) -> ObjectTable:
    index = {name: label for label, name in enumerate(names)}
    labels = np.array([index.get(item.name, -1) for item in objects], np.int64)
    image = np.array([item.image for item in objects], np.int64)
    corners = np.array([item.corners for item in objects], np.float64).reshape(-1, 4)
    sizes = np.array([file.size for file in files]).reshape(-1, 2)[image]
    require_pixels(
        corners[np.isfinite(corners).all(axis=1)], sizes, f"the boxes of all {len(objects)} objects of {where}"
    )
    boxes = corners - (1, 1, 0, 0)
    # Equal inclusive corners would be a pixel, but nobody draws one: it is a click without a drag.
    checked = check_boxes(boxes, sizes, smallest=1.0)
    shown = ", ".join(names[:20]) + ", ..." * (len(names) > 20)
    for row in np.flatnonzero((checked.faults > 0) | (labels < 0)):
        if labels[row] < 0:
            problems.add(f"{objects[row].describe()}: its class is not in the class list ({shown})", lost="object")
        else:
            sentence = f"{objects[row].describe_box()} {FAULTS[checked.faults[row]]}"
            problems.add(sentence, lost="" if checked.usable[row] else "object")
    difficult = np.array([item.difficult for item in objects], bool)
    crowd, area = np.zeros(len(objects), bool), box_areas(checked.boxes)
    table = ObjectTable(image, checked.boxes, labels, crowd, difficult, area)
    keep = checked.usable & (labels >= 0)
    table, own = ObjectTable(*(column[keep] for column in table)), np.flatnonzero(keep)
    note_repeats(table.image, table.labels, table.boxes, lambda row: objects[own[row]].describe(), problems)
    return table
