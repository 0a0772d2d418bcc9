"""A train and a val part of a data set that has but one: by groups of images that belong together, by the hash of their names.

Which part a group belongs to depends on nothing but its key, so that further images move none of the others. The key is
what ``group_by`` finds in the names, else the first of its names in natural order: later photos of a burst come after it.
A group can still move where a later near-duplicate comes first in that order or joins two groups; a split file prevents that.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from seg_det.data.classes import present_labels
from seg_det.data.grouping import Groups, Keys, group_images
from seg_det.data.problems import Sentence
from seg_det.data.records import Lost, Record, Source, with_records
from seg_det.data.split_file import PARTS, Place, Split
from seg_det.errors import UserError

DEFAULT_SHARE = 0.2
MOST_SHOWN = 5  # names in a sentence
FEW_GROUPS = 20  # a group with more than this part of the images can move the share
FAR_OFF = 2.0  # times more or less than the share: groups are so large that it is worth a sentence


@dataclass(frozen=True)
class Rule:
    """How a data set is split: the keys ``dataset.val_share``, ``group_by`` and ``near_duplicates``."""

    share: float = DEFAULT_SHARE  # of the groups that validate; 1: all
    group_by: str | None = None
    near_duplicates: bool = True  # whether images that look alike stay together

    def __post_init__(self) -> None:
        number = isinstance(self.share, int | float) and not isinstance(self.share, bool)
        if not number or not 0 < self.share <= 1:
            raise UserError(f"dataset.val_share must be auto, null or a number above 0, such as 0.2, got {self.share}.")


class Parts(NamedTuple):
    """Both parts of a data set, and how it was split; None where it has them by itself."""

    train: Source
    val: Source
    split: Split | None = None


def split_source(
    source: Source, root: Path, rule: Rule, earlier: Split | None = None, *, frozen: bool = False
) -> Parts:
    """The train and the val part of ``source``, whose images lie below ``root``.

    Images that ``earlier`` names stay in its parts; others join their group there, else the hash of its key decides, or if
    ``frozen`` they are left out. ``train`` keeps the sentences of the reader, both parts carry those of the split.
    Raises UserError where all images are one group, and where ``earlier`` is ``frozen`` and names none of them.
    """
    names = names_below([record.path for record in source.records], root)
    if frozen and earlier:
        split, notes = _frozen(names, earlier, source.name)
    else:
        split, notes = _decided(names, source, rule, earlier)
    train, val = (_part(source, names, split, part, root) for part in PARTS)
    if not frozen and train.records:
        notes += _absent(train, val) + _absent(val, train)
    sentences = tuple(map(Sentence, notes))
    train = replace(train, problems=(*source.problems, *sentences), lost=source.lost)
    return Parts(train, replace(val, problems=sentences), split)


def names_below(paths: Sequence[Path], root: Path) -> list[str]:
    """The paths below ``root``, with slashes; below the folder that all have in common where one lies elsewhere."""
    whole, above = [_absolute(path) for path in paths], _absolute(root)
    if not all(path.startswith(above + os.sep) for path in whole):
        above = os.path.commonpath([str(Path(path).parent) for path in whole])
    start = len(above.rstrip(os.sep)) + 1
    return [path[start:].replace(os.sep, "/") for path in whole]


def _absolute(path: Path) -> str:
    return os.path.normpath(Path(path).absolute())  # links stay: what they lead to differs by machine


def is_of(split: Split, names: Sequence[str]) -> bool:
    """Whether ``split`` is of the data with these names: it may have grown up to twofold, and lost a tenth."""
    there = len(split.images.keys() & set(names))
    return there >= 0.9 * len(split.images) and len(names) <= 2 * len(split.images)


def share_of(key: str) -> float:
    """A number from 0 to 1 that belongs to ``key`` alone, on all machines."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def describe(parts: Parts) -> str:
    """The split in a line."""
    validate, train = len(parts.val.records), len(parts.train.records)
    places = parts.split.images.values() if parts.split else ()
    groups, share = len({place.group for place in places}), validate / max(1, validate + train)
    of_groups = f", in {groups:,} groups that stay together" if groups < validate + train else ""
    return f"{validate:,} of {validate + train:,} images ({share:.1%}) validate, {train:,} train{of_groups}"


def _part(source: Source, names: Sequence[str], split: Split, part: str, root: Path) -> Source:
    records: Sequence[Record] = source.records
    there = zip(records, names, strict=True)
    chosen = tuple(record for record, name in there if name in split.images and split.images[name].part == part)
    return replace(with_records(source, chosen), name=f"{Path(_absolute(root)).name} {part}", lost=Lost())


