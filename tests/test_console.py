"""seg-det COMMAND ..., and where its words go."""

import sys

import pytest

from seg_det import __version__, installed
from seg_det.commands import console, entry


def run(monkeypatch, *words: str) -> int | None:
    monkeypatch.setattr(sys, "argv", ["seg-det", *words])
    return console.main()


@pytest.mark.parametrize("words", [(), ("--help",), ("help",)])
def test_without_a_command_it_lists_them(monkeypatch, capsys, words):
    assert run(monkeypatch, *words) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in (*console.HYDRA, console.WEIGHTS, console.PREPARE))


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"seg_det {__version__}\n"


def test_an_unknown_command_is_refused_with_those_that_there_are(monkeypatch, capsys):
    assert run(monkeypatch, "trian") == 2
    assert capsys.readouterr().err.startswith("error: there is no command 'trian': train, evaluate,")


def test_an_unknown_data_set_to_prepare(monkeypatch, capsys):
    assert run(monkeypatch, "prepare", "imagenet") == 2
    assert "camvid, cityscapes, coco" in capsys.readouterr().err


def test_a_command_is_named_as_it_can_be_typed(monkeypatch, tmp_path):
    assert installed.program("train") == "python train.py" and installed.installed("conf").is_dir()
    monkeypatch.setattr(installed, "PACKAGE", tmp_path / "site" / "seg_det")
    assert installed.program("train") == "seg-det train"
    with pytest.raises(FileNotFoundError, match="the installation of seg_det is incomplete"):
        installed.installed("conf")


def test_words_after_the_command_are_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr(entry, "start", lambda name, *, words, before: seen.append((name, words, before)))
    assert run(monkeypatch, "evaluate", "model=a.onnx", "-m") == 0
    assert seen == [("evaluate", ["model=a.onnx", "-m"], ["evaluate"])]


def test_a_command_sees_the_whole_command_line(monkeypatch, tmp_path):
    """Lightning starts the further processes of a training with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seg-det", "evaluate", "model=x.onnx"])
    seen = []
    monkeypatch.setattr(
        entry.running, "run", lambda command, config: seen.append((command, config.model, list(sys.argv)))
    )
    entry.start("evaluate", words=["model=x.onnx"], before=["evaluate"])
    assert seen == [("evaluate", "x.onnx", ["seg-det", "evaluate", "model=x.onnx"])]
