"""What a reader finds on disk, before any pixel is decoded: one form for all formats of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np

from seg_det.types import Category


class Lost(NamedTuple):
    """How much of a split its reader left out."""

    images: int = 0
    objects: int = 0  # of images that stayed


class DetectionRecord(NamedTuple):
    """One image file and its objects; boxes are xyxy pixels of the upright image, labels index the categories."""

    path: Path
    image_id: int
    size: tuple[int, int]  # (H, W), upright: after EXIF rotation
    boxes: np.ndarray  # f32 [N, 4]
    labels: np.ndarray  # i64 [N]
    crowd: np.ndarray  # bool [N]
    difficult: np.ndarray  # bool [N]
    area: np.ndarray  # f64 [N], pixels: COCO's own figure (of the mask), the box's where the format has none


@dataclass(frozen=True)
class DetectionSource:
    """One split of a data set as its reader found it. ``problems`` holds one sentence for each thing left out or doubtful."""

    kind: ClassVar[str] = "detection"  # of the task, ModelCard.task

    name: str  # "bccd_voc test"
    records: tuple[DetectionRecord, ...]
    categories: tuple[Category, ...]
    problems: tuple[str, ...] = field(default=())
    lost: Lost = field(default=Lost())


class ClassificationRecord(NamedTuple):
    """One image file and its class, an index of the categories.

    The file stands in two parts because a ``Path`` of its own for each of ImageNet's images would take nine seconds and
    half a gigabyte; the images of a folder share theirs.
    """

    folder: Path
    file: str  # in ``folder``
    image_id: int
    label: int

    @property
    def path(self) -> Path:
        """The image file."""
        return self.folder / self.file


@dataclass(frozen=True)
class ClassificationSource:
    """One split of a data set as its reader found it. ``problems`` holds one sentence for each thing left out or doubtful."""

    kind: ClassVar[str] = "classification"  # of the task, ModelCard.task

    name: str  # "imagenet val"
    records: tuple[ClassificationRecord, ...]
    categories: tuple[Category, ...]
    problems: tuple[str, ...] = field(default=())
    lost: Lost = field(default=Lost())


class Mask(Protocol):
    """The classes of an image's pixels, in a file or yet to be drawn."""

    def read(self) -> np.ndarray:
        """u8 [H, W], indices of the categories or IGNORE. Raises UserError if that cannot be had."""
        ...

    def remapped(self, table: np.ndarray) -> Mask:
        """The same mask with ``table[i]`` (u8 [256]) in place of each value i."""
        ...

    def identity(self) -> bytes:
        """What tells the mask from others, without reading its pixels; the same in another folder."""
        ...


class SegmentationRecord(NamedTuple):
    """One image file and its mask, which is read with it."""

    path: Path
    mask: Mask
    image_id: int
    size: tuple[int, int]  # (H, W) of both, the image upright: after EXIF rotation


@dataclass(frozen=True)
class SegmentationSource:
    """One split of a data set as its reader found it. ``problems`` holds one sentence for each thing left out or doubtful."""

    kind: ClassVar[str] = "segmentation"  # of the task, ModelCard.task

    name: str  # "camvid test"
    records: tuple[SegmentationRecord, ...]
    categories: tuple[Category, ...]
    problems: tuple[str, ...] = field(default=())
    lost: Lost = field(default=Lost())


Record = DetectionRecord | ClassificationRecord | SegmentationRecord
Source = DetectionSource | ClassificationSource | SegmentationSource
Same = TypeVar("Same", bound=Source)


def with_records(source: Same, records: Iterable[Record]) -> Same:
    """``source`` with other ``records``, which are of its kind."""
    kept: Any = tuple(records)
    return replace(source, records=kept)


class ImageFile(NamedTuple):
    """An image of a split, before its objects are known."""

    path: Path
    image_id: int
    size: tuple[int, int]  # (H, W), upright


class ObjectTable(NamedTuple):
    """All objects of a split, a row each, in any order; ``image`` is the position of an object's image in the split."""

    image: np.ndarray  # i64 [N]
    boxes: np.ndarray  # f32 [N, 4]
    labels: np.ndarray  # i64 [N]
    crowd: np.ndarray  # bool [N]
    difficult: np.ndarray  # bool [N]
    area: np.ndarray  # f64 [N]


def build_records(images: Sequence[ImageFile], objects: ObjectTable) -> tuple[DetectionRecord, ...]:
    """Hand every image its rows of the table, in their order there; an image without rows gets empty arrays."""
    order = np.argsort(objects.image, kind="stable")
    ends = np.cumsum(np.bincount(objects.image, minlength=len(images)))
    columns = [np.split(column[order], ends)[: len(images)] for column in objects[1:]]
    return tuple(DetectionRecord(*image, *rows) for image, *rows in zip(images, *columns, strict=True))
