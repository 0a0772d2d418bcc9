"""The progress of a training: Lightning's bar on a terminal, elsewhere a line a minute and one at the end of each epoch."""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stdout
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from seg_det import progress
from seg_det.run_log import unrecorded


def training_bar() -> ProgressBar:
    """The one that suits standard error."""
    return TerminalBar(refresh_rate=5) if progress.terminal() else EpochLines()


class TerminalBar(TQDMProgressBar):
    """Lightning's bar on standard error, where all other bars are, past the run's log."""

    def init_train_tqdm(self) -> Tqdm:
        """The bar of the training's steps."""
        with redirect_stdout(unrecorded(sys.stderr)):
            return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Tqdm:
        """The bar of a validation."""
        with redirect_stdout(unrecorded(sys.stderr)):
            return super().init_validation_tqdm()


class EpochLines(ProgressBar):
    """Complete lines on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = True
        self._last = 0.0

    def disable(self) -> None:
        """Print nothing: another process of this training does."""
        self._shown = False

    def enable(self) -> None:
        """Print lines."""
        self._shown = True

    def on_train_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Begin to count the seconds to the first line."""
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, learner: L.LightningModule, *_: Any) -> None:
        """A line where the last one is a minute old."""
        if time.monotonic() - self._last >= progress.EVERY:
            step = f"step {trainer.fit_loop.batch_idx + 1} of {self.total_train_batches}"
            self._say(trainer, learner, step)

    def on_validation_batch_end(self, trainer: L.Trainer, learner: L.LightningModule, *arguments: Any) -> None:
        """The same for a validation, whose batch index follows the outputs and the batch."""
        if time.monotonic() - self._last >= progress.EVERY:
            self._say(trainer, learner, f"validation, batch {arguments[2] + 1} of {trainer.num_val_batches[0]}")

    def on_train_epoch_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """A line with the figures of the epoch and of its validation."""
        self._say(trainer, learner, "ended")

    def _say(self, trainer: L.Trainer, learner: L.LightningModule, what: str) -> None:
        self._last = time.monotonic()
        if self._shown:
            figures = [f"{name} {_short(value)}" for name, value in self.get_metrics(trainer, learner).items()]
            epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs} {what}"
            print(", ".join([epoch, *figures]), file=unrecorded(sys.stderr), flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
