"""Fitted anchors as YAML: what ``task.model.anchor_shapes`` of train.py takes in place of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from seg_det.errors import UserError
from seg_det.files import write_whole
from seg_det.ops.anchors import Shape, are_shapes

KEY = "task.model.anchor_shapes"


def write_anchors(path: Path, shapes: Sequence[Sequence[Shape]], comment: str) -> Path:
    """Write the shapes of each map, with ``comment`` above them; in conf/experiment the file is an experiment too."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    levels = "".join(f"      - {[list(shape) for shape in level]}\n" for level in shapes)
    return write_whole(path, f"# @package _global_\n{head}task:\n  model:\n    anchor_shapes:\n{levels}")


def read_anchors(path: Path) -> list[list[list[float]]]:
    """The shapes that :func:`write_anchors` wrote. Raises UserError that names the file and what it is instead."""
    if not path.is_file():
        raise UserError(f"{KEY}={path}: there is no such file; python -m seg_det.anchors writes one.")
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
        shapes = content.get("task", {}).get("model", {}).get("anchor_shapes")
    except (OSError, UnicodeDecodeError, AttributeError, YAMLError, OmegaConfBaseException):
        shapes = None
    if not are_shapes(shapes):
        raise UserError(
            f"{KEY}={path}: the file does not hold a list of [scale, width / height] pairs for each feature map under {KEY}; "
            "python -m seg_det.anchors writes one that does."
        )
    return shapes
