"""The report of a run: one HTML file that needs neither a network nor a script to be read or passed on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

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

TEMPLATE = "run.html.j2"


def write_report(
    folder: Path,
    *,
    metrics: Mapping[str, Any],
    history: Path | None,
    config: str,
    details: Details | None = None,
) -> Path:
    """Write ``report.html`` into ``folder`` and return its path; the file is replaced whole or not at all.

    metrics: the content of metrics.json, any part of which may be absent; history: metrics.csv, None or a path without
    a file for a run that logged nothing; config: YAML text; details: what the figures do not say.
    Raises UserError for a history that cannot be read.
    """
    details = details or Details()
    per_class = metrics.get("per_class") or {}
    found = choices(details.thresholds, hidden_classes(metrics))
    confusion = confusion_matrix(metrics, also=found.names if found else ((), ()))
    chooser = _chooser(metrics, confusion, found)
    return write_page(
        folder / "report.html",
        TEMPLATE,
        scripted=chooser is not None,
        name=metrics.get("name") or folder.name,
        verb=metrics.get("verb") or "",
        summary=summary_line(metrics),
        tiles=headline_tiles(metrics),
        facts=facts(metrics),
        classes=[category["name"] for category in (metrics.get("card") or {}).get("categories") or ()],
        per_class=class_table(per_class),
        figures=figure_tables(metrics),
        errors=error_table(metrics),
        confusion=confusion,
        chooser=chooser,
        galleries=list(zip(details.galleries, inlined(details.galleries), strict=True)),
        anchors=anchor_table(metrics),
        cost=cost_table(metrics),
        problems=[str(problem) for problem in metrics.get("problems") or ()],
        command=metrics.get("command") or "",
        environment=named_facts("Environment", metrics.get("environment") or {}).rows,
        config=config,
        **_charts(metrics, history),
    )


def _charts(metrics: Mapping[str, Any], history: Path | None) -> dict[str, Any]:
    """Everything that is drawn as lines or bars, by the names that the template has for it."""
    logged = read_history(history) if history is not None and history.is_file() else {}
    per_class = metrics.get("per_class") or {}
    curves = (draw(logged) for draw in (draw_validation, draw_losses, draw_learning_rate))
    return {
        "curves": [Markup(svg) for svg in curves if svg],
        "class_history": history_charts(logged, class_metric(per_class)),
        "class_metric": class_metric(per_class),
        "class_bars": _svg(draw_class_bars(per_class, class_metric(per_class))),
        "precision_recall": _svg(draw_precision_recall(metrics.get("precision_recall") or {})),
        "class_precision_recall": precision_recall_charts(metrics),
        "anchor_fit": _svg(draw_anchor_fit(metrics.get("anchors") or ())),
    }


def _svg(text: str | None) -> Markup:
    return Markup(text or "")


def _chooser(metrics: Mapping[str, Any], confusion: Matrix | None, found: Choices | None) -> dict[str, Any] | None:
    """What the page's script reads; None where there is nothing to choose."""
    if confusion is None or found is None:
        return None
    return found.to_dict([name for name, _ in confusion.rows], confusion.columns, metrics.get("operating_point") or {})
