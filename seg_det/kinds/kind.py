"""What differs from one kind of task to another where labels are needed; one file a kind fills it in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from seg_det.predict.predictor import NetworkPredictor
from seg_det.predict.task import Task


class Losses(Protocol):
    """A NamedTuple of the parts of a loss."""

    def total(self) -> Tensor: ...
    def _asdict(self) -> dict[str, Tensor]: ...


class Report(Protocol):
    """The figures of one evaluation."""

    def headline(self) -> dict[str, float]: ...
    def to_dict(self) -> dict[str, Any]: ...


class Metric(Protocol):
    """Collects predictions by image id, and scores them."""

    def update(self, image_ids: Iterable[int] | Tensor, predictions: Any) -> None: ...
    def compute(self) -> Report: ...
    def results(self) -> list[dict[str, Any]]: ...
    def reset(self) -> None: ...
    def state(self) -> Any: ...
    def merge(self, states: Sequence[Any]) -> None: ...


@dataclass(frozen=True)
class Kind:
    """A kind of task for training and evaluation; ``task`` is the part that needs no labels."""

    task: Task
    data: str  # what it learns from, for messages
    source: type  # what its readers return
    transform: type  # what its augmentations are
    suggestion: str  # overrides that suit it, for messages
    evaluation_transform: Callable[
        [NetworkPredictor], Any
    ]  # the predictor's preprocessing, of labels too: for training
    loss: Callable[
        [Callable[..., Losses], NetworkPredictor, Any, Any], Losses
    ]  # of a loss function, raw output and a batch
    doubts: Callable[
        [NetworkPredictor, Any, Callable[..., Losses]], str | None
    ]  # what of a source can hardly be learned
    postprocess: Callable[
        [Mapping[str, Any], Mapping[str, Any]], dict[str, Any]
    ]  # the card's, of the loss and the settings
    truth: Callable[[Any], Any]  # of a record, what must be read beside the image to score a prediction
    batch_truths: Callable[[Any], Sequence[Any]]  # the same of a batch of the training loader
    batch_sizes: Callable[[Any], list[tuple[int, int]]]  # (H, W) of the files of such a batch
    scored: Callable[[Sequence[Any], Sequence[Any]], Any]  # of predictions and truths, what the metric takes
    metric: Callable[..., Metric]  # of a source and the options of the evaluation
    options: frozenset[str]  # that the metric takes
    monitor: str  # the headline figure that the best checkpoint has most of
    shown: tuple[str, ...]  # headline figures for the terminal
    thresholds: Callable[[Any], tuple[float | None, ...]]  # of a report, ModelCard.score_thresholds
    differences: Callable[
        [dict[int, Any], dict[int, Any]], dict[str, float]
    ]  # of what two models gave the metric, by image
    check: Callable[..., None]  # raises UserError for a source that cannot be used; every=True: looks at each record
    least_images: int  # of a training step
    tiny_maps: bool  # whether its networks have maps of a single cell
    samples: Callable[[Metric, Any], list[tuple[str, np.ndarray]]]  # drawn for the report

    @property
    def name(self) -> str:
        """ModelCard.task."""
        return self.task.name
