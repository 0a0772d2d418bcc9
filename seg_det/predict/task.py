"""What differs from one kind of task to another where no labels are needed; one file a kind fills it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from seg_det.predict.predictor import NetworkPredictor
from seg_det.predict.preprocessing import Size
from seg_det.predict.result import Result
from seg_det.types import ModelCard

Outputs = Mapping[str, np.ndarray]  # of an exported file, by name


@dataclass(frozen=True)
class Task:
    """A kind of task for prediction and export; :class:`seg_det.kinds.kind.Kind` is the part that needs labels.

    ``outputs`` are the names of what a file of the pipelines "full" and "normalised" gives, ``raw_outputs`` of "raw".
    """

    name: str  # ModelCard.task
    output: type  # what the forward of its models says that it returns
    resizes: tuple[str, ...]  # rules for ModelCard.resize, the usual one first
    predictor: type[NetworkPredictor]
    result: Callable[[Any, ModelCard, Size, Path | np.ndarray], Result]  # of a prediction, the image's size and source
    above: Callable[[Any, Tensor], Any]  # a prediction without what scores below a threshold a class, f32 [C]
    outputs: tuple[str, ...]
    raw_outputs: tuple[str, ...]
    raw: Callable[[Mapping[str, Tensor]], Any]  # the network's output from that of a raw file
    read: Callable[
        [Outputs, ModelCard, Size, bool], Any
    ]  # a prediction from a file's outputs; True: in pixels of the image
    graph: type[nn.Module]  # post-processing that can be exported, see seg_det.predict.graphs
    suppresses: bool  # whether a runtime's own suppression can take part in it
    defaults: Mapping[str, Any]  # settings of post-processing that a card may leave out
    require_exportable: Callable[[ModelCard], None]  # raises UserError for settings that no graph can follow
    facts: Callable[[nn.Module, ModelCard], dict[str, Any]]  # what a reader of raw outputs must know of the model
    exact_when_normalised: bool  # whether a file of "normalised" gives the same predictions as the network
    programs: Mapping[str, Callable[..., Any]]  # by pipeline: reads outputs in programs without this package
    show: Callable[..., Any]  # and draws what was read
