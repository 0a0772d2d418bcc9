"""What single keys of a configuration mean, and their refusals."""

from __future__ import annotations

import os
from inspect import Parameter, signature
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from seg_det import registry
from seg_det.commands.containers import resolved
from seg_det.errors import UserError
from seg_det.predict.tiles import Tiles
from seg_det.registry import BACKBONES, TARGET, Registry

MOST_WORKERS = 1024
NONE = "none"
SHARED = {
    "width": 1.0,
    "padding": "symmetric",
}  # keys of a head that are null: the backbone's, of one without them these


def plain(config: DictConfig) -> dict[str, Any]:
    """``config`` as a dictionary, its references resolved. Raises UserError for one that refers to itself."""
    try:
        return resolved(config)
    except RecursionError as error:
        raise UserError("A value of the configuration refers to itself: say it on the command line.") from error


def build(config: DictConfig, family: Registry, **given: Any) -> Any:
    """What a section with ``_target_`` describes: a member of ``family``, see :func:`seg_det.registry.build`."""
    return registry.build(plain(config), family, **given)


def with_preferences(config: DictConfig) -> DictConfig:
    """``config`` with the head's preferences (task.backbone) where the backbone's own keys are null, and the other way round.

    What neither says is as the backbone's class has it, and "none" is None whatever the head prefers. The width and the padding
    of the head's own layers are the backbone's.
    """
    config = config.copy()
    backbone, model, preferred = config.backbone, config.task.model, config.task.get("backbone") or {}
    for key, parameter in signature(BACKBONES.get(backbone.get(TARGET))).parameters.items():
        if backbone.get(key, NONE) is None and parameter.default is not Parameter.empty:
            backbone[key] = preferred.get(key, parameter.default)
        elif backbone.get(key) == NONE and parameter.default is None:
            backbone[key] = None
    for key, usual in SHARED.items():
        if key in model and model[key] is None:
            model[key] = backbone.get(key, usual)
    return config


def height_and_width(given: Any, key: str = "data.size") -> tuple[int, int]:
    """(H, W) of a size that is one number or two. Raises UserError, which names ``key``."""
    size = (given, given) if isinstance(given, int) else tuple(given) if OmegaConf.is_list(given) else ()
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(f"{key} must be a number or [height, width] in pixels, got {given}.")
    return size


def per_channel(values: list[float] | None, key: str) -> tuple[float, float, float] | None:
    """data.mean or data.std, as ``key`` says: one number for red, green and blue each, or None."""
    if values is None:
        return None
    if not isinstance(values, ListConfig) or len(values) != 3 or (key == "std" and min(values) <= 0):
        above = " above 0" if key == "std" else ""
        raise UserError(f"data.{key} takes three numbers{above}, of red, green and blue, got {values}.")
    return tuple(values)


def workers(wanted: int | str) -> int:
    """data.num_workers: processes that read images."""
    if wanted == "auto":
        return min(8, max(0, (os.cpu_count() or 1) - 1))
    if not isinstance(wanted, int) or wanted < 0:
        raise UserError(f"data.num_workers must be auto or a number from 0, got {wanted}.")
    if wanted > MOST_WORKERS:
        raise UserError(f"data.num_workers must be at most {MOST_WORKERS}, got {wanted}.")
    return wanted


def switch(value: Any, key: str) -> bool:
    """A setting that is true or false, as YAML says it. Raises UserError, which names ``key``."""
    if not isinstance(value, bool):
        raise UserError(f"{key} must be true or false, got {value}.")
    return value


def batch_size(wanted: int) -> int:
    """data.batch_size, checked."""
    if type(wanted) is not int or wanted < 1:
        raise UserError(f"data.batch_size must be a number from 1, got {wanted}.")
    return wanted


def tiles_of(section: DictConfig) -> Tiles | None:
    """The section ``tiles``; None where it names no size."""
    if not isinstance(section, DictConfig) or section.get("size") is None:
        return None
    values = plain(section)
    return Tiles(**{**values, "size": height_and_width(section.size, "tiles.size")})
