"""The report of a run: one HTML file that needs neither a network nor a script to be read or passed on."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from seg_det.files import write_whole
from seg_det.report.curves import draw_class_bars, draw_learning_rate, draw_losses, draw_validation, read_history
from seg_det.report.drawings import encode_jpeg, shrink
from seg_det.report.mistakes import ERROR_KEYS, confusion_matrix, error_rows
from seg_det.report.tables import column_names, format_cell, format_number, is_number

TEMPLATE = "run.html.j2"
TIMES = " \N{MULTIPLICATION SIGN} "
SAMPLE_PIXELS = 1600  # longer side of an inlined picture: sharp on a desk, 0.3 MB
# Every other dictionary of plain numbers in metrics.json is shown as a table of figures, whatever its task calls it.
KNOWN = frozenset({"headline", "per_class", "model", "training", "evaluation", "card", "problems", *ERROR_KEYS})
TITLES = MappingProxyType(
    {
        "coco": "COCO",
        "voc": "Pascal VOC",
        "accuracy": "Accuracy",
        "segmentation": "Segmentation",
        "operating_point": "Operating point, all classes",
        "confused": "Most often confused",
    }
)
MEANINGS = MappingProxyType(
    {
        "AP": "mean over IoU 0.50 to 0.95",
        "AP50": "at IoU 0.50",
        "AP75": "at IoU 0.75",
        "APs": "objects below 32² pixels",
        "APm": "objects of 32² to 96² pixels",
        "APl": "objects above 96² pixels",
        "AR1": "recall with 1 detection an image",
        "AR10": "recall with 10 detections an image",
        "AR100": "recall with 100 detections an image",
        "ARs": "recall, objects below 32² pixels",
        "ARm": "recall, objects of 32² to 96² pixels",
        "ARl": "recall, objects above 96² pixels",
        "AP50_all_point": "area under the whole curve, as VOC since 2010",
        "AP50_11_point": "at 11 recalls, as VOC 2007",
        "mIoU": "intersection over union, mean of the classes that are labelled somewhere",
        "mIoU_strict": "the same with 0 for classes that are predicted and labelled nowhere, as Cityscapes counts",
        "pixel_accuracy": "share of the labelled pixels",
        "classification": "in the right place, of the wrong class",
        "localisation": "of the right class, beside the object",
        "both": "of the wrong class and beside the object",
        "duplicate": "of an object that a better detection has found",
        "background": "where there is no object",
        "missed": "objects that nothing was about",
        "mean_accuracy": "share of a class's pixels, mean of the classes",
        "top1": "images whose class has the highest score",
        "top5": "images whose class is among the five highest",
    }
)
LABELS = MappingProxyType({"params": "parameters", "madds": "multiply-adds", "ms_per_image": "ms an image"})


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


def write_report(
    folder: Path,
    *,
    metrics: Mapping[str, Any],
    history: Path | None,
    config: str,
    samples: Sequence[tuple[str, np.ndarray]],
) -> Path:
    """Write ``report.html`` into ``folder`` and return its path; the file is replaced whole or not at all.

    metrics: the content of metrics.json, any part of which may be absent; history: metrics.csv, None or a path without
    a file for a run that logged nothing; config: YAML text; samples: (title, u8 [H, W, 3] RGB drawing) in order.
    Raises UserError for a history that cannot be read.
    """
    logged = read_history(history) if history is not None and history.is_file() else {}
    curves = [draw(logged) for draw in (draw_validation, draw_losses, draw_learning_rate)]
    per_class = metrics.get("per_class") or {}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(TEMPLATE).render(
        name=metrics.get("name") or folder.name,
        verb=metrics.get("verb") or "",
        summary=_summary(metrics),
        tiles=headline_tiles(metrics),
        facts=_facts(metrics),
        classes=[category["name"] for category in (metrics.get("card") or {}).get("categories") or ()],
        curves=[Markup(svg) for svg in curves if svg],
        per_class=_class_table(per_class),
        class_bars=Markup(draw_class_bars(per_class, _class_metric(per_class)) or ""),
        figures=_figures(metrics),
        errors=_error_table(metrics),
        confusion=confusion_matrix(metrics),
        samples=[(title, _data_uri(image)) for title, image in samples],
        problems=[str(problem) for problem in metrics.get("problems") or ()],
        config=config,
    )
    return write_whole(folder / "report.html", html)


def headline_tiles(metrics: Mapping[str, Any]) -> list[Tile]:
    """What a reader looks for first: two figures of merit, the model's size and cost, the time, the images."""
    model, training, evaluation = (metrics.get(key) or {} for key in ("model", "training", "evaluation"))
    tiles = []
    for title, figures in list(figure_groups(metrics).items())[:1]:
        for name in list(figures)[:2]:
            tiles.append(Tile(name, _merit(figures[name]), MEANINGS.get(name, title)))
    if is_number(params := model.get("params")):
        tiles.append(Tile("Parameters", _scaled(params)))
    if is_number(madds := model.get("madds")):
        tiles.append(Tile("MAdds", _scaled(madds), _cell("input_size", model.get("input_size")) + " input"))
    if is_number(minutes := training.get("minutes")):
        tiles.append(Tile("Minutes", f"{minutes:.1f}", _counted(training, "epochs", "steps")))
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
        TITLES.get(key, _words(key)): group
        for key, group in flat.items()
        if all(value is None or isinstance(value, Real) for value in group.values())
    }


