"""auto=true and budgets, as commands."""

import json
from pathlib import Path

import pytest
import yaml
from commands import run

TINY = ("backbone.width=0.25", "backbone.weights=none", "data.size=64", "data.batch_size=4", "data.num_workers=0")
SHAPES = ("dataset=shapes", "dataset.train_images=24", "dataset.val_images=8")


def settings(root, *more):
    return [*TINY, *SHAPES, f"dataset.root={root}", *more]


def files(folder):
    (file,) = Path(folder, "runs").rglob("metrics.json")
    return json.loads(file.read_text()), yaml.safe_load((file.parent / "config.yaml").read_text())


def test_choices_are_told_and_kept(tiny_shapes, tmp_path):
    done = run(tmp_path, "train", *settings(tiny_shapes, "auto=true", "budget.steps=7", "recipe.lr=0.004"))
    metrics, config = files(tmp_path)
    assert metrics["training"]["steps"] == 7
    assert config["recipe"]["lr"] == 0.004 and config["data"]["size"] == 64 and config["auto"] is False
    chosen = {choice["key"]: choice for choice in config["chosen"]}
    assert {"task.model.taps", "trainer.max_epochs", "recipe.warmup_steps", "recipe.ema_decay"} <= set(chosen)
    assert not {"recipe.lr", "data.size"} & set(chosen)
    for choice in config["chosen"]:
        assert f"{choice['key']}=" in done.stdout and choice["reason"] in done.stdout
        value = config
        for part in choice["key"].split("."):
            value = value[part]
        assert value == choice["value"]

    again = settings(tiny_shapes, "auto=true", "weights=" + str(next((tmp_path / "runs").rglob("best.ckpt"))))
    done = run(tmp_path, "train", *again, "trainer.fast_dev_run=true")
    assert "task.model.taps=['c3_expand', 'c4_expand', 'head']: as the model of weights has it" in done.stdout


@pytest.mark.slow  # thirty seconds
def test_a_budget_of_minutes_ends_the_run(tiny_shapes, tmp_path):
    done = run(tmp_path, "train", *settings(tiny_shapes, "budget.minutes=0.5"))
    metrics, config = files(tmp_path)
    assert metrics["training"]["minutes"] < 0.5 and metrics["training"]["steps"] > 3
    assert [choice["key"] for choice in config["chosen"]][-2:] == [
        "trainer.max_epochs",
        "trainer.check_val_every_n_epoch",
    ]
    assert "the budget ends the run" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["budget.minutes=0.001"],
            "budget.minutes=0.001 is too short: the start, 10 steps and the evaluation take about",
        ),
        (["budget.minutes=3", "trainer.devices=2"], "budget.minutes needs trainer.devices=1, got 2: set budget.steps"),
        (["budget.minutes=3", "trainer.max_epochs=3"], "trainer.max_epochs and budget both say how long to train"),
    ],
)
def test_what_cannot_be(tiny_shapes, tmp_path, words, sentence):
    done = run(tmp_path, "train", *settings(tiny_shapes, *words), check=False)
    assert done.returncode == 1 and sentence in done.stderr
    assert not (tmp_path / "runs").exists()


def test_data_of_another_task_are_refused_before_they_are_looked_at(tiny_imagefolder, tmp_path):
    data = ["dataset=imagefolder", f"dataset.root={tiny_imagefolder}", "augmentation=ssd", "auto=true"]
    done = run(tmp_path, "train", *TINY, *data, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
