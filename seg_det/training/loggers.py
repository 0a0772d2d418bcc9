"""Where a training's figures and drawn predictions go: the choices of conf/logger."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from seg_det.errors import UserError
from seg_det.registry import LOGGERS

FLUSHED = 50  # rows of metrics.csv between two writes
DATABASE = "sqlite:///mlflow.db"


@LOGGERS.register
def csv_logger(*, run: Path, name: str) -> Logger:
    """``metrics.csv`` in the run folder."""
    return CSVLogger(run, name="", version="", flush_logs_every_n_steps=FLUSHED)


@LOGGERS.register
def tensorboard_logger(*, run: Path, name: str) -> Logger:
    """``tensorboard/`` in the run folder."""
    return TensorBoardLogger(run, name="tensorboard", version="")


@LOGGERS.register
def mlflow_logger(*, run: Path, name: str, tracking_uri: str | None = None, experiment: str = "seg_det") -> Logger:
    """A run ``name`` of MLflow's ``experiment``. Raises UserError without the extra."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", DATABASE)
    try:
        return MLFlowLogger(experiment, run_name=name, tracking_uri=uri, tags={"run_folder": run.as_posix()})
    except ModuleNotFoundError as error:
        raise _lacking("mlflow") from error


@LOGGERS.register
def wandb_logger(*, run: Path, name: str, project: str = "seg_det", offline: bool = False) -> Logger:
    """A run ``name`` of a project of Weights & Biases. Raises UserError without the extra."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    run.mkdir(parents=True, exist_ok=True)
    try:
        return WandbLogger(name, save_dir=run, offline=offline, project=project)
    except ModuleNotFoundError as error:
        raise _lacking("wandb") from error


def log_images(loggers: Sequence[Logger], images: Mapping[str, np.ndarray], step: int) -> None:
    """Give ``images``, u8 [H, W, 3] by name, to the loggers that take some."""
    for logger in loggers:
        for name, image in images.items():
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, image, step, dataformats="HWC")
            elif isinstance(logger, MLFlowLogger):
                logger.experiment.log_image(logger.run_id, image, f"{name}/step_{step:07d}.png")
            elif isinstance(logger, WandbLogger):
                logger.log_image(name, [image], step=step)


def _lacking(extra: str) -> UserError:
    return UserError(f'logger={extra} needs a package that is not installed: pip install "seg_det[{extra}]".')
