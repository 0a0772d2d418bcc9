"""The kinds of tasks by name, and which one a card and a data set are of."""

from __future__ import annotations

from typing import Any

from torch import nn

from seg_det.errors import UserError
from seg_det.kinds.classification import CLASSIFICATION
from seg_det.kinds.detection import DETECTION
from seg_det.kinds.kind import Kind
from seg_det.kinds.segmentation import SEGMENTATION
from seg_det.predict.lookup import task_named, task_of
from seg_det.types import ModelCard

KINDS = {kind.name: kind for kind in (DETECTION, CLASSIFICATION, SEGMENTATION)}


def kind_named(name: str, what: str) -> Kind:
    """The kind of that name. Raises UserError, which begins with ``what``, for another name."""
    return KINDS[task_named(name, what).name]


def kind_of(card: ModelCard, what: str = "The model card", model: nn.Module | None = None) -> Kind:
    """The kind of the card's task. Raises UserError as :func:`seg_det.predict.lookup.task_of` does."""
    return KINDS[task_of(card, what, model).name]


def require_kind(kind: Kind, source: Any) -> None:
    """Raise UserError for a data set of another kind."""
    if not isinstance(source, kind.source):
        raise UserError(f"{source.name} does not hold {kind.data}, which {kind.name} needs: choose {kind.suggestion}.")
