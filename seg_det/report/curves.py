"""The training log as curves: Lightning's metrics.csv -> SVG that takes its colours from the page around it."""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seg_det.errors import UserError
from seg_det.facts import AnchorFit, PrecisionRecall

Series = tuple[list[float], list[float]]  # x: steps, or epochs for what a validation measured; y

# Matplotlib knows no CSS: it draws in these marker colours, and the finished text gets the page's own, each with the
# colour for a file that stands alone.
INK, LINE = "#010101", "#010102"
STROKES = ("#010103", "#010104", "#010105", "#010106")
CSS_COLOURS = MappingProxyType(
    {
        INK: "var(--chart-ink, #4a4f57)",
        LINE: "var(--chart-line, #d5d8dd)",
        STROKES[0]: "var(--chart-1, #0072b2)",
        STROKES[1]: "var(--chart-2, #d55e00)",
        STROKES[2]: "var(--chart-3, #009e73)",
        STROKES[3]: "var(--chart-4, #cc79a7)",
    }
)
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))  # colour is never the only difference
SIZE = (4.0, 2.7)  # inches: three stand beside each other on a desk, one fills a phone
WIDE = (4.7, 2.9)  # two stand beside each other
BARS_WIDTH, BAR = WIDE[0], 0.27  # inches; the second for each class
SMOOTH_FROM = 40  # points from which a running mean is drawn over the raw values


def read_history(metrics_csv: Path) -> dict[str, Series]:
    """Every logged column of Lightning's CSVLogger as (x, y) without its blank cells, in the file's order.

    x is the epoch for ``val/`` columns and the step for all others. Raises UserError, with file and line, for a file
    without a ``step`` column and for a cell that is no number.
    """
    history: dict[str, Series] = {}
    with metrics_csv.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if columns and "step" not in columns:
            raise UserError(f"{metrics_csv} is no training log: it has no column 'step'; give the run's metrics.csv")
        for row in reader:
            for name in columns:
                x_name = "epoch" if name.startswith("val/") else "step"
                if name in ("epoch", "step") or not row[name] or not row.get(x_name):
                    continue
                xs, ys = history.setdefault(name, ([], []))
                xs.append(_number(row[x_name], metrics_csv, reader.line_num))
                ys.append(_number(row[name], metrics_csv, reader.line_num))
    return history


def _number(cell: str, path: Path, line: int) -> float:
    try:
        return float(cell)
    except ValueError:
        raise UserError(f"{path}, line {line}: {cell!r} is no number; mend the line or delete it") from None


def draw_losses(history: Mapping[str, Series]) -> str | None:
    """Training losses over steps, the raw values faint below their running mean; None if none was logged.

    A part of the loss that is zero throughout, which the configuration leaves out, is not drawn.
    """
    parts = {name: series for name, series in _pick(history, "train/").items() if any(series[1])}
    return _line_chart("Training loss", "step", parts)


def draw_validation(history: Mapping[str, Series]) -> str | None:
    """The headline metrics of the validation over epochs, on the scale 0..1; None if none was logged."""
    found = {
        name: history[f"val/{name}"] for name in ("AP", "AP50", "mIoU", "top1", "top5") if f"val/{name}" in history
    }
    return _line_chart("Validation", "epoch", found, limits=(0.0, 1.0))


def draw_learning_rate(history: Mapping[str, Series]) -> str | None:
    """The learning rate over steps, one line where the parameter groups share it; None if none was logged."""
    distinct: dict[str, Series] = {}
    for name, series in history.items():
        if name.startswith("lr") and series not in distinct.values():
            distinct[name] = series
    return _line_chart("Learning rate", "step", distinct, smooth=False)


def draw_precision_recall(curves: PrecisionRecall | None) -> str | None:
    """Precision over recall of all classes, a line for each IoU; None without such curves."""
    if curves is None:
        return None
    lines = {name: (list(curves.recall), precision) for name, precision in curves.overall.items()}
    title = "Precision over recall, mean of the classes"
    return _line_chart(title, "recall", lines, limits=(0.0, 1.02), smooth=False, size=WIDE)


def draw_anchor_fit(splits: Sequence[AnchorFit]) -> str | None:
    """The share of each split's objects by the IoU with their best anchor; None without objects."""
    found = [split for split in splits if sum(split.histogram)]
    if not found:
        return None
    figure = Figure(WIDE, layout="constrained")
    axes = figure.add_subplot()
    for i, split in enumerate(found):
        shares = np.array(split.histogram) / sum(split.histogram)
        style: dict[str, Any] = {
            "color": STROKES[i % len(STROKES)],
            "linestyle": DASHES[i % len(DASHES)],
            "linewidth": 1.8,
        }
        axes.stairs(shares, np.linspace(0, 1, len(shares) + 1), label=split.split, **style)
    axes.axvline(found[0].iou, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, None)
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    axes.set_xlabel("IoU with the best anchor", color=INK, fontsize=9)
    if len(found) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper left")
    calm(axes, "Share of the objects by their best anchor")
    matched = ", ".join(f"{split.split} {split.sizes['all'].matched:.3f}" for split in found)
    return to_svg(figure, f"Objects by the IoU with their best anchor; matched at {found[0].iou:g}: {matched}")


