"""COCO's polygons and run lengths to semantic masks, drawn as they are read. Format: https://cocodataset.org/#format-data"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from operator import index as whole_number
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle
from tqdm import tqdm

from seg_det.data.coco import MALFORMED, default_name, load_document, read_categories, read_images
from seg_det.data.masks import UNKNOWN, segmentation_source
from seg_det.data.places import below
from seg_det.data.problems import Problems, require
from seg_det.data.records import ImageFile, SegmentationRecord, SegmentationSource
from seg_det.errors import UserError
from seg_det.registry import READERS
from seg_det.types import IGNORE, Category

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
    categories = read_categories(document["categories"], annotations, problems)
    if background in {category.name for category in categories}:
        raise UserError(
            f"{annotations} has a category {background!r} of its own: set dataset.background to another name"
        )
    if len(categories) >= UNKNOWN:
        raise UserError(
            f"{annotations} has {len(categories)} categories, but masks tell {UNKNOWN} classes apart at most"
        )
    files, dropped = read_images(document["images"], images, annotations, problems)
    labels = {category.id: label for label, category in enumerate(categories, start=1)}
    regions = _read_regions(document["annotations"], files, set(dropped.tolist()), labels, annotations, problems)
    records = [
        SegmentationRecord(file.path, DrawnMask(file.size, tuple(regions[file.image_id]), 0), file.image_id, file.size)
        for file in files
    ]
    listed = (Category(min([0, *(i - 1 for i in labels)]), background), *categories)
    return segmentation_source(name or default_name(images, annotations), records, listed, problems)


def _read_regions(
    entries: list[Any],
    files: list[ImageFile],
    dropped: set[int],
    labels: dict[int, int],
    path: Path,
    problems: Problems,
) -> dict[int, list[Region]]:
    """The regions by image id; those of dropped images go silently with them."""
    sizes = {file.image_id: file.size for file in files}
    regions: dict[int, list[Region]] = defaultdict(list)
    for number, entry in enumerate(tqdm(entries, desc=f"reading {path}", unit="object", delay=2, leave=False)):
        try:
            image_id, category_id = whole_number(entry["image_id"]), whole_number(entry["category_id"])
            if image_id in dropped:
                continue
            if image_id not in sizes or category_id not in labels:
                missing = f"image id {image_id}" if image_id not in sizes else f"category id {category_id}"
                raise UserError(f"is about {missing}, which the file does not declare")
            outline = _read_outline(entry["segmentation"], sizes[image_id])
        except UserError as error:
            problems.add(f"{path}: {_describe(entry, number)} {error}", lost="object")
        except MALFORMED:
            needs = "a segmentation, a whole number image_id and category_id"
            problems.add(f"{path}: {_describe(entry, number)} needs {needs}", lost="object")
        else:
            label = IGNORE if entry.get("iscrowd") else labels[category_id]
            regions[image_id].append(Region(label, outline))
    return regions


def _describe(entry: Any, number: int) -> str:
    own_id = entry.get("id") if isinstance(entry, dict) else None
    return f"annotations[{number}] (which has no id)" if own_id is None else f"annotation id {own_id}"


def _read_outline(segmentation: Any, size: tuple[int, int]) -> Outline:
    if isinstance(segmentation, dict):
        written = tuple(segmentation["size"])
        if written != tuple(size):
            raise UserError(
                f"has run lengths for {written[1]} x {written[0]} pixels on an image of {size[1]} x {size[0]}"
            )
        counts = segmentation["counts"]
        if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
            raise UserError(f"has run lengths for {sum(counts)} pixels on an image of {size[1]} x {size[0]}")
        return {"size": list(written), "counts": counts}
    polygons = tuple(np.array(polygon, np.float64) for polygon in segmentation)
    if not all(polygon.ndim == 1 and len(polygon) % 2 == 0 and np.isfinite(polygon).all() for polygon in polygons):
        raise UserError("has a polygon that is no list of pairs of finite numbers")
    areas = tuple(polygon for polygon in polygons if len(polygon) >= 6)  # two points enclose nothing
    if not areas:
        raise UserError("has no polygon of three or more points")
    return areas


def _encode(outline: Outline, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed run lengths."""
    if not isinstance(outline, dict):
        return rle.merge(rle.frPyObjects(list(outline), *size))
    return rle.frPyObjects(outline, *size) if isinstance(outline["counts"], list) else outline
