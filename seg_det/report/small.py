"""Small charts, one a class: lines on the scale 0..1 as SVG polylines, of which a hundred fit on a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from seg_det.facts import Figures, PrecisionRecall
from seg_det.report.curves import Series

MOST = 100  # charts of one group
KEEP = 1e-6  # a point this near to the line through its neighbours is left out


class Line(NamedTuple):
    """A line of a chart: its name and its points as SVG has them, of a box of 100 by 100."""

    name: str
    points: str


class Chart(NamedTuple):
    """One class."""

    title: str
    value: str  # beside the title
    lines: list[Line]

    @property
    def description(self) -> str:
        """What the chart is to a reader who does not see it."""
        return f"{self.title} {self.value}".strip()


class Charts(NamedTuple):
    """A group of charts; ``hidden`` counts the classes left out."""

    charts: list[Chart]
    hidden: int = 0


def precision_recall_charts(figures: Figures, figure: str = "AP50") -> Charts:
    """Precision over recall of each class, at most MOST of those with the lowest ``figure``."""
    curves = figures.precision_recall or PrecisionRecall()
    found = {name: figures.per_class.get(name, {}).get(figure) for name in curves.per_class}
    charts = [
        Chart(
            name,
            _value(found[name]),
            [_line(line, curves.recall, values) for line, values in curves.per_class[name].items()],
        )
        for name in _lowest(found)
    ]
    return Charts(charts, len(found) - len(charts))


def history_charts(history: Mapping[str, Series], figure: str) -> Charts:
    """The figure of each class over the epochs, where it was logged more than once."""
    prefix = f"val/{figure}/"
    found = {name.removeprefix(prefix): series for name, series in history.items() if name.startswith(prefix)}
    found = {name: series for name, series in found.items() if len(series[0]) > 1}
    epochs = [epoch for xs, _ in found.values() for epoch in xs]
    first, span = min(epochs, default=0.0), max(1e-9, max(epochs, default=0.0) - min(epochs, default=0.0))
    charts = []
    for name in _lowest({name: ys[-1] for name, (_, ys) in found.items()}):
        xs, ys = found[name]
        charts.append(Chart(name, _value(ys[-1]), [_line(figure, [(x - first) / span for x in xs], ys)]))
    return Charts(charts, len(found) - len(charts))


def _lowest(found: Mapping[str, float | None]) -> list[str]:
    """The names in their order, of too many those with the lowest figures."""
    chosen = sorted(found, key=lambda name: 2.0 if (value := found[name]) is None else value)[:MOST]
    return [name for name in found if name in set(chosen)]


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _line(name: str, xs: Iterable[float], ys: Iterable[float]) -> Line:
    points = [(x, min(1.0, max(0.0, y))) for x, y in zip(xs, ys, strict=True) if y == y]
    return Line(name, " ".join(f"{100 * x:.4g},{100 - 100 * y:.4g}" for x, y in _corners(points)))


def _corners(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points without those on a straight line between the one kept before and the next."""
    kept: list[tuple[float, float]] = []
    for place, (x, y) in enumerate(points):
        if kept and place + 1 < len(points):
            (x0, y0), (x1, y1) = kept[-1], points[place + 1]
            if abs((y - y0) * (x1 - x0) - (y1 - y0) * (x - x0)) < KEEP:
                continue
        kept.append((x, y))
    return kept
