"""Jobs of SLURM: a job that is requeued begins its script anew, and each training in it resumes the run that it had."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from seg_det.commands.folders import RUNS, follows
from seg_det.files import write_whole
from seg_det.training.start import REPORT

FOUND = "SEG_DET_REQUEUED"


def job() -> str | None:
    """The number of this job, with that of its task in an array of jobs; None outside of SLURM."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    number = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    return number if re.fullmatch(r"\d+(_\d+)?", number) else None


def remember(run: Path) -> None:
    """Note that this command's run is ``run``, for :func:`requeued`."""
    if job() and not follows():
        write_whole(_note(), f"{run}\n")


def requeued() -> Path | None:
    """The unfinished run of this very command, where SLURM began its job again; None elsewhere and before a checkpoint.

    Further processes of a run have the answer from the first one, which sees the note before it is replaced.
    """
    if follows():
        return Path(known) if (known := os.environ.get(FOUND)) else None
    count = os.environ.get("SLURM_RESTART_COUNT", "0")
    if job() is None or not count.isdigit() or not int(count) or not (note := _note()).is_file():
        return None
    run = Path(note.read_text(encoding="utf-8").strip())
    unfinished = any((run / "checkpoints").glob("*.ckpt")) and not (run / REPORT).is_file()
    if not unfinished:
        return None
    os.environ[FOUND] = str(run)
    return run


def requeue() -> str:
    """Ask SLURM to begin this job again; returns what came of it. Empty outside of SLURM and in all processes but the first."""
    if (number := job()) is None or follows():
        return ""
    try:
        done = subprocess.run(["scontrol", "requeue", number], capture_output=True, text=True, timeout=60, check=False)
        reason = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if reason:
        return f"job {number} was not requeued ({reason})"
    return f"job {number} is requeued, and resumes this run when it begins again"


def _note() -> Path:
    """Of this job and command line: the jobs of a script and the runs of a sweep have one each."""
    words = "\n".join(HydraConfig.get().overrides.task)
    return RUNS / "train" / ".slurm" / f"{job()}-{hashlib.sha256(words.encode()).hexdigest()[:12]}"
