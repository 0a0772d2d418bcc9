"""One picture several times: in a split, where it counts double, and across splits, where it makes the figures too good."""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from seg_det.data.records import ClassificationRecord, Record
from seg_det.data.similar import alike
from seg_det.doctor.findings import Finding, Found, Scope, Split, found
from seg_det.doctor.images import Looks
from seg_det.doctor.looks import Look

# Of COCO's images, 99 % of those compressed with quality 60 or halved differ by less than 3 bits and correlate by 0.999.
NEAR_BITS, NEAR_CORRELATION = 4, 0.99  # of 64 bits of the hashes, and of the thumbnails, of images that look alike
LEAK_BITS, LEAK_CORRELATION = 3, 0.9975  # the same between splits, where neighbouring frames of a video are often meant
FLAT = 8.0  # standard deviation of the colours below which nothing can be compared
BUDGET = 1.0  # seconds of the quick check
TAIL = 512  # bytes from the end that are compared first


class Place(NamedTuple):
    """An image of a split."""

    split: Split
    path: Path
    image_id: int


def places(split: Split) -> list[Place]:
    """The images of a split in order."""
    return [Place(split, record.path, record.image_id) for record in split.source.records]


def check_identity(scope: Scope) -> Iterator[Found]:
    """Files that are listed twice or are in both splits, by path, else by size and content. Decodes nothing."""
    listed = {split.role: [_absolute(file_of(record)) for record in split.source.records] for split in scope.splits}
    for split in scope.splits:
        yield from _listed_twice(split, listed[split.role])
    train, val = scope.of("train"), scope.of("val")
    if train is None or val is None:
        return
    paths = [listed["train"], listed["val"]]
    both = set(paths[0]) & set(paths[1])
    rows = [place for place, path in enumerate(paths[1]) if path in both]
    records = val.source.records
    yield from _leaks("leak-file", val, [(records[row].path, records[row].image_id, records[row].path) for row in rows])
    yield from _same_bytes(paths, both, val)


def file_of(record: Any) -> str:
    """The path of a record's file, without the Path that those of classification make anew each time."""
    if isinstance(record, ClassificationRecord):
        return os.path.join(record.folder, record.file)  # noqa: PTH118
    return os.fspath(record.path)


def _absolute(path: str) -> str:
    """As os.path.abspath, which takes a second for 100,000 paths."""
    return path if path.startswith("/") and "/." not in path and "//" not in path else os.path.abspath(path)  # noqa: PTH100


def _listed_twice(split: Split, paths: Sequence[str]) -> Iterator[Found]:
    if len(set(paths)) == len(paths):
        return
    groups: dict[str, list[Record]] = defaultdict(list)
    listed: Sequence[Record] = split.source.records
    for record, path in zip(listed, paths, strict=True):
        groups[path].append(record)
    findings = [
        Finding(
            f"{path} is listed {len(records)} times in {split.name}, with the image ids "
            f"{', '.join(str(record.image_id) for record in records)}: put its objects under one id",
            split.name,
            records[0].path,
            records[0].image_id,
        )
        for path, records in groups.items()
        if len(records) > 1
    ]
    yield from found("image-listed-twice", findings)


def _leaks(fault: str, val: Split, rows: Sequence[tuple[Path, int, Path]]) -> Iterator[Found]:
    """Of (file and id of a validation image, the training image that it repeats)."""

    def item(number: int) -> Finding:
        path, image_id, other = rows[number]
        same = "is in the training split too" if path == other else f"repeats {other} of the training split"
        return Finding(
            f"{path} of {val.name} {same}: leave it out of one of them", val.name, path, image_id, other=other
        )

    if rows:
        yield Found(fault, len(rows), item)


def _same_bytes(paths: Sequence[Sequence[str]], both: set[str], val: Split) -> Iterator[Found]:
    """Different files with the same bytes; only files of equal size are read, as long as the budget lasts."""
    end = time.perf_counter() + BUDGET
    sizes = [_sizes((path for path in part if path not in both), end) for part in paths]
    common = sizes[0].keys() & sizes[1].keys()
    first = {size: {_digest(path, end, TAIL): path for path in sizes[0][size]} for size in common}
    records: Sequence[Record] = val.source.records
    ids = dict(zip(paths[1], records, strict=True)) if common else {}
    rows = []
    for size in common:
        for path in sizes[1][size]:
            twin = first[size].get(_digest(path, end, TAIL))
            if twin is not None and _digest(path, end) == _digest(twin, end) != b"":
                rows.append((ids[path].path, ids[path].image_id, Path(twin)))
    yield from _leaks("leak-bytes", val, sorted(rows))
    if time.perf_counter() > end:
        said = f"not all files of the splits were compared within {BUDGET} s: python -m seg_det doctor compares all"
        yield from found("leak-unchecked", [Finding(said)])


def _sizes(paths: Iterable[str], end: float) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        if time.perf_counter() > end:
            break
        try:
            groups[os.stat(path).st_size].append(path)  # noqa: PTH116
        except OSError:
            continue
    return groups


