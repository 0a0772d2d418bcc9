"""What a model says of one image: plain numpy arrays in pixels of that image, with the names and ids of the data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from seg_det.data.images import read_rgb
from seg_det.data.objects import to_xywh
from seg_det.errors import UserError
from seg_det.types import IGNORE, Category

TOP = 5  # classes that a classifier's result names


@dataclass(frozen=True, eq=False, repr=False)
class Result(ABC):
    """The part that results of every task have in common.

    ``source`` is the file that the image was read from, or its pixels u8 [H, W, 3] RGB; ``size`` its (H, W), upright.
    """

    categories: tuple[Category, ...]
    size: tuple[int, int]
    source: Path | np.ndarray

    @property
    def ok(self) -> bool:
        """Whether there is a result; False for a :class:`~seg_det.predict.failed.Failed` one."""
        return True

    def image(self) -> np.ndarray:
        """The pixels u8 [H, W, 3] RGB; a file is read again. Raises UserError."""
        return read_rgb(self.source) if isinstance(self.source, Path) else self.source.copy()

    def draw(self) -> Image.Image:
        """The image with what was found on it."""
        return Image.fromarray(self.drawn(self.image()))

    def __repr__(self) -> str:
        height, width = self.size
        return f"{type(self).__name__}({', '.join(self.names[:TOP]) or 'nothing'} in {width} x {height} pixels)"

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The classes that were found."""

    @property
    def main_names(self) -> list[str]:
        """Those of :attr:`names` that the image is said to show."""
        return self.names

    @abstractmethod
    def only(self, labels: Sequence[int]) -> Result:
        """The same without the classes that are not among ``labels``, indices of ``categories``."""

    @abstractmethod
    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Rows of a COCO result file."""

    @abstractmethod
    def drawn(self, image: np.ndarray) -> np.ndarray:
        """:meth:`draw` on the pixels ``image`` u8 [H, W, 3] RGB, which are left as they are."""

    def _names_of(self, labels: np.ndarray) -> list[str]:
        return [self.categories[label].name for label in labels]

    def _ids_of(self, labels: np.ndarray) -> np.ndarray:
        """The data set's own numbers of classes, i64, of the shape of ``labels``."""
        ids: np.ndarray = np.array([category.id for category in self.categories], np.int64)[labels]
        return ids


@dataclass(frozen=True, eq=False, repr=False)
class DetectionResult(Result):
    """Objects, best first: ``boxes`` f32 [N, 4] xyxy, ``scores`` f32 [N], ``labels`` i64 [N] (indices of ``categories``).

    ``tracks`` i64 [N] are the numbers of the objects in a video that is tracked, else None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    tracks: np.ndarray | None = None

    columns: ClassVar[tuple[str, ...]] = ("class", "category_id", "score", "x1", "y1", "x2", "y2", "track_id")

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The class of each object."""
        return self._names_of(self.labels)

    @property
    def ids(self) -> np.ndarray:
        """The data set's own number of each object's class, i64 [N]."""
        return self._ids_of(self.labels)

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Rows of a COCO result file: ``bbox`` is xywh, rounded to a thousandth of a pixel."""
        columns = zip(self.ids.tolist(), to_xywh(self.boxes).tolist(), self.scores.tolist(), strict=True)
        rows = [{"image_id": int(image_id), "category_id": i, "bbox": box, "score": score} for i, box, score in columns]
        tracks = [] if self.tracks is None else self.tracks.tolist()
        return [{**row, "track_id": track} for row, track in zip(rows, tracks, strict=True)] if tracks else rows

    def to_yolo(self) -> list[str]:
        """Lines of a YOLO label file: class index, centre, width and height as shares of the image, score."""
        height, width = self.size
        centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        shares = np.concatenate([centres, self.boxes[:, 2:] - self.boxes[:, :2]], 1) / [width, height, width, height]
        rows = np.concatenate([shares, self.scores[:, None]], 1).tolist()
        return [f"{label} " + " ".join(f"{v:.6g}" for v in row) for label, row in zip(self.labels, rows, strict=True)]

    def table(self) -> list[dict[str, Any]]:
        """A row for each object, for CSV files: its class, score and corners in pixels."""
        columns = zip(self.names, self.ids.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        tracks = [""] * len(self) if self.tracks is None else self.tracks.tolist()
        rows = [(name, i, score, *box, track) for (name, i, score, box), track in zip(columns, tracks, strict=True)]
        return [dict(zip(self.columns, row, strict=True)) for row in rows]

    def select(self, chosen: np.ndarray) -> DetectionResult:
        """The objects that ``chosen`` names, bool [N] or indices i64 [K]."""
        tracks = None if self.tracks is None else self.tracks[chosen]
        return replace(
            self, boxes=self.boxes[chosen], scores=self.scores[chosen], labels=self.labels[chosen], tracks=tracks
        )

    def only(self, labels: Sequence[int]) -> DetectionResult:
        """See :meth:`Result.only`."""
        return self.select(np.isin(self.labels, list(labels)))

    def to_supervision(self) -> Any:
        """``supervision.Detections``. Raises UserError if that package is not installed."""
        names = {"class_name": np.array(self.names)}
        return _supervision().Detections(xyxy=self.boxes, confidence=self.scores, class_id=self.labels, data=names)

    def drawn(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Result.drawn`."""
        from seg_det.report.drawings import draw_boxes  # matplotlib's font, which prediction itself does not need

        names = [category.name for category in self.categories]
        return draw_boxes(image, self.boxes, self.labels, names, self.scores, tracks=self.tracks)


