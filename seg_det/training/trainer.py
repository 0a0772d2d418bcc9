"""A training run from settings to finished checkpoints."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    Callback,
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from seg_det.errors import Terminated, UserError
from seg_det.files import copy_whole
from seg_det.nn.convolutions import in_format
from seg_det.predict.loading import chosen_device
from seg_det.training.bars import training_bar
from seg_det.training.between_steps import BetweenSteps, require_a_batch
from seg_det.training.learner import Learner
from seg_det.training.loggers import continue_history
from seg_det.training.optimisation import EMA, Recipe
from seg_det.training.saving import BestCheckpoint, WholeCheckpoints, remove_empty_logs
from seg_det.training.signals import Signals, end
from seg_det.training.start import epochs_of, lacks_validation, steps_of

log = logging.getLogger(__name__)
PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}  # by trainer.profiler
MOST_MINUTES = 366 * 24 * 60
NEED_A_LOGGER = (LearningRateMonitor, DeviceStatsMonitor)
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
PRECISIONS = ("auto", "32-true", "16-mixed", "bf16-mixed", "16", "bf16", "32")  # images are normalised in 32 bits
MEANT = {"fp16": "16-mixed", "float16": "16-mixed", "bfloat16": "bf16-mixed", "fp32": "32-true", "float32": "32-true"}
# What Lightning raises at settings that do not go together or that this machine cannot do.
REFUSALS = (MisconfigurationException, ImportError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class TrainerSettings:
    """Where and how long to train; the names are Lightning's, where it has the setting."""

    max_epochs: int = 30
    accelerator: str = "auto"
    devices: int | str | list[int] = 1
    strategy: str = "auto"
    precision: str = "32-true"
    accumulate_grad_batches: int = 1
    channels_last: bool = True
    check_val_every_n_epoch: int = 1
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    early_stopping: int | None = None
    deterministic: bool = False
    log_every_n_steps: int = 10
    fast_dev_run: bool = False
    profiler: str | None = None
    checkpoint_minutes: float | None = 10  # between two checkpoints within an epoch; None: none but that of each epoch

    def __post_init__(self) -> None:
        for key in (
            "max_epochs",
            "accumulate_grad_batches",
            "check_val_every_n_epoch",
            "early_stopping",
            "log_every_n_steps",
        ):
            if (value := getattr(self, key)) is not None and value < 1:
                raise UserError(f"trainer.{key} must be at least 1, got {value}.")
        if (minutes := self.checkpoint_minutes) is not None and not 0 <= minutes <= MOST_MINUTES:
            raise UserError(
                f"trainer.checkpoint_minutes must be from 0 (after every step) to {MOST_MINUTES} or null, got {minutes}."
            )
        for key in ("limit_train_batches", "limit_val_batches"):
            _require_share(key, getattr(self, key))
        _require_known("accelerator", self.accelerator, ACCELERATORS)
        _require_known("precision", self.precision, PRECISIONS)
        if self.profiler is not None:
            _require_known("profiler", self.profiler, tuple(PROFILERS))
        if isinstance(self.devices, int) and self.devices < 1 and self.devices != -1:
            raise UserError(f"trainer.devices must be a number from 1, -1 or auto for all, got {self.devices}.")


def _require_share(key: str, value: int | float | None) -> None:
    if value is not None and (value <= 0 or (isinstance(value, float) and value > 1)):
        raise UserError(
            f"trainer.{key} must be a whole number of batches from 1, or a share above 0 and up to 1.0, got {value}."
        )


