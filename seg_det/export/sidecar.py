"""The card of an exported file: ``<stem>.json`` beside it, and most of it inside; both carry checksums."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from seg_det.types import ModelCard, UserError


class Described(NamedTuple):
    """What is known of an exported file."""

    card: ModelCard
    export: dict[str, Any]  # target, precision, pipeline, input, outputs, checkpoint, versions, what the target told


def sha256(path: Path) -> str:
    """Of a file; of a folder, that of the names and sums of all files below it."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return _checksum({str(file.relative_to(path)): sha256(file) for file in files})
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sealed(card: ModelCard, export: dict[str, Any]) -> str:
    """Both as JSON, with a checksum of them."""
    content = {"card": card.to_dict(), "export": export}
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def beside(path: Path) -> Path:
    """Where the card of the file ``path`` lies."""
    return path.with_suffix(".json")


def write(path: Path, card: ModelCard, export: dict[str, Any], files: list[str]) -> None:
    """Write the card of the exported file ``path``, which consists of ``files`` in its folder."""
    sums = {name: sha256(path.parent / name) for name in files}
    beside(path).write_text(sealed(card, {**export, "files": sums}))


def read(path: Path, embedded: str | None) -> Described:
    """The card of the exported file ``path``, checked; ``embedded`` is what the file itself holds.

    Raises UserError if it is missing, was altered, or belongs to another file.
    """
    inside = _opened(embedded, f"The card inside {path}") if embedded else None
    if not beside(path).is_file():
        if inside is None:
            raise UserError(f"{path} has no card: {beside(path)} is missing; copy it from where it was exported.")
        return inside
    found = _opened(beside(path).read_text(), f"The card {beside(path)}")
    if inside is not None and inside.card != found.card:
        raise UserError(
            f"The card {beside(path)} is not the one inside {path}: copy both from where they were exported."
        )
    for name, wanted in found.export["files"].items():
        file = path.parent / name
        if not file.exists():
            raise UserError(f"{path} is not complete: {file} is missing; copy it from where it was exported.")
        if sha256(file) != wanted:
            raise UserError(
                f"{file} is not the file that {beside(path)} describes (its sha256 differs): export it again."
            )
    return found


def _opened(text: str, what: str) -> Described:
    try:
        content = json.loads(text)
        wanted = content.pop("checksum")
        if wanted != _checksum(content):
            raise UserError(f"{what} was altered after the export (its checksum does not fit): export it again.")
        return Described(ModelCard.from_dict(content["card"]), content["export"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{what} is no card of an exported model ({type(error).__name__}): export it again.") from error
