"""Perceptual hashes of images: equal or nearly so for pictures that look alike, whatever their size and compression."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

SIDE = 8  # bits in a row and in a column
BITS = SIDE * SIDE
BYTE_COUNTS = np.array([bin(value).count("1") for value in range(256)], np.uint8)
MOST_OF_A_GROUP = 4000  # hashes that share a part are compared in blocks of so many


def dhash(image: np.ndarray) -> int:
    """The difference hash of an image u8 [H, W, 3]: 64 bits, whether each of 8 x 8 areas is darker than its right neighbour.

    Source: N. Krawetz, "Kind of Like That", 2013.
    """
    small = cv2.resize(image, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    grey = small.astype(np.float64) @ (0.299, 0.587, 0.114)
    bits = np.packbits((grey[:, :-1] < grey[:, 1:]).ravel())
    return int.from_bytes(bits.tobytes(), "big")


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The number of bits in which hashes u64 [N] and u64 [N] differ: i64 [N]."""
    differing = np.ascontiguousarray(first ^ second).view(np.uint8).reshape(-1, 8)
    return BYTE_COUNTS[differing].sum(axis=1, dtype=np.int64)


def near_pairs(hashes: Sequence[int] | np.ndarray, most: int) -> np.ndarray:
    """All pairs i < j of hashes that differ in at most ``most`` bits: i64 [P, 2], sorted.

    Two such hashes agree in one of ``most + 1`` parts of the bits, so that only those that share a part are compared.
    """
    unique, owner = np.unique(np.asarray(hashes, np.uint64), return_inverse=True)
    pairs = [_pairs_of(unique, most)] if len(unique) > 1 else []
    members = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1]) if len(owner) else []
    found = [np.stack(np.triu_indices(len(group), 1), 1) for group in members if len(group) > 1]
    same = [group[rows] for group, rows in zip((g for g in members if len(g) > 1), found, strict=True)]
    across = [
        np.stack([np.repeat(members[i], len(members[j])), np.tile(members[j], len(members[i]))], 1)
        for i, j in (pairs[0].tolist() if pairs else [])
    ]
    every = np.concatenate([np.zeros((0, 2), np.int64), *same, *across])
    return np.unique(np.sort(every, axis=1), axis=0)


def _pairs_of(unique: np.ndarray, most: int) -> np.ndarray:
    """Pairs of places in ``unique`` u64 [N] whose hashes differ in at most ``most`` bits."""
    bounds = np.linspace(0, BITS, most + 2).astype(int)
    found = [np.zeros((0, 2), np.int64)]
    for low, high in pairwise(bounds.tolist()):
        part = (unique >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(part, kind="stable")
        starts = np.flatnonzero(np.diff(part[order])) + 1
        groups = [group for group in np.split(order, starts) if len(group) > 1]
        found += [_within(unique, group, most) for group in groups]
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _within(unique: np.ndarray, group: np.ndarray, most: int) -> np.ndarray:
    """The near pairs of the places ``group`` [M], compared block by block."""
    found = []
    step = max(1, MOST_OF_A_GROUP**2 // len(group))
    for start in range(0, len(group), step):
        rows = group[start : start + step]
        apart = unique[rows, None] ^ unique[None, group]
        bits = BYTE_COUNTS[apart.view(np.uint8).reshape(*apart.shape, 8)].sum(axis=-1, dtype=np.int64)
        first, second = np.nonzero(bits <= most)
        found.append(np.stack([rows[first], group[second]], 1)[rows[first] < group[second]])
    return np.concatenate(found)
