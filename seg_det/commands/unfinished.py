"""Which run resume=auto means."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from seg_det.commands.folders import CONFIG, RUNS
from seg_det.errors import UserError
from seg_det.training.start import REPORT


def newest_unfinished() -> Path:
    """The folder of the run below runs/train that was not finished, nor resumed by another, and saved last."""
    saved: dict[Path, float] = {}
    for path in (RUNS / "train").glob("**/checkpoints/*.ckpt"):
        run = path.parent.parent
        saved[run] = max(saved.get(run, 0.0), path.stat().st_mtime)
    continued = {_resumed_by(run) for run in saved}
    left = [run for run in saved if not (run / REPORT).is_file() and run.resolve() not in continued]
    if not left:
        raise UserError(
            f"resume=auto found no unfinished run below {RUNS / 'train'}: leave it out to start a new run, or name one."
        )
    return max(left, key=saved.__getitem__)


def _resumed_by(run: Path) -> Path | None:
    """The run that ``run`` resumed; None where it began anew or does not say."""
    with suppress(OSError, UnicodeError):
        text = (run / CONFIG).read_text(encoding="utf-8")
        if found := re.search(r"^resume: (.+)$", text, re.MULTILINE):
            return Path(found[1].strip("'\"")).resolve().parent.parent
    return None
