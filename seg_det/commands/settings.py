"""What single keys of a configuration mean, and their refusals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from seg_det import registry
from seg_det.data.classes import only_classes
from seg_det.data.records import Source
from seg_det.errors import UserError
from seg_det.kinds.lookup import kind_named
from seg_det.predict.tiles import Tiles
from seg_det.registry import READERS, Registry

MOST_WORKERS = 1024


def postprocess(task: DictConfig) -> dict[str, Any]:
    """The card's post-processing; of a detector, a part of it follows from the loss."""
    return kind_named(task.kind, "The configuration").postprocess(plain(task.loss), plain(task.postprocess))


def plain(config: DictConfig) -> dict[str, Any]:
    """``config`` as a dictionary, its references resolved. Raises UserError for one that refers to itself."""
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except RecursionError as error:
        raise UserError("A value of the configuration refers to itself: say it on the command line.") from error


def build(config: DictConfig, family: Registry, **given: Any) -> Any:
    """What a section with ``_target_`` describes: a member of ``family``, see :func:`seg_det.registry.build`."""
    return registry.build(plain(config), family, **given)


def height_and_width(given: Any, key: str = "data.size") -> tuple[int, int]:
    """(H, W) of a size that is one number or two. Raises UserError, which names ``key``."""
    size = (given, given) if isinstance(given, int) else tuple(given) if OmegaConf.is_list(given) else ()
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(f"{key} must be a number or [height, width] in pixels, got {given}.")
    return size


def of_colours(values: list[float] | None, key: str) -> tuple[float, float, float] | None:
    """data.mean or data.std, as ``key`` says: one number for red, green and blue each, or None."""
    if values is None:
        return None
    if not isinstance(values, ListConfig) or len(values) != 3 or (key == "std" and min(values) <= 0):
        above = " above 0" if key == "std" else ""
        raise UserError(f"data.{key} takes three numbers{above}, of red, green and blue, got {values}.")
    return tuple(values)


def read_source(dataset: DictConfig, split: str, *, within: Sequence[Path] | None = None) -> Source:
    """The images and labels of a split.

    ``within`` are the folders in which a reader may write, for a configuration that the user did not write; None: anywhere.
    """
    if split not in ("train", "val"):
        raise UserError(f"split must be train or val, got {split!r}.")
    if not isinstance(section := dataset.get(split), DictConfig):
        raise UserError(
            f"dataset.{split} must be a section with _target_, a reader, and its arguments, got {section!r}."
        )
    reader = READERS.get(section.get("_target_"))
    given = {"within": within} if "within" in signature(reader).parameters else {}
    return build(section, READERS, **given)


def read_measured(dataset: DictConfig, config: DictConfig, split: str) -> Source:
    """The same, of ``config.classes`` alone where they are given; a data set that ``config`` does not name comes from a run."""
    source = read_source(dataset, split, within=None if config.get("dataset") else [Path.cwd()])
    return source if config.classes is None else only_classes(source, config.classes)


def workers(wanted: int | str) -> int:
    """data.num_workers: processes that read images."""
    if wanted == "auto":
        return min(8, max(0, (os.cpu_count() or 1) - 1))
    if not isinstance(wanted, int) or wanted < 0:
        raise UserError(f"data.num_workers must be auto or a number from 0, got {wanted}.")
    if wanted > MOST_WORKERS:
        raise UserError(f"data.num_workers must be at most {MOST_WORKERS}, got {wanted}.")
    return wanted


def batch_size(wanted: int) -> int:
    """data.batch_size, checked."""
    if not isinstance(wanted, int) or wanted < 1:
        raise UserError(f"data.batch_size must be a number from 1, got {wanted}.")
    return wanted


def tiles_of(section: DictConfig) -> Tiles | None:
    """The section ``tiles``; None where it names no size."""
    values = plain(section)
    if values["size"] is None:
        return None
    return Tiles(**{**values, "size": height_and_width(section.size, "tiles.size")})
