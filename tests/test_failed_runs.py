"""What a run leaves that failed, was interrupted or came second, and how it says so."""

import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import run, run_in_new_process
from omegaconf import OmegaConf

from seg_det.commands import composing, folders, running
from seg_det.commands import train as train_command
from seg_det.errors import Terminated
from seg_det.files import CannotWrite
from seg_det.training.learner import Learner

FAST = [
    "dataset=shapes", "backbone.width=0.25", "backbone.weights=none", "data.size=64", "data.batch_size=8", "data.num_workers=0",
    "trainer.max_epochs=1", "trainer.accelerator=cpu", "dataset.train_images=24", "dataset.val_images=8",
]  # fmt: skip


@pytest.fixture(autouse=True)
def state():
    yield
    folders.forget()


@pytest.mark.parametrize(
    "mistake",
    [["task.model.taps=[c9]"], ["preview=true", "task=classifier"], ["data.mean=[1]"],
        ["backbone.bn_eps=0"],
        ["dataset.train=3"],
        ["recipe.eps=-1"], ["hydra.run.dir=own/run", "seed=abc"]],
)  # fmt: skip
def test_a_failed_run_leaves_no_folder(tiny_shapes, tmp_path, mistake):
    done = run(tmp_path, "train", f"dataset.root={tiny_shapes}", *FAST, *mistake, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and not list(tmp_path.iterdir())


def test_a_failure_in_the_first_step_leaves_none_either(tiny_shapes, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("a fault")

    monkeypatch.setattr(Learner, "training_step", fail)
    (tmp_path / "run").mkdir()
    done = run(tmp_path, "train", f"dataset.root={tiny_shapes}", *FAST, "hydra.run.dir=run", check=False)
    assert done.returncode == 1 and "ValueError: a fault" in done.stderr
    assert not list((tmp_path / "run").iterdir())  # which was there before


def test_what_has_a_result_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = folders.open_folder("train", "name", OmegaConf.create())
    (folder / "checkpoints").mkdir()
    folders.release()
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "config.yaml"]
    other = folders.open_folder("evaluate", "name", OmegaConf.create())
    folders.release()
    assert not other.exists() and [path.name for path in (tmp_path / "runs").iterdir()] == ["train"]


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")]
)
def test_a_signal_ends_a_training(tiny_shapes, tmp_path, monkeypatch, number, status, said):
    def end(learner, *_):
        learner.begun = True
        if learner.current_epoch == 1:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Learner, "on_train_batch_end", end)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    words = [
        *FAST,
        "trainer.max_epochs=3",
        "trainer.limit_val_batches=1",
        "recipe.ema_decay=null",
        "hydra.run.dir=my run",
    ]
    try:
        done = run(tmp_path, "train", f"dataset.root={tiny_shapes}", *words, check=False)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert done.returncode == status and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"{said}; resume with python train.py 'resume=my run'"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("saved", "resumed", "note"),
    [
        (False, None, "no checkpoint was written yet"),
        (False, "old/checkpoints/last.ckpt", "resume with python train.py resume=old"),
        (True, "old/checkpoints/last.ckpt", "resume with python train.py resume=run"),
    ],
)
def test_what_an_interrupted_run_can_do_next(tmp_path, monkeypatch, saved, resumed, note):
    def end(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "train_model", end)
    monkeypatch.chdir(tmp_path)
    if saved:
        Path("run/checkpoints").mkdir(parents=True)
        Path("run/checkpoints/last.ckpt").touch()
    with pytest.raises(KeyboardInterrupt) as error:
        train_command._trained(SimpleNamespace(run=Path("run"), resume=resumed and Path(resumed)))
    assert error.value.__notes__[0].startswith(note)


@pytest.mark.parametrize(
    ("error", "status", "said"), [(KeyboardInterrupt, 130, "interrupted"), (Terminated, 143, "ended by")]
)
def test_a_signal_before_there_is_anything(tmp_path, monkeypatch, error, status, said):
    def end(config):
        folders.open_folder("train", "name", config)
        if error is Terminated:
            os.kill(os.getpid(), signal.SIGTERM)
        raise error

    monkeypatch.setattr(running, "importlib", SimpleNamespace(import_module=lambda _: SimpleNamespace(main=end)))
    done = run(tmp_path, "train", *FAST, check=False)
    assert done.returncode == status and done.stderr.startswith(said) and not list(tmp_path.iterdir())


