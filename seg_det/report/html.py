"""The report of a run: one HTML file that needs neither a network nor a script to be read or passed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from seg_det.facts import Figures, plain_values
from seg_det.report.advice import advice
from seg_det.report.chooser import Choices, choices
from seg_det.report.curves import (
    draw_anchor_fit,
    draw_class_bars,
    draw_learning_rate,
    draw_losses,
    draw_precision_recall,
    draw_validation,
    read_history,
)
from seg_det.report.figures import (
    anchor_table,
    class_metric,
    class_table,
    cost_table,
    error_table,
    facts,
    figure_tables,
    headline_tiles,
    named_facts,
    summary_line,
)
from seg_det.report.mistakes import Matrix, confusion_matrix, hidden_classes
from seg_det.report.page import write_page
from seg_det.report.pictures import Details, inlined
from seg_det.report.small import history_charts, precision_recall_charts
from seg_det.runs import RunRecord

TEMPLATE = "run.html.j2"


def write_report(
    folder: Path,
    *,
    record: RunRecord,
    history: Path | None,
    config: str,
    details: Details | None = None,
) -> Path:
    """Write ``report.html`` into ``folder`` and return its path; the file is replaced whole or not at all.

    history: metrics.csv, None or a path without a file for a run that logged nothing; config: YAML text; details: what the
    figures do not say.
    Raises UserError for a history that cannot be read.
    """
    details = details or Details()
    found = choices(details.thresholds, hidden_classes(record.figures))
    confusion = confusion_matrix(record.figures, also=found.names if found else ((), ()))
    chooser = _chooser(record.figures, confusion, found)
    environment = plain_values(record.environment) if record.environment else {}
    return write_page(
        folder / "report.html",
        TEMPLATE,
        scripted=chooser is not None,
        name=record.name,
        verb=record.verb,
        summary=summary_line(record),
        tiles=headline_tiles(record),
        facts=facts(record),
        classes=[category.name for category in record.card.categories],
        per_class=class_table(record.figures.per_class),
        figures=figure_tables(record),
        errors=error_table(record),
        confusion=confusion,
        chooser=chooser,
        galleries=list(zip(details.galleries, inlined(details.galleries), strict=True)),
        anchors=anchor_table(record),
        cost=cost_table(record),
        problems=list(record.problems),
        advice=advice(record, folder),
        chosen=_chosen(config),
        command=record.command,
        environment=named_facts("Environment", environment).rows,
        config=config,
        **_charts(record, history),
    )


def _chosen(config: str) -> list[dict[str, str]]:
    """The settings that were chosen for the data, with their reasons: the key ``chosen`` of a configuration."""
    content = yaml.safe_load(config)
    listed = content.get("chosen") if isinstance(content, dict) else None
    return [{key: str(value) for key, value in row.items()} for row in listed or [] if isinstance(row, dict)]


def _charts(record: RunRecord, history: Path | None) -> dict[str, Any]:
    """Everything that is drawn as lines or bars, by the names that the template has for it."""
    logged = read_history(history) if history is not None and history.is_file() else {}
    figures = record.figures
    metric = class_metric(figures.per_class)
    curves = (draw(logged) for draw in (draw_validation, draw_losses, draw_learning_rate))
    return {
        "curves": [Markup(svg) for svg in curves if svg],
        "class_history": history_charts(logged, metric),
        "class_metric": metric,
        "class_bars": _svg(draw_class_bars(figures.per_class, metric)),
        "precision_recall": _svg(draw_precision_recall(figures.precision_recall)),
        "class_precision_recall": precision_recall_charts(figures),
        "anchor_fit": _svg(draw_anchor_fit(record.anchors)),
    }


def _svg(text: str | None) -> Markup:
    return Markup(text or "")


def _chooser(figures: Figures, confusion: Matrix | None, found: Choices | None) -> dict[str, Any] | None:
    """What the page's script reads; None where there is nothing to choose."""
    if confusion is None or found is None:
        return None
    return found.to_dict(
        [name for name, _ in confusion.rows], confusion.columns, figures.tables.get("operating_point", {})
    )
