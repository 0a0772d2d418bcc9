"""One class map end to end: a data set's labels brought onto a model's."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from seg_det.data.records import (
    ClassificationRecord,
    ClassificationSource,
    DetectionRecord,
    DetectionSource,
    Mask,
    Record,
    Same,
    SegmentationRecord,
    Source,
    with_records,
)
from seg_det.errors import UserError
from seg_det.progress import progress_bar
from seg_det.types import IGNORE, Category


def with_categories(source: Same, categories: tuple[Category, ...], owner: str) -> Same:
    """``source`` with its labels as indices of ``categories``, matched by name; ``owner`` is whose they are.

    The categories of the result stand in that order and keep the source's own ids, which its result files carry.
    Classes that the source lacks have no objects in it, which its problems say. Raises UserError if it has classes of its own,
    or not the same order where two share a name.
    """
    names = [category.name for category in categories]
    if [category.name for category in source.categories] == names:
        return source
    _require_distinct(source.name, source.categories)
    _require_distinct(owner, categories)
    index = {name: i for i, name in enumerate(names)}
    missing = _missing(source, names, owner)
    order = np.array([index[category.name] for category in source.categories], dtype=np.int64)
    note = f"{source.name} does not declare {len(missing)} of the {len(names)} classes of {owner} ({_some(missing)}): it is "
    return replace(
        with_records(source, [_relabelled(record, order) for record in source.records]),
        categories=_with_own_ids(categories, source.categories),
        problems=(*source.problems, *([note + "used without objects of them"] if missing else [])),
    )


def _missing(source: Source, names: Sequence[str], owner: str) -> list[str]:
    """The ``names`` that the source lacks. Raises UserError if it has others."""
    here = {category.name for category in source.categories}
    missing = [name for name in names if name not in here]
    if others := sorted(here - set(names)):
        only = [f"only in the data: {_some(others)}"]
        only += [f"only in {owner}: {_some(sorted(missing))}"] if missing else []
        raise UserError(
            f"{source.name} has {len(here)} classes, {owner} has {len(names)}, and they are not the same "
            f"({'; '.join(only)}): choose data with the same classes, or train anew on these, with "
            "backbone.weights=CHECKPOINT to start from its backbone."
        )
    return missing


def _some(names: Sequence[str], most: int = 5) -> str:
    """The first names, in quotes where blanks would not be seen."""
    shown = [repr(name) if name != name.strip() or not name.isprintable() else name for name in names[:most]]
    return ", ".join(shown) + (", ..." if len(names) > most else "")


def _with_own_ids(categories: Sequence[Category], own: Sequence[Category]) -> tuple[Category, ...]:
    """``categories`` with the ids of ``own``; those that are missing there get ids that it has not."""
    ids = {category.name: category.id for category in own}
    for category in categories:
        if category.name not in ids:
            taken = set(ids.values())
            ids[category.name] = category.id if category.id not in taken else max(taken) + 1
    return tuple(Category(ids[category.name], category.name) for category in categories)


def _require_distinct(owner: str, categories: Sequence[Category]) -> None:
    """Raises UserError for a name that two categories share: which is which, only their order would tell."""
    ids: dict[str, int] = {}
    for category in categories:
        if category.name in ids:
            raise UserError(
                f"{owner} has two classes of the name {category.name!r} (ids {ids[category.name]} and {category.id}), "
                "which cannot be told apart in data with other classes: give one another name."
            )
        ids[category.name] = category.id


def only_classes(source: Source, names: Sequence[str]) -> DetectionSource:
    """``source`` with the objects of the classes ``names`` alone, in that order; all images stay.

    Raises UserError for a name that the source does not have, or twice, and for a source of other data than boxes.
    """
    if not isinstance(source, DetectionSource):
        raise UserError(f"classes= is for data with boxes: leave it out for {source.name}.")
    own = {category.name: i for i, category in enumerate(source.categories)}
    names = list(names)
    if not names or len(set(names)) < len(names) or not set(names) <= set(own):
        raise UserError(
            f"classes must name some of the classes of {source.name} ({', '.join(own)}), each once, got {names}."
        )
    order = np.full(len(own), -1)
    order[[own[name] for name in names]] = np.arange(len(names))
    return replace(
        source,
        records=tuple(_with_labels(record, order) for record in source.records),
        categories=tuple(source.categories[own[name]] for name in names),
    )


def _with_labels(record: DetectionRecord, order: np.ndarray) -> DetectionRecord:
    """``record`` with ``order[i]`` in place of each label i, without the objects where that is negative."""
    keep = order[record.labels] >= 0
    columns = {name: getattr(record, name)[keep] for name in ("boxes", "crowd", "difficult", "area")}
    return record._replace(labels=order[record.labels][keep], **columns)


def _relabelled(record: Record, order: np.ndarray) -> Record:
    """``record`` with the label i of its classes replaced by ``order[i]``."""
    if isinstance(record, ClassificationRecord):
        return record._replace(label=int(order[record.label]))
    if isinstance(record, SegmentationRecord):
        table = np.arange(256, dtype=np.uint8)
        table[: len(order)] = order
        return record._replace(mask=record.mask.remapped(table))
    return record._replace(labels=order[record.labels])


def present_labels(source: Source) -> set[int]:
    """The labels that images of a source have: of its objects, its masks' pixels, its images. Reads mask files."""
    if isinstance(source, ClassificationSource):
        return {record.label for record in source.records}
    if isinstance(source, DetectionSource):
        return set(np.unique(np.concatenate([np.zeros(0, np.int64), *(r.labels for r in source.records)])).tolist())
    with ThreadPoolExecutor() as pool:  # decoding leaves Python free
        found = pool.map(_labels_of, (record.mask for record in source.records))
        counted = progress_bar(found, f"classes of {source.name}", len(source.records), unit="mask")
        return set().union(*counted) - {IGNORE}


def _labels_of(mask: Mask) -> set[int]:
    """Those of the regions of a mask that is yet to be drawn, which costs less; none of one that cannot be read."""
    if (regions := getattr(mask, "regions", None)) is not None:
        return {region.label for region in regions}
    try:
        return set(np.flatnonzero(np.bincount(mask.read().ravel(), minlength=256)).tolist())
    except UserError:  # which is said where masks are checked
        return set()
