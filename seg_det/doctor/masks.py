"""Checks of masks: every one is read once, and the pixels of each class are counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from seg_det.data.records import SegmentationRecord
from seg_det.doctor.classes import by_name, check_pixels
from seg_det.doctor.findings import ERROR, Finding, Found, Scope, Split, found
from seg_det.doctor.sentences import fault_of
from seg_det.errors import UserError
from seg_det.progress import progress_bar
from seg_det.types import IGNORE

NEARLY = 0.95  # share of ignored pixels


class Counted(NamedTuple):
    """The pixels of a mask."""

    record: SegmentationRecord
    pixels: np.ndarray  # i64 [256], by class index and IGNORE
    fault: str = ""  # why it could not be read

    @property
    def ignored(self) -> float:
        """The share that is not counted."""
        return self.pixels[IGNORE] / max(1, self.pixels.sum())


def check_masks(scope: Scope) -> Iterator[Found]:
    """Masks that cannot be read or teach nothing, and the shares of the classes."""
    totals = {}
    for split in scope.splits:
        counted = _counted(split)
        readable = [one for one in counted if not one.fault]
        yield from _unreadable(split, counted)
        yield from _ignored(split, readable)
        total = sum((one.pixels for one in readable), np.zeros(256, np.int64))
        yield from _single_class(split, total)
        totals[split.role] = by_name(split, total)
    yield from check_pixels(scope, totals)


def _counted(split: Split) -> list[Counted]:
    records = split.source.records
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = pool.map(_count, records)
        return list(progress_bar(read, f"masks of {split.name}", len(records), unit="mask"))


def _count(record: SegmentationRecord) -> Counted:
    try:
        return Counted(record, np.bincount(record.mask.read().ravel(), minlength=256))
    except UserError as error:
        return Counted(record, np.zeros(256, np.int64), str(error))


def _finding(split: Split, one: Counted, sentence: str) -> Finding:
    return Finding(sentence, split.name, one.record.path, one.record.image_id)


def _unreadable(split: Split, counted: list[Counted]) -> Iterator[Found]:
    for one in counted:
        if one.fault:
            yield from found(fault_of(one.fault, "reader-problem"), [_finding(split, one, one.fault)], ERROR)


def _ignored(split: Split, counted: list[Counted]) -> Iterator[Found]:
    say = partial(_finding, split)
    nothing = [one for one in counted if one.ignored == 1]
    nearly = [one for one in counted if NEARLY < one.ignored < 1]
    whole = [say(one, f"every pixel of the mask of {one.record.path} is ignored") for one in nothing]
    most = [say(one, f"{one.ignored:.1%} of the pixels of the mask of {one.record.path} are ignored") for one in nearly]
    yield from found("mask-all-ignored", whole)
    yield from found("mask-nearly-ignored", most)


def _single_class(split: Split, total: np.ndarray) -> Iterator[Found]:
    present = np.flatnonzero(total[: len(split.source.categories)])
    if len(present) == 1 and len(split.source.categories) > 1:
        name = split.source.categories[present[0]].name
        sentence = (
            f"all {len(split.source.records)} masks of {split.name} hold the class {name!r} alone: check their values"
        )
        yield from found("masks-of-one-class", [Finding(sentence, split.name)])
