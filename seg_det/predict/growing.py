"""Files of a prediction: written at once, or grown frame by frame and whole in between."""

from __future__ import annotations

import io
from pathlib import Path

from seg_det.files import CannotWrite


class Growing:
    """A file that is added to and is whole after each time, also where the disk is full. Raises CannotWrite."""

    def __init__(self, path: Path, content: bytes):
        write(path, content)
        self._path = path
        self._file = path.open("r+b", buffering=0)

    def add(self, content: bytes, *, end: bytes = b"") -> None:
        """Put ``content`` before ``end``, with which the file ends."""
        place = self._file.seek(-len(end), io.SEEK_END)
        try:
            written = 0
            while written < len(content + end):  # a full disk takes a part
                written += self._file.write((content + end)[written:])
        except OSError as error:
            self._file.truncate(place)
            self._file.seek(place)
            self._file.write(end)
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders above it. Raises CannotWrite."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """What to say of a file that the disk does not take."""
    return CannotWrite(f"{path} cannot be written ({error.strerror}): free space there or use another folder.")
