"""The report of an export: the checkpoint and the file side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_det.report.figures import Figures, Table, Tile, named_facts
from seg_det.report.page import write_page
from seg_det.report.pictures import Gallery, inlined
from seg_det.report.tables import is_number
from seg_det.report.words import MEANINGS, merit

TEMPLATE = "export.html.j2"
FACTS = ("target", "precision", "pipeline", "keep_float", "input", "outputs", "opset", "tail")


def write_export_report(
    folder: Path,
    *,
    name: str,
    content: Mapping[str, Any],
    galleries: Sequence[Gallery] = (),
    command: str = "",
    environment: Mapping[str, Any] | None = None,
    config: str = "",
) -> Path:
    """Write ``report.html`` into ``folder``, where the files lie, and return its path.

    content: that of export.json, also of an earlier version; galleries: images on which the two differ; config: YAML text.
    """
    return write_page(
        folder / "report.html",
        TEMPLATE,
        name=name,
        verb="export",
        summary=_summary(content),
        verdict=_verdict(content),
        tiles=_tiles(content),
        compared=_compared(content),
        facts=_facts(content),
        files=[(file, _size(folder / file)) for file in content.get("files") or ()],
        galleries=list(zip(galleries, inlined(galleries), strict=True)),
        command=command,
        environment=named_facts("Environment", environment or {}).rows,
        config=config,
    )


def _summary(content: Mapping[str, Any]) -> str:
    words = f"{content['target']}, {content['precision']}"
    return f"{words}, verified on {content['images']} images of {content['split']}" if "split" in content else words


def _verdict(content: Mapping[str, Any]) -> str:
    if content["accepted"] is None:
        return f"Not verified: {content['not_verified']}."
    word = "Accepted" if content["accepted"] else "Rejected"
    return (
        f"{word}: {content['metric']} differs by {content['difference']:.5f}, and at most {content['tolerance']:g} was "
        "to be accepted."
    )


def _tiles(content: Mapping[str, Any]) -> list[Tile]:
    """The checkpoint's figure and the file's, the sizes and the times."""
    size = Tile("MB", f"{content['megabytes']:g}", f"the checkpoint has {content['checkpoint']['megabytes']:g}")
    if content["accepted"] is None:
        return [size]
    metric = content["metric"]
    return [
        Tile(metric, merit(content["checkpoint_value"]), "checkpoint"),
        Tile(metric, merit(content["file_value"]), "file"),
        size,
        Tile("ms an image", f"{content['file_ms']:g}", f"the checkpoint takes {content['checkpoint_ms']:g}"),
    ]


def _compared(content: Mapping[str, Any]) -> Table:
    """Every figure of both, with the difference; of an earlier version's record the one that it has."""
    if content["accepted"] is None:
        return Table([], [])
    figures = content.get("figures") or {
        "checkpoint": {content["metric"]: content["checkpoint_value"]},
        "file": {content["metric"]: content["file_value"]},
    }
    rows = [
        [name, *(merit(value) for value in pair), _difference(*pair), MEANINGS.get(name, "")]
        for name in dict.fromkeys([*figures["checkpoint"], *figures["file"]])
        for pair in [(figures["checkpoint"].get(name), figures["file"].get(name))]
    ]
    return Table(["figure", "checkpoint", "file", "difference", "what it is"], rows)


def _difference(ours: float | None, theirs: float | None) -> str:
    return f"{theirs - ours:+.5f}" if is_number(ours) and is_number(theirs) else "-"


def _facts(content: Mapping[str, Any]) -> list[Figures]:
    given = {key: content[key] for key in FACTS if content.get(key) not in (None, [])}
    checkpoint = {key: content["checkpoint"].get(key) for key in ("path", "sha256")}
    return [
        group
        for group in (
            named_facts("File", given),
            named_facts("Checkpoint", checkpoint),
            named_facts("Versions", content.get("versions") or {}),
            named_facts("Largest differences", content.get("largest") or {}),
        )
        if group.rows
    ]


def _size(path: Path) -> str:
    """Of a file or folder; blank for one that is not there any more."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    count = sum(file.stat().st_size for file in files)
    return "" if not files else f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
