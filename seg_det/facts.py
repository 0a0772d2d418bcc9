"""The parts of the records of runs and exports, see :mod:`seg_det.runs`. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from seg_det.types import ModelCard
from seg_det.values import matched

Row = dict[str, float | bool | None]  # figures by name
Headline = dict[str, float | None]
Confusion = dict[str, dict[str, int]] | list[list[int]]  # true class -> predicted class -> count; or a square of pixels


@dataclass(frozen=True)
class ModelFacts:
    """The size of a network and what it computes for one image."""

    params: int
    madds: int  # multiply-accumulates
    input_size: tuple[int, int]  # (H, W) in pixels


@dataclass(frozen=True)
class PartCost:
    """The share of one part of a network in its size and its computation."""

    params: int
    madds: int


@dataclass(frozen=True)
class EvaluationFacts:
    """The split that the figures were measured on."""

    split: str
    images: int
    ms_per_image: float


@dataclass(frozen=True)
class MeasuredSplit:
    """The test part of the dataset, which is measured once, after everything has been chosen."""

    split: str
    images: int


@dataclass(frozen=True)
class TrainingFacts:
    """How long was trained, and on what."""

    epochs: int
    steps: int
    minutes: float
    images: int
    split: str
    weights: str  # that the training began with; "none" for random ones
    seed: int


@dataclass(frozen=True)
class SizeFit:
    """How well the anchors match the objects of one size."""

    objects: int
    matched: float | None  # share, 0..1; None without objects
    mean_iou: float | None


@dataclass(frozen=True)
class AnchorFit:
    """How well the anchors match the objects of one split."""

    split: str
    iou: float  # from which an anchor matches an object
    sizes: dict[str, SizeFit]  # by COCO's areas
    histogram: tuple[int, ...]  # objects by the IoU with their best anchor, in steps of a tenth


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision over recall, by the IoU that counts as a hit."""

    recall: tuple[float, ...] = ()
    overall: dict[str, list[float]] = field(default_factory=dict)  # mean of the classes
    per_class: dict[str, dict[str, list[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """How much of a split its reader left out."""

    images: int
    objects: int  # of images that stayed


@dataclass(frozen=True)
class Environment:
    """The versions and the hardware of a run, without the names of users, machines and folders."""

    seg_det: str
    python: str
    torch: str
    system: str
    cpu: str | None
    cores: int | None
    threads: int | None
    device: str
    gpu: str | None


@dataclass(frozen=True)
class SplitFingerprint:
    """What identifies the data of a split: see :func:`seg_det.data.fingerprints.fingerprint`."""

    split: str
    images: int
    annotations: str  # sha256
    image_list: str  # sha256


@dataclass(frozen=True)
class Figures:
    """What was measured, as far as it differs by kind of task. In metrics.json its parts lie at the top level.

    ``tables`` are the figures by name, by the name of their table: "coco", "segmentation", "error_counts"; ``others`` is
    whatever has another form, and what this version does not know.
    """

    tables: dict[str, Row] = field(default_factory=dict)
    per_class: dict[str, Row] = field(default_factory=dict)
    confusion: Confusion | None = None
    confusion_of: str | None = None  # what it counts; None: detections or pixels
    precision_recall: PrecisionRecall | None = None
    others: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Figures:
        """From plain values, as :meth:`to_dict` and the reports of metrics have them. Raises Wrong."""
        named = {name: plain[name] for name in TYPED_FIGURES if name in plain}
        rest = {name: value for name, value in plain.items() if name not in named}
        tables = {name: value for name, value in rest.items() if _is_table(value)}
        others = {name: value for name, value in rest.items() if name not in tables}
        found: Figures = matched({**named, "tables": tables}, cls)
        return replace(found, others=others)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, all of them by their own names."""
        named = {name: plain_values(getattr(self, name)) for name in TYPED_FIGURES}
        return {**self.tables, **{name: v for name, v in named.items() if v not in (None, {})}, **self.others}


TYPED_FIGURES = ("per_class", "confusion", "confusion_of", "precision_recall")


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(part is None or isinstance(part, int | float) for part in value.values())


@dataclass(frozen=True)
class CheckpointFacts:
    """The checkpoint that was exported."""

    path: str  # relative to the working folder of the export, or the name alone
    sha256: str
    megabytes: float


@dataclass(frozen=True)
class Compared:
    """The headline figures of both."""

    checkpoint: Headline
    file: Headline


@dataclass(frozen=True)
class Verification:
    """The checkpoint and the file on the same images. In export.json its fields lie at the top level."""

    metric: str  # the figure that is compared
    checkpoint_value: float | None
    file_value: float | None
    difference: float
    tolerance: float
    accepted: bool
    largest: dict[str, float]  # differences of single predictions
    images: int
    split: str
    checkpoint_ms: float  # an image
    file_ms: float
    figures: Compared


@dataclass(frozen=True)
class Attempt:
    """One export of a search for the layers that stay in 32 bits."""

    keep_float: tuple[str, ...]
    value: float | None
    accepted: bool | None


def plain_values(value: Any) -> Any:
    """Dictionaries, lists and plain values in place of dataclasses, tuples and values."""
    if isinstance(value, ModelCard):
        return value.to_dict()
    if is_dataclass(value):
        return {one.name: plain_values(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {name: plain_values(part) for name, part in value.items()}
    return [plain_values(part) for part in value] if isinstance(value, list | tuple) else value
