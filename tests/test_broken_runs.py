"""The commands on runs with a damaged checkpoint, and on images above the bound."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
SMALL = ["backbone.width=0.25", "data.size=32", "data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu"]


def command(folder, verb, *arguments, **environment):
    return subprocess.run(
        [sys.executable, ROOT / f"{verb}.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def run(tiny_imagefolder, tmp_path_factory):
    """A run whose both checkpoints are sound, trained without a temporary folder."""
    folder = tmp_path_factory.mktemp("work")
    data = ["task=classifier", "backbone=v1", "dataset=imagefolder", f"dataset.root={tiny_imagefolder}"]
    done = command(folder, "train", *data, *SMALL, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_resume_goes_on_from_the_newest_sound_checkpoint(run):
    last = run / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(b"")  # as a kill in the middle of a copy left it
    done = command(run.parent, "train", "resume=run", "trainer.max_epochs=2", "hydra.run.dir=second")
    assert done.returncode == 0, done.stderr
    said = (
        "Resuming from run/checkpoints/best.ckpt, the newest sound checkpoint of the run: run/checkpoints/last.ckpt is"
    )
    assert said in done.stdout + done.stderr
    assert json.loads((run.parent / "second" / "metrics.json").read_text())["training"]["epochs"] == 2
    named = command(run.parent, "train", "resume=run/checkpoints/last.ckpt", "trainer.max_epochs=2")
    assert named.returncode == 1 and "Traceback" not in named.stderr
    assert "or name run/checkpoints/best.ckpt, which is sound." in named.stderr
    last.write_bytes(whole)


@pytest.mark.parametrize("verb", ["evaluate", "export"])
def test_another_checkpoint_is_not_measured_silently(run, verb):
    best = run / "checkpoints" / "best.ckpt"
    whole = best.read_bytes()
    best.write_bytes(whole[:5000] + b"damage" + whole[5006:])
    done = command(run.parent, verb, "model=run")
    best.write_bytes(whole)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: run/checkpoints/best.ckpt is damaged (its checksum does not fit): get it again, or name "
        "run/checkpoints/last.ckpt, which is sound."
    )


@pytest.mark.parametrize("verb", ["evaluate", "export"])
def test_the_bound_on_pixels_reaches_the_readers(run, verb):
    done = command(run.parent, verb, "model=run", "data.max_pixels=2000")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "pixels are read; data.max_pixels=2400 raises that)" in done.stderr.splitlines()[-1]
