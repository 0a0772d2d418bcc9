"""Kills real commands at random moments, resumes them, and compares with what was not killed, bit for bit.

python -m tests.kill                    # 20 kills over three tasks; a table and the count
python -m tests.kill --kills 60 --seed 7

Each command is a process of its own, forked from this one, which has loaded the packages. It is ended with SIGKILL.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import random
import runpy
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from seg_det import checkpoint
from seg_det.commands import export as export_command  # also loads what the forked processes need
from seg_det.data.shapes import generate_shapes
from seg_det.training import run as run_module
from seg_det.training.learner import Learner
from tests.exactness import differences, run_differences

ROOT = Path(__file__).parent.parent
SMALL = [
    "backbone.width=0.35", "backbone.weights=none", "data.size=64", "data.batch_size=6", "trainer.max_epochs=2",
    "trainer.accelerator=cpu", "trainer.checkpoint_minutes=0", "trainer.log_every_n_steps=1", "logger=[csv]", "callbacks=[]",
]  # fmt: skip
SHAPES = ["dataset=shapes", "dataset.train_images=24", "dataset.val_images=12"]
TASKS = {  # the last two have dropout, the first one has a process that loads
    "ssdlite": ["task=ssdlite", "backbone=v2", *SHAPES, "data.num_workers=1"],
    "raspp": ["task=raspp", "backbone=v2", *SHAPES, "data.num_workers=0", "recipe.optimiser=muon"],
    "classifier": ["task=classifier", "backbone=v1", "dataset=imagefolder", "data.num_workers=0", "recipe.ema_decay=null"],
}  # fmt: skip
MOMENTS = {  # where a process is killed: how often it comes by in a run, and how many of twenty kills
    "step": (8, 6),
    "validation": (4, 4),
    "writing": (12, 5),
    "evaluation": (1, 2),
    "report": (1, 1),
    "export": (1, 2),
}
LATER = {"writing": 0.0, "evaluation": 0.5, "report": 0.3, "export": 2.0}  # at most so many seconds after it began
STEP = 0.1
TIMES = {"minutes", "ms_per_image", "command", "environment", "cost"}  # of metrics.json, of the machine and the moment
PATIENCE = 300  # seconds for a command


class Kill(NamedTuple):
    """One process to kill: in ``moment`` when it comes for the ``count``-th time, ``delay`` seconds later."""

    task: str
    moment: str
    count: int
    delay: float


class Result(NamedTuple):
    """What became of it."""

    kill: Kill
    died: bool
    steps: int | None  # behind the checkpoint that was resumed
    differing: list[str]


def plan(kills: int, seed: int) -> list[Kill]:
    """Random kills: the moments in the proportions of MOMENTS, the tasks in turn."""
    rng = random.Random(seed)
    moments = [moment for moment, (_, share) in MOMENTS.items() for _ in range(share)]
    rng.shuffle(moments)
    chosen = [moments[i % len(moments)] for i in range(kills)]
    tasks = [list(TASKS)[i % len(TASKS)] for i in range(kills)]
    return [
        Kill(task, moment, rng.randint(1, MOMENTS[moment][0]), rng.uniform(0, LATER.get(moment, STEP)))
        for task, moment in zip(tasks, chosen, strict=True)
    ]


def make_data(folder: Path) -> dict[str, Path]:
    """The data of each task, generated."""
    with redirect_stderr(io.StringIO()):  # the progress bar
        shapes = generate_shapes(folder / "shapes", train_images=24, val_images=12)
    noise = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        for split, count in (("train", 8), ("val", 4)):
            (folder / "colours" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = noise.integers(0, 120, (40, 60, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(folder / "colours" / split / name / f"{i}.png")
    return {task: folder / "colours" if task == "classifier" else shapes for task in TASKS}


def words_of(task: str, data: dict[str, Path]) -> list[str]:
    """The training command of a task."""
    return [*TASKS[task], f"dataset.root={data[task]}", *SMALL]


def command(folder: Path, verb: str, *words: str, kill: Kill | None = None) -> int:
    """Run a command in a process of its own, kill it as ``kill`` says; returns its status, -9 for a killed one."""
    folder.mkdir(parents=True, exist_ok=True)
    importlib.import_module("seg_det.commands.train")  # once, for all children
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _become(folder, verb, words, kill, writing)
    os.close(writing)
    if kill is not None and select.select([reading], [], [], PATIENCE)[0] and os.read(reading, 1):
        time.sleep(kill.delay)
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _become(folder: Path, verb: str, words: tuple[str, ...], kill: Kill | None, writing: int) -> None:
    """The child: its output goes to output.txt, and it never returns."""
    status = 1
    try:
        os.chdir(folder)
        with Path("output.txt").open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if kill is not None:
            _watch(kill, lambda: os.write(writing, b"!"))
        sys.argv = [f"{verb}.py", *words]
        runpy.run_path(str(ROOT / f"{verb}.py"), run_name="__main__")
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch(kill: Kill, say: Callable[[], Any]) -> None:
    """Call ``say`` when the moment of ``kill`` comes for the ``count``-th time."""
    left = iter(range(kill.count - 1, -1, -1))

    def came() -> bool:
        if now := next(left, None) == 0:
            say()
        return now

    places: dict[str, tuple[ModuleType | type, str]] = {
        "step": (Learner, "training_step"),
        "validation": (Learner, "validation_step"),
        "evaluation": (run_module, "evaluate"),
        "report": (run_module, "write_run"),
        "export": (export_command, "export_model"),
    }
    if kill.moment == "writing":
        checkpoint.whole = _slow(checkpoint.whole, came)  # type: ignore[assignment]
        return
    owner, name = places[kill.moment]
    before = getattr(owner, name)

    @wraps(before)
    def watched(*arguments: Any, **options: Any) -> Any:
        came()
        return before(*arguments, **options)

    setattr(owner, name, watched)


class Halting:
    """A file whose writer waits in the middle of it, if it is its turn."""

    def __init__(self, file: Any, came: Callable[[], bool]):
        self.file = file
        self.came = came
        self.passed = False

    def write(self, data: bytes) -> int:
        """Waits behind the first 100,000 bytes."""
        written: int = self.file.write(data)
        if not self.passed and self.file.tell() > 100_000:
            self.passed = True
            self.file.flush()
            if self.came():
                time.sleep(PATIENCE)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _slow(whole: Callable[..., Any], came: Callable[[], bool]) -> Callable[..., Any]:
    """``whole``, with such a file."""

    @contextmanager
    def slow(path: Path, **options: Any) -> Iterator[Any]:
        with whole(path, **options) as file:
            yield Halting(file, came)

    return slow


def finished(folder: Path) -> Path:
    """The run folder below ``folder`` that is complete."""
    (report,) = (folder / "runs" / "train").glob("*/*/report.html")
    return report.parent


def references(folder: Path, data: dict[str, Path], tasks: set[str]) -> dict[str, Path]:
    """An uninterrupted run of each task, and its export."""
    for task in sorted(tasks):
        failed = command(folder / task, "train", *words_of(task, data)) or command(
            folder / task, "export", *_exported(folder / task), "hydra.run.dir=exported"
        )
        if failed:
            raise SystemExit((folder / task / "output.txt").read_text())
    return {task: folder / task for task in tasks}


def tried(folder: Path, kill: Kill, data: dict[str, Path], reference: Path) -> Result:
    """Kill a process and finish its work with another one; what differs from ``reference``."""
    if kill.moment == "export":
        return _tried_export(folder, kill, reference)
    words = words_of(kill.task, data)
    died = command(folder, "train", *words, kill=kill) == -signal.SIGKILL
    saved = sorted((folder / "runs" / "train").glob("*/*/checkpoints/last.ckpt"))
    steps = int(checkpoint.read(saved[-1])["global_step"]) if saved else None
    again = ["resume=auto"] if saved else words
    if status := command(folder, "train", *again):
        return Result(kill, died, steps, [f"status {status}"])
    run, other = finished(folder), finished(reference)
    empty = [str(one) for one in folder.rglob("*") if one.is_dir() and not any(one.iterdir())]
    return Result(kill, died, steps, [*run_differences(other, run), *metrics_differences(other, run), *empty])


def _exported(reference: Path) -> list[str]:
    return [f"model={finished(reference)}", "target=onnx"]


def _tried_export(folder: Path, kill: Kill, reference: Path) -> Result:
    words = _exported(reference)
    died = command(folder, "export", *words, "hydra.run.dir=killed", kill=kill) == -signal.SIGKILL
    status = command(folder, "export", *words, "hydra.run.dir=again")
    found = [f"status {status}"] if status else []
    for file in (reference / "exported").glob("*.onnx"):
        wanted, half = file.read_bytes(), folder / "killed" / file.name
        found += ["again"] * (status == 0 and (folder / "again" / file.name).read_bytes() != wanted)
        found += ["half a file"] * (half.exists() and half.read_bytes() != wanted)
    return Result(kill, died, None, found)


def metrics_differences(one: Path, other: Path) -> list[str]:
    """Of two metrics.json, without times, commands and what the machine is."""
    contents = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in (one, other)]
    return differences(*[_timeless(content) for content in contents], place="metrics.json")


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in TIMES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def line(number: int, result: Result) -> str:
    """A row of the table."""
    kill, became = result.kill, ", ".join(result.differing[:3]) or "equal"
    steps = "" if result.steps is None else f"{result.steps} steps"
    when = f"{kill.count} + {1000 * kill.delay:.0f} ms"
    died = "killed" if result.died else "ended"
    return f"{number:3}  {kill.task:<11} {kill.moment:<11} {when:<13} {died:<7} {steps:<8} {became}"


def main(kills: int, seed: int, folder: Path) -> int:
    """Try all; returns how many did not come out equal."""
    torch.set_num_threads(1)  # a process with threads must not be forked
    chosen = plan(kills, seed)
    data = make_data(folder / "data")
    whole = references(folder, data, {kill.task for kill in chosen})
    results = []
    for i, kill in enumerate(chosen, start=1):
        results.append(tried(folder / str(i), kill, data, whole[kill.task]))
        print(line(i, results[-1]), flush=True)
    equal = sum(not result.differing for result in results)
    print(f"{equal} of {kills} equal, {sum(result.died for result in results)} of them killed before they ended")
    return kills - equal


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seg_det_kill_") as place:
        sys.exit(1 if main(given.kills, given.seed, Path(place)) else 0)
