"""What a training leaves on the disk at any moment: a whole checkpoint, also after a kill, on a full disk, and on resuming."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import pytest
import torch
from recipes import plain_recipe

from seg_det import checkpoint
from seg_det.data.imagefolder import read_imagefolder
from seg_det.data.plain_transforms import flip_only
from seg_det.errors import UserError
from seg_det.losses import label_loss
from seg_det.training.run import Training, train_model
from seg_det.training.saving import WholeCheckpoints
from seg_det.training.start import Start
from seg_det.training.trainer import TrainerSettings

MODEL = {
    "_target_": "seg_det.models.classifier.Classifier",
    "backbone": {"_target_": "seg_det.models.backbones.mobilenet_v1.MobileNetV1", "width": 0.25},
}
# Saves what LAST holds as epoch 7, slowly; says when half of it is written.
SLOW = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
from seg_det import checkpoint

class Slow:
    def __init__(self, file):
        self.file = file
    def write(self, data):
        written = self.file.write(data)
        if self.file.tell() > 400_000:
            self.file.flush()
            print("half", flush=True)
            time.sleep(600)
        return written
    def __getattr__(self, name):
        return getattr(self.file, name)

whole, last = checkpoint.whole, Path(sys.argv[1])
@contextmanager
def slow(path):
    with whole(path) as file:
        yield Slow(file)
checkpoint.whole = slow
checkpoint.save({**checkpoint.read(last), "epoch": 7}, last)
"""


def setup(folder, run, *, epochs=1, **changes):
    run.mkdir(parents=True, exist_ok=True)
    train, val = (read_imagefolder(root=folder, split=split) for split in ("train", "val"))
    values = {
        "kind": "classification",
        "name": "classifier_v1_colours",
        "run": run,
        "config": "",
        "model": MODEL,
        "train": train,
        "val": val,
        "augmentation": flip_only((32, 32), kind="classification"),
        "input_size": (32, 32),
        "batch_size": 12,
        "num_workers": 0,
        "loss": label_loss,
        "postprocess": {},
        "recipe": plain_recipe(lr=0.01, ema_decay=0.9),
        "trainer": TrainerSettings(max_epochs=epochs, accelerator="cpu"),
        "start": Start(),
        "seed": 0,
    }
    return Training(**{**values, **changes})