def _figures(metrics: Mapping[str, Any]) -> list[Figures]:
    return [
        Figures(title, [(name, _merit(value), MEANINGS.get(name, "")) for name, value in group.items()])
        for title, group in figure_groups(metrics).items()
    ]


def _facts(metrics: Mapping[str, Any]) -> list[Figures]:
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
    return [
        Figures(title, [(_words(key), _cell(key, value), "") for key, value in group.items() if value is not None])
        for title, group in groups.items()
        if group
    ]


def _summary(metrics: Mapping[str, Any]) -> str:
    """One line under the title: the task, where the weights came from, what they were measured on."""
    card, model, evaluation = (metrics.get(key) or {} for key in ("card", "model", "evaluation"))
    parts = [card.get("task")]
    if model.get("weights"):
        parts.append(f"from {model['weights']}")
    if evaluation.get("split"):
        parts.append(f"measured on {evaluation['split']}")
    return ", ".join(str(part) for part in parts if part)


def _class_table(per_class: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = column_names(per_class.values())
    rows = [[name, *(_merit(row.get(column)) for column in columns)] for name, row in per_class.items()]
    return Table(["class", *map(_words, columns)], rows)


def _error_table(metrics: Mapping[str, Any]) -> Table:
    rows = error_rows(metrics)
    columns = column_names(rows)
    cells = [[*(_merit(row[column]) for column in columns), MEANINGS.get(row["error"], "")] for row in rows]
    return Table([*columns, "what it is"], cells)


def _class_metric(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    return next(iter(column_names(per_class.values())), "AP")


def _merit(value: Any) -> str:
    """Figures of merit read best with the same three decimals everywhere; counts stay whole."""
    return f"{value:.3f}" if isinstance(value, float) and abs(value) < 100 else format_cell(value)


def _scaled(value: float) -> str:
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size / 2:  # 0.789 G, as papers write it, and not 789 M
            return f"{value / size:.3g}\N{NO-BREAK SPACE}{sign}"
    return format_number(value)


def _counted(group: Mapping[str, Any], *keys: str) -> str:
    return ", ".join(f"{format_number(group[key])} {key}" for key in keys if is_number(group.get(key)))


def _words(key: str) -> str:
    return LABELS.get(key, str(key).replace("_", " "))


def _cell(key: str, value: Any) -> str:
    """Any fact on one line; sizes read as 224 by 224, a seed has no thousands separators."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(name)} {_cell(name, item)}" for name, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return (TIMES if key.endswith("size") else ", ").join(_cell("", item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if key == "seed" else format_cell(value)


def _data_uri(image: np.ndarray) -> str:
    data = base64.b64encode(encode_jpeg(shrink(image, SAMPLE_PIXELS))).decode("ascii")
    return f"data:image/jpeg;base64,{data}"
