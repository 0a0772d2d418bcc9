"""The report of an export: the checkpoint and the file side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seg_det.facts import plain_values
from seg_det.report.figures import Figures, Table, Tile, named_facts
from seg_det.report.page import write_page
from seg_det.report.pictures import Gallery, inlined
from seg_det.report.tables import is_number
from seg_det.report.words import MEANINGS, merit
from seg_det.runs import ExportRecord

TEMPLATE = "export.html.j2"
FACTS = ("target", "precision", "pipeline", "keep_float", "input", "outputs")  # fields of the record that are shown
TARGET_FACTS = ("opset", "tail")  # and what the target told


def write_export_report(
    folder: Path, *, name: str, record: ExportRecord, galleries: Sequence[Gallery] = (), config: str = ""
) -> Path:
    """Write ``report.html`` into ``folder``, where the files lie, and return its path.

    galleries: images on which the two differ; config: YAML text.
    """
    return write_page(
        folder / "report.html",
        TEMPLATE,
        name=name,
        verb="export",
        summary=_summary(record),
        verdict=_verdict(record),
        tiles=_tiles(record),
        compared=_compared(record),
        facts=_facts(record),
        files=[(file, _size(folder / file)) for file in record.files],
        galleries=list(zip(galleries, inlined(galleries), strict=True)),
        command=record.command,
        environment=named_facts("Environment", plain_values(record.environment) if record.environment else {}).rows,
        config=config,
    )


def _summary(record: ExportRecord) -> str:
    words, verified = f"{record.target}, {record.precision}", record.verification
    return f"{words}, verified on {verified.images} images of {verified.split}" if verified else words


def _verdict(record: ExportRecord) -> str:
    if (verified := record.verification) is None:
        return f"Not verified: {record.not_verified}."
    word = "Accepted" if verified.accepted else "Rejected"
    return (
        f"{word}: {verified.metric} differs by {verified.difference:.5f}, and at most {verified.tolerance:g} was "
        "to be accepted."
    )


def _tiles(record: ExportRecord) -> list[Tile]:
    """The checkpoint's figure and the file's, the sizes and the times."""
    size = Tile("MB", f"{record.megabytes:g}", f"the checkpoint has {record.checkpoint.megabytes:g}")
    if (verified := record.verification) is None:
        return [size]
    return [
        Tile(verified.metric, merit(verified.checkpoint_value), "checkpoint"),
        Tile(verified.metric, merit(verified.file_value), "file"),
        size,
        Tile("ms an image", f"{verified.file_ms:g}", f"the checkpoint takes {verified.checkpoint_ms:g}"),
    ]


def _compared(record: ExportRecord) -> Table:
    """Every figure of both, with the difference."""
    if record.verification is None:
        return Table([], [])
    figures = record.verification.figures
    rows = [
        [name, *(merit(value) for value in pair), _difference(*pair), MEANINGS.get(name, "")]
        for name in dict.fromkeys([*figures.checkpoint, *figures.file])
        for pair in [(figures.checkpoint.get(name), figures.file.get(name))]
    ]
    return Table(["figure", "checkpoint", "file", "difference", "what it is"], rows)


def _difference(ours: float | None, theirs: float | None) -> str:
    return f"{theirs - ours:+.5f}" if is_number(ours) and is_number(theirs) else "-"


def _facts(record: ExportRecord) -> list[Figures]:
    given = {key: getattr(record, key) for key in FACTS} | {key: record.facts.get(key) for key in TARGET_FACTS}
    groups = {
        "File": {key: value for key, value in given.items() if value not in (None, (), [])},
        "Checkpoint": {"path": record.checkpoint.path, "sha256": record.checkpoint.sha256},
        "Versions": record.versions,
        "Largest differences": record.verification.largest if record.verification else {},
    }
    return [named_facts(title, group) for title, group in groups.items() if group]


def _size(path: Path) -> str:
    """Of a file or folder; blank for one that is not there any more."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    count = sum(file.stat().st_size for file in files)
    return "" if not files else f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
