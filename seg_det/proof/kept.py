"""A metric whose predictions are looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from seg_det.kinds.kind import Metric, Report


class Kept:
    """A metric that also keeps the predictions by image."""

    def __init__(self, metric: Metric):
        self.metric = metric
        self.predictions: dict[int, Any] = {}

    def update(self, image_ids: Iterable[int] | Tensor, predictions: Any) -> None:
        self.metric.update(image_ids, predictions)
        self.predictions |= {int(i): found for i, found in zip(image_ids, predictions, strict=True)}

    def compute(self) -> Report:
        return self.metric.compute()

    def results(self) -> list[dict[str, Any]]:
        return self.metric.results()

    def reset(self) -> None:
        self.metric.reset()
        self.predictions.clear()

    def state(self) -> Any:
        return self.metric.state()

    def merge(self, states: Sequence[Any]) -> None:
        self.metric.merge(states)
