"""How Lightning saves and resumes here: checkpoints written whole, and nothing outside of the run's own folder."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from seg_det import checkpoint
from seg_det.errors import UserError
from seg_det.files import copy_whole

log = logging.getLogger(__name__)
BEST = "best.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes and reads the checkpoints of ``folder``. Lightning's own gathers them in the temporary folder and moves them."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def save_checkpoint(self, content: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        checkpoint.save(content, Path(path))

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        content = checkpoint.load_plain(Path(path))
        return {key: value for key, value in content.items() if key not in checkpoint.MARK}

    def remove_checkpoint(self, path: str | Path) -> None:
        """Only a file of ``folder``: which one goes is what a resumed checkpoint says, and that may come from anyone."""
        if Path(path).resolve().parent == self.folder.resolve():
            Path(path).unlink(missing_ok=True)


class BestCheckpoint(ModelCheckpoint):
    """The best checkpoint so far, that of the ``resumed`` run (its last checkpoint) included: it is copied to the new folder."""

    def __init__(self, *, resumed: Path | None = None, **settings: Any):
        super().__init__(**settings)
        self.resumed = resumed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The state also names files, which are those of another machine or, in a hostile checkpoint, any.
        score = state_dict.get("best_model_score")
        if self.resumed is None or self.dirpath is None or score is None:
            return
        if not _is_sound(old := self.resumed.parent / BEST):
            return
        new = Path(self.dirpath) / BEST
        rank = rank_zero_only.rank  # type: ignore[attr-defined] # Lightning sets it on the function
        if rank == 0 and old.resolve() != new.resolve():
            copy_whole(old, new)
        own = {"best_model_path": str(new), "best_k_models": {str(new): score}, "kth_best_model_path": str(new)}
        super().load_state_dict({**state_dict, **own, "dirpath": self.dirpath, "last_model_path": ""})
        self.current_score = state_dict.get("current_score")  # which Lightning leaves out


def _is_sound(path: Path) -> bool:
    """Whether the best checkpoint of a resumed run can be read; a warning if it is damaged."""
    if not path.is_file():
        return False
    try:
        checkpoint.load_plain(path)
    except UserError as error:
        log.warning("The best checkpoint of the resumed run is left behind: %s", error)
        return False
    return True


def remove_empty_logs(run: Path, *, resumed: bool) -> None:
    """Remove what a training without a first step wrote: it holds nothing, or copies of what the resumed run has."""
    shutil.rmtree(run / "tensorboard", ignore_errors=True)
    copies = [f"checkpoints/{name}.ckpt" for name in ("best", "last")] if resumed else []
    for name in ("metrics.csv", *copies):
        (run / name).unlink(missing_ok=True)
    with suppress(OSError):
        (run / "checkpoints").rmdir()
