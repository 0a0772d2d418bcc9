"""Perceptual hashes, and the search for those that nearly agree."""

from itertools import combinations

import numpy as np

from seg_det.data.hashing import dhash, distances, near_pairs


def test_the_hash_tells_where_an_image_gets_brighter_to_the_right():
    ramp = np.broadcast_to(np.arange(0, 216, 3, dtype=np.uint8)[None, :, None], (64, 72, 3))
    assert dhash(ramp) == 2**64 - 1
    assert dhash(ramp[:, ::-1]) == 0
    half = np.concatenate([ramp[:32], ramp[:32, ::-1]])
    assert dhash(half) == 0xFFFFFFFF << 32


def test_another_size_has_the_same_hash():
    ramp = np.broadcast_to(np.arange(0, 216, 3, dtype=np.uint8)[None, :, None], (64, 72, 3))
    image = np.concatenate([ramp[:16], ramp[:48, ::-1]])
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
    assert near_pairs([], 4).shape == near_pairs([7], 4).shape == (0, 2)
    assert near_pairs([7, 7, 7], 0).tolist() == [[0, 1], [0, 2], [1, 2]]
