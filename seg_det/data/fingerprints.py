"""Fingerprints of splits: whether two runs had the same images and the same annotations, without reading an image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_det.data.records import (
    ClassificationRecord,
    DetectionRecord,
    Record,
    SegmentationRecord,
    Source,
)
from seg_det.facts import SplitFingerprint


def fingerprint(source: Source) -> SplitFingerprint:
    """The fingerprint of a split as it was read: the same in any folder, and whatever the order of its records.

    ``image_list`` is the SHA-256 of the image files' names below the folder that holds them all; ``annotations`` is that of the
    classes and of each image's name, size and labels: boxes with their class, crowd, difficult and area; polygons and run
    lengths; the class; of a mask in a file the file's name, its size in bytes and which values stand for which classes. Contents
    of image and mask files are not read.
    """
    records: Sequence[Record] = source.records
    names = _names(records)
    order = sorted(range(len(names)), key=names.__getitem__)
    listed = [names[i] for i in order]
    annotations = hashlib.sha256(repr([(category.id, category.name) for category in source.categories]).encode())
    image_list = hashlib.sha256()
    for found in (annotations, image_list):
        found.update("\n".join(listed).encode("utf-8", "surrogateescape"))
    _update(annotations, [records[i] for i in order])
    return SplitFingerprint(source.name, len(records), annotations.hexdigest(), image_list.hexdigest())


def _names(records: Sequence[Record]) -> list[str]:
    """The paths of the images, with slashes, below the folder that holds them all."""
    here = str(Path.cwd())
    paths = [os.path.join(here, _path(record)) for record in records]  # noqa: PTH118 - a Path each takes seconds
    if not paths:
        return []
    above = os.path.commonpath({path.rpartition(os.sep)[0] for path in paths})
    start = len(above.rstrip(os.sep)) + 1
    return [path[start:].replace(os.sep, "/") for path in paths]


def _path(record: Record) -> str:
    if isinstance(record, ClassificationRecord):  # without the time that a Path takes, see there
        return f"{record.folder}{os.sep}{record.file}"
    return str(record.path)


def _update(found: Any, records: Sequence[Any]) -> None:
    """Add the labels of records, which are of one kind, to a sum."""
    if not records:
        return
    if isinstance(records[0], DetectionRecord):
        _add_boxes(found, records)
    elif isinstance(records[0], SegmentationRecord):
        for record in records:
            found.update(repr((record.image_id, record.size)).encode())
            found.update(record.mask.identity())
    else:
        found.update(_bytes([record.label for record in records], "<i8"))


def _add_boxes(found: Any, records: Sequence[DetectionRecord]) -> None:
    found.update(_bytes([(record.image_id, *record.size, len(record.boxes)) for record in records], "<i8"))
    for name, kind in (("boxes", "<f4"), ("labels", "<i8"), ("crowd", "?"), ("difficult", "?"), ("area", "<f8")):
        found.update(_bytes(np.concatenate([getattr(record, name) for record in records]), kind))


def _bytes(values: Any, kind: str) -> bytes:
    """``values`` as bytes, the same on every processor."""
    return np.ascontiguousarray(np.asarray(values), dtype=np.dtype(kind)).tobytes()
