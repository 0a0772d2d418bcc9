"""What a command prints at its end: the figures, and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_det.report.figures import figure_groups
from seg_det.report.mistakes import error_rows
from seg_det.report.pictures import counted
from seg_det.report.tables import format_table

MOST_CLASSES = 200  # that a terminal shows one by one


def summary(metrics: Mapping[str, Any], folder: Path, *, following: str | None = None) -> str:
    """The last lines of a command: the headline, the run folder, and the command to go on with."""
    evaluation, problems = metrics["evaluation"], metrics["problems"]
    figures = "  ".join(f"{name} {value:.3f}" for name, value in metrics["headline"].items() if value is not None)
    lines = [
        "",
        f"{metrics['name']} on {evaluation['split']}, {evaluation['images']} images, {evaluation['ms_per_image']} ms each",
        figures or "nothing is labelled, so there is nothing to score",
    ]
    if tested := metrics.get("tested"):
        shown = "  ".join(f"{name} {value:.3f}" for name, value in metrics["test"].items() if value is not None)
        lines.append(f"test        {shown} on {tested['split']}, {counted(tested['images'], 'image')}")
    if problems:
        lines.append(
            f"problems    {counted(len(problems), 'problem')} in the data, listed in {folder / 'problems.json'}"
        )
    for split, lost in metrics.get("left_out", {}).items():
        what = " and ".join(counted(count, name[:-1]) for name, count in lost.items() if count)
        lines.append(f"left out    {what} of {split}")
    lines += [f"run folder  {folder}", f"report      {folder / 'report.html'}"]
    if following:
        lines.append(f"next        {following}")
    return "\n".join(lines)


def figures(metrics: Mapping[str, Any]) -> str:
    """All figures of an evaluation as tables: one for each group, one for the classes."""
    groups = [
        format_table([{title: name, "value": value} for name, value in group.items()])
        for title, group in figure_groups(metrics).items()
    ]
    if errors := error_rows(metrics):
        groups.append(format_table(errors))
    rows = [{"class": name, **row} for name, row in metrics["per_class"].items()]
    classes = format_table(rows) if len(rows) <= MOST_CLASSES else f"{len(rows)} classes, each in the report"
    return "\n\n".join(["", *groups, classes])
