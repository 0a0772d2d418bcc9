"""Entries of COCO's JSON as plain values: ids, flags and numbers as converters write them, some as texts or fractions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seg_det.data.names import clean_name
from seg_det.data.problems import Problems
from seg_det.errors import UserError
from seg_det.types import Category

# An entry that is no dict, lacks a key, or holds something else where a number belongs, or a number beyond all bounds.
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
Key = int | str  # an id as the file has it
FLAGS = {None: False, 0: False, 1: True}
WRITTEN_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
LARGEST = 2**63  # ids of records are signed integers of 64 bits
DROPPED = -1  # in place of the position of an image that was left out


class Declared(NamedTuple):
    """Where the images and categories that a file declares stand, by their ids."""

    images: dict[Key, int]  # positions in the list of usable images, or DROPPED
    labels: dict[Key, int]


class Keys(NamedTuple):
    """The image or DROPPED, the class and the crowd flag of an annotation."""

    image: int
    label: int
    crowd: bool


def load_document(path: Path) -> dict[str, list[Any]]:
    """The lists ``images``, ``annotations`` and ``categories`` of a COCO file. Raises UserError if it has them not."""
    try:
        document = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path}, {where}: not valid JSON ({error.msg}); fetch or export the file again") from error
    except (OSError, ValueError, RecursionError) as error:  # other encodings, numbers of thousands of digits
        raise UserError(f"{path} cannot be read as JSON ({error}); fetch or export the file again") from error
    lists = document if isinstance(document, dict) else {}
    lacking = [key for key in ("images", "annotations", "categories") if not isinstance(lists.get(key), list)]
    if lacking:
        raise UserError(
            f"{path} has no list {' nor '.join(lacking)}: export it as COCO instances (object detection) JSON"
        )
    for key in ("images", "categories"):
        if not lists[key]:
            raise UserError(
                f"{path}: its list {key} is empty, so there is nothing to learn or measure; choose another file"
            )
    return lists


def key_of(value: Any) -> Key:
    """An id in its plain form: 12, 12.0, "12" are the same one; other texts are ids too. Raises ValueError for what is none."""
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"0|-?[1-9]\d{0,99}", text):  # 007 is not 7
            return int(text)
        if text:
            return text
    elif isinstance(value, float) and value.is_integer():
        return int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{value!r} is no id")


def numbered(keys: Sequence[Key], what: str, path: Path, problems: Problems) -> list[int]:
    """The ids that records and result files carry: those of the file, or places in its list where one is no number of 64 bits."""
    odd = next((key for key in keys if isinstance(key, str) or not -LARGEST <= key < LARGEST), None)
    if odd is None:
        return [key for key in keys if isinstance(key, int)]
    kind = "a text" if isinstance(odd, str) else "beyond 64 bits"
    problems.note(
        f"{path}: the {what} id {odd!r} is {kind}, so all {what} ids are replaced by the places in the list, from 1, which "
        "result files carry"
    )
    return list(range(1, len(keys) + 1))


def read_categories(entries: list[Any], path: Path, problems: Problems) -> tuple[tuple[Category, ...], dict[Key, int]]:
    """The declared categories by ascending id, and their places by the ids as the file has them."""
    names: dict[Key, str] = {}
    for number, entry in enumerate(entries):
        try:
            key, name = key_of(entry["id"]), entry["name"]
        except MALFORMED:
            raise UserError(f"{path}: categories[{number}] needs a whole number id and a name; correct it") from None
        name = clean_name(name, f"{path}: categories[{number}] (id {key})")
        if key in names:
            problems.add(f"{path}: category id {key} is declared twice, as {names[key]!r} and {name!r}")
        else:
            names[key] = name
    _note_alike(names, path, problems)
    ids = numbered(list(names), "category", path, problems)
    ordered = sorted(zip(ids, names.items(), strict=True))
    labels = {key: label for label, (_, (key, _)) in enumerate(ordered)}
    return tuple(Category(category_id, name) for category_id, (_, name) in ordered), labels


def _note_alike(names: dict[Key, str], path: Path, problems: Problems) -> None:
    first: dict[str, Key] = {}
    for key, name in names.items():
        if name in first:
            problems.note(
                f"{path}: the categories {first[name]} and {key} have the same name {name!r} and stay two classes"
            )
        first.setdefault(name, key)


def keys_of(entry: Any, declared: Declared, needs: str) -> Keys:
    """The keys of an annotation. Raises UserError that says what is wrong with them, where ``needs`` is what an entry needs."""
    try:
        image, label = declared.images[entry["image_id"]], declared.labels[entry["category_id"]]
        return Keys(image, label, FLAGS[entry.get("iscrowd")])
    except MALFORMED:
        if not isinstance(entry, dict) or "image_id" not in entry or "category_id" not in entry:
            raise UserError(f"needs {needs}") from None
    image = _place(entry, "image", declared.images)
    if image == DROPPED:
        return Keys(DROPPED, 0, False)
    return Keys(image, _place(entry, "category", declared.labels), flag(entry.get("iscrowd")))


def _place(entry: dict[str, Any], what: str, places: dict[Key, int]) -> int:
    value = entry[f"{what}_id"]
    try:
        key = key_of(value)
    except ValueError:
        raise UserError(f"has the {what}_id {value!r}, which is no id: correct it") from None
    if key not in places:
        raise UserError(f"is about {what} id {key}, which the file does not declare")
    return places[key]


def flag(value: Any) -> bool:
    """``iscrowd``, as a number, a truth value or a text. Raises UserError for anything else."""
    try:
        return WRITTEN_FLAGS[value.strip().lower()] if isinstance(value, str) else FLAGS[value]
    except MALFORMED:
        raise UserError(f"has the iscrowd {value!r}: write 0 for an object, 1 for a crowd") from None


def number(value: Any, field: str) -> float:
    """``value`` or NaN for none. Raises UserError that names the field."""
    if value is None:
        return math.nan
    try:
        return float(value)
    except MALFORMED:
        raise UserError(f"has the {field} {shortened(value)}, which is no number: correct it or leave it out") from None


def describe(entry: Any, number: int) -> str:
    """What messages call an annotation."""
    own_id = entry.get("id") if isinstance(entry, dict) else None
    return f"annotations[{number}] (which has no id)" if own_id is None else f"annotation id {shortened(own_id, str)}"


def shortened(value: Any, write: Any = repr, most: int = 40) -> str:
    """A value for a message."""
    text = " ".join(write(value).split())
    return text if len(text) <= most else f"{text[:most]}..."
