"""A training that ends with its time, or after so many steps: the schedule of the rates is fitted to what is left."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from seg_det.errors import UserError

REPLANNED = 5  # steps after which the length of the run is planned anew
TIMED = 50  # the latest steps, whose median is what a step takes
OVERHEAD = 1.2  # times a validation: the final evaluation, which also draws the worst images
REPORT_SECONDS = 4.0


@dataclass(frozen=True)
class Budget:
    """How long a run may take: ``minutes`` from ``started`` (of time.monotonic) to its report, or ``steps``."""

    minutes: float | None = None
    steps: int | None = None
    started: float = 0.0
    evaluations: float = 1.0  # at the end, of as many images as the validation split has: more with a test part

    def __post_init__(self) -> None:
        if self.minutes is not None and self.steps is not None:
            raise UserError("budget.minutes and budget.steps both say how long to train: leave one out.")
        for key in ("minutes", "steps"):
            if (value := getattr(self, key)) is not None and value <= 0:
                raise UserError(f"budget.{key} must be above 0, got {value}.")


class Length:
    """The steps of a run, which may change while it runs."""

    def __init__(self, steps: int):
        self.steps = steps


class BudgetClock(Callback):
    """Ends a training by its budget, and before that keeps ``length`` at the number of steps for which there is time."""

    def __init__(self, budget: Budget, length: Length):
        self.budget = budget
        self.length = length
        self._earlier = 0.0  # seconds of the runs that this one resumes
        self._times: deque[float] = deque(maxlen=TIMED)
        self._step_began = 0.0
        self._validation_began = 0.0
        self._validation = 0.0  # seconds of the last one

    def on_train_batch_start(self, trainer: L.Trainer, learner: L.LightningModule, batch: Any, index: int) -> None:
        """Note when the first step begins: the time between two others belongs to reading."""
        if not self._step_began:
            self._step_began = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, learner: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Plan the rest of the run, and end it with its last step."""
        now = time.monotonic()
        self._times.append(now - self._step_began)
        self._step_began = now
        step = trainer.global_step
        if self.budget.minutes is not None and len(self._times) > 1 and step % REPLANNED == 0:
            self.length.steps = max(step, step + self._steps_left(trainer, now))
        if step >= self.length.steps:
            trainer.should_stop = True

    def _steps_left(self, trainer: L.Trainer, now: float) -> int:
        """For how many steps there is time before what comes at the end."""
        per_step = median(self._times)
        validation = self._validation or self._guessed_validation(trainer, per_step)
        left = self._seconds_left(now) - validation * OVERHEAD * self.budget.evaluations - REPORT_SECONDS
        period = int(trainer.num_training_batches) * int(trainer.check_val_every_n_epoch or 1)  # steps
        # Each period of steps ends with a validation, and so does the run.
        return int((left - validation) / (per_step + validation / max(1, period)))

    def _seconds_left(self, now: float) -> float:
        return 60 * (self.budget.minutes or 0) - self._earlier - (now - self.budget.started)

    @staticmethod
    def _guessed_validation(trainer: L.Trainer, per_step: float) -> float:
        """Before the first one: without a backward pass a batch takes about 0.4 of a step."""
        loader: Any = trainer.fit_loop.epoch_loop.val_loop._data_source.instance
        return 0.4 * per_step * len(loader)

    def on_validation_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Note when a validation begins."""
        self._validation_began = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """The next step is not timed with what comes between two epochs."""
        self._step_began = 0.0

    def on_validation_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Note how long the validation took."""
        self._validation = time.monotonic() - self._validation_began
        self._step_began = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know: the time that is spent, and the planned steps."""
        return {
            "seconds": self._earlier + time.monotonic() - self.budget.started,
            "steps": self.length.steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the plan of the run that is resumed."""
        self._earlier = state_dict["seconds"]
        self.length.steps = state_dict["steps"]
