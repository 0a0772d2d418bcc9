"""What differs from one kind of task to another where labels are needed; one file a kind fills it in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from seg_det.automatic.choosing import Rule
from seg_det.automatic.statistics import Statistics
from seg_det.doctor.findings import Checks
from seg_det.facts import AnchorFit
from seg_det.predict.predictor import NetworkPredictor
from seg_det.predict.task import Task
from seg_det.report.drawings import Colour
from seg_det.report.pictures import Details
from seg_det.types import Category, ModelCard


class Losses(Protocol):
    """A NamedTuple of the parts of a loss."""

    def __len__(self) -> int: ...
    def total(self) -> Tensor: ...
    def _asdict(self) -> dict[str, Tensor]: ...


class Report(Protocol):
    """The figures of one evaluation."""

    def headline(self) -> Mapping[str, float | None]: ...
    def by_class(self) -> Mapping[str, float]: ...  # the figure ``Kind.class_figure``
    def to_dict(self) -> dict[str, Any]: ...


class Metric(Protocol):
    """Collects predictions by image id, and scores them."""

    def update(self, image_ids: Iterable[int] | Tensor, predictions: Any, /) -> None: ...
    def compute(self) -> Report: ...
    def results(self) -> list[dict[str, Any]]: ...
    def reset(self) -> None: ...
    def state(self) -> Any: ...
    def merge(self, states: Sequence[Any], /) -> None: ...


def plain_loss(function: Callable[..., Losses], predictor: NetworkPredictor, raw: Any, batch: Any) -> Losses:
    """The loss of raw output on a batch, of a loss function that asks for nothing of the model."""
    return function(raw, batch)


def no_truth(record: Any) -> None:
    """Nothing beside the image. A function with a name, which reaches loader processes that are spawned."""


def no_truths(batch: Any) -> list[None]:
    """For each image of a batch nothing: the metric has the labels of all."""
    return [None] * len(batch.images)


def file_sizes(batch: Any) -> list[tuple[int, int]]:
    """(H, W) of the files of a batch."""
    return [(height, width) for height, width in batch.sizes.tolist()]


def no_anchors(model: nn.Module, card: ModelCard, source: Any, loss: Callable[..., Losses] | None) -> AnchorFit | None:
    """Nothing: of a kind that has no anchors."""
    return None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of task for training and evaluation; ``task`` is the part that needs no labels.

    ``truth`` reads of a record what is needed beside the image to score a prediction, where the metric does not have it;
    ``batch_truths`` gives the same of a batch of the training loader. ``scored`` makes what the metric takes of both.
    ``doubts`` says what may go wrong with the objects of a split, ``unmatched`` what of that is about anchors alone.
    ``anchors`` says how well a network's anchors match the objects of a split, by its loss function or, with None, by the
    usual threshold. ``drawn`` draws on the image of a record
    what a model with that card gave the metric.

    Predictors, losses, metrics, sources and batches are those of the kind itself, and so are ``Any`` as arguments.
    """

    task: Task
    data: str  # what it learns from, for messages
    source: type  # what its readers return
    transform: type  # what its augmentations are
    suggestion: str  # overrides that suit it, for messages
    evaluation_transform: Callable[
        [NetworkPredictor], Any
    ]  # the predictor's preprocessing, of labels too: for training
    loss: Callable[[Callable[..., Any], Any, Any, Any], Losses] = plain_loss
    doubts: Callable[[Any, Any, Callable[..., Any]], str | None] = lambda predictor, source, loss: None
    unmatched: Callable[[Any, Any, Callable[..., Any]], str | None] = lambda predictor, source, loss: None
    postprocess: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]] = lambda loss, settings: dict(
        settings
    )
    truth: Callable[[Any], Any] = no_truth
    batch_truths: Callable[[Any], Sequence[Any]] = no_truths
    batch_sizes: Callable[[Any], list[tuple[int, int]]] = file_sizes
    scored: Callable[[Sequence[Any], Sequence[Any]], Any] = lambda predictions, truths: predictions
    metric: Callable[..., Metric]  # of a source and the options of the evaluation
    options: frozenset[str] = frozenset()  # that the metric takes
    class_figure: str  # that each class has, in the first column of the report's table
    monitor: str  # the headline figure that the best checkpoint has most of
    shown: tuple[str, ...]  # headline figures for the terminal
    thresholds: Callable[[Any], tuple[float | None, ...]] = lambda report: ()  # ModelCard.score_thresholds
    differences: Callable[
        [dict[int, Any], dict[int, Any]], dict[str, float]
    ]  # of what two models gave the metric, by image
    checks: Checks  # of the data doctor
    statistics: Callable[[Any], Statistics]  # of a source, for the rules
    rules: tuple[Rule, ...]  # that choose the settings of a training
    check: Callable[..., None]  # raises UserError for a source that cannot be used; every=True: looks at each record
    least_images: int = 1  # of a training step
    tiny_maps: bool = True  # whether its networks have maps of a single cell
    anchors: Callable[[nn.Module, ModelCard, Any, Callable[..., Any] | None], AnchorFit | None] = no_anchors
    details: Callable[[Any, Any, Any], Details]  # for the report, of a metric, its figures and the source
    drawn: Callable[[Any, Any, ModelCard], np.ndarray]
    legend: Callable[[Sequence[Category]], list[tuple[str, Colour]]] = (
        lambda categories: []
    )  # of the colours in drawings
    drawn_batch: Callable[[Any, Sequence[Category]], list[np.ndarray]]  # a batch of the training loader with its labels
    class_counts: Callable[[Any], tuple[dict[str, int], str]]  # of a source, by class, and what is counted
    object_sizes: Callable[[Any, Any], tuple[np.ndarray, np.ndarray] | None] = lambda predictor, source: (
        None
    )  # widths and heights f32 [N, 2] of objects and [A, 2] of anchors in pixels of the input

    @property
    def name(self) -> str:
        """ModelCard.task."""
        return self.task.name
