"""Values that come from files of others, checked before anything is done with them.

:func:`require_plain` bounds what a file can hold, :func:`matched` compares it with type hints.
"""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

DEEPEST = 16  # lists and dictionaries within one another
MOST = 200_000  # values
LONGEST = 4096  # characters of a string
LONGEST_NAME = 200  # characters of the name of a file or a folder
LARGEST = 2**53  # a whole number that a float holds exactly
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path"}
FORMULAS = ("=", "+", "-", "@")  # how they begin in spreadsheets
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
_short.maxlist = _short.maxdict = 8


def as_cell(value: object) -> object:
    """``value`` for a table that spreadsheets open: a text that they would take for a formula has an apostrophe in front.

    Numbers stay as they are, also those that are texts. Source: OWASP, "CSV Injection".

    >>> as_cell("=1+1"), as_cell("-0.5"), as_cell(-0.5)
    ("'=1+1", '-0.5', -0.5)
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")  # which csv does not quote, and which begins a row elsewhere
    if not text.lstrip().startswith(FORMULAS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


class Wrong(ValueError):
    """What is wrong with a value, as a clause that begins with its key."""

    def __init__(self, key: str, problem: str):
        super().__init__(f"{key} {problem}".strip())


def is_name(text: str) -> bool:
    """Whether ``text`` can name a file or a folder in another one: no slashes, quotes or control characters, no dot in front."""
    return 0 < len(text) <= LONGEST_NAME and text[0] != "." and text.isprintable() and not set(text) & set('/\\":')


def shown(value: object) -> str:
    """``value`` as a message shows it: quoted, escaped and cut."""
    return _short.repr(value)


def require_plain(value: object, key: str = "") -> None:
    """Raise Wrong unless ``value`` consists of None, booleans, finite numbers, strings, lists and dictionaries with strings.

    What refers to itself, or to one part many times, is refused by its depth or its number of values.
    """
    pending, count = [(value, key, 0)], 0
    while pending:
        one, place, depth = pending.pop()
        count += 1
        if count > MOST or depth > DEEPEST:
            bound = (
                f"more than {MOST} values" if count > MOST else f"more than {DEEPEST} levels of lists and dictionaries"
            )
            raise Wrong(key, f"holds {bound}")
        if isinstance(one, list | tuple):
            _check_length(one, place)
            pending += [(part, place, depth + 1) for part in one]
        elif isinstance(one, dict):
            _check_length(one, place)
            for name, part in one.items():
                if type(name) is not str:
                    raise Wrong(place, f"holds the key {shown(name)}, which is no string")
                _check_string(name, place)
                pending.append((part, f"{place}.{name}".lstrip("."), depth + 1))
        else:
            _check_scalar(one, place)


def _check_length(value: Sequence | Mapping, key: str) -> None:
    if len(value) > MOST:
        raise Wrong(key, f"holds more than {MOST} values")


def _check_scalar(value: object, key: str) -> None:
    if type(value) is str:
        _check_string(value, key)
    elif type(value) is float:
        if not math.isfinite(value):
            raise Wrong(key, f"is {value}, not a finite number")
    elif type(value) is int:
        if abs(value) > LARGEST:
            raise Wrong(key, "is too large a number")
    elif value is not None and type(value) is not bool:
        raise Wrong(key, f"is a {type(value).__name__}, not a plain value")


def _check_string(value: str, key: str) -> None:
    if len(value) > LONGEST or "\0" in value:
        raise Wrong(key, f"is the string {shown(value)}, which is too long or holds a zero byte")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Wrong(key, f"is the string {shown(value)}, which is not valid Unicode") from error


def matched(value: Any, hint: Any, key: str = "") -> Any:
    """``value``, which is plain, in the form of the type ``hint``. Raises Wrong.

    Lists become tuples and dictionaries become dataclasses where the hint says so, and what is one already stays; a number
    becomes a string where only a string is wanted, because YAML reads a folder's name 2012 as a number.
    """
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(value, get_args(hint), key)
    if origin is tuple:
        return _tuple(value, get_args(hint), key)
    if origin in (list, Sequence):
        return [matched(part, get_args(hint)[0], f"{key}[{i}]") for i, part in enumerate(_list(value, hint, key))]
    if origin in (dict, Mapping):
        return {k: matched(v, get_args(hint)[1], f"{key}.{k}") for k, v in _dictionary(value, key).items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return value if isinstance(value, hint) else _filled(value, hint, key)
    return _scalar(value, hint, key)


def _scalar(value: Any, hint: Any, key: str) -> Any:
    if hint in (None, type(None)) and value is None:
        return None
    if hint is float and type(value) is int:
        return value
    if hint in (bool, int, float, str) and type(value) is hint:
        return value
    if hint is Path and type(value) is str:
        return Path(value)
    if hint is str and type(value) in (int, float):
        return str(value)
    raise Wrong(key, f"is {shown(value)}, not {described(hint)}")


def _one_of(value: Any, hints: Sequence[Any], key: str) -> Any:
    exact = [hint for hint in hints if type(value) is hint]
    for hint in [*exact, *hints]:
        try:
            return matched(value, hint, key)
        except Wrong:
            continue
    raise Wrong(key, f"is {shown(value)}, not {' or '.join(described(hint) for hint in hints)}")


def _tuple(value: Any, hints: Sequence[Any], key: str) -> tuple[Any, ...]:
    parts = _list(value, tuple, key)
    wanted = [hints[0]] * len(parts) if len(hints) == 2 and hints[1] is Ellipsis else hints
    if len(parts) != len(wanted):
        raise Wrong(key, f"holds {len(parts)} values, not {len(wanted)}")
    return tuple(matched(part, hint, f"{key}[{i}]") for i, (part, hint) in enumerate(zip(parts, wanted, strict=True)))


def _list(value: Any, hint: Any, key: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise Wrong(key, f"is {shown(value)}, not {described(hint)}")
    return value


def _dictionary(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Wrong(key, f"is {shown(value)}, not a dictionary")
    return value


def _filled(value: Any, cls: Any, key: str) -> Any:
    hints, given = hints_of(cls), _dictionary(value, key)
    known = {field.name: field for field in fields(cls) if field.init}
    if unknown := [name for name in given if name not in known]:
        raise Wrong(key, f"has no {shown(unknown[0])}: it has {', '.join(known)}")
    needed = [n for n, field in known.items() if field.default is MISSING and field.default_factory is MISSING]
    if missing := [name for name in needed if name not in given]:
        raise Wrong(key, f"lacks {', '.join(missing)}")
    return cls(**{name: matched(part, hints[name], f"{key}.{name}".lstrip(".")) for name, part in given.items()})


@cache
def hints_of(function: Any) -> dict[str, Any]:
    """The type hints of the arguments of a function or a class."""
    own = isinstance(function, type) and not is_dataclass(function)
    return get_type_hints(function.__init__ if own else function)


def described(hint: Any) -> str:
    """What ``hint`` wants, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(described(part) for part in parts)
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        return "a list"
    if origin in (dict, Mapping) or is_dataclass(hint):
        return "a dictionary"
    return "null" if hint in (None, type(None)) else NAMES.get(hint, "a value of a configuration")
