"""What happens beside a training: the choices of conf/callbacks."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, DeviceStatsMonitor, LearningRateMonitor, Timer

from seg_det.errors import UserError
from seg_det.registry import CALLBACKS
from seg_det.training.learner import Learner, validation_source
from seg_det.training.loggers import log_images


@CALLBACKS.register
def learning_rate() -> Callback:
    """The learning rate of every step."""
    return LearningRateMonitor("step")


@CALLBACKS.register
def device_stats(*, cpu: bool = False) -> Callback:
    """Memory and load of the device."""
    return DeviceStatsMonitor(cpu_stats=cpu)


@CALLBACKS.register
def timer(*, hours: float = 12.0) -> Callback:
    """Ends the training after ``hours``. Raises UserError for none."""
    if hours <= 0:
        raise UserError(f"callbacks.timer.hours must be positive, got {hours}.")
    return Timer(timedelta(hours=hours), interval="epoch")


@CALLBACKS.register
def drawn_predictions(*, images: int = 4) -> Callback:
    """Predictions on the first ``images`` of the validation split, after each validation. Raises UserError below one."""
    if images < 1:
        raise UserError(f"callbacks.drawn_predictions.images must be at least 1, got {images}.")
    return DrawnPredictions(images)


class StepSeeds(Callback):
    """Seeds the random numbers of torch, numpy and Python anew for each batch, and each process.

    So a resumed run has the dropout of an uninterrupted one, wherever it resumes, and no generator's state is saved.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, learner: L.LightningModule, batch: Any, batch_index: int
    ) -> None:
        """Seed them from the run's seed, the epoch, the process and the batch."""
        numbers = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank, batch_index])
        seed = int(numbers.generate_state(1)[0])
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)


class DrawnPredictions(Callback):
    """Keeps the first predictions of a validation, and gives them to the loggers as images when it ends."""

    def __init__(self, images: int):
        self.images = images
        self._kept: list[tuple[int, Any]] = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        learner: L.LightningModule,
        predictions: Any,
        batch: Any,
        batch_index: int,
        loader: int = 0,
    ) -> None:
        """Keep what is still wanted of a batch's predictions."""
        if trainer.is_global_zero and len(self._kept) < self.images:
            pairs = zip(batch.image_ids.tolist(), predictions, strict=True)
            self._kept += list(pairs)[: self.images - len(self._kept)]

    def on_validation_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Draw them with the thresholds of this validation, which the learner's card has by now."""
        kept, self._kept = self._kept, []
        if not (kept and trainer.loggers and trainer.is_global_zero):
            return
        records = {record.image_id: record for record in validation_source(trainer).records}
        own = cast(Learner, learner)  # the only module that is trained here
        drawn = {
            f"predictions/{place}": own.kind.drawn(found, records[image_id], own.card)
            for place, (image_id, found) in enumerate(kept)
        }
        log_images(trainer.loggers, drawn, trainer.global_step)
