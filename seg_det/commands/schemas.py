"""The types of what commands read by name in a configuration: one check before anything is done with it.

What goes to a reader, a loss, a model or an augmentation is checked with its own type hints, see :mod:`seg_det.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args

from omegaconf import DictConfig

from seg_det.commands.settings import plain
from seg_det.errors import UserError
from seg_det.values import Wrong, hints_of, matched, require_plain

LARGEST_SEED = 2**32 - 1  # numpy's
Size = int | list[int]


@dataclass(frozen=True)
class Choices:
    """Names of the groups."""

    task: str
    backbone: str
    dataset: str


@dataclass(frozen=True)
class Task:
    """The head's section; ``model``, ``loss`` and ``postprocess`` are checked by what takes them."""

    kind: str
    model: dict[str, Any]
    loss: dict[str, Any]
    postprocess: dict[str, Any]


@dataclass(frozen=True)
class Data:
    """Loading and input of a training."""

    size: Size
    batch_size: int
    num_workers: int | str
    multi_scale: list[Any] | None = None
    resize: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    balance: float | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class Loading:
    """Loading, of the commands that use a trained model."""

    batch_size: int
    num_workers: int | str = "auto"
    max_pixels: int | None = None


@dataclass(frozen=True)
class Budget:
    """The length of a run."""

    minutes: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class TrainingSchema:
    """conf/train.yaml."""

    choices: Choices
    task: Task
    backbone: dict[str, Any]
    dataset: dict[str, Any]
    augmentation: dict[str, Any]
    recipe: dict[str, Any]
    trainer: dict[str, Any]
    data: Data
    seed: int
    weights: str | None = None
    resume: str | None = None
    preview: bool = False
    auto: bool | None = None
    budget: Budget = Budget()


@dataclass(frozen=True)
class Tiles:
    """Parts of large images."""

    size: Size | None = None
    overlap: float = 0.0
    merge: str = "smaller"
    threshold: float = 0.5
    whole: bool = True


@dataclass(frozen=True)
class EvaluationSchema:
    """conf/evaluate.yaml."""

    split: str
    postprocess: dict[str, Any]
    data: Loading
    device: str
    tiles: Tiles
    model: str | None = None
    dataset: dict[str, Any] | None = None
    classes: str | list[str] | None = None
    input_size: Size | None = None
    count_difficult: bool = False
    evaluator: str = "fast"
    save_predictions: str | None = None


@dataclass(frozen=True)
class Calibration:
    """Images for 8 bits."""

    images: int


@dataclass(frozen=True)
class Verification:
    """Images to compare the outputs on."""

    split: str
    images: int | None


@dataclass(frozen=True)
class ExportSchema:
    """conf/export.yaml."""

    target: dict[str, Any]
    precision: str
    postprocess: dict[str, Any]
    calibration: Calibration
    verification: Verification
    data: Loading
    seed: int
    keep_float: list[str]
    sensitivity: bool
    search: bool
    sensitivity_images: int
    model: str | None = None
    dataset: dict[str, Any] | None = None
    classes: str | list[str] | None = None
    pipeline: str | None = None
    input_size: Size | None = None
    resize: str | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class Stream:
    """Cameras and addresses."""

    timeout_s: float = 10
    retries: int = 3


@dataclass(frozen=True)
class PredictionSchema:
    """conf/predict.yaml; ``source`` may be almost anything."""

    data: Loading
    device: str
    tiles: Tiles
    stream: Stream
    draw: bool
    track: bool
    model: str | None = None
    score_threshold: float | dict[str, float] | None = None
    classes: str | list[str] | None = None
    format: str | list[str] | None = None
    input_size: Size | None = None
    frames: int | None = None


def check(config: DictConfig, schema: type) -> None:
    """Raise UserError, which names the key, for a value of ``config`` of another type than ``schema`` says."""
    try:
        match_schema(plain(config), schema, "")
    except Wrong as error:
        raise UserError(f"{error}.") from error
    seed = config.get("seed", 0)
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed must be a whole number from 0 to {LARGEST_SEED}, got {seed}.")


def match_schema(values: Mapping[str, Any], schema: type, key: str) -> None:
    """Compare the parts of ``values`` that ``schema`` knows with its types. Raises Wrong, whose first word is below ``key``."""
    require_plain(values, key)
    matched(_known(values, schema), schema, key)


def _known(values: Mapping[str, Any], schema: type) -> dict[str, Any]:
    """``values`` without the keys that ``schema`` and its sections do not have."""
    found = {}
    for field in fields(schema):
        if field.name in values:
            value, hint = values[field.name], hints_of(schema)[field.name]
            section = next(
                (one for one in (hint, *get_args(hint)) if isinstance(one, type) and is_dataclass(one)), None
            )
            found[field.name] = _known(value, section) if section and isinstance(value, Mapping) else value
    return found
