"""Training from Python: seg_det.train."""

import sys
from pathlib import Path

import pytest
from commands import as_found

import seg_det
from seg_det.commands import api, running
from seg_det.errors import Terminated, UserError
from seg_det.runs import RunRecord

TINY = ("data.size=64", "data.batch_size=4", "data.num_workers=0", "backbone.width=0.25", "backbone.weights=none")
SHAPES = ("dataset=shapes", "dataset.train_images=24", "dataset.val_images=8")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "_keep_freed_memory", lambda: None)  # of the whole process, for good
    words = list(sys.argv)
    with as_found():
        yield tmp_path
    assert sys.argv == words


def test_it_trains_and_returns_what_the_run_holds(here, tiny_shapes, no_connections, capsys):
    found = seg_det.train([*TINY, *SHAPES, f"dataset.root={tiny_shapes}", "trainer.max_epochs=1"])
    (file,) = Path("runs").rglob("metrics.json")
    assert RunRecord.read(file) == found
    assert "run folder" in capsys.readouterr().out
    # A second one in the same process, which saves nothing.
    again = [*TINY, *SHAPES, f"dataset.root={tiny_shapes}", "trainer.fast_dev_run=true"]
    assert seg_det.train(again) is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["backbone=v9"], "backbone=v9: there is no such choice"),
        (["trainer.max_epoch=3"], "trainer.max_epoch"),
        (["dataset.root=nowhere"], "nowhere"),
    ],
)
def test_mistakes_raise_the_sentence_of_the_command(here, settings, sentence):
    with pytest.raises(UserError) as error:
        seg_det.train(settings)
    assert sentence in str(error.value) and not str(error.value).startswith("error")
    assert not Path("runs").exists()


def test_signals_are_exceptions_and_a_sweep_is_a_list(monkeypatch):
    def ends(status):
        def start(command, *, words):
            raise SystemExit(status)

        return start

    for status, raised in ((130, KeyboardInterrupt), (143, Terminated)):
        monkeypatch.setattr("seg_det.commands.entry.start", ends(status))
        with pytest.raises(raised):
            api.train()
    monkeypatch.setattr("seg_det.commands.entry.start", lambda command, *, words: ["a", "b"])
    assert seg_det.train(["-m", "seed=0,1"]) == ["a", "b"]
    assert seg_det.train(["seed=0"]) == "a"
