"""The objects and the detections of a whole split as columns of numbers, which the metrics compute on at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from seg_det.data.objects import to_xywh
from seg_det.data.records import DetectionRecord
from seg_det.errors import UserError
from seg_det.types import Detections

NOTHING = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64))


class Objects(NamedTuple):
    """Annotated objects, a row each."""

    image: np.ndarray  # i64 [G], number of its image, 0, 1, ...
    label: np.ndarray  # i64 [G]
    boxes: np.ndarray  # f64 [G, 4], xywh pixels
    area: np.ndarray  # f64 [G], the mask's where the data set knows it
    crowd: np.ndarray  # bool [G]


class Found(NamedTuple):
    """Detections, a row each."""

    image: np.ndarray  # i64 [D], as in Objects
    label: np.ndarray  # i64 [D]
    boxes: np.ndarray  # f64 [D, 4], xywh pixels
    score: np.ndarray  # f64 [D]

    @property
    def area(self) -> np.ndarray:
        """f64 [D], of the boxes."""
        return self.boxes[:, 2] * self.boxes[:, 3]

    @property
    def group(self) -> np.ndarray:
        """i64 [D]: one number for the detections of one class in one image."""
        return self.label * (1 + self.image.max(initial=0)) + self.image

    def select(self, rows: np.ndarray) -> Found:
        """The detections at ``rows`` (indices or a mask)."""
        return Found(*(np.compress(rows, c, 0) if rows.dtype == bool else np.take(c, rows, 0) for c in self))


def objects_of(records: Sequence[DetectionRecord]) -> Objects:
    """The objects of all records, numbered and ordered like these."""
    return Objects(
        np.repeat(np.arange(len(records)), [len(record.labels) for record in records]),
        _join([record.labels for record in records], np.int64),
        to_xywh(_join([record.boxes for record in records], np.float32, 4)),
        _join([record.area for record in records], np.float64),
        _join([record.crowd for record in records], bool),
    )


def found_in(records: Sequence[DetectionRecord], detections: Mapping[int, Detections], num_classes: int) -> Found:
    """All detections, given by image id; the images are numbered like the records.

    Raises:
        UserError: an image that is not in the records, a label that no category has, scores or boxes that are not finite.
    """
    number = {record.image_id: n for n, record in enumerate(records)}
    if strangers := sorted(detections.keys() - number.keys()):
        raise UserError(
            f"the ground truth has no image with id {strangers[0]}, but there are detections for it; "
            "evaluate with the data set that was predicted on"
        )
    counts = [len(found.labels) for found in detections.values()]
    ids = np.repeat(np.array(list(detections), np.int64), counts)
    columns = zip(NOTHING, *detections.values(), strict=True)
    boxes, scores, labels = (torch.cat(column).cpu().numpy() for column in columns)
    check_labels(ids, labels, num_classes)
    check_finite(ids, np.column_stack([scores, boxes]))
    images = np.repeat(np.array([number[image_id] for image_id in detections], np.int64), counts)
    return Found(images, labels, to_xywh(boxes), scores.astype(np.float64))


def check_labels(images: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    """Raises UserError, with the image, for a label [D] that is no index of a category; ``images`` are ids [D]."""
    unknown = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if unknown.size:
        raise UserError(
            f"a detection in image id {images[unknown[0]]} has label {labels[unknown[0]]}, but there are {num_classes} "
            "categories; evaluate the model with the categories it was trained on"
        )


def check_finite(images: np.ndarray, numbers: np.ndarray) -> None:
    """Raises UserError, with the images, for rows [D, n] of scores and boxes that are no numbers; ``images`` are ids [D]."""
    finite = np.isfinite(numbers).all(axis=1)
    if not finite.all():
        raise UserError(
            f"scores or boxes of the detections are not finite numbers in image id {some(images[~finite].tolist())}; "
            "look for a diverged training or an overflow in half precision"
        )


def some(ids: Iterable[Any], limit: int = 5) -> str:
    """The smallest ids, for a message, and how many there are if not all are shown."""
    ids = sorted(set(ids))
    shown = ", ".join(str(i) for i in ids[:limit])
    return shown if len(ids) <= limit else f"{shown}, ... ({len(ids)} in all)"


def _join(columns: Sequence[np.ndarray], dtype: type, *shape: int) -> np.ndarray:
    return np.concatenate([np.empty((0, *shape), dtype), *columns]).astype(dtype, copy=False)
