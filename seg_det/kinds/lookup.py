"""The kinds of tasks by name, and which one a card, a model and a data set are of."""

from __future__ import annotations

from typing import Any, get_type_hints

from torch import nn

from seg_det.errors import UserError
from seg_det.kinds.classification import CLASSIFICATION
from seg_det.kinds.detection import DETECTION
from seg_det.kinds.kind import Kind
from seg_det.kinds.segmentation import SEGMENTATION
from seg_det.types import ModelCard
from seg_det.values import shown

KINDS = {kind.name: kind for kind in (DETECTION, CLASSIFICATION, SEGMENTATION)}


def kind_named(name: str, what: str) -> Kind:
    """The kind of that name. Raises UserError, which begins with ``what``, for another name."""
    if name not in KINDS:
        raise UserError(f"{what} is for the task {shown(name)}, which is not known here: {', '.join(KINDS)} are.")
    return KINDS[name]


def kind_of(card: ModelCard, what: str = "The model card", model: nn.Module | None = None) -> Kind:
    """The kind of the card's task.

    Raises UserError for an unknown task, for a rule of resizing that it does not have and for another kind's model.
    """
    kind = kind_named(card.task, what)
    if card.resize not in kind.resizes:
        raise UserError(f"{what} resizes by {shown(card.resize)}, and {kind.name} has {', '.join(kind.resizes)}.")
    if model is not None and (found := get_type_hints(type(model).forward)["return"]) is not kind.output:
        raise UserError(
            f"{what} is for {kind.name}, and its model {type(model).__name__} gives {found.__name__}, not "
            f"{kind.output.__name__}: get the file again from where it was made."
        )
    return kind


def require_kind(kind: Kind, source: Any) -> None:
    if not isinstance(source, kind.source):
        raise UserError(f"{source.name} does not hold {kind.data}, which {kind.name} needs: choose {kind.suggestion}.")
