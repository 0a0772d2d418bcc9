"""Checksums: of files and folders, and one at the end of a zip archive, where readers of archives expect a comment.

    the archive, whose last two bytes are the length of the comment | MAGIC | sha256 of all before MAGIC, in hexadecimal

torch.save writes such archives, and torch.load of any version reads them with the comment.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"seg_det sha256 "
LENGTH = len(MAGIC) + 64  # of the comment
CHUNK = 2**20


def append(file: BinaryIO) -> None:
    """Append the checksum to the archive that ``file`` (open to read and write) ends with; it must have no comment yet."""
    end = file.seek(-2, os.SEEK_END)
    if file.read() != b"\0\0":
        raise ValueError("expected a zip archive without a comment")
    file.seek(end)
    file.write(struct.pack("<H", LENGTH))
    file.write(MAGIC + _sum(file, end + 2))


def fits(file: BinaryIO) -> bool | None:
    """Whether the bytes of ``file`` are those that its checksum was made of; None if it ends with no checksum."""
    end = file.seek(0, os.SEEK_END) - LENGTH
    if end < 0:
        return None
    file.seek(end)
    comment = file.read()
    return comment == MAGIC + _sum(file, end) if comment.startswith(MAGIC) else None


def _sum(file: BinaryIO, length: int) -> bytes:
    """The sha256 of the first ``length`` bytes; leaves the position behind them."""
    found = hashlib.sha256()
    file.seek(0)
    while length:
        chunk = file.read(min(CHUNK, length))
        found.update(chunk)
        length -= len(chunk)
    return found.hexdigest().encode()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits; of a folder, that of the names and sums of all files below it."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return sha256_of_json({str(file.relative_to(path)): sha256_of(file) for file in files})
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_json(content: dict[str, Any]) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
