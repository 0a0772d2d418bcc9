"""The card of an exported file: ``<stem>.json`` beside it, and most of it inside; both carry checksums."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from seg_det.checksums import sha256_of, sha256_of_json
from seg_det.errors import UserError
from seg_det.files import write_whole
from seg_det.types import ModelCard
from seg_det.values import Wrong, is_name, matched, require_plain, shown

PIPELINES = ("full", "normalised", "raw")
PRECISIONS = ("fp32", "fp16", "int8")
MOST_BYTES = 2**28  # of a card; most of it are anchors
FACTS = {  # of an export that are read by name; a target may tell more, in plain values
    "target": str,
    "precision": str,
    "pipeline": str,
    "input": str,
    "outputs": list[str],
    "checkpoint": dict[str, Any],
    "files": dict[str, str],
    "anchors": list[list[Any]],
}


class Described(NamedTuple):
    """What is known of an exported file."""

    card: ModelCard
    export: dict[str, Any]  # target, precision, pipeline, input, outputs, checkpoint, versions, what the target told


def sealed(card: ModelCard, export: dict[str, Any]) -> str:
    """Both as JSON, with a checksum of them."""
    content = {"card": card.to_dict(), "export": export}
    return json.dumps({**content, "checksum": sha256_of_json(content)}, indent=1)


def beside(path: Path) -> Path:
    """Where the card of the file ``path`` lies."""
    return path.with_suffix(".json")


def write(path: Path, card: ModelCard, export: dict[str, Any], files: list[str]) -> None:
    """Write the card of the exported file ``path``, which consists of ``files`` in its folder."""
    sums = {name: sha256_of(path.parent / name) for name in files}
    write_whole(beside(path), sealed(card, {**export, "files": sums}))


def read(path: Path, embedded: str | None) -> Described:
    """The card of the exported file ``path``, checked; ``embedded`` is what the file itself holds.

    Raises UserError if it is missing, was altered, or belongs to another file.
    """
    inside = _opened(embedded, f"The card inside {path}") if embedded else None
    if not beside(path).is_file():
        if inside is None:
            raise UserError(f"{path} has no card: {beside(path)} is missing; copy it from where it was exported.")
        return inside
    found = _opened(_text(beside(path)), f"The card {beside(path)}")
    if inside is not None and not _agree(inside, found):
        raise UserError(
            f"The card {beside(path)} is not the one inside {path}: copy both from where they were exported."
        )
    _check_files(path, found)
    return found


def _agree(inside: Described, beside: Described) -> bool:
    """Whether two cards of one file say the same; the one beside it was written later and tells more of the export."""
    return inside.card == beside.card and all(beside.export.get(key) == inside.export[key] for key in inside.export)


def _check_files(path: Path, found: Described) -> None:
    """Raise UserError unless the files that belong to ``path`` are those that its card ``found`` describes."""
    if path.name not in found.export.get("files", {}):
        raise UserError(
            f"The card {beside(path)} does not describe {path.name}: copy both from where they were exported."
        )
    for name, wanted in found.export["files"].items():
        file = path.parent / name
        if not file.exists():
            raise UserError(f"{path} is not complete: {file} is missing; copy it from where it was exported.")
        if sha256_of(file) != wanted:
            raise UserError(
                f"{file} is not the file that {beside(path)} describes (its sha256 differs): export it again."
            )


def _text(path: Path) -> str:
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"The card {path} has more than {MOST_BYTES} bytes: copy it from where it was exported.")
    return path.read_text(encoding="utf-8", errors="replace")


def _opened(text: str, what: str) -> Described:
    try:
        content = json.loads(text)
        wanted = content.pop("checksum")
        fits = wanted == sha256_of_json(content)
        card, export = content["card"], content["export"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{what} is no card of an exported model ({type(error).__name__}): export it again.") from error
    if not fits:
        raise UserError(f"{what} was altered after the export (its checksum does not fit): export it again.")
    return Described(ModelCard.from_dict(card, what), _checked(export, what))


def _checked(export: Any, what: str) -> dict[str, Any]:
    """The facts of an export, those that are read by name with the types that they must have. Raises UserError."""
    try:
        if not isinstance(export, dict):
            raise Wrong("export", f"is {shown(export)}, not a dictionary")
        require_plain({key: value for key, value in export.items() if key != "anchors"}, "export")
        typed = {key: matched(export[key], hint, f"export.{key}") for key, hint in FACTS.items() if key in export}
        _check_facts(typed)
    except Wrong as error:
        raise UserError(f"{what} cannot be used: {error}; export it again.") from error
    return {**export, **typed}


def _check_facts(export: dict[str, Any]) -> None:
    for key, known in (("pipeline", PIPELINES), ("precision", PRECISIONS)):
        if export.get(key, known[0]) not in known:
            raise Wrong(f"export.{key}", f"is {shown(export[key])}, not one of {', '.join(known)}")
    if "pipeline" not in export:
        raise Wrong("export", "lacks pipeline")
    for name, digest in export.get("files", {}).items():
        if not is_name(name):
            raise Wrong("export.files", f"names {shown(name)}, which is no file in the same folder")
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise Wrong("export.files", f"has {shown(digest)} for {name}, which is no sha256")
    if not all(len(row) == 4 and all(type(side) in (int, float) for side in row) for row in export.get("anchors", ())):
        raise Wrong("export.anchors", "holds rows that are not four numbers")
