"""What a configuration may name, and what becomes of its values."""

import sys
import types
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from seg_det import checkpoint, registry
from seg_det.errors import UserError
from seg_det.registry import (
    AUGMENTATIONS,
    BACKBONES,
    LOSSES,
    MODELS,
    READERS,
    TARGETS,
    Registry,
    build,
    filled,
    short_name,
)
from seg_det.training.optimisation import Recipe
from seg_det.training.trainer import TrainerSettings
from seg_det.types import Category, ModelCard
from seg_det.values import LARGEST, MOST, Wrong, hints_of, matched, require_plain

FAMILIES = (READERS, AUGMENTATIONS, LOSSES, MODELS, BACKBONES, TARGETS)


@pytest.fixture
def dishes(monkeypatch):
    """A registry of its own, whose one module is imported at the first miss."""
    package, module = types.ModuleType("kitchen"), types.ModuleType("kitchen.soup")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "kitchen", package)
    monkeypatch.setitem(sys.modules, "kitchen.soup", module)
    family = Registry("dish", "kitchen")

    def soup(size: int, *, herbs: Sequence[str] = (), salt: float | None = None, folder: str | Path = "."):
        return size, herbs, salt, folder

    soup.__module__ = "kitchen.soup"
    monkeypatch.setattr(
        registry.pkgutil, "iter_modules", lambda path: [types.SimpleNamespace(name="soup", ispkg=False)]
    )
    monkeypatch.setattr(registry.importlib, "import_module", lambda name: family.register(soup) and package)
    return family


def test_every_family_finds_its_members_by_their_own_files():
    assert {"read_coco", "read_shapes", "read_voc"} <= set(READERS)
    assert {"flip_only", "ssd_augmentation", "segmentation_augmentation"} <= set(AUGMENTATIONS)
    assert set(LOSSES) == {"multibox_loss", "label_loss", "segmentation_loss"}
    assert {"SSD", "SSDLite", "LRASPP", "Classifier"} <= set(MODELS)
    assert {"MobileNetV1", "MobileNetV2", "MobileNetV3", "MixNet", "TimmFeatures"} <= set(BACKBONES)
    assert {"OnnxTarget", "LiteRtTarget", "NcnnTarget"} <= set(TARGETS)
    for family in FAMILIES:
        for name in family:
            assert family.get(name).__name__ == name
            assert hints_of(family.get(name)) is not None


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("SSDLite", "SSDLite"),
        ("seg_det.models.ssdlite.SSDLite", "SSDLite"),
        ("seg_det.another.place.SSDLite", "SSDLite"),
        ("seg_det", "seg_det"),
        ("seg_det_evil.SSDLite", "seg_det_evil.SSDLite"),
        ("os.SSDLite", "os.SSDLite"),
        (None, ""),
    ],
)
def test_dotted_names_of_earlier_files_mean_their_last_part(target, name):
    assert short_name(target) == name


def test_a_member_is_found_wherever_its_module_lies_now(dishes):
    assert build({"_target_": "seg_det.gone.since.soup", "size": 3}, dishes) == (3, (), None, ".")
    assert dishes.get("soup") is dishes.get("seg_det.another.soup")
    assert dishes.get("soup").__module__ == "kitchen.soup"


@pytest.mark.parametrize(
    "target",
    ["os.system", "kitchen.soup", "builtins.soup", "soup ", "", None, 5, ["soup"], "seg_det.report.tables.write_whole"],
)
def test_anything_else_is_refused_by_name(dishes, target):
    with pytest.raises(
        UserError, match=r"is no dish of seg_det, and nothing else is run: _target_ must be one of soup\.$"
    ):
        build({"_target_": target, "size": 1}, dishes)


