"""The tasks by name, and which one a card and a model are of."""

from __future__ import annotations

from typing import get_type_hints

from torch import nn

from seg_det.errors import UserError
from seg_det.predict.classification import CLASSIFICATION
from seg_det.predict.detection import DETECTION
from seg_det.predict.segmentation import SEGMENTATION
from seg_det.predict.task import Task
from seg_det.types import ModelCard
from seg_det.values import shown

TASKS = {task.name: task for task in (DETECTION, CLASSIFICATION, SEGMENTATION)}


def task_named(name: str, what: str) -> Task:
    """The task of that name. Raises UserError, which begins with ``what``, for another name."""
    if name not in TASKS:
        raise UserError(f"{what} is for the task {shown(name)}, which is not known here: {', '.join(TASKS)} are.")
    return TASKS[name]


def task_of(card: ModelCard, what: str = "The model card", model: nn.Module | None = None) -> Task:
    """The card's task.

    Raises UserError for an unknown task, for a rule of resizing that it does not have and for a model of another task.
    """
    task = task_named(card.task, what)
    if card.resize not in task.resizes:
        raise UserError(f"{what} resizes by {shown(card.resize)}, and {task.name} has {', '.join(task.resizes)}.")
    if model is not None and (found := get_type_hints(type(model).forward)["return"]) is not task.output:
        raise UserError(
            f"{what} is for {task.name}, and its model {type(model).__name__} gives {found.__name__}, not "
            f"{task.output.__name__}: get the file again from where it was made."
        )
    return task
