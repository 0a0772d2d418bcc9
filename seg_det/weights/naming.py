"""Naming: what the keys of a weights file mean, as a table of patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from seg_det.weights.presets import TaskSettings, task_settings

AVERAGED = "/ExponentialMovingAverage"  # TensorFlow: the average of the variable of that name, which evaluates better
OUTPUT = ":0"  # TensorFlow: of an operation


class Row(NamedTuple):
    """What one kind of key means.

    In ``ours`` each ``{}`` stands for the next group of the pattern ``file``, ``{-1}`` and ``{+12}`` for that number shifted,
    ``{#}`` for its place among the blocks of the file. The row holds only where ``beside``, with the first group for
    ``{}``, is a tensor of the file or a module that has some.
    """

    file: str
    ours: str
    beside: str = ""


class Preset(NamedTuple):
    """The model whose weights a naming is for, as conf/task/``task``.yaml says it."""

    task: str
    input_size: int  # pixels
    resize: str  # ModelCard.resize
    align_corners: bool | None = None  # of masks; None: as the task has it

    def settings(self) -> TaskSettings:
        """What the task says."""
        return task_settings(self.task, align_corners=self.align_corners)


@dataclass(frozen=True)
class Naming:
    """A way to name tensors: the first of ``rows`` that matches the whole key counts; other keys mean nothing to us.

    ``padding``, ``eps``, and ``centred`` (images in -1..1 instead of ImageNet's mean and deviation) are what the weights were
    trained with where the naming tells, ``folds`` whether it leaves out the norms that were folded into the convolutions,
    ``background`` whether class 0 of 1001 is none of ImageNet's. Of detectors, ``boxes`` is the order of the four numbers of
    an anchor's box, "xywh" here, and ``preset`` what else must be known.
    """

    name: str
    mark: str  # pattern of a key that tells this naming from the others
    rows: tuple[Row, ...]
    block: str = ""  # pattern of keys whose one group, numbers with dots between, says in which block they are
    padding: str | None = None
    eps: float | None = None
    centred: bool = False
    folds: bool = False
    background: bool = False
    boxes: str = "xywh"
    preset: Preset | None = None

    def rename(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Our key of a whole model -> the file's keys for it, in the file's order, for every key that a row matches.

        Several are parts of one tensor, to be joined along the output channels.
        """
        given = cleaned(keys)
        present = {part for key in given for part in accumulate(key.split("."), "{}.{}".format)}
        blocks = _numbered(given, self.block)
        found: dict[str, list[str]] = {}
        for key, original in given.items():
            if (ours := self._ours(key, present, blocks)) is not None:
                found.setdefault(ours, []).append(original)
        return found

    def _ours(self, key: str, present: set[str], blocks: Mapping[str, int]) -> str | None:
        for row in self.rows:
            match = re.fullmatch(row.file, key)
            if match and (not row.beside or row.beside.format(*match.groups()[:1]) in present):
                return _filled(row.ours, match.groups(), blocks)
        return None


def cleaned(keys: Iterable[str]) -> dict[str, str]:
    """Key without TensorFlow's suffixes -> key; of a variable and its average the average."""
    found: dict[str, str] = {}
    for key in keys:
        clean = key.removesuffix(OUTPUT).removesuffix(AVERAGED)
        if clean not in found or AVERAGED in key:
            found[clean] = key
    return found


def _numbered(keys: Iterable[str], pattern: str) -> dict[str, int]:
    labels = {match[1] for key in keys if (match := re.fullmatch(pattern, key))} if pattern else set()
    return {label: i for i, label in enumerate(sorted(labels, key=lambda label: [int(n) for n in label.split(".")]))}


def _filled(template: str, groups: tuple[str, ...], blocks: Mapping[str, int]) -> str:
    values = iter(groups)

    def value(placeholder: re.Match[str]) -> str:
        group, kind = next(values), placeholder[1]
        if kind == "#":
            return str(blocks[group])
        return str(int(group) + int(kind)) if kind else group

    return re.sub(r"\{(#|[+-]\d+)?\}", value, template)