@pytest.fixture(scope="module")
def finished(tiny_imagefolder, tmp_path_factory):
    """The run folder of one epoch, trained where there is no temporary folder."""
    run, before = tmp_path_factory.mktemp("finished") / "run", tempfile.tempdir
    tempfile.tempdir = str(run / "nowhere")
    try:
        train_model(setup(tiny_imagefolder, run))
    finally:
        tempfile.tempdir = before
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of its checkpoints."""
    (tmp_path / "first" / "checkpoints").mkdir(parents=True)
    for path in (finished / "checkpoints").iterdir():
        (tmp_path / "first" / "checkpoints" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "first"


def test_training_saves_without_a_temporary_folder(finished):
    folder = finished / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    for path in folder.iterdir():
        content = checkpoint.read(path)
        assert content["checksum"] == "sha256" and "current_model_state" in content and content["epoch"] == 0


def test_a_kill_while_saving_leaves_the_earlier_checkpoint(run, tiny_imagefolder, tmp_path):
    last, part = (run / "checkpoints" / name for name in ("last.ckpt", ".last.ckpt.part"))
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, last], stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": "/nowhere"}
    )
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert 400_000 < part.stat().st_size < last.stat().st_size
    assert checkpoint.find(run, prefer="last") == last and checkpoint.read(last)["epoch"] == 0
    train_model(setup(tiny_imagefolder, tmp_path / "second", epochs=2, resume=last))
    assert checkpoint.read(tmp_path / "second" / "checkpoints" / "last.ckpt")["epoch"] == 1
    checkpoint.save(checkpoint.read(last), last)
    assert not part.exists() and checkpoint.read(last)["epoch"] == 0


class Full:
    def __init__(self, file):
        self.file = file

    def write(self, data):
        if self.file.tell() + len(data) > 300_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def test_a_disk_that_fills_up_ends_with_a_sentence(tiny_imagefolder, tmp_path, monkeypatch):
    whole, saved = checkpoint.whole, []

    @contextmanager
    def filling(path):
        saved.append(path)
        with whole(path) as file:
            yield file if len(saved) <= 2 else Full(file)  # best and last of the first epoch

    monkeypatch.setattr(checkpoint, "whole", filling)
    with pytest.raises(
        UserError, match=r"\.ckpt cannot be written \(No space left on device\): .* file is as it was\.$"
    ):
        train_model(setup(tiny_imagefolder, tmp_path / "run", epochs=2))
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert checkpoint.read(folder / "last.ckpt")["epoch"] == checkpoint.read(folder / "best.ckpt")["epoch"] == 0


def test_a_checkpoint_of_before_checksums_resumes(run, tiny_imagefolder, tmp_path):
    last, best = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    for path in (last, best):
        content = checkpoint.read(path)
        del content["checksum"]
        torch.save(content, path)
    train_model(setup(tiny_imagefolder, tmp_path / "second", epochs=2, resume=last))
    assert checkpoint.read(tmp_path / "second" / "checkpoints" / "last.ckpt")["epoch"] == 1


def test_files_that_a_hostile_checkpoint_names_are_left_alone(run, tiny_imagefolder, tmp_path):
    last, new = run / "checkpoints" / "last.ckpt", tmp_path / "second" / "checkpoints"
    (secret := tmp_path / "secret").write_text("secret")
    (victim := tmp_path / "victim").write_text("victim")
    content = checkpoint.read(last)
    for state in content["callbacks"].values():
        if "best_model_path" in state:
            named = str(secret) if state["monitor"] else f"local://{victim}"
            state |= {"best_model_path": named, "kth_best_model_path": named, "dirpath": str(new)}
            if state["monitor"]:  # a score that no epoch reaches
                state |= {"best_model_score": torch.tensor(2.0), "best_k_models": {named: torch.tensor(2.0)}}
    checkpoint.save(content, last)
    train_model(setup(tiny_imagefolder, tmp_path / "second", epochs=2, resume=last))
    assert victim.read_text() == "victim" and secret.read_text() == "secret"
    assert (new / "best.ckpt").read_bytes() == (run / "checkpoints" / "best.ckpt").read_bytes()


def test_nothing_outside_of_the_checkpoints_is_removed(tmp_path):
    plugin = WholeCheckpoints(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    for path in (victim := tmp_path / "victim", own := tmp_path / "checkpoints" / "last.ckpt"):
        path.touch()
    for name in (str(victim), f"local://{victim}", f"{tmp_path}/checkpoints/../victim", str(own)):
        plugin.remove_checkpoint(name)
    assert victim.exists() and not own.exists()


def test_a_damaged_best_checkpoint_is_left_behind(run, tiny_imagefolder, tmp_path, caplog):
    best, last = (run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    best.write_bytes(best.read_bytes()[:-20])
    train_model(setup(tiny_imagefolder, tmp_path / "second", epochs=2, resume=last))
    assert f"The best checkpoint of the resumed run is left behind: {best} is damaged" in caplog.text
    assert checkpoint.read(tmp_path / "second" / "checkpoints" / "best.ckpt")["epoch"] == 1


def test_the_best_checkpoint_comes_along_when_the_run_was_moved(run, tiny_imagefolder, tmp_path):
    best, last = (run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    content = checkpoint.read(last)
    for state in content["callbacks"].values():
        if state.get("monitor"):
            state["best_model_score"] = torch.tensor(2.0)  # which no epoch reaches
    checkpoint.save(content, last)
    train_model(setup(tiny_imagefolder, tmp_path / "second", epochs=2, resume=last))
    assert (tmp_path / "second" / "checkpoints" / "best.ckpt").read_bytes() == best.read_bytes()