def _digest(path: str, end: float, most: int | None = None) -> bytes:
    """A hash of a file, or of its last ``most`` bytes; a value of its own where the time is over or it cannot be read."""
    if time.perf_counter() > end:
        return b""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            if most is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return hashlib.blake2b(file.read(), digest_size=16).digest()
    except OSError:
        return b""


def check_pictures(scope: Scope, looks: Looks) -> Iterator[Found]:
    """Equal bytes, equal pixels and pictures that look alike, in each split and between them."""
    everything = [place for split in scope.splits for place in places(split)]
    unique = {(place.split.role, place.path): place for place in everything if _sound(looks.get(place.path))}
    listed = list(unique.values())
    bytes_, pixels = (_equal(listed, looks, key) for key in ("content", "pixels"))
    pixels = [pair for pair in pixels if pair not in set(bytes_)]
    yield from _pair_findings(listed, bytes_, "duplicate-file", "leak-bytes", "has the same bytes")
    yield from _pair_findings(listed, pixels, "duplicate-pixels", "leak-pixels", "has the same pixels")
    alike = _look_alike(listed, looks, {*bytes_, *pixels})
    yield from _pair_findings(listed, alike, "near-duplicate", "leak-near", "looks the same")


def _look_alike(listed: Sequence[Place], looks: Looks, equal: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs that look alike and of which at most one is ``equal`` to another; between splits they must do so more closely."""
    repeated = {row for pair in equal for row in pair}
    found = [(pair, close) for pair, close in _near(listed, looks) if not repeated.issuperset(pair)]
    return [pair for pair, close in found if close or not _crosses(listed, pair)]


def _sound(look: Look | None) -> TypeGuard[Look]:
    return look is not None and not look.fault


def _equal(listed: Sequence[Place], looks: Looks, key: str) -> list[tuple[int, int]]:
    """Each image with the first one that equals it; of different files."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, place in enumerate(listed):
        groups[getattr(looks[place.path], key)].append(row)
    pairs = []
    for rows in groups.values():
        for role in {listed[row].split.role for row in rows}:
            own = [row for row in rows if listed[row].split.role == role]
            pairs += [(own[0], row) for row in own[1:]]
        pairs += _first_across(rows, listed)
    return [(i, j) for i, j in pairs if listed[i].path != listed[j].path]


def _first_across(rows: Sequence[int], listed: Sequence[Place]) -> list[tuple[int, int]]:
    """Each validation image of a group with its first training image."""
    train = [row for row in rows if listed[row].split.role == "train"]
    return [(train[0], row) for row in rows if train and listed[row].split.role == "val"]


def _near(listed: Sequence[Place], looks: Looks) -> Iterator[tuple[tuple[int, int], bool]]:
    """Pairs of different files that look alike, and whether they do so closely enough to be said between splits."""
    seen = [(row, looks[place.path]) for row, place in enumerate(listed)]
    digests = {row: look.digest for row, look in seen if look.spread >= FLAT and look.digest is not None}
    rows, found = list(digests), alike(list(digests.values()), NEAR_BITS, NEAR_CORRELATION)
    close = (found.bits <= LEAK_BITS) & (found.correlation > LEAK_CORRELATION)
    for (first, second), closely in zip(found.pairs.tolist(), close.tolist(), strict=True):
        pair = rows[first], rows[second]
        if listed[pair[0]].path != listed[pair[1]].path:
            yield pair, closely


def _crosses(listed: Sequence[Place], pair: tuple[int, int]) -> bool:
    return listed[pair[0]].split.role != listed[pair[1]].split.role


def _pair_findings(
    listed: Sequence[Place], pairs: Sequence[tuple[int, int]], inside: str, across: str, same: str
) -> Iterator[Found]:
    groups: dict[str, list[Finding]] = defaultdict(list)
    for i, j in pairs:
        first, second = listed[i], listed[j]
        crosses = first.split.role != second.split.role
        of = f" of the split {first.split.role}" if crosses else ""
        verb = f"{same} as {first.path}{of}: leave out one of them"
        groups[across if crosses else inside].append(
            Finding(f"{second.path} {verb}", second.split.name, second.path, second.image_id, other=first.path)
        )
    for fault, findings in groups.items():
        yield from found(fault, findings)


def check_classes_of_pictures(scope: Scope, looks: Looks) -> Iterator[Found]:
    """Of images with one class each: the same picture in two classes."""
    labels: dict[bytes, tuple[Place, str]] = {}
    findings = []
    for split in scope.splits:
        names = [category.name for category in split.source.categories]
        for record in split.of_classes.records:
            look, name = looks.get(record.path), names[record.label]
            if not _sound(look):
                continue
            place = Place(split, record.path, record.image_id)
            first, known = labels.setdefault(look.pixels, (place, name))
            if known != name:
                said = f"{record.path} of the class {name!r} is the picture {first.path} of the class {known!r}"
                findings.append(
                    Finding(f"{said}: keep one", split.name, record.path, record.image_id, other=first.path)
                )
    yield from found("picture-of-two-classes", findings)
