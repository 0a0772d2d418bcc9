"""The confusion of a detector at every score threshold, small enough to travel inside the report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from seg_det.metrics.thresholds import AtThreshold

Runs = list[int]  # step, value, step, value, ...: the value from that step on


class Choices(NamedTuple):
    """What a chooser of thresholds needs, by step 0, 1, ...: :meth:`to_dict` is what the page's script reads."""

    thresholds: list[float]
    points: list[tuple[float | None, float | None, float | None]]  # precision, recall, F1
    cells: dict[tuple[str, str], Runs]  # (object, detection) -> count
    totals: dict[str, Runs]  # object -> count of its row, classes that are not shown included

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """Objects and detections that occur at some threshold."""
        return list(self.totals), list(dict.fromkeys(column for _, column in self.cells))

    def to_dict(self, rows: Sequence[str], columns: Sequence[str], start: Mapping[str, float | None]) -> dict[str, Any]:
        """Plain values, for a table with these rows and columns that shows the confusion at the operating point ``start``."""
        places = {name: i for i, name in enumerate(rows)}, {name: i for i, name in enumerate(columns)}
        return {
            "thresholds": self.thresholds,
            "start": start.get("best_threshold"),
            "best": _rounded(start.get(name) for name in ("precision", "recall", "F1")),
            "points": [_rounded(point) for point in self.points],
            "cells": [
                [places[0][row], places[1][column], runs]
                for (row, column), runs in self.cells.items()
                if row in places[0] and column in places[1]
            ],
            "totals": [self.totals.get(name, []) for name in rows],
        }


def choices(steps: Iterable[AtThreshold], hidden: Collection[str]) -> Choices | None:
    """The choices of a table that leaves out the classes ``hidden``; None without a step."""
    found = Choices([], [], {}, {})
    for step, at in enumerate(steps):
        found.thresholds.append(at.threshold)
        found.points.append((at.precision, at.recall, at.f1))
        rows = {name: row for name, row in at.confusion.items() if name not in hidden}
        counts = {(name, guess): n for name, row in rows.items() for guess, n in row.items() if guess not in hidden}
        _append(found.cells, step, counts)
        _append(found.totals, step, {name: sum(row.values()) for name, row in rows.items()})
    return found if found.thresholds else None


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]


def _append(runs: dict[Any, Runs], step: int, values: dict[Any, int]) -> None:
    """Note the values of a step where they differ from those before; what is not there is 0."""
    for key in [*runs, *(key for key in values if key not in runs)]:
        value, before = values.get(key, 0), runs[key][-1] if key in runs else 0
        if value != before:
            runs.setdefault(key, []).extend((step, value))
