"""Run folders: a new one for each run, and what an old one tells."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from seg_det.errors import UserError
from seg_det.files import CannotWrite
from seg_det.migrations import marked
from seg_det.values import is_name

RUNS = Path("runs")


def run_name(config: DictConfig) -> str:
    """What a training run is called: its choices of task, backbone and dataset."""
    return "_".join(str(config.choices[key]) for key in ("task", "backbone", "dataset"))


def new_folder(verb: str, name: str) -> Path:
    """Named by the second; a run that comes in the second of another waits for the next one."""
    if not is_name(name):
        raise UserError(f"{name!r} cannot name a folder of runs: it must be a name without slashes and quotes.")
    while True:
        folder = RUNS / verb / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        if follows() or not folder.exists():
            return folder
        time.sleep(0.1)


def command_line(verb: str, *, program: Sequence[str] = (), **given: object) -> str:
    """The command that does this run again; ``given`` are keys that it left to what was newest then.
    ``program`` are the words before the arguments, where those are not ``python VERB.py``.

    Empty where Hydra's command line did not start it.
    """
    if not HydraConfig.initialized():
        return ""
    hydra = HydraConfig.get().overrides
    own = [
        override
        for override in hydra.hydra
        if not override.startswith(("hydra.mode=", "hydra.run.dir=", "hydra.sweep."))
    ]
    more = [f"{key}={value}" for key, value in given.items() if not _names(hydra.task, key)]
    return shlex.join([*(program or ("python", f"{verb}.py")), *hydra.task, *more, *own])


def _names(overrides: Sequence[str], key: str) -> bool:
    return any(override.lstrip("+~").partition("=")[0] == key for override in overrides)


def follows() -> bool:
    """Whether this is a further process of a run that has its folder."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0


def claim(folder: Path, config: DictConfig) -> None:
    """The run's own folder, with its configuration in it; never one that another run has written."""
    if follows():
        return
    if (folder / "config.yaml").exists():
        raise UserError(
            f"{folder} belongs to another run, which would be overwritten: start again, or set hydra.run.dir."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"{folder} cannot be made ({error.strerror}): run it in a folder that you may write to."
        ) from error
    values = marked(OmegaConf.to_container(config, resolve=False))
    OmegaConf.save(OmegaConf.create(values), folder / "config.yaml")


def newest_run() -> Path:
    """The folder of the training run whose checkpoint was written last."""
    found = sorted((RUNS / "train").glob("**/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"There is no training run below {RUNS / 'train'}: run train.py first, or name a model=.")
    return found[-1].parent.parent
