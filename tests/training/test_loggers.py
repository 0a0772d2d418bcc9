"""Loggers, callbacks and profilers as the configuration names them."""

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from commands import run

from seg_det.errors import UserError
from seg_det.training import loggers
from seg_det.training.callbacks import drawn_predictions, timer
from seg_det.training.loggers import log_images, mlflow_logger, tensorboard_logger, wandb_logger
from seg_det.training.trainer import TrainerSettings

TINY = ("data.size=64", "backbone.width=0.25", "backbone.weights=none", "data.num_workers=0", "trainer.max_epochs=1")
DATA = ("dataset.train_images=8", "dataset.val_images=4", "data.batch_size=4")
IMAGE = np.full((4, 6, 3), 200, np.uint8)


@pytest.mark.slow  # a database is made
def test_figures_and_drawn_predictions_go_to_every_logger(tmp_path):
    chosen = (
        "logger=[csv,tensorboard,mlflow]",
        "callbacks=[drawn_predictions,learning_rate]",
        "trainer.profiler=simple",
    )
    run(tmp_path, "train", *TINY, *DATA, *chosen, f"logger.mlflow.tracking_uri=sqlite:///{tmp_path}/m.db")
    (folder,) = (tmp_path / "runs" / "train" / "ssdlite_v2_shapes").iterdir()
    header = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/AP", "lr/pg1"} <= set(header)
    (events,) = (folder / "tensorboard").glob("events.*")
    assert b"predictions/0" in events.read_bytes()
    assert "run_training_epoch" in (folder / "fit-profile.txt").read_text()
    with sqlite3.connect(tmp_path / "m.db") as database:
        assert {"val/AP", "train/loss"} <= {key for (key,) in database.execute("select key from metrics")}
        assert [name for (name,) in database.execute("select name from runs")] == ["ssdlite_v2_shapes"]


def test_images_go_to_mlflow(tmp_path, monkeypatch):
    seen = []
    logger = mlflow_logger(run=Path("some"), name="some", tracking_uri=f"sqlite:///{tmp_path}/none.db")
    client = SimpleNamespace(log_image=lambda run_id, image, name: seen.append((run_id, image.shape, name)))
    monkeypatch.setattr(type(logger), "experiment", client)
    monkeypatch.setattr(type(logger), "run_id", "7")
    log_images([logger], {"predictions/0": IMAGE}, step=12)
    assert seen == [("7", (4, 6, 3), "predictions/0/step_0000012.png")]


def test_without_loggers_there_is_still_a_report(tmp_path):
    run(tmp_path, "train", *TINY, *DATA, "logger=[]")
    (folder,) = (tmp_path / "runs" / "train" / "ssdlite_v2_shapes").iterdir()
    assert (folder / "report.html").is_file() and not (folder / "metrics.csv").exists()


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = wandb_logger(run=tmp_path, name="some", offline=True)
    logger.log_metrics({"val/AP": 0.5}, step=1)
    log_images([logger], {"predictions/0": IMAGE}, step=2)
    wandb.finish()
    assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert list((tmp_path / "wandb").rglob("*.png"))


def test_tensorboard_takes_images(tmp_path):
    logger = tensorboard_logger(run=tmp_path, name="some")
    log_images([logger], {"predictions/0": IMAGE}, step=1)
    logger.experiment.flush()
    assert any(b"predictions/0" in path.read_bytes() for path in (tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize(("name", "build"), [("MLFlowLogger", mlflow_logger), ("WandbLogger", wandb_logger)])
def test_a_logger_that_is_not_installed_names_its_extra(tmp_path, monkeypatch, name, build):
    def missing(*_, **__):
        raise ModuleNotFoundError("none")

    monkeypatch.setattr(loggers, name, missing)
    with pytest.raises(UserError, match=r'pip install "seg_det\[(mlflow|wandb)\]"'):
        build(run=tmp_path, name="some")


def test_values_that_cannot_be():
    with pytest.raises(UserError, match=r"trainer\.profiler must be one of simple, advanced, pytorch"):
        TrainerSettings(profiler="fast")
    with pytest.raises(UserError, match=r"callbacks\.timer\.hours must be positive, got 0"):
        timer(hours=0)
    with pytest.raises(UserError, match=r"callbacks\.drawn_predictions\.images must be at least 1, got 0"):
        drawn_predictions(images=0)
