"""Paths as people type them: quoted for Hydra's grammar, which otherwise takes blanks, commas, brackets and umlauts apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from seg_det.origin import anonymous

EXACT = {
    "model", "source", "weights", "resume", "backbone.weights", "recipe.backbone_weights", "task.model.anchor_shapes",
    "hydra.run.dir", "hydra.sweep.dir", "dataset.group_by",
}  # fmt: skip
OF_DATA = re.compile(r"dataset\.(\w+\.)?(\w+_)?(root|images|annotations|list|split|masks|labels|folder|file)")
LISTS = re.compile(r"source|task\.model\.anchor_shapes|.*\.(\w+_)?(images|annotations|masks|labels|list|split)")
NUMBERS = re.compile(r"source|.*_images")  # a camera, and how many images are drawn
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
PLAIN = re.compile(r"[A-Za-z0-9_/.+@*?%:-]*[A-Za-z_/*?-][A-Za-z0-9_/.+@*?%:-]*")  # that Hydra reads as it stands
NUMBER = re.compile(
    r"[+-]?(\d[\d_]*\.?|(\d[\d_]*)?\.\d[\d_]*)(e[+-]?\d[\d_]*)?|[+-]?(inf|nan)|true|false", re.IGNORECASE
)
SWEEPING = ("-m", "--multirun")
NULL = ("null", "???")
SWEEP = re.compile(r"(choice|glob|range|interval|sort|shuffle|tag)\(.*\)", re.DOTALL)
REFERENCE = re.compile(r"\$\{(oc\.\w+:|hydra[:.]|now:|\w+(\.\w+)+\})")  # what Hydra's users write on purpose


def with_quotes(arguments: Sequence[str]) -> list[str]:
    """``arguments`` of a command line, the values of keys that are paths in quotes where Hydra would take them apart.

    A leading ``~`` becomes the home folder. What is quoted in Hydra's way already stays, so a second call changes nothing. In a
    sweep (``-m``) a comma separates two values, except in the name of a path that exists.
    """
    sweeps = any(word in SWEEPING for word in arguments)
    return [_with_quotes(word, sweeps=sweeps) for word in arguments]


def is_path(key: str) -> bool:
    """Whether the value of ``key`` names a file or a folder."""
    return key in EXACT or OF_DATA.fullmatch(key) is not None


def _with_quotes(word: str, *, sweeps: bool) -> str:
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not equals or not value or not is_path(name):
        return word
    if sweeps and not _exists(value):
        if SWEEP.fullmatch(value):
            return word
        return f"{key}={','.join(_one(name, part) for part in _paths(value))}"
    return f"{key}={_one(name, value)}"


def _one(name: str, value: str) -> str:
    """One value of the key ``name`` as Hydra reads it."""
    if value in NULL or (NUMBERS.fullmatch(name) and re.fullmatch(r"-?\d+", value)):
        return value
    if _exists(value):
        return quoted(_at_home(value))
    if QUOTED.fullmatch(value):
        inside = unquoted(value)
        return value if (path := _at_home(inside)) == inside else quoted(path)
    is_list = LISTS.fullmatch(name) and value[0] + value[-1] == "[]"
    return value if is_list or REFERENCE.search(value) else quoted(_at_home(value))


def _at_home(path: str) -> str:
    """``path`` with the home folder for its ~, unless only a folder with that very name exists."""
    if not path.startswith("~"):
        return path
    try:
        expanded = str(Path(path).expanduser())
    except RuntimeError:  # of a user who does not exist
        return path
    return path if _exists(path) and not _exists(expanded) else expanded


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long a name, a zero byte
        return False


def _paths(value: str) -> list[str]:
    """The values of a sweep; what belongs to the name of a path that exists stays together."""
    parts, paths = _parts(value), []
    while parts:
        counts = range(len(parts), 1, -1)
        count = next((count for count in counts if _exists(",".join(parts[:count]))), 1)
        paths.append(",".join(parts[:count]))
        parts = parts[count:]
    return paths


def _parts(value: str) -> list[str]:
    """``value`` at its commas, those in quotes, brackets and braces excepted."""
    parts, depth, position = [""], 0, 0
    while position < len(value):
        text = found[0] if (found := QUOTED.match(value, position)) else value[position]
        depth += (text in "([{") - (text in ")]}")
        if text == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += text
        position += len(text)
    return [part.strip() for part in parts]


def quoted(text: str) -> str:
    """``text`` as a value that Hydra and OmegaConf read as this very string; as it is where they would do so anyway."""
    if PLAIN.fullmatch(text) and not NUMBER.fullmatch(text) and text.lower() != "null":
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # OmegaConf halves backslashes before ${, Hydra those before a quote
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def unquoted(value: str) -> str:
    """The string that ``value`` of a command line means: the inverse of :func:`quoted`."""
    if not QUOTED.fullmatch(value):
        return value
    mark, inside = value[0], value[1:-1]
    return re.sub(r"(\\+)(\$\{)", _halved, re.sub(rf"(\\+)({mark}|\Z)", _halved, inside))


def _halved(found: re.Match[str]) -> str:
    return found[1][: len(found[1]) // 2] + found[2]


def without_places(word: str) -> str:
    """``word``, an override, with the paths in its value as :func:`seg_det.origin.portable` has them."""
    key, equals, _ = word.partition("=")
    if not equals or key.startswith("~"):
        return word
    value = OverridesParser.create().parse_override(word).value()
    found = anonymous(value)
    return word if found == value else f"{key}={_written(found)}"


def _written(value: Any) -> str:
    """``value`` in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{quoted(str(key))}:{_written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return quoted(value) if isinstance(value, str) else "null" if value is None else str(value).lower()


def as_typed(word: str) -> str:
    """``word`` without the quotes that :func:`with_quotes` would put around its value again."""
    key, _, value = word.partition("=")
    plain = f"{key}={unquoted(value)}"
    return plain if is_path(key.lstrip("+")) and with_quotes([plain]) == [word] else word
