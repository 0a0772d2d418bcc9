"""What the keys of labelled data and of the loss mean; prediction, which needs neither, does not import this."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seg_det.commands.settings import build, plain
from seg_det.data.classes import only_classes
from seg_det.data.records import Source
from seg_det.errors import UserError
from seg_det.kinds.lookup import kind_named
from seg_det.registry import READERS


def postprocess(task: DictConfig) -> dict[str, Any]:
    """The card's post-processing; of a detector, a part of it follows from the loss."""
    return kind_named(task.kind, "The configuration").postprocess(plain(task.loss), plain(task.postprocess))


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
