"""What an evaluation of a segmenter reports: figures of one confusion matrix over all labelled pixels of all images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seg_det.data.records import SegmentationRecord
from seg_det.errors import UserError
from seg_det.metrics.coco import unique_names
from seg_det.types import IGNORE, Category


class LabelMaps(NamedTuple):
    """One image as it was predicted and as it is labelled, both u8 [H, W] of the file's size, on the CPU."""

    predicted: Tensor  # 0..C-1
    truth: Tensor  # 0..C-1 or IGNORE


class PixelCounts(NamedTuple):
    """The entries of one image's confusion matrix that are not 0."""

    cells: np.ndarray  # i32 [N], true class * C + predicted class
    pixels: np.ndarray  # i32 [N]

    def miou(self, num_classes: int) -> float | None:
        """Mean IoU of the classes that are labelled in the image; None if none is."""
        true, guess = np.divmod(self.cells, num_classes)
        labelled, predicted, hits = (
            np.bincount(rows, weights=pixels, minlength=num_classes)
            for rows, pixels in ((true, self.pixels), (guess, self.pixels), (true, self.pixels * (true == guess)))
        )
        present = labelled > 0
        if not present.any():
            return None
        return float((hits[present] / (labelled + predicted - hits)[present]).mean())


class State(NamedTuple):
    """What a metric has collected, by image id."""

    counts: dict[int, PixelCounts]
    samples: dict[int, LabelMaps]


