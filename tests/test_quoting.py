"""Paths on a command line as people type them: what Hydra and OmegaConf make of them is the path itself."""

import random
from inspect import signature
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seg_det.commands.quoting import as_typed, is_path, quoted, unquoted, with_quotes
from seg_det.registry import READERS

CONF = Path(__file__).parent.parent / "conf"
NAMES = [
    "größe", "数据", "my data", "data(1)", "run#3", "set=1", "a,b", "it's", 'a"b', "a[1]", "{x}", "x$y", "50%", "${x}", "\\${x}",
    "tail/", "C:\\data\\", "007", "1e5", "1_0", "true", "null", "nan", "-dash", "a:b", " a ", "a\nb", "'", '"', "\\'", "~x~",
]  # fmt: skip


def read(word):
    """The values that Hydra gives to ``word``, as OmegaConf resolves them."""
    override = OverridesParser.create().parse_override(word)
    values = (
        list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
    )
    inner = [OverridesParser.create().parse_override(f"x={value}").value() for value in values]
    return [OmegaConf.create({"x": value}).x for value in inner]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_arrives_as_it_was_typed(name):
    once = with_quotes([f"dataset.root={name}"])
    if name != "null":  # which means none
        assert read(once[0]) == [name]
    assert with_quotes(once) == once
    assert unquoted(quoted(name)) == name and read(f"dataset.root={quoted(name)}") == [name]


def test_any_name_arrives_as_it_was_typed():
    draw = random.Random(0)
    for _ in range(300):
        name = "".join(draw.choice("a1 _.,:;'\"\\${}[]()=~#%ä数*\n") for _ in range(draw.randint(1, 7)))
        assert read(f"dataset.root={quoted(name)}") == [name] and unquoted(quoted(name)) == name


@pytest.mark.parametrize(
    "word",
    [
        "dataset.root=datasets/coco", "dataset.root='my data'", 'dataset.root="it\'s"', "dataset.root=${oc.env:DATA}/coco",
        "source=0", "source=[a.jpg,b.jpg]", "dataset.train_images=1500", "weights=null", "task.model.taps=[c3,head]", "-m",
        "task.model.anchor_shapes=[[[1.0,1.0]]]", "recipe.lr=0.1", "dataset.root", "source=photos/*.jpg", "dataset.root=",
    ],
)  # fmt: skip
def test_what_hydra_understands_stays(word):
    assert with_quotes([word]) == [word]


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    monkeypatch.chdir(tmp_path)
    for typed in ("~/x", "'~/x'"):
        assert with_quotes([f"dataset.root={typed}"]) == [f"dataset.root='{tmp_path}/my home/x'"]
    (tmp_path / "~" / "x").mkdir(parents=True)  # an odd folder that exists, and none in the home folder
    assert read(with_quotes(["dataset.root=~/x"])[0]) == ["~/x"]


def test_commas_of_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read(with_quotes(["dataset.root=a,b c"])[0]) == ["a,b c"]
    assert read(with_quotes(["-m", "dataset.root=a,b c"])[1]) == ["a", "b c"]
    assert with_quotes(["-m", "dataset.root=choice(a,b)"])[1] == "dataset.root=choice(a,b)"
    (tmp_path / "a,b c").mkdir()
    assert read(with_quotes(["-m", "dataset.root=a,b c"])[1]) == ["a,b c"]
    assert read(with_quotes(["-m", "dataset.root=a,b c,d(1)"])[1]) == ["a,b c", "d(1)"]
    assert read(with_quotes(["--multirun", "dataset.root='x,y',z"])[1]) == ["x,y", "z"]


def test_a_recorded_command_has_no_quotes_that_come_by_themselves():
    assert as_typed("dataset.root='my data'") == "dataset.root=my data"
    assert as_typed("task.name='my name'") == "task.name='my name'"
    assert as_typed("dataset.root='~x'") == "dataset.root=~x"


@pytest.mark.parametrize("file", sorted((CONF / "dataset").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_path_of_a_data_set_is_known_as_one(file):
    content = yaml.safe_load(file.read_text())
    section = content.get("dataset", content)
    reader = READERS.get(section["train"]["_target_"])
    hints = get_type_hints(reader)
    paths = [
        name for name in signature(reader).parameters if Path in get_args(hints.get(name)) and name in section["train"]
    ]
    assert paths
    for name in paths:
        key = str(section["train"][name]).removeprefix("${").partition("}")[0]
        assert is_path(f"dataset.train.{name}") and is_path(key)
