"""What a target of export is, and what it is given."""

from __future__ import annotations

import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.predict.exported import Session
from seg_det.predict.lookup import task_of
from seg_det.sidecar import PIPELINES, PRECISIONS
from seg_det.types import ModelCard

if TYPE_CHECKING:
    Opener = staticmethod[[str], Session]  # of a file by its path
else:
    Opener = staticmethod  # it takes no parameters when hints are evaluated


@dataclass(frozen=True)
class Job:
    """What to export. The model is the job's own copy: evaluation mode, float32, batch norms folded."""

    model: nn.Module
    card: ModelCard
    pipeline: str = "full"
    precision: str = "fp32"
    metadata: str = ""  # JSON, to be embedded where the format has a place for it
    calibration: Iterable[
        Any
    ] = ()  # for int8: batches whose ``images`` are u8 [1, 3, h, w], resized by the card's rule
    keep_float: Sequence[str] = ()  # for int8: names of modules of the model whose layers stay in 32 bits

    @property
    def suppresses(self) -> bool:
        """Whether a runtime's own suppression can take part in the file."""
        return task_of(self.card).suppresses and self.pipeline != "raw"

    @property
    def half(self) -> bool:
        """Whether the network is to compute in 16 bits."""
        return self.precision == "fp16"

    def images(self) -> Iterator[Tensor]:
        """The calibration images as the network's input: f32 [1, 3, h, w], RGB, 0..255."""
        for batch in self.calibration:
            yield batch.images.float()

    def float_modules(self) -> list[nn.Module]:
        """The modules that ``keep_float`` names. Raises UserError for a name that the model has not."""
        found = []
        for name in self.keep_float:
            try:
                found.append(self.model.get_submodule(name))
            except AttributeError as error:
                known = ", ".join(child for child, _ in self.model.named_children())
                raise UserError(f"keep_float: the model has no part {name!r}; it has {known}.") from error
        return found


class Extras(NamedTuple):
    """What a target wrote around an accepted file: names in its folder, and sentences for whoever exports."""

    files: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Target(ABC):
    """A file format with its runtime; a subclass is a frozen dataclass whose fields are the keys of its YAML.

    ``pipelines`` and ``precisions`` are what the format can do, the default pipeline first. ``session`` opens a written file:
    a function of this package's style whose *source* is copied into the runner, so it imports the runtime and numpy inside
    itself and nothing of this package.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    extra: ClassVar[str]  # of pyproject.toml
    packages: ClassVar[tuple[str, ...]]  # names to import, of what writes and runs the file
    runs: ClassVar[tuple[str, ...]]  # the part of them that the runner needs, as pip names
    pipelines: ClassVar[tuple[str, ...]] = PIPELINES
    precisions: ClassVar[tuple[str, ...]] = PRECISIONS
    calibrates: ClassVar[bool] = True  # whether int8 looks at images
    session: ClassVar[Opener]
    snippet: ClassVar[str | None] = None  # the template of the app's source that goes with the file, see snippets.py
    program: ClassVar[bool] = True  # whether a Python program that runs the file goes with it, see runner.py
    opens: ClassVar[bool] = True  # False: another target opens the files of its suffix

    @abstractmethod
    def write(self, job: Job, path: Path) -> dict[str, Any]:
        """Write ``job`` to ``path``; returns plain facts for the card. Raises UserError.

        Known facts: ``tail``, what suppresses; ``files``, further files that belong to it, in the same folder; for int8
        ``quantisation``, with ``layers``, ``float_layers``, how weights and activations are quantised, and the ``scales``
        [scale, zero point] of activations by name; ``delegated``, where a part of the operators runs on a delegate:
        ``to``, ``share`` of all operators of the network's body and ``left``, how many of each kind do not.
        """

    @classmethod
    def require(cls) -> None:
        """Raise UserError with the pip command if a package of the target is missing."""
        if missing := [name for name in cls.packages if importlib.util.find_spec(name) is None]:
            raise UserError(f"target={cls.name} needs {', '.join(missing)}: pip install -e '.[{cls.extra}]'")

    def place(self, run: Path, stem: str) -> Path:
        """Where the file of an export goes; ``stem`` says which model and precision it has."""
        return run / f"{stem}{self.suffix}"

    def surround(self, card: ModelCard, path: Path, images: Sequence[Path]) -> Extras:
        """Write what goes around the accepted file ``path``; ``images`` are some of those that proved it. Raises UserError."""
        return Extras([], [])

    def elsewhere(self) -> str | None:
        """Why a file of this target cannot be run on this machine, though it can be written; None where it can."""
        return None

    def embedded(self, path: Path) -> str | None:
        """The metadata inside a written file; None where the format has no place for it. Raises UserError."""
        return None


def unsupported(error: BaseException, target: str) -> UserError:
    """What a converter refused, as one sentence: the operator, and where in the model it comes from if that is told."""
    causes = list(_causes(error))
    text = " ".join(str(cause) for cause in causes)
    operator = re.search(r"\b(aten[.:]+[\w.]+|prims?[.:]+[\w.]+)", text)
    module = re.search(r"(?:[Ww]hile executing|module|L\['self'\]\.)[^\n]*?(seg_det[\w./]+|\bself\.[\w.]+)", text)
    lines = [line for line in str(causes[-1]).splitlines() if line.strip()] or [type(error).__name__]
    what = f"the operator {operator[1]}" if operator else f"this model ({type(causes[-1]).__name__}: {lines[0][:200]})"
    where = f", from {module[1]}," if module else ""
    return UserError(f"target={target} cannot express {what}{where}: choose another target or pipeline=raw.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
