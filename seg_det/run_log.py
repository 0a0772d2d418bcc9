"""What a command prints, kept in ``log.txt`` of its run folder: every line of both streams with the time, but no progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

NAME = "log.txt"


class Recorded:
    """A text stream whose complete lines are passed to ``keep`` too; in all else it is the stream itself.

    A carriage return starts a line anew: what stood before it was overwritten on the terminal and is not kept.
    """

    def __init__(self, stream: TextIO, keep: Callable[[str], None]):
        self.unrecorded = stream
        self.keep = keep
        self._line = ""

    def write(self, text: str) -> int:
        """Write ``text`` to the stream; keep the lines that it completes."""
        written = self.unrecorded.write(text)
        *complete, self._line = (self._line + text).split("\n")
        for line in complete:
            self.keep(line.rstrip("\r").rpartition("\r")[2])
        self._line = self._line.rpartition("\r")[2]
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unrecorded, name)


class RunLog:
    """The lines of this process, which wait until the run has its folder."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.waiting: list[str] = []

    def keep(self, text: str) -> None:
        """Keep ``text`` with the time in front of each of its lines; blank ones are left out."""
        now = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        lines = [f"{now}  {line.rstrip()}\n" for line in text.splitlines() if line.strip()]
        if self.folder is None:
            self.waiting += lines
        else:
            _append(self.folder, lines)

    def open(self, folder: Path) -> None:
        """From now on lines are appended to ``log.txt`` in ``folder``, first of all those that wait."""
        self.folder = folder
        waiting, self.waiting = self.waiting, []
        _append(folder, waiting)

    def end(self) -> None:
        """The run is over: its folder gets no more lines, and lines that had no folder are not for the next one."""
        self.folder, self.waiting = None, []


LOG = RunLog()


def _append(folder: Path, lines: list[str]) -> None:
    """A removed folder is not made anew, and a log that cannot be written ends no run: its lines are on the terminal."""
    if lines and folder.is_dir():
        with suppress(OSError), (folder / NAME).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(lines)


@contextmanager
def recorded() -> Iterator[None]:
    """Keep what is printed to standard output and standard error, warnings and lines of logging among it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Recorded(stream, LOG.keep) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unrecorded(stream: TextIO) -> TextIO:
    """``stream`` without the recording around it: for progress bars."""
    return getattr(stream, "unrecorded", stream)
