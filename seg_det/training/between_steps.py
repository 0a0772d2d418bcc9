"""Checkpoints between two steps: every few minutes and on signals, with the place in the epoch, so that resuming is exact."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from seg_det.data.samplers import EpochSampler
from seg_det.errors import UserError
from seg_det.training.optimisation import EMA
from seg_det.training.signals import Signals, end
from seg_det.training.start import BATCHES, MID_EPOCH, VALIDATING

log = logging.getLogger(__name__)
COUNTS = ("ready", "started", "processed", "completed")


class BetweenSteps(Callback):
    """Writes ``path`` between two optimiser steps, and resumes from such a checkpoint in the middle of its epoch.

    It is written when ``minutes`` have passed since the last checkpoint (None: never for that reason; 0: after every step) and
    when one of ``signals`` has come, which then ends the training. ``loader`` gives the training batches, with an EpochSampler.
    A validation is not cut in two: a checkpoint within it resumes with its first batch.
    """

    def __init__(self, path: Path, loader: DataLoader, *, minutes: float | None, signals: Signals):
        self.path = path
        self.loader = loader
        self.minutes = minutes
        self.signals = signals
        self._saved = time.monotonic()
        self._batches: int | None = None  # of the epoch, while a checkpoint between steps is written
        self._resumed = False  # in the middle of an epoch, which has not gone on yet

    def on_train_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Later than Lightning, whose handlers would save in the middle of a step."""
        self._saved = time.monotonic()
        self.signals.install()

    def on_train_batch_start(
        self, trainer: L.Trainer, learner: L.LightningModule, batch: Any, batch_index: int
    ) -> None:
        """Between two steps, with the figures of the earlier one logged."""
        if self._resumed:
            self._resumed = False
            _start_epoch(trainer, learner)
        if batch_index % trainer.accumulate_grad_batches:
            return
        due, asked = self._wanted(trainer)
        if (due or asked) and batch_index and getattr(learner, "begun", False):
            self._save(trainer, batch_index)
        if asked:
            end(asked)

    def on_validation_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Before the weights are replaced by their averages. All processes come here; later each has batches of its own."""
        if self._resumed:  # within the validation: none of its batches was counted before
            self._resumed = False
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset()
        due, asked = self._wanted(trainer)
        if due or asked:
            self._save(trainer, int(trainer.num_training_batches))
        if asked:
            end(asked)

    def on_validation_batch_end(self, trainer: L.Trainer, learner: L.LightningModule, *_: Any) -> None:
        """In a long validation too."""
        if trainer.world_size > 1:
            return
        due, asked = self._wanted(trainer)
        if due or asked:
            averaging = next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)  # type: ignore[attr-defined]
            if averaging:
                averaging.swap(learner)
            self._save(trainer, int(trainer.num_training_batches))
            if averaging:
                averaging.swap(learner)
        if asked:
            end(asked)

    def on_train_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """The last checkpoint is written by now."""
        self.signals.restore()
        if self.signals.asked is not None:
            end(self.signals.asked)

    def on_save_checkpoint(self, trainer: L.Trainer, learner: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Of any checkpoint: it counts from now; of those between steps: where the epoch stands, as Lightning reads it."""
        self._saved = time.monotonic()
        if self._batches is not None:
            checkpoint["epoch"] -= 1  # it counts completed epochs in the others
            layout = self._layout(trainer)
            checkpoint[MID_EPOCH] = {BATCHES: self._batches, VALIDATING: trainer.validating, "layout": layout}
            _between_batches(checkpoint["loops"]["fit_loop"], validating=trainer.validating)

    def on_load_checkpoint(self, trainer: L.Trainer, learner: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Set the sampler before a loader's processes ask it for keys; an epoch of another layout begins anew."""
        loop = checkpoint["loops"]["fit_loop"]
        epoch = int(loop["epoch_progress"]["current"]["processed"])
        sampler = _sampler(self.loader)
        sampler.set_epoch(epoch)
        if MID_EPOCH not in checkpoint:
            return
        position = checkpoint[MID_EPOCH]
        if position["layout"] == self._layout(trainer):
            sampler.resume(epoch, int(position[BATCHES]) * (self.loader.batch_size or 1))
            self._resumed = True
            return
        log.warning(
            "Epoch %d begins anew: the seed, the images or the batches are not those of the resumed checkpoint.", epoch
        )
        _at_start_of_epoch(loop)

    def _wanted(self, trainer: L.Trainer) -> tuple[bool, int]:
        """Whether a checkpoint is due, and the signal that came; what any of several processes has is true for all."""
        if getattr(trainer, "fast_dev_run", False):
            return False, self.signals.asked or 0
        due = self.minutes is not None and time.monotonic() - self._saved >= 60 * self.minutes
        wanted = (due, self.signals.asked or 0)
        if trainer.world_size == 1:
            return wanted
        shared = torch.tensor(wanted, dtype=torch.float32, device=trainer.strategy.root_device)
        largest: Any = trainer.strategy.reduce(shared, reduce_op="max")
        return bool(largest[0]), int(largest[1])

    def _save(self, trainer: L.Trainer, batches: int) -> None:
        if getattr(trainer, "fast_dev_run", False):
            return
        self._batches = batches
        try:
            trainer.save_checkpoint(self.path, weights_only=False)
        finally:
            self._batches = None

    def _layout(self, trainer: L.Trainer) -> list[Any]:
        """What decides which images a batch of the epoch holds, and which batches a step."""
        sampler = _sampler(self.loader)
        numbers = [sampler.seed, sampler.length, len(sampler), self.loader.batch_size, trainer.world_size]
        return [*numbers, trainer.accumulate_grad_batches, trainer.limit_train_batches]


def require_a_batch(loader: DataLoader, processes: int) -> None:
    """Raise UserError where the images are too few for a batch in each of the processes, which are not started yet."""
    images, batch = len(_sampler(loader)), loader.batch_size or 1
    if loader.drop_last and images // processes < batch:
        raise UserError(
            f"{images} training images are fewer than a batch of {batch} in each of {processes} processes: set "
            f"data.batch_size to {max(1, images // processes)} or less, or lower trainer.devices."
        )


def _sampler(loader: DataLoader) -> EpochSampler:
    return cast(EpochSampler, loader.sampler)  # of every loader of training batches


def _start_epoch(trainer: L.Trainer, learner: L.LightningModule) -> None:
    """What Lightning leaves out where it resumes in the middle of an epoch."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        callback.on_train_epoch_start(trainer, learner)
    learner.on_train_epoch_start()


def _between_batches(loop: dict[str, Any], *, validating: bool) -> None:
    """Progress of Lightning's loops after a whole batch: it resumes with the next one, or with the validation."""
    batches = loop["epoch_loop.batch_progress"]
    for part in ("total", "current"):
        batches[part].update(dict.fromkeys(COUNTS, batches[part]["completed"]))
    batches["is_last_batch"] = validating
    if validating:
        progress = loop["epoch_loop.val_loop.batch_progress"]
        progress["current"].update(dict.fromkeys(COUNTS, 0))
        progress["total"].update({"ready": 1, "started": 1, "processed": 0, "completed": 0})
        progress["is_last_batch"] = False


def _at_start_of_epoch(loop: dict[str, Any]) -> None:
    """Progress as at the end of the earlier epoch."""
    for part in ("total", "current"):
        epochs = loop["epoch_progress"][part]
        epochs.update(dict.fromkeys(COUNTS, epochs["processed"]))
        loop["epoch_loop.batch_progress"]["current"].update(dict.fromkeys(COUNTS, 0))
    loop["epoch_loop.batch_progress"]["is_last_batch"] = False
