"""Near-duplicates among images: the same photo saved twice, neighbouring frames of a video, a burst.

Two images are alike where few bits of their difference hashes differ (dHash: N. Krawetz, "Kind of Like That", 2013) and their
thumbnails correlate; the hash alone also pairs images that have nothing but their plain background in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from seg_det.data.images import read_small_grey
from seg_det.errors import UserError

BITS = 3  # of 64 that may differ
CORRELATION = 0.95  # of the thumbnails, at least
SIDE = 16  # of a thumbnail
NEXT = 64
ROWS = 2**15  # pairs that are compared at a time
DECODED = 64  # pixels a side that a JPEG is decoded with, at least


class Digest(NamedTuple):
    """What is kept of an image."""

    bits: int  # 64: whether a pixel of 9 x 8 is brighter than its left neighbour
    thumbnail: bytes  # SIDE x SIDE grey values


class _File(NamedTuple):
    path: str
    bytes: int
    changed: int  # ns


_known: dict[_File, Digest | None] = {}  # the jobs of a sweep, and the parts of a data set, share their digests


def similar_pairs(paths: Sequence[Path]) -> np.ndarray:
    """The pairs of near-duplicates as positions in ``paths``, i64 [N, 2]; of images that are all alike enough to join them.

    Images that cannot be read are like no other: whoever reads them next says what is wrong.
    """
    digests = _digests(paths)
    places = np.flatnonzero([digest is not None for digest in digests])
    if len(places) < 2:
        return np.zeros((0, 2), np.int64)
    known = [digest for digest in digests if digest is not None]
    bits = np.array([digest.bits for digest in known], np.uint64)
    grey = np.frombuffer(b"".join(digest.thumbnail for digest in known), np.uint8).reshape(len(places), -1)
    found = [_alike(pairs, grey) for pairs in _candidates(bits)]
    return places[np.unique(np.concatenate(found), axis=0)] if found else np.zeros((0, 2), np.int64)


def _digests(paths: Sequence[Path]) -> list[Digest | None]:
    with ThreadPoolExecutor() as pool:  # decoding leaves Python free
        found = pool.map(_digest, paths, chunksize=16)
        return list(tqdm(found, "looking for near-duplicates", len(paths), unit="image", delay=2, leave=False))


def _digest(path: Path) -> Digest | None:
    try:
        state = path.stat()
        file = _File(str(path.absolute()), state.st_size, state.st_mtime_ns)
        if file not in _known:
            _known[file] = _computed(path)
        return _known[file]
    except (UserError, OSError):
        return None


def _computed(path: Path) -> Digest:
    grey = read_small_grey(path, DECODED)
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1]).tobytes()
    return Digest(int.from_bytes(bits, "big"), grey.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes())


def _candidates(bits: np.ndarray) -> list[np.ndarray]:
    """Pairs of positions whose hashes, u64 [N], differ by BITS at most: then one of their BITS + 1 bands is equal.

    Each is compared with its next NEXT in the order of a band and then of the hash, so that many equal ones cost no more.
    """
    width = 64 // (BITS + 1)
    found = []
    for band in range(BITS + 1):
        values = bits >> np.uint64(band * width) & np.uint64(2**width - 1)
        order = np.lexsort((bits, values))
        step, left = 1, np.arange(len(bits) - 1)
        while step <= NEXT and len(left := left[left + step < len(bits)]):
            left = left[values[order[left]] == values[order[left + step]]]
            first, second = order[left], order[left + step]
            near = _ones(bits[first] ^ bits[second]) <= BITS
            found.append(np.sort(np.stack([first[near], second[near]], axis=1), axis=1))
            step += 1
    return found


def _ones(values: np.ndarray) -> np.ndarray:
    """How many bits are set in each of u64 [N]."""
    return np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)


def _alike(pairs: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Those of ``pairs`` whose thumbnails, u8 [N, SIDE * SIDE], correlate; a plain one does so with its equals alone."""
    return np.concatenate([part[_correlate(part, grey)] for part in np.split(pairs, range(ROWS, len(pairs), ROWS))])


def _correlate(pairs: np.ndarray, grey: np.ndarray) -> np.ndarray:
    first, second = (grey[column].astype(np.float32) for column in pairs.T)
    same = (first == second).all(axis=1)
    first, second = (one - one.mean(axis=1, keepdims=True) for one in (first, second))
    norm = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return same | ((first * second).sum(axis=1) > CORRELATION * norm)