def _pick(history: Mapping[str, Series], prefix: str) -> dict[str, Series]:
    return {name.removeprefix(prefix): series for name, series in history.items() if name.startswith(prefix)}


def draw_class_bars(per_class: Mapping[str, Mapping[str, float | None]], metric: str = "AP") -> str | None:
    """One horizontal bar a class, best first, its value beside it; None if no class has the metric."""
    found = {name: value for name, row in per_class.items() if math.isfinite(value := _value(row, metric))}
    if not found:
        return None
    names, values = zip(*sorted(found.items(), key=lambda item: -item[1]), strict=True)
    figure = Figure((BARS_WIDTH, 0.5 + BAR * len(names)), layout="constrained")
    axes = figure.add_subplot()
    positions = np.arange(len(names))
    axes.barh(positions, values, height=0.62, color=STROKES[0])
    for position, value in enumerate(values):
        axes.text(value + 0.012, position, f"{value:.3f}", va="center", fontsize=8.5, color=INK)
    # A class may be called "$5": names are texts, not formulas.
    axes.set_yticks(positions, names, parse_math=False)
    axes.set(xlim=(0, 1.1), ylim=(len(names) - 0.4, -0.6))
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    calm(axes, f"{metric} by class")
    return to_svg(figure, f"{metric} by class, from {names[0]} {values[0]:.3f} to {names[-1]} {values[-1]:.3f}")


def _value(row: Mapping[str, float | None], metric: str) -> float:
    value = row.get(metric)
    return math.nan if value is None else value


def _line_chart(
    title: str,
    x_label: str,
    series: Mapping[str, Series],
    *,
    limits: tuple[float, float] | None = None,
    smooth: bool = True,
    size: tuple[float, float] = SIZE,
) -> str | None:
    """One figure with a line for each series; ``limits`` bound the vertical axis, which starts at 0 without them."""
    if not series:
        return None
    figure = Figure(size, layout="constrained")
    axes = figure.add_subplot()
    for i, (name, (xs, ys)) in enumerate(series.items()):
        _draw_series(axes, name, xs, ys, index=i, smooth=smooth)
    bottom, top = limits or (0, None)
    axes.set_ylim(bottom, top)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=x_label in ("step", "epoch")))
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    axes.set_xlabel(x_label, color=INK, fontsize=9)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, ncols=2, loc="best")
    calm(axes, title)
    last = ", ".join(f"{name} {ys[-1]:.4g}" for name, (_, ys) in series.items())
    return to_svg(figure, f"{title} by {x_label}; last values: {last}")


def _draw_series(axes: Axes, name: str, xs: Sequence[float], ys: Sequence[float], *, index: int, smooth: bool) -> None:
    colour, dashes = STROKES[index % len(STROKES)], DASHES[index % len(DASHES)]
    marker = "o" if len(xs) <= 12 else None
    if smooth and len(xs) >= SMOOTH_FROM:
        axes.plot(xs, ys, color=colour, linewidth=0.8, alpha=0.25)
        window = len(xs) // 40 * 2 + 1
        mean = np.ones(window) / window
        xs, ys = (np.convolve(values, mean, mode="valid").tolist() for values in (xs, ys))
    axes.plot(xs, ys, color=colour, linewidth=1.8, linestyle=dashes, marker=marker, markersize=4, label=name)


def calm(axes: Axes, title: str) -> None:
    """No frame, no tick marks: the curve is the darkest thing in its picture."""
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)


def to_svg(figure: Figure, description: str) -> str:
    """The figure as an ``<svg>`` element: the same bytes each time, its texts as text, no ids that could clash."""
    figure.patch.set_visible(False)
    buffer = io.StringIO()
    # The salt names clip paths and markers: another one for each figure keeps them apart on one page.
    style: dict[Any, str] = {"svg.fonttype": "none", "svg.hashsalt": description, "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # Whoever looks at the file has the font: here the glyph is only measured.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    svg = re.sub(r"font-family: [^;<\"]+", "font-family: system-ui, sans-serif", svg)
    svg = re.sub("|".join(CSS_COLOURS), lambda found: CSS_COLOURS[found.group()], svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