def test_the_second_run_of_a_second_waits_for_the_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = iter(["12-00-00", "12-00-00", "12-00-00", "12-00-01"])
    monkeypatch.setattr(folders, "new_folder", lambda verb, _: folders.RUNS / verb / next(names))
    found = [folders.open_folder("train", "name", OmegaConf.create({"seed": i})).name for i in range(2)]
    assert found == ["12-00-00", "12-00-01"]
    assert "seed: 0" in (tmp_path / "runs" / "train" / "12-00-00" / "config.yaml").read_text()


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    with pytest.raises(CannotWrite, match=r"cannot be made \(Not a directory\).*hydra.run.dir=FOLDER"):
        folders.open_folder("evaluate", "name", OmegaConf.create())


def test_a_terminal_without_the_letters(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    composing._print_anything()
    print("größe", flush=True)
    assert sys.stdout.buffer.getvalue() == b"gr\\xf6\\xdfe\n"


@pytest.mark.slow  # train, evaluate and resume; test_split_commands evaluates from elsewhere too
def test_a_run_is_evaluated_and_resumed_from_another_folder(tiny_shapes, tmp_path):
    shutil.copytree(tiny_shapes, tmp_path / "a" / "größe (1), neu")
    done = run(tmp_path / "a", "train", "dataset.root=größe (1), neu", *FAST, "trainer.limit_train_batches=1")
    assert "Traceback" not in done.stderr
    (found,) = (tmp_path / "a" / "runs" / "train" / "ssdlite_v2_shapes").iterdir()
    assert OmegaConf.load(found / "config.yaml").dataset.root == str(tmp_path / "a" / "größe (1), neu")
    metrics = json.loads((found / "metrics.json").read_text())
    assert metrics["command"].startswith("python train.py 'dataset.root=größe (1), neu' dataset=shapes")
    for name in ("metrics.json", "report.html"):
        assert str(tmp_path) not in (found / name).read_text()
    assert str(tmp_path) not in json.dumps(torch.load(found / "checkpoints" / "best.ckpt", weights_only=True)["card"])
    (tmp_path / "b").mkdir()
    run(tmp_path / "b", "evaluate", f"model={found}", "hydra.run.dir=my figures")
    assert json.loads((tmp_path / "b" / "my figures" / "metrics.json").read_text())["coco"] == metrics["coco"]
    for words, sentence in (
        (
            ["backbone.width=0.5"],
            "A resumed run keeps its own model, whose backbone.width is 0.25: leave out backbone.width=0.5.",
        ),
        (["+data.other=1"], "The resumed run has no key data.other to set: leave out +data.other=1."),
        ([], "has 1 epochs behind it, all that trainer.max_epochs asks for: set more."),
    ):
        refused = run(tmp_path / "b", "train", f"resume={found}", *words, check=False)
        assert sentence in refused.stderr and sorted(p.name for p in (tmp_path / "b").iterdir()) == ["my figures"]

    for name in ("metrics.json", "report.html"):  # as if it had been killed in its evaluation
        (found / name).unlink()
    done = run(tmp_path / "b", "train", f"resume={found}")
    assert f"run folder  {found}" in done.stdout and (found / "report.html").is_file()
    again = json.loads((found / "metrics.json").read_text())
    assert again["coco"] == metrics["coco"] and again["training"]["steps"] == metrics["training"]["steps"] == 1
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["my figures"]


@pytest.mark.slow
def test_two_processes_take_the_same_path_and_folder(tiny_shapes, tmp_path):
    shutil.copytree(tiny_shapes, tmp_path / "größe (1), it's")
    two = ["trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=4", "hydra.run.dir=my run"]
    fast = [word for word in FAST if not word.startswith("data.batch")]
    done = run_in_new_process(tmp_path, "train", "dataset.root=größe (1), it's", *fast, *two)
    assert "Traceback" not in done.stderr and (tmp_path / "my run" / "metrics.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["größe (1), it's", "my run"]
