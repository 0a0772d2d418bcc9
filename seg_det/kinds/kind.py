"""A trained model as a function, images in, predictions out; and what tells one kind of task from another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from seg_det.ops.images import normalise
from seg_det.types import ModelCard


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


class Predictor(nn.Module):
    """A model with the pre- and post-processing of its card: training, evaluation and prediction all call this one."""

    def __init__(self, model: nn.Module, card: ModelCard):
        super().__init__()
        self.model = model
        self.card = card
        self.register_buffer("mean", torch.tensor(card.mean), persistent=False)
        self.register_buffer("std", torch.tensor(card.std), persistent=False)

    def forward(self, images: Tensor) -> Any:
        """Raw output for images u8 [B, 3, H, W] of the card's input size."""
        return self.model(normalise(images, self.mean, self.std))

    def loss(self, function: Callable[..., Losses], raw: Any, batch: Any) -> Losses:
        """The loss of raw output on a batch."""
        return function(raw, batch)

    def doubts(self, source: Any, loss: Callable[..., Losses]) -> str | None:
        """What of the training data ``source`` the model can hardly learn by ``loss``, in a sentence; None if nothing is."""
        return None

    def predictions(self, raw: Any, batch: Any) -> Any:
        """What the metric takes for the images of a batch."""
        raise NotImplementedError

    def predict(self, images: Tensor, batch: Any) -> Any:
        """``predictions`` of a batch whose ``images`` are on the device of the model; evaluation calls this one."""
        return self.predictions(self(images), batch)


@dataclass(frozen=True)
class Kind:
    """What one kind of task has that others have not; everything else in this room is the same for all."""

    name: str  # ModelCard.task
    data: str  # what it learns from, for messages
    source: type  # what its readers return
    transform: type  # what its augmentations are
    suggestion: str  # overrides that suit it, for messages
    predictor: type[Predictor]
    output: type  # what the forward of its models says that it returns
    resizes: tuple[str, ...]  # rules of evaluation for ModelCard.resize, the usual one first
    evaluation_transform: Callable[[ModelCard], Any]
    metric: Callable[..., Metric]  # of a source and the options of the evaluation
    options: frozenset[str]  # that the metric takes
    monitor: str  # the headline figure that the best checkpoint has most of
    shown: tuple[str, ...]  # headline figures for the terminal
    check: Callable[..., None]  # raises UserError for a source that cannot be used; every=True: looks at each record
    least_images: int  # of a training step
    samples: Callable[[Metric, Any], list[tuple[str, np.ndarray]]]  # drawn for the report
