"""The page of a training that has not begun: what the network will see, and how often it will see what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from seg_det.files import whole, write_whole
from seg_det.report.curves import BAR, BARS_WIDTH, INK, LINE, STROKES, calm, to_svg
from seg_det.report.drawings import STRIP, encode_jpeg, shrink

TEMPLATE = "preview.html.j2"
SHEET_PIXELS = 1600  # of the longer side of a contact sheet
MOST_CLASSES = 100  # bars of a histogram
MOST_POINTS = 5000  # boxes of a chart


def contact_sheet(images: Sequence[np.ndarray], columns: int = 4) -> np.ndarray:
    """Images u8 [h, w, 3] of one size in rows of ``columns``, with gaps: u8 [H, W, 3]."""
    height, width = images[0].shape[:2]
    gap, rows = max(2, width // 60), -(-len(images) // columns)
    columns = min(columns, len(images))
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), STRIP, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return shrink(sheet, SHEET_PIXELS)


def draw_counts(counts: Mapping[str, int], unit: str) -> str:
    """One horizontal bar a class, the most frequent first, on a logarithmic scale where they differ much: an SVG."""
    order = sorted(counts.items(), key=lambda item: -item[1])[:MOST_CLASSES]
    names, values = zip(*order, strict=True)
    figure = Figure((BARS_WIDTH, 0.5 + BAR * len(names)), layout="constrained")
    axes = figure.add_subplot()
    positions = np.arange(len(names))
    axes.barh(positions, values, height=0.62, color=STROKES[0])
    if max(values) > 100 * max(1, min(values)):
        axes.set_xscale("symlog", linthresh=1)
    for position, value in zip(positions, values, strict=True):
        axes.annotate(f" {value:,}", (value, position), va="center", fontsize=8.5, color=INK, annotation_clip=False)
    axes.set_yticks(positions, names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xticks([])
    axes.margins(x=0.12)
    axes.spines[["left", "bottom"]].set_visible(False)
    calm(axes, f"{unit} by class")
    return to_svg(figure, f"{unit} by class, from {names[0]} {values[0]} to {names[-1]} {values[-1]}")


def draw_sizes(boxes: np.ndarray, anchors: np.ndarray, side: int) -> str:
    """Widths and heights f32 [N, 2] of objects and [A, 2] of anchors in pixels of the input of ``side``: an SVG."""
    figure = Figure((BARS_WIDTH, 4.6), layout="constrained")
    axes = figure.add_subplot()
    shown = boxes[:: max(1, -(-len(boxes) // MOST_POINTS))]
    axes.scatter(
        shown[:, 0], shown[:, 1], s=6, color=STROKES[0], alpha=0.35, linewidths=0, label=f"objects ({len(boxes):,})"
    )
    axes.scatter(
        anchors[:, 0], anchors[:, 1], s=42, marker="s", facecolors="none", edgecolors=STROKES[1], label="anchors"
    )
    axes.set(xscale="log", yscale="log", xlim=(2, 1.3 * side), ylim=(2, 1.3 * side))
    ticks = [t for t in (4, 8, 16, 32, 64, 128, 256, 512, 1024) if t <= 1.3 * side]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [str(t) for t in ticks])
        axis.set_minor_locator(NullLocator())
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_xlabel("width in pixels of the input", color=INK, fontsize=9)
    axes.set_ylabel("height", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    calm(axes, "Objects and anchors")
    return to_svg(figure, f"sizes of {len(boxes)} objects and {len(anchors)} anchors in pixels of the input")


def write_preview(
    folder: Path, name: str, sheets: Sequence[np.ndarray], charts: Sequence[str], notes: Sequence[str]
) -> Path:
    """Write the contact sheets u8 [H, W, 3] as JPEG files and ``preview.html``, which shows them; returns the page's path."""
    for number, sheet in enumerate(sheets, start=1):
        with whole(folder / f"batch_{number}.jpg") as file:
            file.write(encode_jpeg(sheet, 90))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template(TEMPLATE).render(
        name=name, sheets=len(sheets), charts=[Markup(svg) for svg in charts], notes=notes
    )
    return write_whole(folder / "preview.html", page)
