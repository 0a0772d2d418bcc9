"""--help: every group with its choices, every key with a meaning, the words of a key where they are checked."""

import importlib
import re
from pathlib import Path

import pytest
import yaml
from commands import run
from omegaconf import OmegaConf

from seg_det.commands.choices import CHECKED, choices_of, words
from seg_det.commands.console import HYDRA
from seg_det.commands.help import choices_in, describe, help_text, leaves, typed
from seg_det.commands.meanings import comments_of
from seg_det.installed import installed

OF_TRAINING = [
    "trainer", "logger", "callbacks", "augmentation", "loss", "postprocess", "task", "backbone", "dataset", "recipe",
    "experiment",
]  # fmt: skip
GROUPS = {
    "train": OF_TRAINING, "anchors": OF_TRAINING, "doctor": OF_TRAINING, "evaluate": ["dataset"],
    "export": ["dataset", "target"], "predict": [],
}  # fmt: skip


@pytest.mark.parametrize("command", HYDRA)
def test_it_names_every_group_with_all_choices_and_explains_every_key(command):
    about = describe(command, [])
    assert list(about.groups) == GROUPS[command]
    assert [key.name for key in about.keys if not key.meaning] == []
    text = help_text(command, [])
    assert max(map(len, text.splitlines())) <= 100 and "examples\n  " in text
    flat = " ".join(text.split())
    for group in about.groups:
        assert f"{group}: {about.groups[group]} {', '.join(choices_in(group))}" in flat
    for key in about.keys:
        assert f" {key.name}={typed(key.value)} {key.meaning}" in flat


def read(path):
    """The keys of a file of conf/ below its package, and those of them that it explains or that its bases do."""
    text = path.read_text(encoding="utf-8")
    content = yaml.load(text, yaml.CSafeLoader) or {}
    found = re.match(r"# @package (\S+)", text)
    above = [] if found and found[1] == "_global_" else (found[1] if found else path.parent.name).split(".")
    explained = {".".join([*above, key]) for key in comments_of(path).keys}
    bases = [entry for entry in content.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    for base in bases:
        explained |= read(path.with_name(f"{base.partition('@')[0]}.yaml"))[1]
    for section in reversed(above):
        content = {section: content}
    return {key for key, _ in leaves(content, "", OmegaConf.create())}, explained


def test_every_key_of_every_choice_has_a_meaning():
    """In the file or one that it is based on; keys of other groups have theirs there."""
    files = {path: read(path) for path in installed("conf").glob("*/*.yaml")}
    anywhere = set.union(
        *(explained for _, explained in files.values()), comments_of(installed("conf") / "train.yaml").keys
    )
    for path, (keys, explained) in files.items():
        own = tuple(f"{section}." for section in (path.parent.name, f"task.{path.parent.name}"))
        for key in keys:
            foreign = path.parent.name == "task" and key.startswith(("task.loss.", "task.postprocess."))
            known = explained if key.startswith(own) and not foreign else anywhere
            assert key in known, f"{path}: {key} has no comment that says what it means"


@pytest.mark.parametrize("target", choices_in("target"))
def test_every_key_of_every_target_has_a_meaning(target):
    keys = [key for key in describe("export", [f"target={target}"]).keys if key.name.startswith("target.")]
    assert all(key.meaning for key in keys)
    for key in keys:
        assert key.value in (choices_of(key.name, target) or [key.value])


@pytest.mark.parametrize(("module", "constant"), sorted(set(CHECKED.values())))
def test_the_words_are_those_that_are_checked(module, constant):
    assert words(module, constant) == tuple(getattr(importlib.import_module(f"seg_det.{module}"), constant))


def test_the_words_stand_where_the_meaning_lacks_them():
    text = " ".join(help_text("train", ["task=lraspp", "dataset=coco"]).split())
    assert "curve of the learning rate after the warm-up; one of cosine, poly, step, constant" in text
    assert "task.model.gate=sigmoid" in text and "anchor_rule" not in text and "(now lraspp)" in text
    assert "(now csv, tensorboard)" in text and "(none is chosen)" in text


def test_a_comment_is_the_meaning_where_the_key_stands_first(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text('# Head\n# python a.py\nx: "a # b" # the meaning\ns: # a section\n  - 1\nt: {u: 2} # flow\nv: 3\n')
    assert comments_of(file) == (["Head", "python a.py"], {"x": "the meaning", "s": "a section", "t": "flow"}, {})
    keys = {key.name: key for key in describe("train", ["experiment=bccd", "dataset.root=/x"]).keys}
    assert keys["trainer.max_epochs"] == (
        "trainer.max_epochs", 67, "number of passes over the training images", ()
    )  # fmt: skip


def test_of_a_command_line(tmp_path):
    shown = run(tmp_path, "export", "target=litert", "--help").stdout
    assert "now litert" in shown and "target.observer=minmax" in shown and not list(Path(tmp_path).iterdir())
    wrong = run(tmp_path, "train", "task=nonsense", "--help", check=False)
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: task=nonsense: there is no such choice")
    wrong = run(tmp_path, "train", "nonsense=1", "-h", check=False)
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: there is no key nonsense")


def test_values_as_they_are_typed():
    assert typed([1, None, True, "a"]) == "[1,null,true,a]" and typed({"a": 1}) == "{a:1}" and typed("") == '""'
