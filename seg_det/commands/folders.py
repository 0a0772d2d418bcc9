"""Run folders: a new one for each run, and what an old one tells."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override

from seg_det.commands.containers import unresolved
from seg_det.commands.quoting import as_typed, without_places
from seg_det.errors import UserError
from seg_det.files import CannotWrite, relative, write_whole
from seg_det.installed import program
from seg_det.migrations import marked
from seg_det.origin import anonymous
from seg_det.run_log import LOG, NAME
from seg_det.values import is_name

RUNS = Path("runs")
CONFIG = "config.yaml"
SWEPT = ("train", "anchors")  # the commands whose runs lie in the folder of their sweep


def run_name(config: DictConfig) -> str:
    """What a training run is called: its choices of task, backbone and dataset."""
    return "_".join(str(config.choices[key]) for key in ("task", "backbone", "dataset"))


class Taken(UserError):
    """The folder belongs to another run."""


class RunFolder(Callback):
    """Hydra's callback: it makes no run folder before the run has one to fill; :func:`open_folder` does."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        STATE.asked = unresolved(config.hydra.run)["dir"]
        _set_dir(config, ".")


@dataclass
class State:
    """What this process knows of its run folder."""

    asked: str | None = None  # hydra.run.dir, its references unresolved
    claimed: Path | None = None
    made: list[Path] = field(default_factory=list)  # folders that this run made, the outermost first


STATE = State()


def open_folder(verb: str, name: str, config: DictConfig) -> Path:
    """The folder of a new run, with its configuration in it.

    That of hydra.run.dir where it is set, else ``runs/VERB/NAME/TIME``. A folder is named by the second: a run that starts in the
    second of another waits for the next one. Raises UserError for a folder of another run, CannotWrite.
    """
    while True:
        folder = named_folder(verb, name)
        try:
            claim(folder, config)
            return folder
        except Taken:
            if not _by_the_second():
                raise
            time.sleep(0.1)


def named_folder(verb: str, name: str) -> Path:
    """The folder that hydra.run.dir or a sweep names, else one named by the second. It is not made."""
    require_name(name)
    return _asked(verb) or new_folder(verb, name)


def require_name(name: str) -> None:
    """Raise UserError for a name that cannot be that of a folder."""
    if not is_name(name):
        raise UserError(f"{name!r} cannot name a folder of runs: it must be a name without slashes and quotes.")


def _by_the_second() -> bool:
    return STATE.asked in (None, ".") or "${now:" in STATE.asked


def _asked(verb: str) -> Path | None:
    """The folder that hydra.run.dir or a sweep names; None where neither does."""
    if not HydraConfig.initialized() or STATE.asked == ".":
        return None
    if STATE.asked is None:  # a job of a sweep
        return relative(Path(HydraConfig.get().runtime.output_dir)) if verb in SWEPT else None
    # The time is read anew: Hydra would give that of the start.
    text = re.sub(r"\$\{now:([^}]*)\}", lambda found: datetime.now().strftime(found[1]), STATE.asked)
    whole = _of_hydra().copy()
    _set_dir(whole, text)
    return relative(Path(whole.hydra.run.dir).absolute())


def new_folder(verb: str, name: str) -> Path:
    """Named by the second; a run that comes in the second of another waits for the next one."""
    require_name(name)
    while True:
        folder = RUNS / verb / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        if follows() or not folder.exists():
            return folder
        time.sleep(0.1)


def command_line(verb: str, *, passed_on: bool = False, **given: object) -> str:
    """The command that does this run again; ``given`` are keys that it left to what was newest then.

    Empty where Hydra's command line did not start it. ``passed_on``: without the names of this machine's folders and users.
    """
    if not HydraConfig.initialized():
        return ""
    hydra = HydraConfig.get().overrides
    own = [
        override
        for override in hydra.hydra
        if not override.startswith(("hydra.mode=", "hydra.run.dir=", "hydra.sweep."))
    ]
    words, given = [*hydra.task, *own], {key: value for key, value in given.items() if not _names(hydra.task, key)}
    if passed_on:
        words, given = [without_places(word) for word in words], anonymous(given)
    words[len(hydra.task) : len(hydra.task)] = [f"{key}={value}" for key, value in given.items()]
    return shlex.join([*program(verb).split(), *map(as_typed, words)])


def _names(overrides: Sequence[str], key: str) -> bool:
    return any(override.lstrip("+~").partition("=")[0] == key for override in overrides)


def follows() -> bool:
    """Whether this is a further process of a run that has its folder."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0


def claim(folder: Path, config: DictConfig) -> None:
    """The run's own folder, with its configuration in it; never one that another run has written."""
    if follows():
        return
    try:
        STATE.made = _make(folder)
        (folder / CONFIG).open("x").close()  # of two processes one succeeds
    except FileExistsError as error:
        raise Taken(
            f"{folder} belongs to another run, which would be overwritten: start again, or set hydra.run.dir."
        ) from error
    except OSError as error:
        raise CannotWrite(
            f"{folder} cannot be made ({error.strerror}): run it in a folder that you may write to, or name one with "
            "hydra.run.dir=FOLDER."
        ) from error
    STATE.claimed = folder
    values = marked(unresolved(config))
    write_whole(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(values)))
    _tell_hydra(folder)
    LOG.open(folder)


def _make(folder: Path) -> list[Path]:
    """Make ``folder`` and those above it; returns the ones that were missing, the outermost first."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _tell_hydra(folder: Path) -> None:
    """Lightning starts the other processes of a run with hydra.run.dir in double quotes: theirs is this folder."""
    if HydraConfig.initialized():
        _set_dir(_of_hydra(), str(folder))


def _of_hydra() -> DictConfig:
    return cast(DictConfig, HydraConfig.instance().cfg)  # annotated as the dataclass of its schema


def _set_dir(whole: DictConfig, text: str) -> None:
    with flag_override(whole.hydra.run, ["readonly", "struct"], False):
        whole.hydra.run.dir = text


def release() -> None:
    """A run that failed leaves no folder behind with nothing but its configuration in it."""
    folder, STATE.claimed = STATE.claimed, None
    if folder is None or not folder.is_dir():
        return
    if {path.name for path in folder.iterdir() if path.suffix != ".log"} <= {CONFIG, NAME, ".hydra"}:
        LOG.end()
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with suppress(OSError):  # the outer ones may have come to hold other runs
            for made in reversed(STATE.made):
                made.rmdir()


def forget() -> None:
    """The command is over: what it knew of its folder is not for another one in this process."""
    STATE.asked, STATE.claimed, STATE.made = None, None, []
    LOG.end()


def newest_run() -> Path:
    """The folder of the training run whose checkpoint was written last."""
    found = sorted((RUNS / "train").glob("**/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(
            f"There is no training run below {RUNS / 'train'}: run {program('train')} first, or name a model=."
        )
    return found[-1].parent.parent
