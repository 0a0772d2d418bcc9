"""Opens what was exported, by its suffix: one function for every runtime."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from seg_det import sidecar
from seg_det.errors import UserError
from seg_det.export.base import Session, Target, require
from seg_det.registry import TARGETS
from seg_det.types import ModelCard


class Opened(NamedTuple):
    """An exported file that can be run."""

    path: Path
    card: ModelCard
    export: dict[str, Any]  # see seg_det.sidecar.Described
    session: Session


@cache
def targets() -> dict[str, type[Target]]:
    """The targets by the suffix of their files."""
    return {target.suffix: target for target in map(TARGETS.get, TARGETS)}


def is_exported(reference: str) -> bool:
    """Whether ``reference`` has the name of an exported file."""
    return Path(reference).suffix in targets()


def open_file(path: Path) -> Opened:
    """The exported file ``path``, ready to run.

    Raises UserError if it is missing or of something else, its runtime is not installed, or its card is missing or altered.
    """
    target = targets()[path.suffix]
    if not path.exists():
        raise UserError(f"There is no exported file {path}.")
    require(target)
    if reason := target().elsewhere():
        raise UserError(f"{path} cannot be run here: {reason}.")
    described = sidecar.read(path, target().embedded(path))
    try:
        session = target.session(str(path))
    except Exception as error:  # each runtime has its own
        raise UserError(f"{path} cannot be opened as {target.name} ({str(error)[:160]}): export it again.") from error
    return Opened(path, *described, session)
