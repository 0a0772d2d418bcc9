"""Where a training's figures and drawn predictions go: the choices of conf/logger."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from seg_det.errors import UserError
from seg_det.files import write_whole
from seg_det.registry import LOGGERS

log = logging.getLogger(__name__)
FLUSHED = 50  # rows of metrics.csv between two writes
DATABASE = "sqlite:///mlflow.db"


class WholeHistory(ExperimentWriter):
    """Rewrites ``metrics.csv`` whole or not at all when a column is added."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=fieldnames)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, text.getvalue())


class History(CSVLogger):
    """Lightning's CSVLogger, whose file outlives a kill."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """What writes the file."""
        if self._experiment is None:
            self._experiment = WholeHistory(log_dir=self.log_dir)
        return self._experiment  # type: ignore[return-value] # annotated as its base class


@LOGGERS.register
def csv_logger(*, run: Path, name: str) -> Logger:
    """``metrics.csv`` in the run folder."""
    return History(run, name="", version="", flush_logs_every_n_steps=FLUSHED)


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


def continue_history(loggers: Sequence[Logger], earlier: Path, steps: int, *, validated: bool = True) -> None:
    """Give the rows of a resumed run's metrics.csv, those of its first ``steps`` steps, to the logger that writes that file.

    Unless ``validated``, the validation after the last of these steps is left out: it comes again.
    They are written at once, so that they are there too when this run is killed and resumed in its turn.
    """
    for logger in loggers:
        if isinstance(logger, CSVLogger) and earlier.is_file():
            logger.experiment.metrics += _rows(earlier, steps, validated=validated)
            logger.save()


def _rows(history: Path, steps: int, *, validated: bool) -> list[dict[str, str]]:
    """The rows of the first ``steps`` steps; none, after a warning, of a file that cannot be read.

    A last row without an end of line was cut off by a kill, and is of a later step than the last checkpoint.
    """
    try:
        text = history.read_bytes().decode()
        whole = io.StringIO(text[: text.rfind("\n") + 1], newline="")
        rows = [row for row in csv.DictReader(whole) if int(row["step"]) < steps]
        if not validated:
            rows = [row for row in rows if int(row["step"]) < steps - 1 or not _of_validation(row)]
        return [{key: value for key, value in row.items() if key} for row in rows]  # without cells beyond the heading
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        log.warning(
            "The curves in %s cannot be read (%s), so those of this run begin at its own start.", history, error
        )
        return []


def _of_validation(row: Mapping[str, str]) -> bool:
    return any(value and key and key.startswith("val/") for key, value in row.items())


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
