"""Lines of YOLO's label files as objects, in the forms that tools and people write."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seg_det.data.doubts import counted
from seg_det.data.problems import Problems
from seg_det.data.texts import read_text
from seg_det.errors import UserError

BOX, CORNERS = 5, 9  # numbers of a line: class and box; class and four corners
PIXELS = 2.0  # a share above it is a number of pixels
FORMS = "class x y width height, or class and the x y of three or more corners, as shares of the image"
DECIMAL_COMMA = re.compile(r"\d+\s+-?\d+(,\d+)?(\s+-?\d+(,\d+)?)*")


class Line(NamedTuple):
    """An object as it stands in a label file."""

    image: int  # position in the split
    file: Path
    number: int  # of the line, from 1
    label: int
    values: tuple[float, ...]  # shares of the image: centre x, centre y, width, height, or x y of each corner

    @property
    def is_box(self) -> bool:
        """Whether there is a box, and no polygon."""
        return len(self.values) == BOX - 1

    def describe(self) -> str:
        """Where it stands."""
        return f"{self.file}, line {self.number}"


class LineReader:
    """The lines of label files; headings and comments are passed over, which :meth:`note` says."""

    def __init__(self, names: Sequence[str], problems: Problems) -> None:
        self._names, self._problems = names, problems
        self._labels = {name: label for label, name in enumerate(names)}
        self._passed: list[str] = []

    def read(self, position: int, path: Path) -> list[Line]:
        """The objects of the image at ``position`` of the split; lines that are wrong become problems."""
        try:
            lines = read_text(path).splitlines()
        except (OSError, UserError) as error:
            self._problems.add(f"{path} cannot be read ({error})")
            return []
        found = []
        for number, line in enumerate(lines, start=1):
            try:
                if (words := _words(line)) and not self._is_passed_over(words, path, number):
                    found.append(self._parsed(position, path, number, words))
            except UserError as error:
                self._problems.add(f"{path}, line {number}: {error}", lost="object")
        return found

    def note(self) -> None:
        """Say once how many lines were passed over."""
        if self._passed:
            self._problems.note(
                f"{counted(len(self._passed), 'line', 'lines')} of labels without a number, or behind #, passed over (the first: "
                f"{self._passed[0]})"
            )

    def _is_passed_over(self, words: list[str], path: Path, number: int) -> bool:
        heading = number == 1 and not any(_is_number(word) for word in words)
        if heading or words[0].startswith("#"):
            self._passed.append(f"{path}, line {number}")
            return True
        return False

    def _parsed(self, position: int, path: Path, number: int, words: list[str]) -> Line:
        """The object of a line. Raises UserError that says what is wrong with it."""
        label, words = self._label(words)
        try:
            values = tuple(map(float, words))
        except ValueError:
            raise UserError(f"{' '.join(words)[:60]!r} is not {FORMS}") from None
        count = len(values) + 1
        if count == BOX + 1:
            raise UserError("six numbers are a prediction with its score, or a box and a track: labels have " + FORMS)
        if count < BOX or (count > BOX and count % 2 == 0):
            raise UserError(f"{count} numbers are not {FORMS}")
        if not all(map(math.isfinite, values)):
            what = "box" if count == BOX else "polygon"
            raise UserError(f"its {what} {' '.join(words[:8])} has a coordinate that is not a finite number")
        reach = max(values, key=abs)
        if abs(reach) > PIXELS:
            raise UserError(f"the numbers reach {reach:g}, so they are pixels: write {FORMS}")
        return Line(position, path, number, label, values)

    def _label(self, words: list[str]) -> tuple[int, list[str]]:
        """The class, by its number or its name, and the other words."""
        if _is_number(words[0]):
            label = float(words[0])
            if not label.is_integer() or not 0 <= label < len(self._names):
                raise UserError(
                    f"the class {words[0][:20]} is none of 0 to {len(self._names) - 1}, which the names have"
                )
            return int(label), words[1:]
        start = next((at for at, word in enumerate(words) if _is_number(word)), len(words))
        name = " ".join(words[:start])
        if name not in self._labels:
            raise UserError(f"{name[:60]!r} is neither the number of a class nor one of the names: write {FORMS}")
        return self._labels[name], words[start:]


def _words(line: str) -> list[str]:
    """The numbers of a line, between blanks, tabs, commas or semicolons. Raises UserError for decimal commas."""
    if "," not in line and ";" not in line:
        return line.split()
    if "." not in line and DECIMAL_COMMA.fullmatch(line.strip()):
        raise UserError(f"{line.strip()[:60]!r} has decimal commas: write points, as in 0.5")
    return [word for word in re.split(r"[\s,;]+", line) if word]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