def _frozen(names: Sequence[str], earlier: Split, owner: str) -> tuple[Split, list[str]]:
    """Those of ``names`` that ``earlier`` has."""
    there = {name: earlier.images[name] for name in names if name in earlier.images}
    if not there:
        raise UserError(
            f"not one of the {len(names)} images of {owner} ({names[0]}, ...) is named by the split of the run "
            f"({next(iter(earlier.images), 'none')}, ...): give the data that the run was trained on, by dataset.root=."
        )
    notes = []
    if later := [name for name in names if name not in there]:
        notes.append(f"{_counted(later)} came after the run split its data, and belong to neither part of it: left out")
    for part in PARTS:
        if gone := [name for name in earlier.names(part) if name not in there]:
            notes.append(f"{_counted(gone)} of the run's {part} part are no longer in {owner}")
    return Split(earlier.share, there), notes


def _decided(names: Sequence[str], source: Source, rule: Rule, earlier: Split | None) -> tuple[Split, list[str]]:
    """Those of ``earlier`` as they are, the others by their groups."""
    earlier = earlier or Split(rule.share, {})
    before = {name: earlier.images[name] for name in names if name in earlier.images}
    if len(before) == len(names):
        return Split(earlier.share, before), []
    paths = [record.path for record in source.records] if rule.near_duplicates else None
    groups = group_images(names, paths, Keys(rule.group_by))
    parts, notes = {}, list(groups.notes)
    for key, members in groups.members().items():
        parts[key], doubts = _place(key, [names[position] for position in members], before, rule.share)
        notes += doubts
    if rule.share < 1:
        notes += _fill_both(parts, before, groups, source.name)
    images = {name: before.get(name) or parts[key] for name, key in zip(names, groups.keys, strict=True)}
    return Split(rule.share, images), notes + _far_off(images, rule.share)


def _place(key: str, names: Sequence[str], before: dict[str, Place], share: float) -> tuple[Place, list[str]]:
    """Where the images ``names`` of a group belong that have no place yet, and what is doubtful about that."""
    taken = [before[name] for name in names if name in before]
    if not taken:
        return Place("val" if share_of(key) < share else "train", key), []
    new = [name for name in names if name not in before]
    if not new or len({place.part for place in taken}) == 1:
        return taken[0], []
    part = taken[0].part
    return taken[0], [f"{_counted(new)}: alike are images of both parts of the split file, so that {part} was taken"]


def _fill_both(parts: dict[str, Place], before: dict[str, Place], groups: Groups, owner: str) -> list[str]:
    """Move a group of ``parts`` where one part has none. Raises UserError where there is but one group."""
    sizes = {key: len(members) for key, members in groups.members().items()}
    taken = {place.part for place in (*parts.values(), *before.values())}
    if len(taken) == 2:
        return []
    count = sum(sizes.values())
    if len(parts) < 2:
        reason = (
            "it has but one"
            if count == 1
            else f"they belong together by {groups.reason()}, group {next(iter(parts))!r}"
        )
        raise UserError(
            f"{owner} has no val part, and its {count} images cannot be split ({reason}): add images, or set "
            "dataset.near_duplicates=false if they only look alike, or another dataset.group_by."
        )
    empty = next(part for part in PARTS if part not in taken)
    free = [key for key in parts if 2 * sizes[key] <= count] or list(parts)
    moved = (min if empty == "val" else max)(free, key=share_of)
    parts[moved] = Place(empty, moved)
    return [
        f"by its hash no image belongs to the {empty} part, so the group {moved!r} ({sizes[moved]} of {count} images) was moved "
        "there; keep it there when images are added with dataset.split_file"
    ]


def _far_off(images: dict[str, Place], share: float) -> list[str]:
    validate = sum(place.part == "val" for place in images.values())
    if len(images) < 50 or share == 1 or len(images) * share / FAR_OFF <= validate <= len(images) * share * FAR_OFF:
        return []
    sizes: dict[str, int] = defaultdict(int)
    for place in images.values():
        sizes[place.group] += 1
    largest = max(sizes, key=sizes.__getitem__)
    if sizes[largest] < len(images) / FEW_GROUPS:
        reason = "hashes of the names decide, and among few images that share varies"
    else:
        reason = f"groups stay together, and the largest, {largest!r}, has {sizes[largest]}"
    return [f"{validate} of {len(images)} images validate instead of a share of {share:g}: {reason}"]


def _absent(part: Source, other: Source) -> list[str]:
    """A sentence for the classes of ``other`` that ``part`` lacks."""
    absent = sorted(present_labels(other) - present_labels(part))
    if not absent:
        return []
    shown = ", ".join(part.categories[label].name for label in absent[:MOST_SHOWN])
    more = f" and {len(absent) - MOST_SHOWN} more" if len(absent) > MOST_SHOWN else ""
    classes, it, is_ = ("the classes", "they", "are") if len(absent) > 1 else ("the class", "it", "is")
    what = f"{is_} not measured" if part.name.endswith(" val") else "cannot be learned"
    return [
        f"{part.name} has nothing of {classes} {shown}{more}, so {it} {what}: set another dataset.val_share, or add images"
    ]


def _counted(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_SHOWN]) + (", ..." if len(names) > MOST_SHOWN else "")
    return f"{len(names)} image{'s' * (len(names) > 1)} ({shown})"