def test_values_reach_the_member(dishes):
    config = {"_target_": "soup", "size": 3, "herbs": ["dill", 2012], "salt": 1, "folder": 2012}
    assert build(config, dishes) == (3, ["dill", "2012"], 1, "2012")
    later = build({"_target_": "soup", "_partial_": True, "salt": 0.5}, dishes)
    assert isinstance(later, partial) and later(2) == (2, (), 0.5, ".")
    assert build({"_target_": "soup"}, dishes, size=4)[0] == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pepper": 1}, r"^soup takes no argument pepper; it takes size, herbs, salt, folder\.$"),
        ({"_args_": [1]}, "soup takes no argument _args_; it takes"),
        ({"_recursive_": True}, "soup takes no argument _recursive_; it takes"),
        ({"_convert_": "all"}, "soup takes no argument _convert_; it takes"),
        ({"_partial_": "yes"}, "_partial_ must be true or false, got 'yes'"),
        ({"size": "3"}, r"^soup's argument size is '3', not a whole number\.$"),
        ({"size": True}, "soup's argument size is True, not a whole number"),
        ({"size": 2.5}, "soup's argument size is 2.5, not a whole number"),
        ({"size": LARGEST + 1}, "soup's argument size is too large a number"),
        ({"salt": "much"}, "soup's argument salt is 'much', not a number or null"),
        ({"salt": float("nan")}, "soup's argument salt is nan, not a finite number"),
        ({"herbs": "dill"}, "soup's argument herbs is 'dill', not a list"),
        ({"herbs": [None]}, r"soup's argument herbs\[0\] is None, not a string"),
        ({"folder": "a\0b"}, "soup's argument folder is the string .* holds a zero byte"),
        ({"folder": "\ud800"}, "is not valid Unicode"),
        (
            {"folder": {"_target_": "pathlib.Path"}},
            r"soup's argument folder holds _target_ \('pathlib.Path'\), and no argument",
        ),
        ({"herbs": [{"a": [{"_target_": "os.system"}]}]}, r"holds _target_ \('os.system'\)"),
        ({"herbs": [open]}, "is a builtin_function_or_method, not a plain value"),
        ({"herbs": {1: 2}}, "holds the key 1, which is no string"),
    ],
)
def test_values_that_do_not_fit_are_named(dishes, changes, message):
    with pytest.raises(UserError, match=message):
        build({"_target_": "soup", "size": 1, **changes}, dishes)


def test_what_lacks_is_named(dishes):
    with pytest.raises(UserError, match=r"^soup lacks the argument size\.$"):
        build({"_target_": "soup"}, dishes)
    with pytest.raises(UserError, match="soup is given size by the program: leave it out of the configuration"):
        build({"_target_": "soup", "size": 1}, dishes, size=2)
    with pytest.raises(UserError, match="The configuration of a dish names none: add _target_, one of soup"):
        build({"size": 1}, dishes)
    with pytest.raises(UserError, match=r"must be a dictionary with _target_, got \['soup'\]"):
        build(["soup"], dishes)


def test_two_members_cannot_share_a_name(dishes):
    def soup():
        pass

    dishes.get("soup")
    with pytest.raises(ValueError, match="two members of kitchen have the name soup"):
        dishes.register(soup)


def test_what_refers_to_itself_or_grows_is_refused():
    ring = []
    ring.append(ring)
    with pytest.raises(Wrong, match="holds more than 16 levels"):
        require_plain(ring)
    part = [0] * 100
    for _ in range(6):
        part = [part] * 100
    with pytest.raises(Wrong, match=f"holds more than {MOST} values"):
        require_plain(part)


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (Recipe, {"lr": "fast"}, r"^recipe\.lr is 'fast', not a number\.$"),
        (Recipe, {"lerning_rate": 1}, "^recipe has no 'lerning_rate': it has optimiser, lr"),
        (Recipe, {"lr": -1}, "recipe.lr must be positive, got -1"),
        (Recipe, ["lr"], r"recipe is \['lr'\], not a dictionary"),
        (TrainerSettings, {"devices": None}, "recipe.devices is None, not a whole number or a string or a list"),
    ],
)
def test_dataclasses_of_plain_values(cls, values, message):
    with pytest.raises(UserError, match=message):
        filled(cls, values, "recipe")
    assert filled(TrainerSettings, {"devices": [0, 1], "max_epochs": 2}, "trainer").devices == [0, 1]


def test_hints_of_tuples_and_unions():
    assert matched([1, 2.0], tuple[int, float]) == (1, 2.0)
    assert matched([1, 2], tuple[int, ...]) == (1, 2)
    assert matched(0.5, int | float | None) == 0.5 and matched(None, int | None) is None
    with pytest.raises(Wrong, match="size holds 3 values, not 2"):
        matched([1, 2, 3], tuple[int, int], "size")
    with pytest.raises(Wrong, match=r"size\[1\] is 'x', not a whole number"):
        matched([1, "x"], tuple[int, int], "size")


def test_seeded_weights_are_those_of_the_class_itself():
    config = {"_target_": "SSDLite", "num_classes": 2, "backbone": {"_target_": "MobileNetV1", "width": 0.25}}
    torch.manual_seed(3)
    built, after = checkpoint.build_model(config).state_dict(), torch.rand(1)
    torch.manual_seed(3)
    direct = MODELS.get("SSDLite")(partial(BACKBONES.get("MobileNetV1"), width=0.25), num_classes=2).state_dict()
    assert torch.equal(after, torch.rand(1)) and list(built) == list(direct)
    before = torch.get_rng_state()
    card = ModelCard("detection", "m", config, {}, (Category(1, "a"), Category(2, "b")), (64, 64), (0, 0, 0), (1, 1, 1))
    outline = checkpoint.outline(card, "The card")
    assert torch.equal(before, torch.get_rng_state()) and list(outline.state_dict()) == list(built)
    assert torch.equal(outline.anchors((64, 64)), checkpoint.build_model(config).anchors((64, 64)))
    assert all(torch.equal(built[key], direct[key]) for key in built)
