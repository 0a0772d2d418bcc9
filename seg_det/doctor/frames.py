"""Neighbouring frames of one video in both splits: told by the numbers in the names of images, and by the looks of a few."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np

from seg_det.data.similar import correlations, digests
from seg_det.doctor.duplicates import Place, file_of, places
from seg_det.doctor.findings import Finding, Found, Scope, Split, found

NUMBER = re.compile(r"(\d+)(\D*)\.[^.]*\Z")  # the last one in a name
ROBOFLOW = ".rf."  # before the hash in the name of a copy
LEAST = 8  # validation images of one sequence
REGULAR = 0.5  # share of the numbers that follow the one before in the usual step; the ids of COCO's images do not
MOST_COMPARED = 20  # pairs whose pictures are read
ALIKE = 0.7  # correlation of thumbnails; unrelated images have 0 to 0.2, frames of a drive a second apart 0.9
CLOSER = 0.8  # share of the images that are more like their neighbour than like another frame

Key = tuple[str, str]  # what stands before and after the number


def check_frames(scope: Scope) -> Iterator[Found]:
    """Whether frames of one video were dealt to both splits; reads the pictures of a few that are numbered so."""
    train, val = scope.of("train"), scope.of("val")
    if train is None or val is None:
        return
    pairs = _neighbours(_files(train), _files(val))
    if len(pairs) < LEAST:
        return
    listed = [(places(val)[second], places(train)[first]) for first, second in _spread(pairs)]
    if _are_frames(listed):
        one, other = listed[0]
        said = (
            f"{len(pairs):,} of {len(val.source.records):,} images of {val.name} follow or precede an image of {train.name} by "
            f"their numbers and look like it ({one.path.name} and {other.path.name}), as frames of one video do, which makes the "
            "figures too good: keep each video in one part, with dataset.group_by where a share validates"
        )
        yield from found("leak-frames", [Finding(said, val.name, one.path, one.image_id, other=other.path)])


def _files(split: Split) -> list[str]:
    return [file_of(record) for record in split.source.records]


def _spread(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [pairs[place] for place in np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_COMPARED)).astype(int)]


def _neighbours(train: Sequence[str], val: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of (training image, validation image) whose numbers follow each other in a sequence, by that of the second."""
    roots = [_folder_of_all(train), _folder_of_all(val)]
    if roots[0].startswith(roots[1]) or roots[1].startswith(roots[0]):
        roots = [min(roots, key=len)] * 2
    of_val = {key: rows for key, rows in _sequences(val, len(roots[1])).items() if len(rows) >= LEAST}
    of_train = _sequences(train, len(roots[0])) if of_val else {}
    pairs = [pair for key, rows in of_val.items() if key in of_train for pair in _pairs(of_train[key], rows)]
    return sorted(pairs, key=lambda pair: pair[1])


def _folder_of_all(files: Sequence[str]) -> str:
    common = os.path.commonprefix([min(files, default=""), max(files, default="")])  # noqa: RUF071
    return common[: common.rfind(os.sep) + 1]


def _sequences(files: Sequence[str], start: int) -> dict[Key, list[tuple[int, int]]]:
    """(number, position) of the files whose names, from ``start`` on, differ in their last number alone."""
    sequences: dict[Key, list[tuple[int, int]]] = defaultdict(list)
    for position, file in enumerate(files):
        name = file if ROBOFLOW not in file else file.partition(ROBOFLOW)[0] + "."
        if (number := NUMBER.search(name, start)) and len(number[1]) <= 18:  # of 64 bits
            sequences[name[start : number.start()], number[2]].append((int(number[1]), position))
    return sequences


def _pairs(train: Sequence[tuple[int, int]], val: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    first, second = (np.array(sorted(rows), np.int64) for rows in (train, val))
    gaps = np.diff(np.sort(np.concatenate([first[:, 0], second[:, 0]])))
    step = int(np.median(gaps))
    if step < 1 or (gaps == step).mean() < REGULAR:
        return
    after = np.searchsorted(first[:, 0], second[:, 0]).clip(0, len(first) - 1)
    before = (after - 1).clip(0)
    distances = np.abs(first[[before, after], 0] - second[:, 0])
    nearest = np.where(distances[0] < distances[1], before, after)
    yield from compress(
        zip(first[nearest, 1].tolist(), second[:, 1].tolist(), strict=True), distances.min(axis=0) <= step
    )


def _are_frames(pairs: Sequence[tuple[Place, Place]]) -> bool:
    """Whether images look like their neighbours, and more so than like those of others."""
    read = digests([place.path for pair in pairs for place in pair])
    both = [(one, other) for one, other in zip(read[::2], read[1::2], strict=True) if one and other]
    if len(both) < LEAST:
        return False
    row = np.arange(len(both))
    far = (row + len(both) // 2) % len(both)
    thumbnails = [digest.thumbnail for pair in both for digest in pair]
    near, others = (correlations(np.stack([2 * row, 2 * to + 1], axis=1), thumbnails) for to in (row, far))
    return bool(np.median(near) > ALIKE and (near > others).mean() >= CLOSER)
