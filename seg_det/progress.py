"""Progress of what takes longer than two seconds: a bar on a terminal, elsewhere a line at most once a minute and at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from seg_det.run_log import unrecorded

EVERY = 60.0  # seconds between two lines where there is no terminal
DELAY = 2.0  # what ends earlier shows nothing there
One = TypeVar("One")


class Lines(tqdm):
    """tqdm's interface, complete lines without carriage returns."""

    def __init__(self, *arguments: Any, **settings: Any):
        settings |= {
            "mininterval": EVERY,
            "maxinterval": EVERY,
            "miniters": 1,
            "delay": max(DELAY, settings.get("delay") or 0),
            "bar_format": "{desc}: {n_fmt} of {total_fmt} in {elapsed}, {rate_fmt}",
        }
        self._begun = self._last = time.monotonic()
        super().__init__(*arguments, **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Print the state, or ``msg``, as a line of its own, where the last one is a minute old."""
        if time.monotonic() - self._last >= EVERY:
            self._print(msg)

    def _print(self, text: str | None = None) -> None:
        self._last = time.monotonic()
        self.fp.write(f"{self if text is None else text}\n")
        self.fp.flush()

    def clear(self, nolock: bool = False) -> None:
        """Lines that were printed stay."""

    def close(self) -> None:
        """Print the last line, of what took long enough."""
        if self.disable:
            return
        if time.monotonic() - self._begun >= DELAY:
            self._print()
        self.sp: Any = None  # so that tqdm writes nothing itself
        super().close()


def terminal() -> TextIO | None:
    """Standard error, past the run's log, where it is a terminal; else None."""
    stream = unrecorded(sys.stderr)
    return stream if stream.isatty() else None


def progress_bar(
    iterable: Iterable[One] | None,
    desc: str,
    total: float | None = None,
    *,
    unit: str = "it",
    delay: float = DELAY,
    leave: bool = False,
    disable: bool = False,
) -> tqdm[One]:
    """tqdm's bar over ``iterable``, shown after ``delay`` seconds; lines where standard error is no terminal."""
    return made(iterable, desc, total, leave, unit=unit, delay=delay, disable=disable)


def made(*arguments: Any, **settings: Any) -> tqdm[Any]:
    """A bar with any of tqdm's settings."""
    kind = tqdm if terminal() else Lines
    return kind(*arguments, file=unrecorded(sys.stderr), **settings)
