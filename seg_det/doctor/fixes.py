"""Corrected copies of annotations: without what the readers refuse, boxes clipped to their images, doubled boxes once.

The originals stay as they are. What is wrong is told by the readers' own sentences, which name the file and the object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seg_det.doctor.boxes import same_boxes
from seg_det.doctor.findings import Scope, Split
from seg_det.errors import UserError

CLIP = re.compile(r"reaches outside its image")


class Change(NamedTuple):
    """What was changed in the copy of a file, and why."""

    file: str  # the original
    sentence: str


class Fixed(NamedTuple):
    """What a correction did."""

    changes: tuple[Change, ...] = ()
    written: tuple[Path, ...] = ()  # files and folders
    arguments: tuple[str, ...] = ()  # of a command, to use the copy
    left: tuple[str, ...] = ()  # what the copy still has, in sentences


class Box(NamedTuple):
    """An object as it stands in a file."""

    image: int
    label: str
    xyxy: tuple[float, float, float, float]  # in any unit


def doubled(boxes: Sequence[Box]) -> set[int]:
    """The places of boxes that another box of the class before them repeats (IoU above 0.95)."""
    table = np.array([box.xyxy for box in boxes], np.float64).reshape(-1, 4)
    first, second, _ = same_boxes(np.array([box.image for box in boxes], np.int64), table)
    return {j for i, j in zip(first.tolist(), second.tolist(), strict=True) if boxes[i].label == boxes[j].label}


def refused(split: Split) -> list[str]:
    """What the reader would refuse."""
    return [str(sentence) for sentence in split.source.problems if getattr(sentence, "refused", True)]


def located(sentences: Iterable[str], place: re.Pattern[str]) -> tuple[dict[tuple[str, ...], str], list[str]]:
    """The sentences by the groups of ``place`` in them; and those in which it is not."""
    found, rest = {}, []
    for sentence in sentences:
        match = place.search(sentence)
        if match is None:
            rest.append(sentence)
        else:
            found[tuple(group for group in match.groups() if group is not None)] = sentence
    return found, rest


def require_new(path: Path) -> Path:
    """``path``. Raises UserError if it exists: a copy may have been worked on."""
    if path.exists():
        raise UserError(
            f"{path} exists already, from an earlier correction: use it, or move it away and run this again."
        )
    return path


def clipped(box: Sequence[float], width: float, height: float) -> tuple[float, float, float, float]:
    """An xyxy box without what lies outside of an image."""
    x1, y1, x2, y2 = box
    return max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)


Fixer = Callable[[Scope, Mapping[str, Mapping[str, Any]]], Fixed]


def fix(scope: Scope, sections: Mapping[str, Mapping[str, Any]]) -> Fixed:
    """Write corrected copies of the annotations of all splits; ``sections`` are the readers' arguments by role.

    Raises UserError for a reader whose format is not corrected, and for copies that exist already.
    """
    from seg_det.doctor.fixes_coco import fix_coco
    from seg_det.doctor.fixes_voc import fix_voc
    from seg_det.doctor.fixes_yolo import fix_yolo

    fixers: dict[str, Fixer] = {"read_coco": fix_coco, "read_voc": fix_voc, "read_yolo": fix_yolo}
    reader = str(sections[scope.splits[0].role].get("_target_"))
    if reader not in fixers:
        raise UserError(
            f"fix=true writes COCO's JSON, VOC's XML and YOLO's text labels, not what {reader} reads: correct the data by hand."
        )
    return fixers[reader](scope, sections)
