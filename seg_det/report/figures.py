"""The record of a run as the tiles and tables of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from seg_det.facts import Row, plain_values
from seg_det.report.mistakes import ERROR_KEYS, error_rows
from seg_det.report.tables import column_names, format_number
from seg_det.report.words import MEANINGS, TITLES, cell, merit, scaled, words
from seg_det.runs import RunRecord


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


def headline_tiles(record: RunRecord) -> list[Tile]:
    """What a reader looks for first: two figures of merit, the model's size and cost, the time, the images."""
    model, training = record.model, record.training
    tiles = [
        Tile(name, merit(value), MEANINGS.get(name, title))
        for title, figures in list(figure_groups(record).items())[:1]
        for name, value in list(figures.items())[:2]
    ]
    tiles.append(Tile("Parameters", scaled(model.params)))
    tiles.append(Tile("MAdds", scaled(model.madds), cell("input_size", model.input_size) + " input"))
    measured = format_number(record.evaluation.images)
    if training is None:
        return [*tiles, Tile("Images", measured, "measured on")]
    passes = f"{format_number(training.epochs)} epochs, {format_number(training.steps)} steps"
    return [
        *tiles,
        Tile("Minutes", f"{training.minutes:.1f}", passes),
        Tile("Images", format_number(training.images), f"trained on, {measured} measured on"),
    ]


def figure_groups(record: RunRecord) -> dict[str, Row]:
    """The tables of figures by title, those that are known first; errors and classes have tables of their own."""
    tables: dict[str, Row] = {**record.figures.tables, "test": dict(record.test)}
    names = [name for name in TITLES if name in tables] + [name for name in tables if name not in TITLES]
    return {TITLES.get(name, words(name)): tables[name] for name in names if tables[name] and name not in ERROR_KEYS}


def figure_tables(record: RunRecord) -> list[Figures]:
    """The same as texts, with what the figures mean."""
    return [
        Figures(title, [(name, merit(value), MEANINGS.get(name, "")) for name, value in group.items()])
        for title, group in figure_groups(record).items()
    ]


def facts(record: RunRecord) -> list[Figures]:
    """What was trained on what, in groups; only what the run knows of itself."""
    card = record.card
    form = {key: getattr(card, key) for key in ("task", "resize", "colour_order", "mean", "std", "version")}
    groups = {
        "Model": {**plain_values(record.model), **{key: value for key, value in form.items() if value}},
        "Training": plain_values(record.training) if record.training else {},
        "Training data": {key: value for key, value in card.training_data.items() if key != "categories"},
        "Evaluation": plain_values(record.evaluation),
    }
    return [named_facts(title, group) for title, group in groups.items() if group]


def named_facts(title: str, group: Mapping[str, Any]) -> Figures:
    """Any facts under a title, absent ones left out."""
    return Figures(title, [(words(key), cell(key, value), "") for key, value in group.items() if value is not None])


def summary_line(record: RunRecord) -> str:
    """One line under the title: the task, where the weights came from, what they were measured on."""
    start = record.training.weights if record.training else "none"
    parts = [
        record.card.task,
        *([f"from {start}"] if start != "none" else []),
        f"measured on {record.evaluation.split}",
    ]
    return ", ".join(parts)


def class_table(per_class: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each class."""
    columns = column_names(per_class.values())
    rows = [[name, *(merit(row.get(column)) for column in columns)] for name, row in per_class.items()]
    return Table(["class", *map(words, columns)], rows)


def class_metric(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    """The figure that a class is known by: the first one."""
    return next(iter(column_names(per_class.values())), "AP")


def error_table(record: RunRecord) -> Table:
    """A detector's errors by kind and size."""
    rows = error_rows(record.figures)
    columns = column_names(rows)
    cells = [[*(merit(row[column]) for column in columns), MEANINGS.get(row["error"], "")] for row in rows]
    return Table([*columns, "what it is"], cells)


def cost_table(record: RunRecord) -> list[Part]:
    """What the parts of the network cost, in their order."""
    params = max(1, sum(part.params for part in record.cost.values()))
    madds = max(1, sum(part.madds for part in record.cost.values()))
    return [
        Part(
            words(name),
            format_number(cost.params),
            cost.params / params,
            format_number(cost.madds),
            cost.madds / madds,
        )
        for name, cost in record.cost.items()
    ]


def anchor_table(record: RunRecord) -> Table:
    """How well the anchors match the objects of each split, by size."""
    rows = [
        [f"{split.split}, {size}", format_number(fit.objects), _share(fit.matched), merit(fit.mean_iou)]
        for split in record.anchors
        for size, fit in split.sizes.items()
    ]
    iou = next((f" at IoU {split.iou:g}" for split in record.anchors), "")
    return Table(["objects of", "number", f"matched{iou}", "mean IoU"], rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
