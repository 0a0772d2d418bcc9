"""What Hydra does not know or cannot read is said in one sentence; the command itself is left out."""

import os
from types import SimpleNamespace

import pytest
from commands import run

from seg_det.commands import running


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """Runs a command line up to its configuration; the result has that in ``configs``."""
    configs = []
    stub = SimpleNamespace(import_module=lambda _: SimpleNamespace(main=configs.append))
    monkeypatch.setattr(running, "importlib", stub)

    def compose(*words, command="train"):
        done = run(tmp_path, command, *words, check=False)
        assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())
        return done, configs

    return compose


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("lr=0.5", "there is no key lr: recipe.lr may be meant."),
        ("+lr=0.5", "+lr adds a key that nothing reads: there is no key lr: recipe.lr may be meant."),
        ("++lr=0.5", "there is no key lr: recipe.lr may be meant."),
        ("epochs=3", "there is no key epochs: trainer.max_epochs or"),
        ("~recipe.lrr", "there is no key recipe.lrr: recipe.lr may be meant."),
        ("data.foo=1", "there is no key data.foo: data has size, batch_size,"),
        ("+recipe.lr=0.5", "recipe.lr exists already: leave out the + in front of it."),
        ("bakbone=v2", "there is no key bakbone: backbone may be meant."),
        ("backbone=v4", "backbone=v4: there is no such choice, it must be one of inception_v1, inception_v2,"),
        ("dataset=Shapes", "yolo; shapes may be meant."),
        ("trainer=1.5", "trainer=1.5: there is no such choice, it must be one of default."),
        ("backbone.width=1,2", "holds several values: write backbone.width=[1,2] for a list, or add -m for a run with each"),
        ("task=ssd,ssdlite", "task=ssd,ssdlite holds several choices: add -m for a run with each of them."),
        ("task.model.taps=[c4", "task.model.taps=[c4 cannot be read: a list is written as task.model.taps=[A,B]"),
        ("task.name=größe", "task.name=größe cannot be read: put the value in quotes, \"task.name='größe'\"."),
        ("mydata", "mydata is no setting: settings are written as KEY=VALUE."),
        ("recipe.lr = 0.5", "'=' stands alone: settings are written without blanks around =, as in recipe.lr=0.5."),
        ("--epochs=4", "--epochs=4: settings have no dashes in front: write KEY=VALUE, such as trainer.max_epochs=10."),
        ("dataset.root=", "dataset.root= has no value: write the path behind it."),
        ("-m backbone=v2,v4", "backbone=v4: there is no such choice"),
    ],
)  # fmt: skip
def test_one_sentence(composed, words, sentence):
    done, configs = composed("dataset=shapes", *words.split(" "))
    assert done.returncode == 1 and not configs
    assert done.stderr.startswith("error: ") and sentence in done.stderr and done.stderr.count("\n") == 1


def test_what_may_be_added(composed):
    """An argument of a class that its file leaves to the default, and what exists."""
    done, configs = composed("dataset=shapes", "+backbone.foo=1", "++recipe.lr=0.5", "+task.model.bar=[1]")
    assert done.returncode == 0 and configs[0].backbone.foo == 1 and configs[0].recipe.lr == 0.5


@pytest.mark.parametrize("command", ["evaluate", "predict", "export", "seg_det.anchors"])
def test_every_command(composed, command):
    done, _ = composed("seeed=1", "dataset=shapes" if "anchors" in command else "device=cpu", command=command)
    assert done.stderr.startswith("error: there is no key ")


def test_hydra_s_own_messages_come_back_on_request(tmp_path, monkeypatch):
    done = run(tmp_path, "train", "dataset=shapes", "lr=1", check=False, HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr and "ConfigCompositionException" in done.stderr
    assert "HYDRA_FULL_ERROR" not in os.environ
