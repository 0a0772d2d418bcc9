"""What a model gets wrong: the errors of a detector by kind and size, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from seg_det.facts import Figures
from seg_det.report.tables import format_number

LOST = "AP50_lost"  # of all objects; with a size behind it, of those alone
SIZES = ("small", "medium", "large")
ERROR_KEYS = ("error_counts", LOST, *(f"{LOST}_{size}" for size in SIZES))
MOST_CLASSES = 24  # of a matrix that can still be read
FAINTEST = 0.0005  # share of a row from which per cent are more than 0.0

Counts = Mapping[str, Mapping[str, int]]  # true class -> predicted class -> count


class Cell(NamedTuple):
    """What is written, the share of its row 0..1, and whether a perfect model has all of the row here."""

    text: str
    share: float
    right: bool


class Matrix(NamedTuple):
    """Cells by true class (rows, by name) and predicted class (columns); ``hidden`` counts the classes left out."""

    unit: str  # of the cells
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    hidden: int


def error_rows(figures: Figures) -> list[dict[str, Any]]:
    """A row for each kind of error: its count, and the AP50 that it costs, in all and on objects of one size.

    Empty for figures without errors.
    """
    titles = {"AP50 lost": LOST, **{f"on {size}": f"{LOST}_{size}" for size in SIZES}}
    lost = {title: figures.tables[key] for title, key in titles.items() if key in figures.tables}
    return [
        {"error": kind, "count": count, **{title: row.get(kind) for title, row in lost.items()}}
        for kind, count in figures.tables.get("error_counts", {}).items()
    ]


def confusion_matrix(
    figures: Figures, most: int = MOST_CLASSES, also: tuple[Sequence[str], Sequence[str]] = ((), ())
) -> Matrix | None:
    """The confusion of a model, of the ``most`` classes that are confused most often; None without any.

    Cells are counts, of a segmenter per cent of the pixels of the row. The classes stand in the order of ``per_class``; what
    is no class, a detector's background and misses, comes last, and so do the rows and columns ``also`` asked for.
    """
    classes, confusion = list(figures.per_class), figures.confusion
    if not classes or not confusion:
        return None
    pixels = not isinstance(confusion, Mapping)
    counts = _counts(figures)
    if not any(any(row.values()) for row in counts.values()):
        return None
    shown = _most_confused(counts, classes, most)
    columns = [*shown, *_others((*(name for row in counts.values() for name in row), *also[1]), classes)]
    names = [*shown, *_others((*counts, *also[0]), classes)]
    rows = [(name, _cells(counts.get(name, {}), name, columns, per_cent=pixels)) for name in names]
    unit = "% of the pixels" if pixels else figures.confusion_of or "detections"
    return Matrix(unit, columns, rows, hidden=len(classes) - len(shown))


def hidden_classes(figures: Figures, most: int = MOST_CLASSES) -> set[str]:
    """The classes that :func:`confusion_matrix` leaves out."""
    classes = list(figures.per_class)
    return set(classes) - set(_most_confused(_counts(figures), classes, most))


def _counts(figures: Figures) -> Counts:
    confusion = figures.confusion or {}
    return confusion if isinstance(confusion, Mapping) else _named(confusion, list(figures.per_class))


def _named(square: Sequence[Sequence[int]], classes: list[str]) -> Counts:
    return {name: dict(zip(classes, row, strict=True)) for name, row in zip(classes, square, strict=True)}


def _most_confused(counts: Counts, classes: list[str], most: int) -> list[str]:
    wrong = dict.fromkeys(classes, 0)
    for true, row in counts.items():
        for guess, count in row.items():
            if true in wrong and guess in wrong and true != guess:
                wrong[true] += count
                wrong[guess] += count
    chosen = set(sorted(classes, key=lambda name: -wrong[name])[:most])
    return [name for name in classes if name in chosen]


def _others(names: Iterable[str], classes: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name not in classes]


def _cells(row: Mapping[str, int], name: str, columns: list[str], *, per_cent: bool) -> list[Cell]:
    total = sum(row.values())
    cells = []
    for column in columns:
        count = row.get(column, 0)
        share = count / total if total else 0.0
        text = f"{100 * share:.1f}" if per_cent else format_number(count)
        visible = share >= FAINTEST if per_cent else count > 0
        cells.append(Cell(text if visible else "", share, column == name))
    return cells
