"""Difference hashes of images, the search for those that nearly agree, and the comparison of thumbnails."""

from itertools import combinations

import numpy as np
import pytest

from seg_det.data.similar import NEXT, Digest, alike, correlations, dhash, distances, near_pairs, thumbnail

RAMP = np.broadcast_to(np.arange(0, 216, 3, dtype=np.uint8)[None, :], (64, 72))


def test_the_hash_tells_where_an_image_gets_brighter_to_the_right():
    assert dhash(RAMP) == 2**64 - 1
    assert dhash(RAMP[:, ::-1]) == 0
    assert dhash(np.concatenate([RAMP[:32], RAMP[:32, ::-1]])) == 0xFFFFFFFF << 32


def test_another_size_has_the_same_hash():
    image = np.concatenate([RAMP[:16], RAMP[:48, ::-1]])
    assert dhash(image) == dhash(image.repeat(3, axis=0).repeat(2, axis=1)) == 0xFFFF << 48


def test_distances_count_bits():
    first, second = (np.array(values, np.uint64) for values in ((0, 5, 2**63), (0, 6, 0)))
    assert distances(first, second).tolist() == [0, 2, 1]


def test_near_pairs_are_all_pairs_within_the_distance():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 300, dtype=np.uint64)
    for row in range(60):  # copies of earlier ones with 0 to 5 bits changed
        bits = rng.choice(64, row % 6, replace=False)
        hashes[row + 200] = hashes[row] ^ np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64), initial=0)
    values = hashes.tolist()
    for most in (0, 2, 4):
        expected = [[i, j] for i, j in combinations(range(300), 2) if (values[i] ^ values[j]).bit_count() <= most]
        assert near_pairs(hashes, most).tolist() == expected
        assert len(expected) >= 10 * (most + 1)


def test_no_pairs_of_few_hashes():
    assert near_pairs(np.zeros(0, np.uint64), 4).shape == near_pairs(np.zeros(1, np.uint64), 4).shape == (0, 2)
    assert near_pairs(np.full(3, 7, np.uint64), 0).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_many_equal_hashes_are_joined_by_few_pairs():
    pairs = near_pairs(np.repeat(np.array([5, 2**40], np.uint64), 500), 4)
    assert len(pairs) <= 1000 * NEXT * 2
    assert {(i, i + 1) for i in range(999)} <= {tuple(pair) for pair in pairs.tolist()}


def test_thumbnails_are_compared_less_their_mean_colour():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
    images = [
        noise,
        noise + np.array([5, 0, 30], np.uint8),
        200 - noise,
        np.full_like(noise, 9),
        np.full_like(noise, 8),
    ]
    thumbnails = [thumbnail(image) for image in images]
    pairs = np.array([[0, 0], [0, 1], [0, 2], [0, 3], [3, 3], [3, 4]])
    assert correlations(pairs, thumbnails) == pytest.approx([1, 1, -1, 0, 1, 0], abs=1e-5)


def test_alike_are_those_with_near_hashes_and_near_thumbnails():
    first, second = thumbnail(RAMP), thumbnail(RAMP[:, ::-1])
    found = alike([Digest(7, first), Digest(6, first), Digest(7, second), Digest(~7 & 2**64 - 1, first)], 1, 0.9)
    assert (found.pairs.tolist(), found.bits.tolist(), found.correlation.tolist()) == ([[0, 1]], [1], [1.0])
