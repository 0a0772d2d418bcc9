"""What an evaluation of a classifier reports: top-1 and top-5 accuracy, over all images and class by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seg_det.data.records import ClassificationRecord
from seg_det.errors import UserError
from seg_det.types import Category

TOP = 5


class Predictions(NamedTuple):
    """The best classes of some images, on the CPU."""

    image_ids: Tensor  # i64 [N]
    top: Tensor  # i64 [N, min(5, C)], class indices, best first
    scores: Tensor  # f32 [N], the probability of the best


@dataclass(frozen=True)
class ClassificationReport:
    """All figures of one evaluation; fractions 0..1, None where there is no image."""

    top1: float | None
    top5: float | None  # None where there are no more than five classes, too
    images: int  # that were evaluated
    per_class: dict[str, dict[str, float | int | None]]  # "top1", "images" by class name
    confusion: dict[str, dict[str, int]]  # class -> best guess -> images; zeros left out

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON: ``accuracy``, ``per_class``, ``confused`` (classes most often taken for
        another), ``confusion`` (class -> best guess -> count) and what that counts, ``confusion_of``.
        """
        return {
            "accuracy": {"top1": self.top1, "top5": self.top5, "images": self.images},
            "per_class": {name: dict(figures) for name, figures in self.per_class.items()},
            "confused": self.confused(),
            "confusion": {name: dict(row) for name, row in self.confusion.items()},
            "confusion_of": "images",
        }

    def confused(self, most: int = 10) -> dict[str, int]:
        """The classes most often taken for another, ``{"cat taken for dog": 3}``, most frequent first."""
        pairs = [
            (count, f"{true} taken for {guess}")
            for true, row in self.confusion.items()
            for guess, count in row.items()
            if guess != true
        ]
        return {name: count for count, name in sorted(pairs, key=lambda pair: -pair[0])[:most]}

    def by_class(self) -> dict[str, float]:
        """Top-1 accuracy of each class that has images, for loggers."""
        return {name: row["top1"] for name, row in self.per_class.items() if row["top1"] is not None}

    def headline(self) -> dict[str, float]:
        """One flat table for loggers and the model card: ``top1`` and ``top5``, without those that are None."""
        figures = {"top1": self.top1, "top5": self.top5}
        return {name: value for name, value in figures.items() if value is not None}


class ClassificationMetric:
    """Collects the best five classes of each image of an evaluation.

    Only images that :meth:`update` has seen are evaluated, each once, by what came first: distributed samplers pad their last
    batches with others. Processes are joined by handing the :meth:`state` of each to :meth:`merge`.
    """

    def __init__(self, records: Sequence[ClassificationRecord], categories: Sequence[Category]) -> None:
        self.categories = tuple(categories)
        self._records = {record.image_id: record for record in records}
        self._predictions: list[Predictions] = []

    def update(self, image_ids: Iterable[int] | Tensor, logits: Tensor) -> None:
        """Add the ``logits`` [B, C] of some images, on any device.

        Raises:
            UserError: an image that is not in the records, or logits that are not finite.
            ValueError: another number of classes or images than was promised.
        """
        ids = torch.as_tensor(image_ids if isinstance(image_ids, Tensor) else list(image_ids)).to("cpu", torch.int64)
        if logits.shape != (len(ids), len(self.categories)):
            raise ValueError(f"expected logits {[len(ids), len(self.categories)]}, got {list(logits.shape)}")
        records = [self._record(image_id) for image_id in ids.tolist()]
        logits = logits.detach().float()
        finite = logits.isfinite().all(dim=1).tolist()
        if not all(finite):
            raise UserError(
                f"the model's output for {records[finite.index(False)].path} is not finite (NaN or infinity): its weights are "
                "broken; use an earlier checkpoint, or train again with a lower recipe.lr"
            )
        best, top = logits.topk(min(TOP, logits.shape[1]), dim=1)
        scores = (best[:, 0] - logits.logsumexp(dim=1)).exp()
        self._predictions.append(Predictions(ids.clone(), top.cpu(), scores.cpu()))

    def _record(self, image_id: int) -> ClassificationRecord:
        if image_id not in self._records:
            raise UserError(f"there is no image with id {image_id} among the {len(self._records)} that are evaluated")
        return self._records[image_id]

    def state(self) -> Predictions:
        """What was collected, in a form that another process can be sent; each image once."""
        if not self._predictions:
            width = min(TOP, len(self.categories))
            return Predictions(torch.zeros(0).long(), torch.zeros(0, width).long(), torch.zeros(0))
        joined = [torch.cat(parts) for parts in zip(*self._predictions, strict=True)]
        first = torch.from_numpy(np.sort(np.unique(joined[0].numpy(), return_index=True)[1]))
        return Predictions(*(column[first] for column in joined))

    def merge(self, states: Iterable[Predictions]) -> None:
        """Add what other collectors have in their :meth:`state`; one's own among them does no harm."""
        self._predictions += states

    def reset(self) -> None:
        """Forget all predictions, before the next evaluation."""
        self._predictions.clear()

    def results(self) -> list[dict[str, Any]]:
        """A row for each image: its path, the names of its class and of the best guess, ``top5`` as category ids."""
        collected = self.state()
        names = [category.name for category in self.categories]
        rows = []
        for image_id, top, score in zip(*(column.tolist() for column in collected), strict=True):
            record = self._record(image_id)
            rows.append(
                {
                    "image_id": image_id,
                    "image": record.path.as_posix(),
                    "label": names[record.label],
                    "prediction": names[top[0]],
                    "score": score,
                    "top5": [self.categories[index].id for index in top],
                }
            )
        return rows

    def compute(self) -> ClassificationReport:
        """The figures of everything collected."""
        collected = self.state()
        labels = np.array([self._record(image_id).label for image_id in collected.image_ids.tolist()], np.int64)
        hits = collected.top.numpy() == labels[:, None]
        images = np.bincount(labels, minlength=len(self.categories)).tolist()
        right = np.bincount(labels[hits[:, 0]], minlength=len(self.categories)).tolist()
        per_class = {
            category.name: {"top1": _share(found, count), "images": count}
            for category, found, count in zip(self.categories, right, images, strict=True)
        }
        return ClassificationReport(
            top1=_share(int(hits[:, 0].sum()), len(labels)),
            top5=_share(int(hits.any(axis=1).sum()), len(labels)) if len(self.categories) > 5 else None,
            images=len(labels),
            per_class=per_class,
            confusion=_confusion(labels, collected.top[:, 0].numpy(), [c.name for c in self.categories]),
        )


def _confusion(labels: np.ndarray, guesses: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, int]]:
    cells, counts = np.unique(labels * len(names) + guesses, return_counts=True)
    table: dict[str, dict[str, int]] = {}
    for label, guess, count in zip(*np.divmod(cells, len(names)), counts.tolist(), strict=True):
        table.setdefault(names[label], {})[names[guess]] = count
    return table


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
