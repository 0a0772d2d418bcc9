"""Near-duplicates among images: the same photo saved twice, neighbouring frames of a video, a burst.

Two images are alike where few bits of their difference hashes differ (dHash: N. Krawetz, "Kind of Like That", 2013) and their
thumbnails correlate; the hash alone also pairs images that have nothing but their plain background in common. How many bits
and how close a correlation is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from seg_det.data.images import read_small_grey
from seg_det.errors import UserError
from seg_det.progress import progress_bar

HASH = 64  # bits: whether a pixel of 9 x 8 is brighter than its left neighbour
SIDE = 16  # of a thumbnail
NEXT = 64  # hashes that each is compared with in a band
ROWS = 2**13  # pairs of thumbnails that are compared at a time
DECODED = 64  # pixels a side that a JPEG is decoded with, at least


class Digest(NamedTuple):
    """What is kept of an image to compare it with others."""

    dhash: int
    thumbnail: bytes  # SIDE x SIDE values, or as many colours


class Alike(NamedTuple):
    """Pairs of images that are alike."""

    pairs: np.ndarray  # i64 [P, 2], i < j, sorted
    bits: np.ndarray  # i64 [P] of the hashes that differ
    correlation: np.ndarray  # f32 [P] of the thumbnails


class _File(NamedTuple):
    path: str
    bytes: int
    changed: int  # ns


_known: dict[_File, Digest | None] = {}  # the jobs of a sweep, and the parts of a data set, share their digests


def digests(paths: Sequence[Path]) -> list[Digest | None]:
    """The hash and the grey thumbnail of each image, read in threads; None for one that cannot be read."""
    with ThreadPoolExecutor() as pool:  # decoding leaves Python free
        found = pool.map(_digest, paths, chunksize=16)
        return list(progress_bar(found, "looking for near-duplicates", len(paths), unit="image"))


def _digest(path: Path) -> Digest | None:
    try:
        state = path.stat()
        file = _File(str(path.absolute()), state.st_size, state.st_mtime_ns)
        if file not in _known:
            grey = np.asarray(read_small_grey(path, DECODED))
            _known[file] = Digest(dhash(grey), thumbnail(grey))
        return _known[file]
    except (UserError, OSError):
        return None


def dhash(grey: np.ndarray) -> int:
    """The difference hash of an image u8 [H, W]: 64 bits, whether each of 8 x 8 areas is darker than its right neighbour."""
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, :-1] < small[:, 1:]).tobytes(), "big")


def thumbnail(image: np.ndarray) -> bytes:
    """A small copy of an image u8 [H, W] or u8 [H, W, C]: SIDE x SIDE values or colours."""
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).tobytes()


def alike(images: Sequence[Digest], most_bits: int, least_correlation: float) -> Alike:
    """The pairs of ``images`` whose hashes differ in at most ``most_bits`` and whose thumbnails correlate by more than that.

    Of images that are all alike enough are found to join them, not every pair; see :func:`near_pairs`.
    """
    hashes = np.array([image.dhash for image in images], np.uint64)
    pairs = near_pairs(hashes, most_bits)
    correlation = correlations(pairs, [image.thumbnail for image in images])
    kept = correlation > least_correlation
    return Alike(pairs[kept], distances(*hashes[pairs[kept]].T), correlation[kept])


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The number of bits in which hashes u64 [N] and u64 [N] differ: i64 [N]."""
    counts = first ^ second
    for shift, mask in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
        counts = (counts & np.uint64(mask)) + (counts >> np.uint64(shift) & np.uint64(mask))  # of each 2, 4, 8 bits
    return (counts * np.uint64(0x0101010101010101) >> np.uint64(HASH - 8)).astype(np.int64)


def near_pairs(hashes: np.ndarray, most: int) -> np.ndarray:
    """Pairs i < j of hashes u64 [N] that differ in at most ``most`` bits: i64 [P, 2], sorted.

    Such a pair agrees in one of ``most + 1`` bands of the bits. In the order of the bits from each band on, a hash is compared
    with the next NEXT, so that many equal ones cost no more; where more than those share a band, pairs that are far apart in
    every order are missed.
    """
    found = [np.zeros(0, np.int64)]
    for low, high in pairwise(np.linspace(0, HASH, most + 2).astype(int).tolist()):
        found += _pairs_of_band(hashes, low, high - low, most)
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(1, len(hashes))), axis=1)


def _pairs_of_band(hashes: np.ndarray, start: int, width: int, most: int) -> list[np.ndarray]:
    """i * N + j of the pairs i < j whose bits agree in a band; those with equal hashes are in the first band alone."""
    rotated = hashes << np.uint64(start) | hashes >> np.uint64((HASH - start) % HASH)
    order = np.argsort(rotated, kind="stable")
    rotated, left, found = rotated[order], np.arange(len(hashes)), []
    bands = rotated >> np.uint64(HASH - width)
    for step in range(1, NEXT + 1):
        left = left[left + step < len(hashes)]
        left = left[bands[left] == bands[left + step]]
        bits = distances(rotated[left], rotated[left + step])
        near = left[(bits <= most) & ((bits > 0) | (start == 0))]
        i, j = order[near], order[near + step]
        found.append(np.minimum(i, j) * len(hashes) + np.maximum(i, j))
    return found


def correlations(pairs: np.ndarray, thumbnails: Sequence[bytes]) -> np.ndarray:
    """How closely the thumbnails of ``pairs`` i64 [P, 2] correlate, less the mean of each channel: f32 [P].

    Equal ones have 1, others of which one is plain have 0.
    """
    if not len(pairs):
        return np.zeros(0, np.float32)
    values = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(thumbnails), SIDE * SIDE, -1)
    return np.concatenate([_correlations(part, values) for part in np.split(pairs, range(ROWS, len(pairs), ROWS))])


def _correlations(pairs: np.ndarray, values: np.ndarray) -> np.ndarray:
    first, second = (values[column].astype(np.float32) for column in pairs.T)
    same = (first == second).all(axis=(1, 2))
    first, second = (one - one.mean(axis=1, keepdims=True) for one in (first, second))
    norm = np.sqrt((first**2).sum(axis=(1, 2)) * (second**2).sum(axis=(1, 2)))
    return np.where(same, 1, (first * second).sum(axis=(1, 2)) / np.maximum(norm, 1e-6)).astype(np.float32)
