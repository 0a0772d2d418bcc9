"""``seg_det.train``: a training from Python, with the keys of the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from seg_det.errors import Terminated, UserError

TERMINATED = 143  # the exit status that a shell gives to SIGTERM
INTERRUPTED = 130


def train(overrides: Sequence[str] = ()) -> Any:
    """Train as ``seg-det train`` does with ``overrides``, and return the :class:`~seg_det.runs.RunRecord` of the run.

    overrides: keys of the configuration with their values, ``["task=ssdlite", "dataset.root=photos"]``; ``seg-det train --help``
    lists them. With ``-m`` among them, a sweep, the result is a list with one record for each job that did not fail. A preview
    and ``trainer.fast_dev_run=true`` return None.

    Raises UserError with the sentence that the command would print. With several devices the calling script is started once
    more for each, as Lightning does.

    >>> import seg_det
    >>> record = seg_det.train(["task=ssdlite", "dataset=shapes", "trainer.fast_dev_run=true"])
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from seg_det.commands.entry import start

    words = sys.argv
    try:
        results = start("train", words=list(overrides))
    except SystemExit as end:
        raise _as_exception(end.code) from end.__context__
    finally:
        sys.argv = words
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
    return results if {"-m", "--multirun"} & set(overrides) else next(iter(results), None)


def _as_exception(status: Any) -> BaseException:
    """What a command that ended with ``status`` raises in Python."""
    if status == INTERRUPTED:
        return KeyboardInterrupt()
    if status == TERMINATED:
        return Terminated()
    return UserError(str(status).removeprefix("error: "))
