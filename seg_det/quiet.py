"""What libraries say about themselves, which nobody who runs a command can do anything about: kept off the terminal.

All of it is listed here and in docs/logs.md. Errors, and warnings that are not listed, are shown.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Beginnings of warnings, after any other words.
WARNINGS = (
    "does not have many workers",
    "Experiment logs directory",
    "Checkpoint directory",
    "is deprecated, use `isinstance",
    "The number of training batches",
    "The dirpath has changed",
    "It is recommended to use `self.log",
    "epoch parameter in `scheduler.step",
)
# The least level of what a logger shows. Below a warning no library's lines are shown, see conf/logging.yaml.
LOGGERS = {
    "lightning.pytorch.utilities.rank_zero": logging.WARNING,  # devices that were found, tips, the end of the training
    "lightning.pytorch.accelerators.cuda": logging.WARNING,
    "lightning.pytorch.trainer.connectors.signal_connector": logging.WARNING,
    "torchao": logging.ERROR,  # kernels for graphics cards that are not here
    "torch.utils._pytree": logging.ERROR,  # what torchao will have to change
}
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2"}  # TensorFlow's settings on this machine; 2 leaves its errors
# Lines that compiled code writes to standard error while a library or a file is loaded and at its first call.
LINES = (
    r"INFO: Created TensorFlow Lite XNNPACK delegate for CPU\.",
    r"WARNING: All log messages before absl::InitializeLog\(\)",
    r"I\d{4} [\d:.]+ +\d+ ",  # absl's format, its level of information
    r"\[cpuinfo_utils\.cpp:\d+\]",  # ExecuTorch looks for the kind of an ARM processor
)
NOISE = re.compile("|".join(f"(?:{line})" for line in LINES))


def quieten() -> None:
    """Set what can be set for the whole process."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", f".*{message}")
    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without LINES of compiled code; what else is written to standard error meanwhile follows at the end."""
    sys.stderr.flush()
    try:
        terminal = os.dup(2)
    except OSError:  # closed
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            file.seek(0)
            text = file.read().decode(errors="replace")
            print(*(line for line in text.splitlines(True) if not NOISE.match(line)), sep="", end="", file=sys.stderr)
