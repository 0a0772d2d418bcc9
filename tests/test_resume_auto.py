"""Which run is resumed that nobody names: with resume=auto, and in a job that SLURM requeued."""

import os
import stat
from pathlib import Path

import pytest
from commands import run
from hydra.core.hydra_config import HydraConfig

from seg_det.commands import slurm
from seg_det.commands.unfinished import newest_unfinished
from seg_det.errors import UserError


def made(name, second, *, finished=False, resume="null"):
    folder = Path("runs/train/ssdlite_v2_shapes") / name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"seed: 0\nresume: {resume}\n")
    (folder / "checkpoints" / "last.ckpt").touch()
    os.utime(folder / "checkpoints" / "last.ckpt", (second, second))
    if finished:
        (folder / "report.html").touch()
    return folder


def test_the_newest_unfinished_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = made("1", 10)
    made("2", 30, finished=True)
    second = made("3", 20)
    assert newest_unfinished() == second
    made("4", 40, finished=True, resume=f"{second}/checkpoints/last.ckpt")
    assert newest_unfinished() == first  # the other one was resumed by a run that ended
    (first / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(UserError, match="resume=auto found no unfinished run below runs/train"):
        newest_unfinished()


def test_nothing_to_resume_is_one_sentence(tmp_path):
    done = run(tmp_path, "train", "resume=auto", check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: resume=auto found no unfinished run")
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of SLURM in an own folder, whose scontrol writes down what it is asked."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv(slurm.FOUND, "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def say(monkeypatch, *words):
    overrides = type("Overrides", (), {"task": list(words)})
    monkeypatch.setattr(HydraConfig, "get", lambda: type("Config", (), {"overrides": overrides}))


def test_a_requeued_job_resumes_the_run_of_the_same_command(job, monkeypatch):
    first, second = made("1", 10), made("2", 20)
    for word, folder in (("seed=1", first), ("seed=2", second)):
        say(monkeypatch, word)
        slurm.remember(folder)
        assert slurm.requeued() is None  # it was not begun again yet
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert slurm.requeued() == second
    say(monkeypatch, "seed=1")
    assert slurm.requeued() == first
    monkeypatch.setenv("LOCAL_RANK", "1")
    slurm.remember(second)
    assert slurm.requeued() == first  # what the first process found
    monkeypatch.delenv("LOCAL_RANK")
    (first / "report.html").touch()
    assert slurm.requeued() is None
    monkeypatch.delenv("SLURM_JOB_ID")
    assert slurm.requeued() is None and slurm.requeue() == ""


def test_scontrol_is_asked(job, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert slurm.requeue() == "job 17_3 is requeued, and resumes this run when it begins again"
    assert (job / "asked").read_text() == "requeue 17_3\n"
    (job / "bin" / "scontrol").write_text("#!/bin/sh\necho no such job >&2; exit 1\n")
    assert slurm.requeue() == "job 17_3 was not requeued (no such job)"
    (job / "bin" / "scontrol").unlink()
    assert "was not requeued ([Errno 2]" in slurm.requeue()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3; rm")
    assert slurm.job() is None
