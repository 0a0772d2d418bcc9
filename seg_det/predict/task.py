"""What differs from one kind of task to another where no labels are needed; one file a kind fills it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from seg_det.predict.predictor import NetworkPredictor
from seg_det.predict.preprocessing import Size
from seg_det.predict.result import Result
from seg_det.types import Category, ModelCard

Outputs = Mapping[str, np.ndarray]  # of an exported file, by name


def object_colours(categories: Sequence[Category]) -> np.ndarray:
    """The colours of classes that are drawn as boxes and bars: u8 [C, 3], RGB; they repeat after twelve."""
    from seg_det.report.drawings import PALETTE

    return np.array([PALETTE[i % len(PALETTE)] for i in range(len(categories))], np.uint8)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of task for prediction and export; :class:`seg_det.kinds.kind.Kind` is the part that needs labels.

    ``result`` makes what users get of a prediction, the image's size and its source; ``above`` leaves out what scores below
    a threshold a class, f32 [C]. ``outputs`` are the names of what a file of the pipelines "full" and "normalised" gives,
    ``raw_outputs`` of "raw"; ``read`` makes a prediction of the former (True: they are in pixels of the image), ``raw`` the
    network's own output of the latter, and ``facts`` is what their readers must know of the model. ``programs`` read outputs
    by pipeline in programs without this package, and ``show`` draws what was read. ``colours`` are those in which the classes
    are drawn, u8 [C, 3], RGB.
    """

    name: str  # ModelCard.task
    output: type  # what the forward of its models says that it returns
    resizes: tuple[str, ...]  # rules for ModelCard.resize, the usual one first
    predictor: type[NetworkPredictor]
    result: Callable[[Any, ModelCard, Size, Path | np.ndarray], Result]
    above: Callable[[Any, Tensor], Any] = lambda prediction, thresholds: prediction
    formats: tuple[str, ...]  # of seg_det.predict.outputs, in which its results can be written
    outputs: tuple[str, ...]
    raw_outputs: tuple[str, ...]
    raw: Callable[[Mapping[str, Tensor]], Any]
    read: Callable[[Outputs, ModelCard, Size, bool], Any]
    graph: type[nn.Module]  # post-processing that can be exported, see seg_det.predict.graphs
    suppresses: bool = False  # whether a runtime's own suppression can take part in it
    exact_when_normalised: bool = True  # whether a file of "normalised" gives the same predictions as the network
    defaults: Mapping[str, Any] = field(default_factory=dict)  # settings of post-processing that a card may leave out
    require_exportable: Callable[[ModelCard], None] = lambda card: None  # raises UserError for what no graph can follow
    facts: Callable[[nn.Module, ModelCard], dict[str, Any]] = lambda model, card: {}
    colours: Callable[[Sequence[Category]], np.ndarray] = object_colours
    programs: Mapping[str, Callable[..., Any]]
    show: Callable[..., Any]
