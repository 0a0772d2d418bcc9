"""``auto=true``: the settings that nobody set, chosen for the data and the machine by :mod:`seg_det.automatic.rules`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from seg_det import checkpoint
from seg_det.automatic.choosing import Choice, Situation, choices
from seg_det.commands.network import model_settings
from seg_det.data.objects import input_boxes
from seg_det.data.records import Source
from seg_det.kinds.lookup import kind_named

GROUPS = ("augmentation", "recipe", "trainer", "loss")  # that one who chooses them has chosen whole
SECTIONS = {"loss": "task.loss"}  # of a group that lies elsewhere


def wanted(config: DictConfig) -> bool:
    """Whether the settings are chosen: as ``auto`` says, or where nothing else is said, not for an experiment's."""
    if config.auto is not None:
        return bool(config.auto)
    return HydraConfig.get().runtime.choices.get("experiment") is None


def with_choices(config: DictConfig, train: Source) -> DictConfig:
    """``config`` with the choices of the rules, listed under ``chosen``, where the command line does not say otherwise."""
    config = config.copy()
    kind = kind_named(config.task.kind, "The configuration")
    said = _said(HydraConfig.get().overrides.task)
    situation = Situation(
        facts=kind.facts(train),
        get=lambda key: _value(config, key),
        is_set=lambda key: any(key == one or key.startswith(f"{one}.") for one in said) or not _has(config, key),
        boxes=lambda size: input_boxes(train.records, size),
        model=lambda: checkpoint.build_model({**model_settings(config), "num_classes": len(train.categories)}),
    )
    found = choices(kind.rules, situation, lambda key, value: OmegaConf.update(config, key, value, force_add=True))
    config.chosen = [choice._asdict() for choice in found]
    config.auto = False  # the choices are made
    return config


def told(found: Sequence[Choice]) -> str:
    """A line for each choice."""
    return "\n".join(f"{choice.key}={choice.value}: {choice.reason}" for choice in found)


def _said(overrides: Sequence[str]) -> list[str]:
    """Keys and sections that the command line sets."""
    found = []
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if "." in key or key in GROUPS:
            found.append(SECTIONS.get(key, key))
    return found


def _has(config: DictConfig, key: str) -> bool:
    missing = object()
    return OmegaConf.select(config, key, default=missing) is not missing


def _value(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
