"""Whether two runs are equal bit for bit, apart from names of folders and times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from seg_det import checkpoint

# Of callbacks, they name folders; the names of the best checkpoints are keys too.
FOLDERS = {"dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models"}


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """The places where two nested values differ."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        equal = (
            one.shape == other.shape
            and one.dtype == other.dtype
            and bool(((one == other) | ((one != one) & (other != other))).all())
        )
        return [] if equal else [place]
    if isinstance(one, dict) and isinstance(other, dict):
        found = [f"{place}/{key}" for key in one.keys() ^ other.keys()]
        for key in (one.keys() & other.keys()) - FOLDERS:
            found += differences(one[key], other[key], f"{place}/{key}")
        return found
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [name for i, (a, b) in pairs for name in differences(a, b, f"{place}/{i}")]
    return [] if one == other or (one != one and other != other) else [place]


def run_differences(one: Path, other: Path) -> list[str]:
    """Of the checkpoints and of metrics.csv of two run folders."""
    found = []
    for name in ("last.ckpt", "best.ckpt"):
        contents = [checkpoint.read(run / "checkpoints" / name) for run in (one, other)]
        found += differences(*contents, place=name)
    rows = [(run / "metrics.csv").read_text(encoding="utf-8") for run in (one, other)]
    return found + ["metrics.csv"] * (rows[0] != rows[1])
