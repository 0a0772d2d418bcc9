"""Signals that end a training: the first one waits for the end of the step, the second one ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, NoReturn

from seg_det.errors import Terminated

# SLURM sends the last one before the time of a job is over; Windows has none.
ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Signals:
    """Remembers the first signal of ``ENDING`` between :meth:`install` and :meth:`restore`."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take over the handlers of this process; signals that it ignores stay ignored. Main thread only, else nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            if (before := signal.getsignal(number)) not in (signal.SIG_IGN, None):
                self._before[number] = before
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the handlers back."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:  # which Lightning has not taken back
                signal.signal(number, before)
        self._before = {}

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.asked is not None:
            end(number)
        self.asked = number
        if number == signal.SIGINT:  # written past Python's buffer, which may be in use at this moment
            os.write(2, b"\nstopping after this step; press Ctrl-C again to stop at once\n")


def end(number: int) -> NoReturn:
    """Raise what the signal means: KeyboardInterrupt for Ctrl-C, else Terminated with its name."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated(signal.Signals(number).name)
