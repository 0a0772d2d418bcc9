"""What a command prints at its end: the figures, and where everything lies."""

from __future__ import annotations

from pathlib import Path

from seg_det.facts import Headline
from seg_det.report.advice import advice
from seg_det.report.figures import figure_groups
from seg_det.report.mistakes import error_rows
from seg_det.report.pictures import counted
from seg_det.report.tables import format_table
from seg_det.runs import ExportRecord, RunRecord

MOST_CLASSES = 200  # that a terminal shows one by one


def summary(record: RunRecord, folder: Path, *, following: str | None = None) -> str:
    """The last lines of a command: the headline, the run folder, and the command to go on with."""
    evaluation = record.evaluation
    lines = [
        "",
        f"{record.name} on {evaluation.split}, {evaluation.images} images, {evaluation.ms_per_image} ms each",
        _shown(record.headline) or "nothing is labelled, so there is nothing to score",
    ]
    if tested := record.tested:
        lines.append(f"test        {_shown(record.test)} on {tested.split}, {counted(tested.images, 'image')}")
    if record.problems:
        count = counted(len(record.problems), "problem")
        lines.append(f"problems    {count} in the data, listed in {folder / 'problems.json'}")
    for split, lost in record.left_out.items():
        counts = ((lost.images, "image"), (lost.objects, "object"))
        what = " and ".join(counted(count, name) for count, name in counts if count)
        lines.append(f"left out    {what} of {split}")
    lines += [f"run folder  {folder}", f"report      {folder / 'report.html'}"]
    for one in advice(record, folder):
        lines += [f"advice      {one.sentence}", *([f"            {one.command}"] if one.command else [])]
    if following:
        lines.append(f"next        {following}")
    return "\n".join(lines)


def _shown(headline: Headline) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in headline.items() if value is not None)


def figures(record: RunRecord) -> str:
    """All figures of an evaluation as tables: one for each group, one for the classes."""
    groups = [
        format_table([{title: name, "value": value} for name, value in group.items()])
        for title, group in figure_groups(record).items()
    ]
    if errors := error_rows(record.figures):
        groups.append(format_table(errors))
    rows = [{"class": name, **row} for name, row in record.figures.per_class.items()]
    classes = format_table(rows) if len(rows) <= MOST_CLASSES else f"{len(rows)} classes, each in the report"
    return "\n\n".join(["", *groups, classes])


def export_summary(record: ExportRecord) -> str:
    """The checkpoint and the file side by side, and what it comes to."""
    file = f"{record.target} {record.precision}"
    if (verified := record.verification) is None:
        size = f"{record.megabytes} MB, the checkpoint has {record.checkpoint.megabytes} MB"
        return f"{file}: {size}\nNOT VERIFIED: {record.not_verified}"
    columns = ("", verified.metric, "MB", "ms per image")
    rows = [
        ("checkpoint", verified.checkpoint_value, record.checkpoint.megabytes, verified.checkpoint_ms),
        (file, verified.file_value, record.megabytes, verified.file_ms),
    ]
    largest = ", ".join(f"{name} {value:.3g}" for name, value in verified.largest.items())
    verdict = "accepted" if verified.accepted else "REJECTED"
    return "\n".join(
        [
            format_table([dict(zip(columns, row, strict=True)) for row in rows]),
            f"largest differences: {largest}",
            f"{verdict}: {verified.metric} differs by {verified.difference:.5f} on {verified.images} images of "
            f"{verified.split}, tolerance {verified.tolerance:g}",
        ]
    )
