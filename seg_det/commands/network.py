"""The network that a training's configuration describes, and its card's post-processing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seg_det.commands.anchor_files import read_anchors
from seg_det.commands.settings import plain
from seg_det.kinds.lookup import kind_named


def with_anchors(config: DictConfig) -> DictConfig:
    """``config`` with the shapes of an anchor file in place of its name. Raises UserError."""
    if isinstance(file := config.task.model.get("anchor_shapes"), str):
        config.task.model.anchor_shapes = read_anchors(Path(file))
    return config


def model_settings(config: DictConfig) -> dict[str, Any]:
    """What checkpoint.build_model takes, without num_classes."""
    backbone = {key: value for key, value in plain(config.backbone).items() if key != "weights"}
    return {**plain(config.task.model), "backbone": backbone}


def postprocess(task: DictConfig) -> dict[str, Any]:
    """The card's post-processing; of a detector, a part of it follows from the loss."""
    return kind_named(task.kind, "The configuration").postprocess(plain(task.loss), plain(task.postprocess))
