"""The records of runs and exports as dataclasses; ``metrics.json`` and ``export.json`` are their JSON. Imports no torch.

:class:`RunRecord` is what a training or an evaluation measured, :class:`ExportRecord` what an export wrote and how it was
verified. docs/records.md lists the fields with their units.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from seg_det.errors import UserError
from seg_det.facts import (
    AnchorFit,
    Attempt,
    CheckpointFacts,
    Environment,
    EvaluationFacts,
    Figures,
    Headline,
    LeftOut,
    MeasuredSplit,
    ModelFacts,
    PartCost,
    SplitFingerprint,
    TrainingFacts,
    Verification,
    plain_values,
)
from seg_det.files import write_json
from seg_det.migrations import EXPORT_STEPS, RUN_STEPS, Step, marked, upgraded
from seg_det.types import ModelCard
from seg_det.values import Wrong, matched, shown

METRICS = "metrics.json"  # in the folder of a run
EXPORT = "export.json"  # in the folder of an export
_Record = TypeVar("_Record", "RunRecord", "ExportRecord")


@dataclass(frozen=True)
class RunRecord:
    """A training or an evaluation: what was measured, of what, on which data, and how to do it again."""

    verb: str  # "train" or "evaluate"
    name: str  # of the model: "ssdlite_v2_shapes"
    headline: Headline  # the figures of merit of the kind of task
    model: ModelFacts
    evaluation: EvaluationFacts
    card: ModelCard
    figures: Figures = field(default_factory=Figures)
    cost: dict[str, PartCost] = field(default_factory=dict)  # by part of the network, in its order
    training: TrainingFacts | None = None  # None for an evaluation
    test: Headline = field(default_factory=dict)
    tested: MeasuredSplit | None = None  # None where no test part was measured
    anchors: tuple[AnchorFit, ...] = ()
    problems: tuple[str, ...] = ()  # one sentence for each
    left_out: dict[str, LeftOut] = field(default_factory=dict)  # by split
    command: str = ""
    commit: str | None = None  # see seg_det.origin.commit
    seed: int | None = None
    environment: Environment | None = None
    data: tuple[SplitFingerprint, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = plain_values(replace(self, figures=Figures()))
        del plain["figures"]
        absent = [name for name in ("training", "test", "tested") if not plain[name]]
        return marked({**self.figures.to_dict(), **{k: v for k, v in plain.items() if k not in absent}})

    @classmethod
    def from_dict(cls, plain: object, what: str = "The record of the run") -> RunRecord:
        """Inverse of :meth:`to_dict`, also for records of earlier versions.

        Raises UserError, which begins with ``what``, for a key that is missing and a value that cannot be there.
        """
        own, rest = _parted(cls, plain, RUN_STEPS, what, besides=("figures",))
        try:
            if "card" in own:
                own["card"] = ModelCard.from_dict(own["card"], f"{what}: its card")
            record: RunRecord = matched({**own, "figures": Figures.of(rest)}, cls)
        except Wrong as error:
            _refuse(what, error)
        return record

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """The record in the file ``path``. Raises UserError."""
        return cls.from_dict(_json(path), str(path))

    def write(self, folder: Path) -> None:
        """Write metrics.json into ``folder``, whole or not at all."""
        write_json(folder / METRICS, self.to_dict())


@dataclass(frozen=True)
class ExportRecord:
    """An export: the file, what it was made of, and how it was verified."""

    target: str
    precision: str
    pipeline: str
    input: str
    outputs: tuple[str, ...]
    checkpoint: CheckpointFacts
    versions: dict[str, str]  # of the packages that write and run the file
    files: tuple[str, ...]  # in the folder of the export; the first is the file itself
    megabytes: float
    keep_float: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    verification: Verification | None = None
    not_verified: str | None = None  # why it was not verified
    search: tuple[Attempt, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)  # what the target tells: opset, tail, quantisation, delegated
    command: str = ""
    commit: str | None = None
    seed: int | None = None  # of the choice of the calibration images
    environment: Environment | None = None
    data: tuple[SplitFingerprint, ...] = ()

    @property
    def accepted(self) -> bool | None:
        """Whether the file is as good as the checkpoint; None where that could not be measured."""
        return self.verification.accepted if self.verification else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = plain_values(replace(self, facts={}, verification=None))
        absent = ("facts", "verification", *(name for name in ("not_verified", "search") if not plain[name]))
        verified = plain_values(self.verification) if self.verification else {"accepted": None}
        return marked({**{k: v for k, v in plain.items() if k not in absent}, **self.facts, **verified})

    @classmethod
    def from_dict(cls, plain: object, what: str = "The record of the export") -> ExportRecord:
        """Inverse of :meth:`to_dict`, also for records of earlier versions.

        Raises UserError, which begins with ``what``, for a key that is missing and a value that cannot be there.
        """
        own, rest = _parted(cls, plain, EXPORT_STEPS, what, besides=("verification", "facts"))
        verified = rest.pop("accepted", None)
        names = [one.name for one in fields(Verification)] if verified is not None else []
        given = {name: rest.pop(name) for name in names if name in rest}
        try:
            found = matched({**given, "accepted": verified}, Verification) if names else None
            record: ExportRecord = matched({**own, "facts": rest, "verification": found}, cls)
        except Wrong as error:
            _refuse(what, error)
        return record

    @classmethod
    def read(cls, path: Path) -> ExportRecord:
        """The record in the file ``path``. Raises UserError."""
        return cls.from_dict(_json(path), str(path))

    def write(self, folder: Path) -> None:
        """Write export.json into ``folder``, whole or not at all."""
        write_json(folder / EXPORT, self.to_dict())


def _parted(
    cls: type[_Record], plain: object, steps: Mapping[int, Step], what: str, *, besides: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of the fields of ``cls`` by their names, and all other values; fields ``besides`` have no key of their own."""
    if not isinstance(plain, dict):
        raise UserError(f"{what} cannot be read: it is {shown(plain)}, not a dictionary.")
    content = upgraded(plain, steps, what)
    names = {one.name for one in fields(cls)} - set(besides)
    return {k: v for k, v in content.items() if k in names}, {k: v for k, v in content.items() if k not in names}


def _refuse(what: str, error: Wrong) -> NoReturn:
    raise UserError(f"{what} cannot be read: {error}; run the command again that wrote it.") from error


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: it is no JSON ({str(error)[:100]}).") from error


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
