"""Figures as text: how a number is written everywhere, tables for the terminal, and CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TypeGuard

from seg_det.files import write_whole
from seg_det.values import as_cell

MISSING = "-"
GAP = "  "
# The smallest magnitude that a format is for. Below 1 the decimals are fixed, so that precisions line up in a column.
FLOAT_FORMATS = ((1000, ",.0f"), (100, ".1f"), (10, ".2f"), (1, ".3f"), (0.01, ".4f"), (0, ".3g"))


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a real number; True and False are answers, not numbers."""
    return isinstance(value, Real) and not isinstance(value, bool)


def format_number(value: float) -> str:
    """A number for people: integers in full with thousands separators, others with 3 to 5 significant digits."""
    if isinstance(value, Integral):
        return f"{int(value):,}"
    number = float(value)
    if not math.isfinite(number) or number == 0:
        return f"{number:g}"
    return next(format(number, spec) for limit, spec in FLOAT_FORMATS if abs(number) >= limit)


def format_cell(value: object) -> str:
    """Any value on one line: None as "-", truth as yes or no, white space of texts collapsed."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_number(value) if is_number(value) else " ".join(str(value).split())


def column_names(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """The keys of all rows, each once, in the order in which they are first seen."""
    return list(dict.fromkeys(key for row in rows for key in row))


def format_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> str:
    """An aligned plain-text table with a heading; a column of numbers stands to the right, others to the left.

    ``columns`` chooses and orders the keys, by default all in first-seen order; a key that a row lacks reads "-".
    """
    names = column_names(rows) if columns is None else list(columns)
    lines = [""] * (len(rows) + 2)
    for name in names:
        values = [row.get(name) for row in rows]
        cells = [format_cell(name), *map(format_cell, values)]
        width = max(map(len, cells))
        align = str.rjust if all(v is None or is_number(v) for v in values) else str.ljust
        column = [align(cell, width) for cell in cells]
        column.insert(1, "-" * width)
        lines = [line + GAP + cell for line, cell in zip(lines, column, strict=True)]
    return "\n".join(line.removeprefix(GAP).rstrip() for line in lines).rstrip()


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows as CSV with the union of their columns in first-seen order; floats in full, absent values blank.

    No cell begins a formula, see :func:`as_cell`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=column_names(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: as_cell(value) for key, value in row.items()} for row in rows)
    return write_whole(path, text.getvalue())
