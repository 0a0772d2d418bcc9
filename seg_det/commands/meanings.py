"""What the keys and groups of a configuration mean: the comments of its YAML files. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from seg_det.installed import installed

DEFAULTS = "defaults"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Commented(NamedTuple):
    """The comments of one file: at its beginning, behind its keys, behind the groups of its list of defaults."""

    head: list[str]
    keys: dict[str, str]
    groups: dict[str, str]


def comments_of(path: Path) -> Commented:
    """The comments of a YAML file."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    head = [line.removeprefix("#").strip() for line in lines[: _head(lines)] if not line.startswith("# @package")]
    root = yaml.compose(text, Loader=LOADER)
    return Commented(head, dict(_keys(root, lines, "")), dict(_groups(root, lines)))


def _head(lines: list[str]) -> int:
    return next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _keys(node: Node | None, lines: list[str], above: str) -> Iterator[tuple[str, str]]:
    if not isinstance(node, MappingNode):
        return
    for key, value in node.value:
        name = f"{above}{key.value}"
        if name == DEFAULTS:
            continue
        block = isinstance(value, MappingNode | SequenceNode) and not value.flow_style
        if text := _behind(key if block else value, lines):
            yield name, text
        if block:
            yield from _keys(value, lines, f"{name}.")


def _groups(root: Node | None, lines: list[str]) -> Iterator[tuple[str, str]]:
    """The groups of a list of defaults with a comment; one without is not for the command line."""
    entries = next((value for key, value in getattr(root, "value", ()) if key.value == DEFAULTS), None)
    for entry in getattr(entries, "value", ()):
        if isinstance(entry, MappingNode) and (text := _behind(entry.value[0][1], lines)):
            yield entry.value[0][0].value, text


def _behind(node: Node, lines: list[str]) -> str:
    """The comment behind a node, on the line where it ends."""
    mark = node.end_mark
    rest = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
    return rest.partition("#")[2].strip()


def meanings(files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The meaning of each key of ``files`` of conf/ (name and package, in the order in which they are merged).

    That is the comment where the key stands first: later ones say why a value differs.
    """
    found: dict[str, str] = {}
    for name, package in files:
        path = installed("conf") / f"{name}.yaml"
        if path.is_file():
            for key, text in comments_of(path).keys.items():
                found.setdefault(f"{package}.{key}".strip("."), text)
    return found
