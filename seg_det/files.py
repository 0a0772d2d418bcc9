"""Files that are written whole: under their final name stands the earlier content or all of the new, at any moment."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from seg_det.errors import UserError


class CannotWrite(UserError, OSError):
    """A full disk, a folder that must not be written, ...: one sentence with the path, the reason and the remedy."""


@contextmanager
def whole(path: Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """A binary file for the new content of ``path``, which replaces the old one when the block ends without an error.

    It lies beside the target as ``.NAME.part`` until it has reached the disk; one that a killed process left is overwritten.
    ``shared``: several processes may write ``path`` at the same time, so each has a part of its own. Makes the folder.
    Raises CannotWrite, and then leaves ``path`` as it was.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part" if shared else f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if (cause := _of_the_disk(error)) is None:
            raise
        raise CannotWrite(
            f"{path} cannot be written ({cause.strerror or cause}): free space there or write to another folder; "
            f"{'the earlier file is as it was' if path.exists() else 'nothing was written'}."
        ) from error


def write_whole(path: Path, text: str) -> Path:
    """:func:`whole` for a UTF-8 text; two jobs of a sweep may write the same one at the same time."""
    with whole(path, shared=True) as file:
        file.write(text.encode())
    return path


def copy_whole(source: Path, target: Path) -> None:
    """:func:`whole` for the content of another file."""
    with source.open("rb") as old, whole(target) as new:
        shutil.copyfileobj(old, new)


@contextmanager
def nothing_half(folder: Path) -> Iterator[None]:
    """Where the block fails, on a full disk for instance, remove what it added to ``folder``."""
    before = set(folder.iterdir())
    try:
        yield
    except BaseException:
        for path in set(folder.iterdir()) - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _of_the_disk(error: BaseException) -> OSError | None:
    """The OSError that ``error`` is, or that torch.save replaces by a RuntimeError about positions."""
    cause = error.__context__ if isinstance(error, RuntimeError) else error
    return cause if isinstance(cause, OSError) else None


def _sync(folder: Path) -> None:
    """Bring the new name to the disk too, where the system can do that for a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSON list, a line for each row, whole or not at all; half a million detections need no second copy."""
    with whole(path) as file:
        file.write(b"[")
        for i, row in enumerate(rows):
            file.write(((",\n" if i else "\n") + json.dumps(row, allow_nan=False)).encode())
        file.write(b"\n]")


def write_json(path: Path, content: object) -> None:
    """Write ``content`` whole or not at all."""
    with whole(path) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode())


def relative(path: Path) -> Path:
    """``path`` relative to the working folder, if it lies in that: as the user would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
