"""What a command prints lies in log.txt of its run folder."""

import io
import re
import sys

import pytest
from commands import run

from seg_det.run_log import Recorded, RunLog, recorded, unrecorded

FAST = (
    "backbone.width=0.35", "data.size=64", "data.batch_size=8", "data.num_workers=0", "trainer.max_epochs=1",
    "trainer.limit_train_batches=1", "recipe.backbone_weights=null", "logger=[csv]", "callbacks=[]",
)  # fmt: skip


def kept(folder):
    """The lines of a log without their times."""
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  .*\S", line) for line in lines)
    return [line[21:] for line in lines]


def test_complete_lines_without_what_a_bar_overwrote():
    lines, stream = [], io.StringIO()
    recorder = Recorded(stream, lines.append)
    print("one\ntwo", file=recorder)
    recorder.write("\rbar 10%")
    recorder.write("\rbar 90%\r       \r")
    print("a problem", file=recorder)
    recorder.write("windows\r\nrest")
    assert lines == ["one", "two", "a problem", "windows"]
    assert stream.getvalue() == "one\ntwo\n\rbar 10%\rbar 90%\r       \ra problem\nwindows\r\nrest"
    assert unrecorded(recorder) is stream and unrecorded(stream) is stream and not recorder.isatty()


def test_lines_wait_for_the_folder_and_are_appended(tmp_path):
    log = RunLog()
    log.keep("früh\n\nspäter  ")
    log.open(tmp_path)
    log.keep("now")
    log.end()
    log.keep("of the next run")
    assert kept(tmp_path) == ["früh", "später", "now"]
    log.open(tmp_path / "removed")
    log.keep("lost")
    assert not (tmp_path / "removed").exists()
    log.open(tmp_path)
    log.keep("again")
    assert kept(tmp_path) == ["früh", "später", "now", "again"]


def test_streams_are_given_back():
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError), recorded():
        assert unrecorded(sys.stdout) is before[0] and unrecorded(sys.stderr) is before[1]
        raise ValueError
    assert (sys.stdout, sys.stderr) == before


@pytest.fixture(scope="module")
def trained(tiny_shapes, tmp_path_factory):
    """A folder with run/ in it, and what its training printed."""
    folder = tmp_path_factory.mktemp("logged")
    return folder, run(folder, "train", f"dataset.root={tiny_shapes}", *FAST, "hydra.run.dir=run")


def test_of_a_training(trained):
    folder, done = trained
    lines = kept(folder / "run")
    assert lines == [line.rstrip() for line in done.stdout.splitlines() if line.strip()]
    assert any("match no anchor by an IoU of 0.5" in line for line in lines)
    assert (
        "Training on cpu with precision 32-true." in lines and lines[-1] == "next        python evaluate.py model=run"
    )


def test_without_a_terminal_a_training_prints_a_line_an_epoch(trained):
    assert "\r" not in trained[1].stdout + trained[1].stderr
    assert re.fullmatch(r"epoch 1 of 1 ended, train/loss [\d.]+, .*val/AP [\de.-]+.*\n", trained[1].stderr)


def test_of_an_evaluation(trained, tiny_shapes):
    done = run(trained[0], "evaluate", "model=run", f"dataset.root={tiny_shapes}", "hydra.run.dir=measured")
    assert done.stderr == "" and "\r" not in done.stdout
    lines = kept(trained[0] / "measured")
    assert "was recognised by shapes.json" in lines[0] and "measuring shapes val on cpu" in lines


def test_of_an_error_after_the_run_began(trained, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    done = run(trained[0], "predict", "model=run", f"source={tmp_path}", "hydra.run.dir=predicted", check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert kept(trained[0] / "predicted")[-1] == done.stderr.strip()
