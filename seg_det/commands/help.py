"""``--help`` of a command: its groups with their choices, and each key with its value, meaning and choices. Imports no torch."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seg_det.commands.choices import choices_of
from seg_det.commands.console import HYDRA
from seg_det.commands.containers import unresolved
from seg_det.commands.meanings import comments_of, meanings
from seg_det.installed import installed, program

FLAGS = ("--help", "-h")
OF_PROGRAM = ("choices", "hydra")  # sections that no user sets
SPECIAL = ("_target_", "_partial_")
WIDEST = 100  # letters of a line where there is no terminal
COLUMN = 36  # where meanings begin
ENDING = """-m KEY=A,B runs the command with each of the values. --cfg job prints the whole configuration, --hydra-help says what
else Hydra takes."""


class Key(NamedTuple):
    """A key of the configuration."""

    name: str
    value: Any
    meaning: str
    choices: tuple[str, ...]


class Described(NamedTuple):
    """What a command takes, with the choices of its command line."""

    head: list[str]  # the comment that its configuration begins with
    groups: dict[str, str]  # with their meanings
    chosen: dict[str, str]  # the choices of groups
    sections: dict[str, str]  # meanings of sections that have one
    keys: list[Key]


def asked(words: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return any(word in FLAGS for word in words)


def help_text(command: str, words: Sequence[str]) -> str:
    """The help of ``command`` with the settings ``words``. Raises what Hydra does for those that it cannot compose."""
    about = describe(command, [word for word in words if not word.startswith("-")])
    width = shutil.get_terminal_size((WIDEST, 0)).columns if sys.stdout.isatty() else WIDEST
    lines = [f"usage: {program(command)} [KEY=VALUE ...]", "", f"{HYDRA[command].capitalize()}."]
    lines += ["", "examples", *_examples(command, about.head)]
    if about.groups:
        lines += ["", f"groups, GROUP=CHOICE; --help shows the keys of the choices beside it: {_example(about)} --help"]
    lines += [line for group in about.groups for line in _group(group, about, width)]
    lines += ["", "keys, KEY=VALUE, with the values that they have now"]
    lines += list(_keys(about, width))
    return "\n".join([*lines, "", *textwrap.wrap(ENDING, width)])


def describe(command: str, overrides: Sequence[str]) -> Described:
    """What the configuration ``command`` has with ``overrides``."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(installed("conf")), version_base="1.3"):
        config = hydra.compose(command, list(overrides))
        loader = GlobalHydra.instance().config_loader()
        listed: Any = loader.compute_defaults_list(command, list(overrides), RunMode.RUN)  # not of its interface
    merged = [(one.config_path, one.package or "") for one in listed.defaults if one.config_path]
    files = [comments_of(path) for name, _ in merged if (path := installed("conf") / f"{name}.yaml").is_file()]
    groups = {group: text for file in files for group, text in file.groups.items() if " " not in group}
    chosen = {group: _chosen(group, listed) for group in {*groups, *listed.overrides.known_choices}}
    own, found = comments_of(installed("conf") / f"{command}.yaml"), meanings(merged)
    keys = [
        Key(name, value, found.get(name, ""), choices_of(name, chosen.get(name.partition(".")[0])))
        for name, value in leaves(unresolved(config), "", config)
    ]
    keys.sort(key=lambda key: key.name not in own.keys)  # those that only this command has come first
    return Described(own.head, groups, chosen, found, keys)


def _chosen(group: str, listed: Any) -> str:
    """The choice of a group, or the choices of one that has several; nothing if it has none."""
    if group in listed.overrides.known_choices:
        return listed.overrides.known_choices[group] or ""
    return ", ".join(one.config_path.removeprefix(f"{group}/") for one in listed.defaults if one.package == group)


def choices_in(group: str) -> list[str]:
    """The choices of a group."""
    return sorted(path.stem for path in (installed("conf") / group).glob("*.yaml"))


def leaves(values: dict[str, Any], above: str, config: DictConfig) -> Iterator[tuple[str, Any]]:
    """The keys with their values; a section that configures a reader of the data is one, ``dataset.train.*``."""
    for key, value in values.items():
        name = f"{above}{key}"
        if name in OF_PROGRAM or key in SPECIAL:
            continue
        if isinstance(value, dict) and value and above == "dataset." and SPECIAL[0] in value:
            yield name, value[SPECIAL[0]]
        elif isinstance(value, dict) and (value or name.startswith("task.")):  # an empty section of a task has no keys
            yield from leaves(value, f"{name}.", config)
        else:
            yield name, _resolved(config, name, value)


def _resolved(config: DictConfig, name: str, value: Any) -> Any:
    """What a reference to another key leads to; the reference itself where that has no value."""
    if not isinstance(value, str) or "${" not in value:
        return value
    try:
        found = OmegaConf.select(config, name)
    except OmegaConfBaseException:
        return value
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


def _examples(command: str, head: Sequence[str]) -> list[str]:
    """The examples of a configuration's first comment as they are typed here."""
    own = re.compile(r"^python (-m seg_det )?\w+(\.py)?")
    return [f"  {own.sub(program(command), line)}" for line in head if own.match(line)]


def _example(about: Described) -> str:
    group = max(about.groups, key=lambda one: len(choices_in(one)))
    return f"{group}={choices_in(group)[-1]}"


def _group(group: str, about: Described, width: int) -> list[str]:
    title = textwrap.wrap(f"{group}: {about.groups[group]}", width, initial_indent="  ", subsequent_indent=" " * 6)
    chosen = f"now {about.chosen[group]}" if about.chosen[group] else "none is chosen"
    listed = f"{', '.join(choices_in(group))} ({chosen})"
    return [*title, *(" " * 6 + line for line in textwrap.wrap(listed, width - 6, break_on_hyphens=False))]


def _keys(about: Described, width: int) -> Iterator[str]:
    """The keys, those of a section together and below what the section means."""
    last = None
    for key in about.keys:
        section = key.name.rpartition(".")[0]
        if section != last:
            yield ""
            if meaning := about.sections.get(section):
                yield from textwrap.wrap(f"{section}: {meaning}", width, initial_indent="  ", subsequent_indent="    ")
        last = section
        yield from _key(key, width)


def _key(key: Key, width: int) -> Iterator[str]:
    setting = f"  {key.name}={typed(key.value)}"
    unnamed = [word for word in key.choices if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", key.meaning)]
    text = key.meaning + (f"; one of {', '.join(key.choices)}" if unnamed else "")
    if len(setting) > COLUMN - 2:
        yield setting
        setting = ""
    indent = " " * COLUMN
    wrapped = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    first, *others = wrapped or [indent]
    yield (setting.ljust(COLUMN) + first[COLUMN:]).rstrip()
    yield from others


def typed(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{typed(one)}" for key, one in value.items()) + "}"
    words = {None: "null", True: "true", False: "false", "": '""'}
    return words[value] if value is None or value == "" or isinstance(value, bool) else str(value)