@dataclass(frozen=True)
class SegmentationReport:
    """All figures of one evaluation, fractions 0..1; None where no pixel is labelled."""

    confusion: np.ndarray  # i64 [C, C], pixels by (true class, predicted class)
    names: tuple[str, ...]
    images: int

    def iou(self) -> list[float | None]:
        """Intersection over union of each class: None if it is neither labelled nor predicted, 0 if only predicted."""
        hits = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hits
        return [float(hit / whole) if whole else None for hit, whole in zip(hits, union, strict=True)]

    def headline(self) -> dict[str, float | None]:
        """Four figures over the labelled pixels.

        - ``mIoU``: mean over the classes that are labelled somewhere;
        - ``pixel_accuracy``: share of the pixels that are right;
        - ``mean_accuracy``: mean share of a class's pixels that are right, over the same classes as ``mIoU``;
        - ``mIoU_strict``: mean that a class which is predicted though it is labelled nowhere enters with 0, as Cityscapes'
          evaluator has it. It is the same figure where all classes are labelled.
        """
        if not self.confusion.any():
            return dict.fromkeys(("mIoU", "pixel_accuracy", "mean_accuracy", "mIoU_strict"))
        labelled = self.confusion.sum(1)
        present = labelled > 0
        hits = np.diag(self.confusion)
        ious = self.iou()
        return {
            "mIoU": float(np.mean([iou for iou, here in zip(ious, present, strict=True) if here])),
            "pixel_accuracy": float(hits.sum() / labelled.sum()),
            "mean_accuracy": float((hits[present] / labelled[present]).mean()),
            "mIoU_strict": float(np.mean([iou for iou in ious if iou is not None])),
        }

    def by_class(self) -> dict[str, float]:
        """IoU of each class that is labelled somewhere, for loggers."""
        labelled = self.confusion.sum(1) > 0
        return {
            name: iou
            for name, iou, here in zip(self.names, self.iou(), labelled, strict=True)
            if here and iou is not None
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON: ``images``, ``segmentation``, ``per_class``, ``absent``, ``confusion``.

        A class without a labelled pixel is ``absent``, and None stands for its figures.
        """
        labelled, predicted, hits = self.confusion.sum(1), self.confusion.sum(0), np.diag(self.confusion)
        per_class = {
            name: {
                "IoU": iou if pixels else None,
                "accuracy": float(hit / pixels) if pixels else None,
                "pixels": int(pixels),
                "predicted_pixels": int(guessed),
            }
            for name, iou, hit, pixels, guessed in zip(self.names, self.iou(), hits, labelled, predicted, strict=True)
        }
        return {
            "images": self.images,
            "segmentation": {**self.headline(), "labelled_pixels": int(labelled.sum())},
            "per_class": per_class,
            "absent": [name for name, pixels in zip(self.names, labelled, strict=True) if not pixels],
            "confusion": self.confusion.tolist(),
        }


class SegmentationMetric:
    """Counts the pixels of each image by true and predicted class.

    The label maps of the ``worst`` and ``best`` images by mIoU stay in ``samples``, no others.

    Only images that :meth:`update` has seen are evaluated, each once, by what came first. Processes are joined by handing
    the :meth:`state` of each to :meth:`merge`. ``save`` is handed the record and the predicted label map of each image once.
    """

    def __init__(
        self,
        records: Sequence[SegmentationRecord],
        categories: Sequence[Category],
        *,
        worst: int = 0,
        best: int = 0,
        save: Callable[[SegmentationRecord, Tensor], None] | None = None,
    ) -> None:
        self.categories = tuple(categories)
        self.samples: dict[int, LabelMaps] = {}
        self._records = {record.image_id: record for record in records}
        self._counts: dict[int, PixelCounts] = {}
        self._worst, self._best = worst, best
        self._save = save

    def update(self, image_ids: Iterable[int] | Tensor, maps: Iterable[LabelMaps]) -> None:
        """Add some images; one seen before is left out.

        Raises:
            UserError: an image that is not in the records.
            ValueError: label maps of two sizes, or values that are no class.
        """
        for image_id, pair in zip(map(int, image_ids), maps, strict=True):
            if image_id in self._counts:
                continue
            record = self._record(image_id)
            self._counts[image_id] = count_pixels(pair, len(self.categories))
            self._sample(image_id, pair)
            if self._save is not None:
                self._save(record, pair.predicted)

    def _sample(self, image_id: int, maps: LabelMaps) -> None:
        """Keep the maps of an image that has been counted as long as it is among the worst or the best so far."""
        if self.miou(image_id) is None:
            return
        self.samples[image_id] = maps
        if len(self.samples) > self._worst + self._best:
            del self.samples[self.ranked()[self._worst]]

    def ranked(self) -> list[int]:
        """The ids of ``samples``, the lowest mIoU first; of equal ones the lower id."""
        return sorted(self.samples, key=lambda image_id: (self.miou(image_id), image_id))

    def miou(self, image_id: int) -> float | None:
        """mIoU of one image over the classes that are labelled in it; None if none is."""
        return self._counts[image_id].miou(len(self.categories))

    def counted(self, image_id: int) -> tuple[int, int]:
        """Of one image the labelled pixels, and those of them that are wrong."""
        cells, pixels = self._counts[image_id]
        wrong = np.not_equal(*np.divmod(cells, len(self.categories)))
        return int(pixels.sum()), int(pixels[wrong].sum())

    def _record(self, image_id: int) -> SegmentationRecord:
        if image_id not in self._records:
            raise UserError(f"there is no image with id {image_id} among the {len(self._records)} that are evaluated")
        return self._records[image_id]

    def state(self) -> State:
        """What was collected, in a form that another process can be sent."""
        return State(dict(self._counts), dict(self.samples))

    def merge(self, states: Iterable[State]) -> None:
        """Add what other collectors have in their :meth:`state`; one's own among them does no harm."""
        for state in states:
            self._counts = {**state.counts, **self._counts}
            for image_id, maps in state.samples.items():
                if image_id not in self.samples:
                    self._sample(image_id, maps)

    def reset(self) -> None:
        """Forget all images, before the next evaluation."""
        self._counts.clear()
        self.samples.clear()

    def results(self) -> list[dict[str, Any]]:
        """A row for each image: its path, pixel accuracy and mIoU over the classes labelled in it; None if none is."""
        rows = []
        for image_id, counts in self._counts.items():
            report = self._report([counts])
            figures = report.headline()
            rows.append(
                {
                    "image_id": image_id,
                    "image": self._record(image_id).path.as_posix(),
                    "pixel_accuracy": figures.get("pixel_accuracy"),
                    "mIoU": figures.get("mIoU"),
                }
            )
        return rows

    def compute(self) -> SegmentationReport:
        """The figures of everything collected.

        Raises UserError if not one pixel of it is labelled, unless the predictions are saved: a test split without labels.
        """
        report = self._report(self._counts.values())
        if self._save is None and not report.confusion.any():
            raise UserError(
                f"every pixel of the {report.images} images is ignored ({IGNORE} in the mask), so there is nothing to score: "
                "check that the masks hold the values of the class list"
            )
        return report

    def _report(self, counts: Collection[PixelCounts]) -> SegmentationReport:
        classes = len(self.categories)
        confusion = np.zeros(classes * classes, np.int64)
        for cells, pixels in counts:
            confusion[cells] += pixels  # each cell stands in an image's counts once
        names = tuple(unique_names(self.categories))
        return SegmentationReport(confusion.reshape(classes, classes), names, len(counts))


def count_pixels(maps: LabelMaps, num_classes: int) -> PixelCounts:
    """The confusion matrix of one image, its ignored pixels left out. Raises ValueError as ``update`` does."""
    predicted, truth = maps
    if predicted.shape != truth.shape:
        raise ValueError(f"expected label maps of one size, got {list(predicted.shape)} and {list(truth.shape)}")
    if int(predicted.max()) >= num_classes:
        raise ValueError(f"expected predicted classes below {num_classes}, got {int(predicted.max())}")
    # Ignored pixels get a row of their own behind the classes; 16 bits are twice as fast to count as 32.
    key = torch.int16 if (num_classes + 1) * num_classes <= torch.iinfo(torch.int16).max else torch.int32
    cells = truth.clamp(max=num_classes).to(key).mul_(num_classes).add_(predicted)
    every = torch.bincount(cells.flatten(), minlength=(num_classes + 1) * num_classes).numpy()
    counts, ignored = np.split(every, [num_classes * num_classes])
    if ignored.sum() != int((truth == IGNORE).sum()):
        raise ValueError(f"expected true classes below {num_classes} or {IGNORE}, got others")
    filled = np.flatnonzero(counts)
    return PixelCounts(filled.astype(np.int32), counts[filled].astype(np.int32))
