"""Checks of the class list and of how often each class comes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from seg_det.data.records import ClassificationSource, DetectionSource
from seg_det.doctor.findings import Finding, Found, Scope, Split, found
from seg_det.types import Category

RARE = 10  # objects, or images with one class each
IMBALANCE = 100  # times as many of the most frequent class
FEW_PIXELS = 0.001  # share of the labelled ones
Counts = Mapping[str, Mapping[str, int]]  # by the role of a split and the name of a class


def check_object_classes(scope: Scope) -> Iterator[Found]:
    """Classes of boxes: unused, alike, rare, of one split only, unbalanced, of crowds or difficult objects only."""
    counts = {split.role: _counts(split, _object_labels(split.of_boxes)) for split in scope.splits}
    yield from check_names(scope)
    yield from check_counts(scope, counts, "object")
    yield from _only_marked(scope)


def check_image_classes(scope: Scope) -> Iterator[Found]:
    """Classes of images with one class each."""
    counts = {split.role: _counts(split, _image_labels(split.of_classes)) for split in scope.splits}
    yield from check_names(scope)
    yield from check_counts(scope, counts, "image")


def _object_labels(source: DetectionSource) -> np.ndarray:
    return np.concatenate([record.labels for record in source.records])


def _image_labels(source: ClassificationSource) -> np.ndarray:
    return np.array([record.label for record in source.records], np.int64)


def _counts(split: Split, labels: np.ndarray) -> dict[str, int]:
    return by_name(split, np.bincount(labels, minlength=len(split.source.categories)))


def by_name(split: Split, counts: np.ndarray) -> dict[str, int]:
    """Numbers by the index of a class, i64 [C] or longer, by its name, which two classes may share."""
    totals: dict[str, int] = defaultdict(int)
    for category, count in zip(split.source.categories, counts.tolist(), strict=False):
        totals[category.name] += count
    return totals


def check_names(scope: Scope) -> Iterator[Found]:
    """Names that differ only in case, blanks, marks or a plural s, and names that two classes share."""
    groups: dict[str, list[Category]] = defaultdict(list)
    for split in scope.splits[:1]:
        for category in split.source.categories:
            groups[_plain(category.name)].append(category)
    alike = [Finding(_likeness(group)) for group in groups.values() if len(group) > 1]
    yield from found("class-alike", alike)


def _likeness(group: Sequence[Category]) -> str:
    ids = " and ".join(str(category.id) for category in group)
    if len(names := dict.fromkeys(category.name for category in group)) == 1:
        return f"the class name {group[0].name!r} has the ids {ids}: delete one, or give it another name"
    return f"the classes {' and '.join(map(repr, names))} (ids {ids}) may be one: give all their objects one name"


def _plain(name: str) -> str:
    """``Traffic-Lights `` and ``traffic light`` become the same."""
    letters = re.sub(r"[\W_]+", "", name.casefold())
    if len(letters) > 3 and letters.endswith("s") and not letters.endswith(("ss", "us", "is")):
        letters = letters[:-1]
    return letters or name


def check_counts(scope: Scope, counts: Counts, unit: str) -> Iterator[Found]:
    """What the numbers of objects, images or pixels of each class tell."""
    names = list(dict.fromkeys(name for of_split in counts.values() for name in of_split))
    total = {name: sum(of_split.get(name, 0) for of_split in counts.values()) for name in names}
    unused = [name for name in names if not total[name]]
    yield from _of_classes("class-unused", unused, f"has no {unit} in any split: take it off the class list if you can")
    if "train" in counts and "val" in counts:
        train, val = counts["train"], counts["val"]
        yield from _of_classes("class-not-in-train", _alone(val, train), f"has {unit}s in the validation split alone")
        yield from _of_classes("class-not-in-val", _alone(train, val), f"has {unit}s in the training split alone")
        yield from _rare(train, unit) if unit != "pixel" else ()


def _alone(own: Mapping[str, int], other: Mapping[str, int]) -> list[str]:
    """The names that only one of two splits has."""
    return [name for name, count in own.items() if count and not other.get(name)]


def _of_classes(fault: str, names: Sequence[str], says: str) -> Iterator[Found]:
    yield from found(fault, [Finding(f"the class {name!r} {says}") for name in names])


def _rare(train: Mapping[str, int], unit: str) -> Iterator[Found]:
    rare = {name: count for name, count in train.items() if 0 < count < RARE}
    sentences = (
        f"the class {name!r} has {count} {unit}{'s' * (count > 1)} to learn from" for name, count in rare.items()
    )
    yield from found("class-rare", [Finding(sentence) for sentence in sentences])
    present = {name: count for name, count in train.items() if count}
    if present and max(present.values()) > IMBALANCE * min(present.values()):
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        sentence = (
            f"there are {present[most]:,} {unit}s of {most!r} and {present[least]:,} of {least!r}: data.balance helps"
        )
        yield from found("class-imbalance", [Finding(sentence)])


def _only_marked(scope: Scope) -> Iterator[Found]:
    """Classes of which all objects of all splits are crowd regions, or difficult."""
    for flag, fault in (("crowd", "class-only-crowd"), ("difficult", "class-only-difficult")):
        marked: dict[str, int] = defaultdict(int)
        plain: dict[str, int] = defaultdict(int)
        for split in scope.splits:
            labels = _object_labels(split.of_boxes)
            flags = np.concatenate([getattr(record, flag) for record in split.source.records])
            for totals, chosen in ((marked, labels[flags]), (plain, labels[~flags])):
                for name, count in _counts(split, chosen).items():
                    totals[name] += count
        word = "a crowd region" if flag == "crowd" else "difficult"
        sentences = (
            f"every one of the {count} objects of the class {name!r} is {word}"
            for name, count in marked.items()
            if count and not plain[name]
        )
        yield from found(fault, [Finding(sentence) for sentence in sentences])


def check_pixels(scope: Scope, counts: Counts) -> Iterator[Found]:
    """Classes of masks, by the number of their pixels in each split."""
    yield from check_names(scope)
    yield from check_counts(scope, counts, "pixel")
    total = sum((np.array(list(of_split.values())) for of_split in counts.values()), np.zeros(1))
    names = list(next(iter(counts.values()))) if counts else []
    shares = dict(zip(names, (total / max(1, total.sum())).tolist(), strict=False))
    sentences = (
        f"the class {name!r} has {share:.3%} of the labelled pixels: data.balance or a class weight helps"
        for name, share in shares.items()
        if 0 < share < FEW_PIXELS
    )
    yield from found("class-few-pixels", [Finding(sentence) for sentence in sentences])
