"""What the rules know of a training split. Boxes and classes come from the annotations; only masks are read from files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from seg_det.data.loaders import read_mask
from seg_det.data.records import ClassificationSource, DetectionRecord, DetectionSource, SegmentationSource

MASKS = 100  # at most, of which the classes' pixels are counted


def _none() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True)
class Statistics:
    """A training split in figures.

    sides: of objects, f64 [N]: square roots of their areas as shares of the square root of the image's area; pixels: of
    segmentation, f64 [C]: each class's share of the labelled pixels.
    """

    images: int
    classes: int
    height: float = 0.0  # of the images' medians, in pixels; 0: not known without reading the files
    width: float = 0.0
    sides: np.ndarray = field(default_factory=_none)
    pixels: np.ndarray = field(default_factory=_none)


def statistics_of_boxes(source: DetectionSource) -> Statistics:
    """The statistics of a split with boxes."""
    height, width = np.median([record.size for record in source.records], axis=0).tolist()
    return Statistics(len(source.records), len(source.categories), height, width, _sides(source.records))


def _sides(records: Sequence[DetectionRecord]) -> np.ndarray:
    """Of all objects but crowds; an object without a width or a height is 0."""
    boxes = np.concatenate([record.boxes[~record.crowd] for record in records]).astype(np.float64)
    areas = np.repeat(
        [record.size[0] * record.size[1] for record in records],
        [int((~record.crowd).sum()) for record in records],
    )
    return np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1) / areas)


def statistics_of_masks(source: SegmentationSource) -> Statistics:
    """The statistics of a split with masks. Reads up to a hundred of them."""
    height, width = np.median([record.size for record in source.records], axis=0).tolist()
    classes = len(source.categories)
    records = source.records[:: math.ceil(len(source.records) / MASKS)]
    counts = np.sum([np.bincount(read_mask(one).ravel(), minlength=256)[:classes] for one in records], axis=0)
    pixels = counts / max(1, counts.sum())
    return Statistics(len(source.records), classes, height, width, pixels=pixels)


def statistics_of_classes(source: ClassificationSource) -> Statistics:
    """The statistics of a split of images with one class each."""
    return Statistics(len(source.records), len(source.categories))
