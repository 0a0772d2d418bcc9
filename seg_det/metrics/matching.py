"""Which detection finds which object, by COCO's rules, for all images and classes of a split at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from seg_det.metrics.arrays import Found, Objects

MOST_PAIRS = 200_000  # compared at once: bounds the memory of crowded images


class Pairs(NamedTuple):
    """Detections and objects that overlap, ordered by detection, of one detection by IoU, of one IoU by object."""

    detection: np.ndarray  # i64 [P], rows of the detections
    object: np.ndarray  # i64 [P], rows of the objects
    iou: np.ndarray  # f64 [P]; with a crowd: the share of the detection that lies inside


class Matches(NamedTuple):
    """What the C detections found that reach the lowest of T thresholds with any object."""

    detection: np.ndarray  # i64 [C], rows of the detections, ascending
    object: np.ndarray  # i64 [A, T, C], rows of the objects, -1 for none


def overlapping(objects: Objects, found: Found, minimum: float, *, across_classes: bool = False) -> Pairs:
    """All pairs of one image, and of one class unless ``across_classes``, with an IoU of at least ``minimum`` > 0.

    The arithmetic is that of COCO's own code, operation by operation, so that the IoUs are its numbers to the last bit.
    """
    group_objects, group_found = objects.image, found.image
    if not across_classes:
        classes = 1 + max(objects.label.max(initial=0), found.label.max(initial=0))
        group_objects, group_found = (rows.image * classes + rows.label for rows in (objects, found))
    order = np.argsort(group_objects, kind="stable")
    grouped = group_objects[order]
    first = np.searchsorted(grouped, group_found, "left")
    count = np.searchsorted(grouped, group_found, "right") - first
    columns = objects.boxes.T.copy(), objects.crowd, found.boxes.T.copy()
    parts = [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for rows, places in _blocks(first, count):
        candidates = order[places]
        iou = _iou(*columns, candidates, rows)
        near = iou >= minimum
        parts.append(Pairs(rows[near], candidates[near], iou[near]))
    pairs = Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.lexsort((pairs.object, pairs.iou, pairs.detection))
    return Pairs(*(column[order] for column in pairs))


def _blocks(first: np.ndarray, count: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each row i beside each of first[i], first[i] + 1, ..., ``count[i]`` of them; some MOST_PAIRS pairs at a time."""
    rows = np.flatnonzero(count)
    ends = np.cumsum(count[rows])
    marks = np.arange(MOST_PAIRS, ends[-1], MOST_PAIRS) if len(ends) else np.zeros(0, np.int64)
    cuts = np.searchsorted(ends, marks)
    for block in np.split(rows, cuts):
        sizes = count[block]
        begins = np.cumsum(sizes) - sizes
        yield np.repeat(block, sizes), np.arange(sizes.sum()) + np.repeat(first[block] - begins, sizes)


def _iou(
    objects: np.ndarray, crowd: np.ndarray, found: np.ndarray, object_rows: np.ndarray, found_rows: np.ndarray
) -> np.ndarray:
    """f64 [P] of boxes given as columns, xywh [4, G] and [4, D]."""
    x, y, w, h = found[:, found_rows]
    object_x, object_y, object_w, object_h = objects[:, object_rows]
    width = np.minimum(w + x, object_w + object_x) - np.maximum(x, object_x)
    height = np.minimum(h + y, object_h + object_y) - np.maximum(y, object_y)
    touching = (width > 0) & (height > 0)
    overlap, area = width * height, w * h
    union = np.where(crowd[object_rows], area, area + object_w * object_h - overlap)
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=touching)


def match(
    pairs: Pairs, groups: np.ndarray, thresholds: np.ndarray, *, ignored: np.ndarray, crowd: np.ndarray
) -> Matches:
    """Give each detection the free object that it overlaps most, best detection first.

    groups: i64 [D]; the detections of one group compete for the same objects, and the first has the first choice.
    thresholds: f64 [T]; ignored: bool [A, G], each row matched by itself; crowd: bool [G].
    An object is free until a detection has it, a crowd always. Objects that are not ignored come before all that are;
    of equal IoUs, the later object is taken. Source: Lin et al., Microsoft COCO (2014), as its evaluation code has it.
    """
    rounds, detections = _rounds(pairs, groups), np.unique(pairs.detection)
    objects = np.full((len(ignored), len(thresholds), len(detections)), -1)
    for found, row in zip(objects, ignored, strict=True):
        # The greater the better: the pairs of a detection stand in ascending order of IoU.
        preference = np.arange(len(pairs.object)) + len(pairs.object) * ~row[pairs.object]
        taken = np.zeros((len(thresholds), len(crowd)), bool)
        for candidates, heads, chosen in rounds:
            rivals = pairs.object[chosen]
            usable = (pairs.iou[chosen] >= thresholds[:, None]) & (crowd[rivals] | ~taken[:, rivals])
            best = np.maximum.reduceat(np.where(usable, preference[chosen], -1), heads, axis=1)
            level, hit = np.nonzero(best >= 0)
            target = pairs.object[best[level, hit] % len(pairs.object)]
            found[level, candidates[hit]] = target
            taken[level, target] = True
    return Matches(detections, objects)


class _Round(NamedTuple):
    """The detections whose turn it is: one of each group that is left."""

    candidates: np.ndarray  # i64 [c], numbers among the detections that have pairs
    heads: np.ndarray  # i64 [c], where the pairs of each begin among ``chosen``
    chosen: np.ndarray  # i64 [p], rows of the pairs


def _rounds(pairs: Pairs, groups: np.ndarray) -> list[_Round]:
    """All groups side by side: the first detection of each that has pairs, then the second of each, ..."""
    heads = np.flatnonzero(np.diff(pairs.detection, prepend=-1))
    sizes = np.diff(heads, append=len(pairs.detection))
    turn = rank_within(groups[pairs.detection[heads]])
    order, pair_order = np.argsort(turn, kind="stable"), np.argsort(np.repeat(turn, sizes), kind="stable")
    cuts = np.cumsum(np.bincount(turn))
    pair_cuts = np.cumsum(np.bincount(turn, sizes)).astype(np.int64)
    return [
        _Round(candidates, np.cumsum(sizes[candidates]) - sizes[candidates], chosen)
        for candidates, chosen in zip(np.split(order, cuts), np.split(pair_order, pair_cuts), strict=True)
        if len(candidates)
    ]


def rank_within(groups: np.ndarray) -> np.ndarray:
    """How often each number stood before, i64 [N]: 7, 3, 7, 7 gives 0, 0, 1, 2."""
    order = np.argsort(groups, kind="stable")
    grouped = groups[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.searchsorted(grouped, grouped)
    return rank
