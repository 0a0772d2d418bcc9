"""COCO's polygons and run lengths to semantic masks, drawn as they are read. Format: https://cocodataset.org/#format-data"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle

from seg_det.data.coco import default_name
from seg_det.data.coco_entries import DROPPED, Declared, Keys, describe, keys_of, load_document, read_categories
from seg_det.data.coco_images import read_images
from seg_det.data.doubts import judge_crowds, require_pixels
from seg_det.data.masks import UNKNOWN, segmentation_source
from seg_det.data.places import below
from seg_det.data.problems import Problems, require
from seg_det.data.records import ImageFile, SegmentationRecord, SegmentationSource
from seg_det.data.run_lengths import checked_runs
from seg_det.errors import UserError
from seg_det.progress import progress_bar
from seg_det.registry import READERS
from seg_det.types import IGNORE, Category

NO_PAIRS = "a polygon that is no list of pairs of finite numbers"
NEEDS = "a segmentation, an image_id and a category_id"
Outline = tuple[np.ndarray, ...] | dict[str, Any]  # polygons, f64 [2 N] x y x y ..., or COCO's run lengths


class Region(NamedTuple):
    """An object, or a crowd of them."""

    label: int  # index of the class, IGNORE for a crowd
    outline: Outline


@dataclass(frozen=True)
class DrawnMask:
    """Regions to be drawn on the background: the crowds first, then the objects, smaller ones over larger ones."""

    size: tuple[int, int]  # (H, W)
    regions: tuple[Region, ...]
    background: int

    def read(self) -> np.ndarray:
        """u8 [H, W], class indices or IGNORE."""
        mask = np.full(self.size, self.background, np.uint8)
        encoded = [_encode(region.outline, self.size) for region in self.regions]
        crowd = np.array([region.label == IGNORE for region in self.regions], bool)
        areas = np.array([rle.area(one) for one in encoded], np.int64)
        for position in np.lexsort((-areas, ~crowd)):
            mask[rle.decode(encoded[position]).astype(bool)] = self.regions[position].label
        return mask

    def identity(self) -> bytes:
        """The classes and the outlines of the regions."""
        parts = [repr((self.size, self.background, [region.label for region in self.regions])).encode()]
        for region in self.regions:
            polygons = None if isinstance(region.outline, dict) else region.outline
            parts += [repr(region.outline).encode()] if polygons is None else [one.tobytes() for one in polygons]
        return b"|".join(parts)

    def remapped(self, table: np.ndarray) -> DrawnMask:
        """The same regions as other classes."""
        regions = tuple(region._replace(label=int(table[region.label])) for region in self.regions)
        return replace(self, regions=regions, background=int(table[self.background]))


@READERS.register
def read_coco_seg(
    *,
    images: str | Path,
    annotations: str | Path,
    background: str = "background",
    on_bad: str = "error",
    name: str | None = None,
    root: str | Path | None = None,
) -> SegmentationSource:
    """Read one split in COCO format as semantic masks; images are opened only to verify them, for ``on_bad="skip"``.

    Class 0 is the ``background``, whose id is 0 or, where a category has that, below all others; then come the categories
    by ascending id. Crowds are ignored except where an object is drawn on them. What is bad is raised
    (``on_bad="error"``) or left out and listed (``"skip"``). Relative paths count below ``root``. Raises UserError.
    """
    problems = Problems(on_bad)
    images, annotations = below(root, images, problems), below(root, annotations, problems)
    require(annotations, "the annotation file", part=True)
    require(images, "the image folder")
    document = load_document(annotations)
    categories, labels = read_categories(document["categories"], annotations, problems)
    if background in {category.name for category in categories}:
        raise UserError(
            f"{annotations} has a category {background!r} of its own: set dataset.background to another name"
        )
    if len(categories) >= UNKNOWN:
        raise UserError(
            f"{annotations} has {len(categories)} categories, but masks tell {UNKNOWN} classes apart at most"
        )
    files, places = read_images(document["images"], images, annotations, problems)
    regions = _Regions(annotations, files, problems)
    regions.read(document["annotations"], Declared(places, labels))
    problems.settle()
    regions.judge(categories)
    records = [
        SegmentationRecord(file.path, DrawnMask(file.size, tuple(some), 0), file.image_id, file.size)
        for file, some in zip(files, regions.of_image, strict=True)
    ]
    listed = (Category(min([0, *(category.id - 1 for category in categories)]), background), *categories)
    return segmentation_source(name or default_name(images, annotations), records, listed, problems)


class _Regions:
    """The regions of each image of a file, in the order of ``files``."""

    def __init__(self, path: Path, files: list[ImageFile], problems: Problems) -> None:
        self.path, self.files, self.problems = path, files, problems
        self.of_image: list[list[Region]] = [[] for _ in files]
        self._labels: list[int] = []
        self._crowd: list[bool] = []
        self._largest = 0.0  # number of the polygons

    def read(self, entries: list[Any], declared: Declared) -> None:
        """All that can be drawn; the regions of images that were left out go silently with them."""
        for at, entry in enumerate(progress_bar(entries, desc=f"reading {self.path}", unit="object")):
            try:
                keys = keys_of(entry, declared, NEEDS)
                if keys.image != DROPPED:
                    self._add(keys, _read_outline(entry, self.files[keys.image].size))
            except UserError as error:
                self.problems.add(f"{self.path}: {describe(entry, at)} {error}", lost="object")

    def judge(self, categories: tuple[Category, ...]) -> None:
        """Note what is doubtful with the regions as a whole. Raises UserError for what makes all of them wrong."""
        if 0 < self._largest <= 1:
            sizes = np.array([file.size for file in self.files])
            require_pixels(np.array([self._largest]), sizes, f"{self.path}: the polygons of all annotations")
        labels, crowd = np.array(self._labels, np.int64), np.array(self._crowd, bool)
        judge_crowds(labels, crowd, categories, str(self.path), self.problems)

    def _add(self, keys: Keys, outline: Outline) -> None:
        if self._largest <= 1 and not isinstance(outline, dict):  # one polygon of pixels is enough
            self._largest = max(self._largest, *(float(polygon.max()) for polygon in outline))
        self._labels.append(keys.label)
        self._crowd.append(keys.crowd)
        self.of_image[keys.image].append(Region(IGNORE if keys.crowd else keys.label + 1, outline))


def _read_outline(entry: dict[str, Any], size: tuple[int, int]) -> Outline:
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        return checked_runs(segmentation, size)
    if not isinstance(segmentation, list):
        raise UserError(f"needs {NEEDS}")
    try:
        polygons = tuple(np.array(polygon, np.float64) for polygon in segmentation)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"has {NO_PAIRS}") from None
    for polygon in polygons:
        _require_sound(polygon, size)
    areas = tuple(polygon for polygon in polygons if len(polygon) >= 6)  # two points enclose nothing
    if not areas:
        raise UserError("has no polygon of three or more points")
    return areas


def _require_sound(polygon: np.ndarray, size: tuple[int, int]) -> None:
    """Raise UserError for a polygon, f64 [2 N] in pixels, that is none or reaches farther outside than its image is large.

    Drawing one takes time and memory by the length of its sides, and ends the program for the longest.
    """
    if polygon.ndim != 1 or len(polygon) % 2:
        raise UserError(f"has {NO_PAIRS}")
    reach = float(np.abs(polygon).max()) if len(polygon) else 0.0
    if not math.isfinite(reach):
        raise UserError(f"has {NO_PAIRS}")
    if reach > 2 * max(size):
        raise UserError(f"has a polygon that reaches {reach:g}, far outside its image of {size[1]} x {size[0]} pixels")


def _encode(outline: Outline, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed run lengths."""
    if not isinstance(outline, dict):
        for polygon in outline:
            _require_sound(polygon, size)
        return rle.merge(rle.frPyObjects(list(outline), *size))
    return rle.frPyObjects(outline, *size) if isinstance(outline["counts"], list) else outline