def _require_known(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        near = [MEANT[value]] if value in MEANT else get_close_matches(value, known, n=1)
        meant = f"; {near[0]} may be meant" if near else ""
        raise UserError(f"trainer.{key} must be one of {', '.join(known)}, got {value!r}{meant}.")


class Trained(NamedTuple):
    """A finished run; ``checkpoint`` is None after fast_dev_run, which saves nothing."""

    checkpoint: Path | None  # the best one by the kind's monitor
    epochs: int
    steps: int
    minutes: float
    device: torch.device
    leads: bool  # of several processes, the one that reports


def fit(
    task: Learner,
    train: DataLoader,
    val: DataLoader,
    *,
    recipe: Recipe,
    settings: TrainerSettings,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    resume: Path | None = None,
) -> Trained:
    """Train ``task``; checkpoints, logs and curves go to its run folder. ``resume`` goes on with a checkpoint of a run."""
    folder = task.run / "checkpoints"
    precision = _native_precision(settings.accelerator) if settings.precision == "auto" else settings.precision
    parts = [*loggers], [c for c in callbacks if loggers or not isinstance(c, NEED_A_LOGGER)]
    signals = Signals()
    between = BetweenSteps(folder / "last.ckpt", train, minutes=settings.checkpoint_minutes, signals=signals)
    parts[1].insert(0, between)
    trainer = _trainer(task, recipe, settings, precision, resume, parts, steps=len(train))
    _require_cores(trainer)
    require_a_batch(train, trainer.world_size)
    # On the CPU, bfloat16 and channels-last together make oneDNN's depthwise gradient on 1 x 1 maps read memory that nobody
    # wrote (torch 2.13): NaN in one step of five at 64 pixels, in one of ten at 224. Either alone is sound, and so are both
    # in a segmenter, whose maps have more cells: a sixth less time than bfloat16 alone.
    broken = task.kind.tiny_maps and trainer.strategy.root_device.type == "cpu" and precision.startswith("bf16")
    if settings.channels_last and not broken:
        in_format(task.predictor, torch.channels_last)
    log.info("Training on %s with precision %s.", trainer.strategy.root_device, precision)
    start = time.perf_counter()
    if resume and trainer.is_global_zero:  # for one who resumes this run in its turn
        copy_whole(resume, folder / "last.ckpt")
        earlier = resume.parent.parent / "metrics.csv"
        continue_history(loggers, earlier, steps_of(resume), validated=not lacks_validation(resume))
    _run(trainer, task, train, val, resume, signals)
    minutes = (time.perf_counter() - start) / 60
    return Trained(
        _best(folder),
        trainer.current_epoch,
        trainer.global_step,
        minutes,
        trainer.strategy.root_device,
        trainer.is_global_zero,
    )


def ended(resume: Path, settings: TrainerSettings) -> Trained:
    """The run of the checkpoint ``resume``, which has all its epochs; its time is that between its first file and the last."""
    run = resume.parent.parent
    begin, end = (file.stat().st_mtime if file.is_file() else 0.0 for file in (run / "config.yaml", resume))
    minutes = (end - begin) / 60 if 0 < begin < end else 0.0
    device = chosen_device("cpu" if settings.accelerator == "cpu" else "auto")
    return Trained(_best(resume.parent), epochs_of(resume), steps_of(resume), minutes, device, leads=True)


def _best(folder: Path) -> Path | None:
    return next((path for name in ("best", "last") if (path := folder / f"{name}.ckpt").is_file()), None)


def _trainer(
    task: Learner,
    recipe: Recipe,
    settings: TrainerSettings,
    precision: str,
    resume: Path | None,
    beside: tuple[list[Logger], list[Callback]],
    *,
    steps: int,
) -> L.Trainer:
    """Lightning's trainer with the loggers and callbacks ``beside`` its own; ``steps`` are the batches of an epoch.

    Raises UserError for settings that it refuses.
    """
    loggers, callbacks = beside
    own = _callbacks(task.run / "checkpoints", f"val/{task.kind.monitor}", recipe, settings, resume)
    profiler = PROFILERS[settings.profiler](dirpath=task.run, filename="profile") if settings.profiler else None
    try:
        return L.Trainer(
            max_epochs=settings.max_epochs,
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy=settings.strategy,
            precision=cast(Any, precision),  # a name, which the trainer checks
            accumulate_grad_batches=settings.accumulate_grad_batches,
            check_val_every_n_epoch=settings.check_val_every_n_epoch,
            limit_train_batches=settings.limit_train_batches,
            limit_val_batches=settings.limit_val_batches,
            gradient_clip_val=recipe.clip_norm,
            deterministic=settings.deterministic,
            log_every_n_steps=max(1, min(settings.log_every_n_steps, steps)),
            fast_dev_run=settings.fast_dev_run,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the sampler of the training set splits itself
            logger=loggers or False,
            callbacks=[*own, *callbacks],
            profiler=profiler,
            plugins=[WholeCheckpoints(task.run / "checkpoints"), *_cluster()],
            enable_model_summary=False,
        )
    except REFUSALS as error:
        reason = re.split(r"(?<=[a-z)`'])[.!](\s|$)", " ".join(str(error).split()))[0].rstrip(".!")
        asked = f"trainer.accelerator={settings.accelerator}, devices={settings.devices}, strategy={settings.strategy}"
        raise UserError(
            f"{asked} and precision={precision} cannot be used here ({reason}): change one of them."
        ) from error


def _require_cores(trainer: L.Trainer) -> None:
    """Raise UserError before more processes are started on the CPU than it has cores; two are for trials anywhere."""
    cores = max(2, os.cpu_count() or 1)
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cores:
        raise UserError(
            f"trainer.devices asks for {trainer.num_devices} processes on the CPU, which has {cores} cores: set fewer."
        )


def _cluster() -> list[SLURMEnvironment]:
    """SLURM without Lightning's own requeueing, which saves in the middle of a step."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _run(
    trainer: L.Trainer, task: Learner, train: DataLoader, val: DataLoader, resume: Path | None, signals: Signals
) -> None:
    """``trainer.fit``, which ends with KeyboardInterrupt or Terminated where a signal ended it."""
    try:
        trainer.fit(task, train, val, ckpt_path=resume, weights_only=True)
    except BaseException as error:
        bar = trainer.progress_bar_callback
        if isinstance(bar, TQDMProgressBar):
            with suppress(TypeError):  # where it was not shown yet
                bar.train_progress_bar.close()  # ends its line, before the sentence on what happened
        if not task.begun and trainer.is_global_zero:
            remove_empty_logs(task.run, resumed=resume is not None)
        if trainer.received_sigterm:  # before the first step
            raise Terminated("SIGTERM") from error
        if signals.asked is not None and not isinstance(
            error, Terminated | SystemExit
        ):  # has ended the loader's processes
            end(signals.asked)
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        signals.restore()


def _native_precision(accelerator: str) -> str:
    """bf16-mixed where the device has instructions for it, else 32-true: bfloat16 imitated is slower than float32."""
    if torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an early torch does not tell
        native = any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))
    else:
        native = False
    return "bf16-mixed" if native else "32-true"


def _callbacks(
    folder: Path, monitor: str, recipe: Recipe, settings: TrainerSettings, resume: Path | None
) -> list[Callback]:
    callbacks: list[Callback] = [training_bar()]
    if recipe.ema_decay:
        callbacks.append(EMA(recipe.ema_decay))
    if settings.early_stopping:
        callbacks.append(EarlyStopping(monitor, mode="max", patience=settings.early_stopping))
    # Saved after the training epoch, not after its validation, so that a resumed run starts with a whole epoch.
    always: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    every = settings.check_val_every_n_epoch
    best: dict[str, Any] = {"filename": "best", "monitor": monitor, "mode": "max", "every_n_epochs": every}
    callbacks.append(BestCheckpoint(resumed=resume, **best, **always))
    callbacks.append(ModelCheckpoint(filename="last", **always))
    return callbacks
