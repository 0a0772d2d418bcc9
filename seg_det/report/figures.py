"""The content of metrics.json as the tiles and tables of a report; any part of it may be absent."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

from seg_det.report.mistakes import ERROR_KEYS, error_rows
from seg_det.report.tables import column_names, format_number, is_number
from seg_det.report.words import MEANINGS, TITLES, cell, listed, merit, scaled, words

# Every other dictionary of plain numbers in metrics.json is shown as a table of figures, whatever its task calls it.
KNOWN = frozenset(
    {
        "headline",
        "per_class",
        "model",
        "training",
        "evaluation",
        "card",
        "problems",
        "environment",
        "cost",
        "tested",
        *ERROR_KEYS,
    }
)


class Tile(NamedTuple):
    """A headline figure: its name, the figure, and what it is about."""

    label: str
    value: str
    note: str = ""


class Figures(NamedTuple):
    """A titled list of (name, value, meaning)."""

    title: str
    rows: list[tuple[str, str, str]]


class Table(NamedTuple):
    """Headings and rows of formatted cells, the first column naming the row."""

    columns: list[str]
    rows: list[list[str]]


class Part(NamedTuple):
    """A part of the network: its parameters and multiply-adds, and their shares of the whole, 0..1."""

    name: str
    params: str
    params_share: float
    madds: str
    madds_share: float


def headline_tiles(metrics: Mapping[str, Any]) -> list[Tile]:
    """What a reader looks for first: two figures of merit, the model's size and cost, the time, the images."""
    model, training, evaluation = (metrics.get(key) or {} for key in ("model", "training", "evaluation"))
    tiles = []
    for title, figures in list(figure_groups(metrics).items())[:1]:
        for name in list(figures)[:2]:
            tiles.append(Tile(name, merit(figures[name]), MEANINGS.get(name, title)))
    if is_number(params := model.get("params")):
        tiles.append(Tile("Parameters", scaled(params)))
    if is_number(madds := model.get("madds")):
        tiles.append(Tile("MAdds", scaled(madds), cell("input_size", model.get("input_size")) + " input"))
    if is_number(minutes := training.get("minutes")):
        tiles.append(Tile("Minutes", f"{minutes:.1f}", listed(training, "epochs", "steps")))
    counts = [
        (group["images"], note)
        for group, note in ((training, "trained on"), (evaluation, "measured on"))
        if is_number(group.get("images"))
    ]
    if counts:
        rest = [f"{format_number(count)} {note}" for count, note in counts[1:]]
        tiles.append(Tile("Images", format_number(counts[0][0]), ", ".join([counts[0][1], *rest])))
    return tiles


def figure_groups(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, float | None]]:
    """The flat dictionaries of numbers (and yes or no) by title, those that are known first."""
    keys = [*TITLES, *(key for key in metrics if key not in TITLES and key not in KNOWN)]
    flat = {key: metrics[key] for key in keys if isinstance(metrics.get(key), Mapping) and metrics[key]}
    return {
        TITLES.get(key, words(key)): group
        for key, group in flat.items()
        if all(value is None or isinstance(value, Real) for value in group.values())
    }


def figure_tables(metrics: Mapping[str, Any]) -> list[Figures]:
    """The same as texts, with what the figures mean."""
    return [
        Figures(title, [(name, merit(value), MEANINGS.get(name, "")) for name, value in group.items()])
        for title, group in figure_groups(metrics).items()
    ]


def facts(metrics: Mapping[str, Any]) -> list[Figures]:
    """What was trained on what, in groups; only what the run knows of itself."""
    card = metrics.get("card") or {}
    data = {key: value for key, value in (card.get("training_data") or {}).items() if key != "categories"}
    form = {key: card[key] for key in ("task", "resize", "colour_order", "mean", "std", "version") if card.get(key)}
    groups = {
        "Model": {**(metrics.get("model") or {}), **form},
        "Training": metrics.get("training") or {},
        "Training data": data,
        "Evaluation": metrics.get("evaluation") or {},
    }
    return [named_facts(title, group) for title, group in groups.items() if group]


def named_facts(title: str, group: Mapping[str, Any]) -> Figures:
    """Any facts under a title, absent ones left out."""
    return Figures(title, [(words(key), cell(key, value), "") for key, value in group.items() if value is not None])


def summary_line(metrics: Mapping[str, Any]) -> str:
    """One line under the title: the task, where the weights came from, what they were measured on."""
    card, model, evaluation = (metrics.get(key) or {} for key in ("card", "model", "evaluation"))
    parts = [card.get("task")]
    if model.get("weights"):
        parts.append(f"from {model['weights']}")
    if evaluation.get("split"):
        parts.append(f"measured on {evaluation['split']}")
    return ", ".join(str(part) for part in parts if part)


def class_table(per_class: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each class."""
    columns = column_names(per_class.values())
    rows = [[name, *(merit(row.get(column)) for column in columns)] for name, row in per_class.items()]
    return Table(["class", *map(words, columns)], rows)


def class_metric(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    """The figure that a class is known by: the first one."""
    return next(iter(column_names(per_class.values())), "AP")


def error_table(metrics: Mapping[str, Any]) -> Table:
    """A detector's errors by kind and size."""
    rows = error_rows(metrics)
    columns = column_names(rows)
    cells = [[*(merit(row[column]) for column in columns), MEANINGS.get(row["error"], "")] for row in rows]
    return Table([*columns, "what it is"], cells)


def cost_table(metrics: Mapping[str, Any]) -> list[Part]:
    """What the parts of the network cost, in their order."""
    cost = metrics.get("cost") or {}
    params, madds = (max(1, sum(part[key] for part in cost.values())) for key in ("params", "madds"))
    return [
        Part(
            words(name), format_number(c["params"]), c["params"] / params, format_number(c["madds"]), c["madds"] / madds
        )
        for name, c in cost.items()
    ]


def anchor_table(metrics: Mapping[str, Any]) -> Table:
    """How well the anchors match the objects of each split, by size."""
    rows = [
        [f"{split['split']}, {size}", format_number(row["objects"]), _share(row["matched"]), merit(row["mean_iou"])]
        for split in metrics.get("anchors") or ()
        for size, row in split["sizes"].items()
    ]
    iou = next((f" at IoU {split['iou']:g}" for split in metrics.get("anchors") or ()), "")
    return Table(["objects of", "number", f"matched{iou}", "mean IoU"], rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
