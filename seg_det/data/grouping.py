"""Which images of a data set belong together: by a pattern in their names, as augmented copies, as near-duplicates."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from seg_det.data.similar import alike, digests
from seg_det.errors import UserError

ROBOFLOW = re.compile(r"(.*)\.rf\.[0-9A-Za-z]{16,}\.\w+")  # an augmented copy: name of the original, hash
MOST_BITS = 3  # of 64 in which the hashes of images of one group may differ
LEAST_CORRELATION = 0.95  # of their thumbnails: neighbouring frames of a video are one group


@dataclass(frozen=True)
class Keys:
    """The key ``dataset.group_by``: a regular expression that is searched for in the names of images."""

    group_by: str | None = None

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """The expression. Raises UserError for what is none."""
        try:
            return None if self.group_by is None else re.compile(self.group_by)
        except (re.error, TypeError, RecursionError, OverflowError) as error:
            raise UserError(
                f"dataset.group_by={self.group_by} is no regular expression ({error}): correct it."
            ) from error

    def find(self, name: str) -> str | None:
        """The first group of the expression, or all that it matches; None where it does not."""
        pattern = self.pattern
        found = None if pattern is None else pattern.search(name)
        return None if found is None else found.group(min(1, found.re.groups))


@dataclass(frozen=True)
class Groups:
    """The key of the group of each image, and what is doubtful about them."""

    keys: list[str]
    notes: list[str]
    by_name: bool  # whether names alone joined images

    def members(self) -> dict[str, list[int]]:
        """The positions of the images of each group."""
        members = defaultdict(list)
        for position, key in enumerate(self.keys):
            members[key].append(position)
        return members

    def reason(self) -> str:
        """What joined images."""
        return "their names" if self.by_name else "their looks"


def group_images(names: Sequence[str], paths: Sequence[Path] | None, keys: Keys) -> Groups:
    """The groups of images with ``names``; ``paths`` are read in search of near-duplicates, None: they are not.

    The key of a group is the first in natural order of what ``keys`` finds in the names, else of the names themselves.
    Raises UserError where ``keys`` finds nothing in any name.
    """
    found = [keys.find(name) for name in names]
    unmatched = [name for name, key in zip(names, found, strict=True) if key is None] if keys.pattern else []
    if unmatched and len(unmatched) == len(names):
        raise UserError(
            f"dataset.group_by={keys.group_by} matches none of the {len(names)} names of images, such as {names[0]}: correct it."
        )
    notes = []
    if unmatched:
        notes.append(
            f"dataset.group_by={keys.group_by} does not match {len(unmatched)} of {len(names)} names, such as {unmatched[0]}: "
            "each is a group of its own"
        )
    # Names and what was found in them are told apart, as the name 12 is not the patient 12.
    own = [(key is None, _original(name) if key is None else key) for name, key in zip(names, found, strict=True)]
    joined = _joined(own, [] if paths is None else near_duplicates(paths))
    return Groups(joined, notes, by_name=len(set(own)) == 1)


def near_duplicates(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Positions in ``paths`` of images that look alike; of images that are all alike enough pairs to join them.

    Images that cannot be read are like no other: whoever reads them next says what is wrong.
    """
    read = {position: digest for position, digest in enumerate(digests(paths)) if digest is not None}
    places = list(read)
    found = alike(list(read.values()), MOST_BITS, LEAST_CORRELATION)
    return [(places[i], places[j]) for i, j in found.pairs.tolist()]


def _original(name: str) -> str:
    found = ROBOFLOW.fullmatch(name)
    return found.group(1) if found else name


def _joined(own: Sequence[tuple[bool, str]], pairs: Iterable[Sequence[int]]) -> list[str]:
    """The key of each image's group: images with one key, and pairs, are of one group."""
    first: dict[tuple[bool, str], int] = {}
    parents = [first.setdefault(key, position) for position, key in enumerate(own)]

    def root_of(position: int) -> int:
        while parents[position] != position:
            parents[position] = position = parents[parents[position]]
        return position

    best = list(own)
    for pair in pairs:
        one, other = map(root_of, pair)
        if one != other:
            parents[other] = one
            best[one] = min(best[one], best[other], key=_natural)
    return [best[root_of(position)][1] for position in range(len(own))]


def _natural(key: tuple[bool, str]) -> tuple[bool, list[str | int], str]:
    """So that IMG_9 comes before IMG_10, and what was found in names before names."""
    parts = re.split(r"(\d+)", key[1])
    return key[0], [int(part) if place % 2 else part for place, part in enumerate(parts)], key[1]
