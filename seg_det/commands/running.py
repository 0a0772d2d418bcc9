"""What every command shares: settings of the process, and from an error to one sentence. Imports no torch."""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from seg_det.commands import folders
from seg_det.commands.composing import leave_hydra
from seg_det.commands.containers import unresolved
from seg_det.commands.error_sentences import FULL, running_sentence
from seg_det.errors import Terminated, UserError
from seg_det.files import write_whole
from seg_det.quiet import quieten
from seg_det.run_log import LOG

log = logging.getLogger(__name__)
# SLURM sends the second one before a job's time is over; Windows has none.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@dataclass
class State:
    """What this process knows of its command: when it began, by time.monotonic()."""

    started: float = 0.0


STATE = State()


def run(command: str, config: DictConfig) -> Any:
    """What the function ``main`` of ``seg_det.commands.<command>`` returns; it is imported only now: ``--help`` needs none of it.

    A user's mistake ends it with one sentence, unless HYDRA_FULL_ERROR is set; Ctrl-C, SIGTERM and SIGUSR1 end it with a
    sentence and the status 130 or 143. What failed before it had a result leaves no run folder.

    In a sweep any error is written to the job's folder instead, so that the other jobs go on.
    """
    STATE.started = time.monotonic()
    leave_hydra()
    quieten()
    threading.excepthook = _thread_failed
    _keep_freed_memory()
    try:
        with _terminable():
            _require_all(config)
            return importlib.import_module(f"seg_det.commands.{command}").main(config)
    except (KeyboardInterrupt, Terminated) as error:
        folders.release()
        _end(error)
    except Exception as error:
        folders.release()
        _fail(error)
    finally:
        folders.forget()


def _fail(error: Exception) -> None:
    """End the program, or this job of a sweep, as the handled ``error`` asks for."""
    sentence = running_sentence(error)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        text = sentence or f"{type(error).__name__}: {error}"
        folder = Path(HydraConfig.get().runtime.output_dir)
        content = {"error": text, "traceback": traceback.format_exc()}
        write_whole(folder / "error.json", json.dumps(content, indent=1))
        LOG.open(folder)
        log.error("Job %s failed: %s", HydraConfig.get().job.num, text)
    elif sentence is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
        LOG.keep(traceback.format_exc())
        raise error
    else:
        _new_line()
        LOG.keep(f"error: {sentence}")
        sys.exit(f"error: {sentence}")


def _end(error: KeyboardInterrupt | Terminated) -> NoReturn:
    """Say what ended the program and how to go on, and exit with the status that shells give to its signal."""
    ended, status = ("interrupted", 130) if isinstance(error, KeyboardInterrupt) else (f"ended by {error.args[0]}", 143)
    if not folders.follows():
        _new_line()
        print("; ".join([ended, *getattr(error, "__notes__", [])]), file=sys.stderr)
    sys.exit(status)


def _new_line() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)  # a progress bar may stand on this line


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and SIGUSR1 raise Terminated; a training has handlers of its own and ends at the next batch."""
    main, process = threading.current_thread() is threading.main_thread(), os.getpid()
    own = [one for one in ENDING if main and signal.getsignal(one) == signal.SIG_DFL]

    def handle(number: int, _: object) -> None:
        if os.getpid() != process:  # a worker process
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif signal.getsignal(number) is handle:
            raise Terminated(signal.Signals(number).name)

    for one in own:
        signal.signal(one, handle)
    try:
        yield
    finally:
        for one in own:
            signal.signal(one, signal.SIG_DFL)


def _require_all(config: DictConfig) -> None:
    missing = _mandatory(unresolved(config))
    if missing:
        raise UserError(f"{missing[0]} has no value: add {missing[0]}=... to the command line.")


def _mandatory(values: dict[str, Any], path: str = "") -> list[str]:
    """Keys that the configuration leaves to the user: ``???`` in YAML."""
    found = []
    for key, value in values.items():
        found += _mandatory(value, f"{path}{key}.") if isinstance(value, dict) else [path + key] * (value == "???")
    return found


def _keep_freed_memory() -> None:
    """Let glibc keep what the program frees instead of handing it back to the kernel page by page.

    Fresh pages are zeroed at first touch: where it was measured that took 8 % of a CPU training step and 11 to 15 % of
    drawing the shapes. Elsewhere than on glibc this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_mmap_max, 0)
    mallopt(m_top_pad, 256 * 2**20)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Of a thread that writes logs to a full disk no traceback: the program itself ends with a sentence."""
    if not (isinstance(failure.exc_value, OSError) and failure.exc_value.errno in FULL):
        threading.__excepthook__(failure)