@dataclass(frozen=True, eq=False, repr=False)
class SegmentationResult(Result):
    """The class of each pixel: ``mask`` u8 [H, W], indices of ``categories``, 255 where it is none of the chosen ones."""

    mask: np.ndarray

    @cached_property
    def shares(self) -> dict[str, float]:
        """The share of the pixels of each class that is there, largest first."""
        counts = np.bincount(self.mask.ravel(), minlength=256)[: len(self.categories)] / self.mask.size
        present = sorted(np.flatnonzero(counts).tolist(), key=lambda label: -counts[label])
        return {self.categories[label].name: float(counts[label]) for label in present}

    @property
    def names(self) -> list[str]:
        """The classes that are there, the largest first."""
        return list(self.shares)

    @property
    def ids(self) -> np.ndarray:
        """The mask with the data set's own numbers of the classes, i64 [H, W]; -1 where it is none of the chosen ones."""
        ids: np.ndarray = np.append(self._ids_of(np.arange(len(self.categories))), np.full(256, -1))[self.mask]
        return ids

    @property
    def labels(self) -> np.ndarray:
        """The classes that are there, indices of ``categories`` in their order, i64."""
        return np.flatnonzero(np.bincount(self.mask.ravel(), minlength=256)[: len(self.categories)])

    def only(self, labels: Sequence[int]) -> SegmentationResult:
        """See :meth:`Result.only`."""
        return replace(self, mask=np.where(np.isin(self.mask, list(labels)), self.mask, np.uint8(IGNORE)))

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """A row for each class that is there, its pixels run-length encoded."""
        from pycocotools import mask as coco_mask

        rows = []
        for label in self.labels.tolist():
            encoded = coco_mask.encode(np.asfortranarray(self.mask == label))
            shape = {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}
            rows.append({"image_id": int(image_id), "category_id": self.categories[label].id, "segmentation": shape})
        return rows

    def to_supervision(self) -> Any:
        """``supervision.Detections`` with one mask a class. Raises UserError if that package is not installed."""
        supervision = _supervision()
        labels = self.labels
        masks = self.mask[None] == labels[:, None, None]
        names = {"class_name": np.array(self._names_of(labels))}
        boxes = supervision.mask_to_xyxy(masks)
        return supervision.Detections(xyxy=boxes, mask=masks, class_id=labels, data=names)

    def drawn(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Result.drawn`."""
        from seg_det.report.masks import overlay

        return overlay(image, self.mask, self.categories)


@dataclass(frozen=True, eq=False, repr=False)
class ClassificationResult(Result):
    """The probability of each class: ``scores`` f32 [C], in the order of ``categories``; NaN for those not chosen."""

    scores: np.ndarray

    columns: ClassVar[tuple[str, ...]] = ("class", "category_id", "score")

    @property
    def labels(self) -> np.ndarray:
        """The most probable classes, best first, as indices of ``categories``: i64, at most five."""
        return np.argsort(-self.scores, kind="stable")[: min(TOP, int(np.isfinite(self.scores).sum()))]

    @property
    def names(self) -> list[str]:
        """The most probable classes, best first, at most five."""
        return self._names_of(self.labels)

    @property
    def ids(self) -> np.ndarray:
        """The data set's own numbers of :attr:`names`."""
        return self._ids_of(self.labels)

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """A row for each of :attr:`names`; COCO has no format for classes of whole images, so there is no box."""
        scores = self.scores[self.labels].tolist()
        columns = zip(self.ids.tolist(), scores, strict=True)
        return [{"image_id": int(image_id), "category_id": i, "score": score} for i, score in columns]

    def to_supervision(self) -> Any:
        """``supervision.Classifications``. Raises UserError if that package is not installed."""
        return _supervision().Classifications(class_id=np.arange(len(self.scores)), confidence=self.scores)

    @property
    def main_names(self) -> list[str]:
        """The most probable class."""
        return self.names[:1]

    def only(self, labels: Sequence[int]) -> ClassificationResult:
        """See :meth:`Result.only`; the probabilities are still those among all classes."""
        scores = np.full_like(self.scores, np.nan)
        scores[list(labels)] = self.scores[list(labels)]
        return replace(self, scores=scores)

    def table(self) -> list[dict[str, Any]]:
        """A row for each of :attr:`names`, for CSV files."""
        rows = zip(self.names, self.ids.tolist(), self.scores[self.labels].tolist(), strict=True)
        return [dict(zip(self.columns, row, strict=True)) for row in rows]

    def drawn(self, image: np.ndarray) -> np.ndarray:
        """See :meth:`Result.drawn`."""
        from seg_det.report.drawings import draw_title

        return draw_title(image, f"{self.names[0]} {np.nanmax(self.scores):.0%}")


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise UserError("to_supervision needs the package supervision: pip install supervision") from error
    return supervision
