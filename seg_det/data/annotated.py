"""What annotation tools' own files hold, in one form, and what their readers have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from seg_det.data.coco import MALFORMED
from seg_det.data.geometry import Geometry
from seg_det.data.problems import Problems
from seg_det.data.recognise_tools import SPLITS
from seg_det.errors import UserError


class Shape(NamedTuple):
    """An object as a tool's file has it."""

    name: str  # of its class, without blanks around it
    geometry: Geometry
    where: str  # the file and the object, for messages
    difficult: bool = False


class AnnotatedImage(NamedTuple):
    """An image as a tool's file has it."""

    written: tuple[str, ...]  # the paths that may lead to it, the likeliest first
    file: Path  # of the annotations
    where: str  # the place in it, for messages
    size: tuple[int, int] | None  # (H, W) as declared
    shapes: Sequence[Shape]


def size_of(height: Any, width: Any) -> tuple[int, int] | None:
    """(H, W) of a file; None where it does not say them."""
    if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
        return height, width
    return None


@dataclass
class Reading:
    """What a tool's reader collects besides the images."""

    problems: Problems
    subset: str | None = None  # the split whose images alone are wanted, where files say of which each is; None: all
    _counts: Counter[str] = field(default_factory=Counter)
    _firsts: dict[str, str] = field(default_factory=dict)

    def wants(self, subset: str | None) -> bool:
        """Whether the images that a file puts into ``subset`` are wanted."""
        if self.subset is None:
            return True
        name = (subset or "").strip().lower()
        return name == self.subset.lower() or name in SPLITS.get(self.subset, ())

    def shapes(
        self, name: object, where: str, draw: Callable[[], Geometry], *, difficult: bool = False
    ) -> Iterator[Shape]:
        """The shape of a name and what ``draw`` returns; none, and a problem, where either is missing or wrong."""
        label = "" if name is None else str(name).strip()
        if not label:
            self.problems.add(f"{where} has no class: give it a label", lost="object")
            return
        try:
            yield Shape(label, draw(), where, difficult)
        except UserError as error:
            self.problems.add(f"{where} {error}", lost="object")
        except (*MALFORMED, ArithmeticError, IndexError):
            self.problems.add(f"{where} lacks numbers of its outline: draw it anew, or export again", lost="object")

    def count(self, what: str, where: str) -> None:
        """Count what is not read, or read in a way worth saying; the first place is named."""
        self._counts[what] += 1
        self._firsts.setdefault(what, where)

    def note_counts(self) -> None:
        """Add a sentence for each kind of it to the notes."""
        for what, count in self._counts.items():
            self.problems.note(f"{what}: {count:,} (first: {self._firsts[what]})")


@dataclass(frozen=True)
class Tool:
    """How the files of an annotation tool are read."""

    dataset: str  # the choice of conf/dataset
    parse: Callable[[Path, Reading], Iterable[AnnotatedImage]]  # raises UserError for a file that cannot be read at all
    names: Callable[[Path], set[str]] | None = None  # a quick look at the classes that a file may name
    declared: Callable[[Path], Sequence[str]] | None = None  # the classes that a file lists, used or not
    one_image: bool = False  # a file
    subsets: bool = False  # whether a file may say which split an image belongs to


@dataclass(frozen=True)
class Request:
    """What is asked of a reader."""

    root: Path
    split: str | None  # None: all that lies below the root
    kind: str  # of the task
    categories: Sequence[str] | None
    background: str
    on_bad: str
