"""The commands in the test's own process: as a user types them, without the seconds that a new interpreter takes."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import random
import runpy
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from seg_det.commands import running

ROOT = Path(__file__).parent.parent


class Done(NamedTuple):
    """What a command left behind, in the names of :class:`subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def run(folder: Path, command: str, *arguments: object, check: bool = True, **environment: str) -> Done:
    """``python COMMAND.py`` (or ``-m COMMAND`` where it has a dot) in ``folder``, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with as_found(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [f"{command}.py", *map(str, arguments)])
        patch.setattr(running, "_keep_freed_memory", lambda: None)  # of the whole process, for good
        # Hydra's logging ends all handlers so far; absl's then closes the stream that pytest had put in place of stderr.
        patch.setattr(logging, "shutdown", lambda *_: None)
        for key, value in environment.items():
            patch.setenv(key, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _exit_code(command)
    done = Done(code, out.getvalue(), err.getvalue())
    assert not check or code == 0, done.stdout + done.stderr
    return done


def run_in_new_process(folder: Path, command: str, *arguments: object, check: bool = True, **environment: str) -> Done:
    """The same in an interpreter of its own."""
    program = ["-m", command] if "." in command else [str(ROOT / f"{command}.py")]
    words = [sys.executable, *program, *map(str, arguments)]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=settings, timeout=600)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def _exit_code(command: str) -> int:
    """Run the command to its end; what the interpreter would print of an exception is printed."""
    try:
        if "." in command:
            runpy.run_module(command, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(_program(command)), run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _program(command: str) -> Path:
    """Of the project, or of the current folder where that has one."""
    own = Path(f"{command}.py").absolute()
    return own if own.is_file() else ROOT / f"{command}.py"


def loaded_script(name: str) -> ModuleType:
    """A script of datasets/ as a module, whose parts can be tested."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "datasets" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def as_found():
    """Leave the process as it was: environment, random numbers, logging, warnings, Hydra's and torch's settings."""
    root, environment = logging.getLogger(), dict(os.environ)
    handlers, level = root.handlers[:], root.level
    numbers = random.getstate(), np.random.get_state(), torch.get_rng_state()
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        root.handlers[:], root.level = handlers, level
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        torch.set_rng_state(numbers[2])
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
