"""From an error to the one sentence that the user reads. Imports no torch."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from seg_det.commands.containers import unresolved
from seg_det.commands.quoting import SWEEPING, quoted
from seg_det.errors import UserError
from seg_det.installed import installed

MOST_NAMED = 3  # keys that may be meant
OUT_OF_MEMORY = ("can't allocate memory", "CUDA out of memory", "MPS backend out of memory")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# As torch says it; the exit codes of programs that failed by themselves are none of a signal.
WORKER_KILLED = re.compile(r"DataLoader worker \(pid.*?\) (exited unexpectedly|is killed by signal)")
OF_PATHS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


def composing_sentence(error: Exception, name: str, words: Sequence[str]) -> str | None:
    """What to tell of an error before the configuration ``name`` was composed of ``words``; None if the program is at fault."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, str(error))
    if isinstance(error, ConfigCompositionException):
        return _not_composed(error, name, words)
    if isinstance(error, OmegaConfBaseException):
        return f"{str(error).splitlines()[0]}: set {error.full_key or 'it'} on the command line."
    if isinstance(error, OSError) and error.filename:
        key = "hydra.sweep.dir" if any(word in SWEEPING for word in words) else "hydra.run.dir"
        return f"{error.filename} cannot be made ({error.strerror}): set {key}=FOLDER to one that you may write to."
    return f"{' '.join(str(error).split())}." if isinstance(error, HydraException) else None


def _unreadable(word: str, message: str) -> str:
    """What to do with a word that Hydra's grammar does not take."""
    key, equals, value = word.partition("=")
    if not equals:
        if Path(word).exists():
            return f"{word} is no setting: for a folder of data write dataset.root={quoted(word)}."
        return f"{word} is no setting: settings are written as KEY=VALUE."
    if not re.fullmatch(r"[+~]*[\w$@/.:-]+", key):
        return f"{word} is no setting: {key!r} cannot be the name of a key."
    if value and value[0] in "[{(":
        return f"{word} cannot be read: a list is written as {key}=[A,B], a section as {key}={{a: 1, b: 2}}."
    return f'{word} cannot be read: put the value in quotes, "{key}={quoted(value)}".'


def no_choice(group: str, choice: str, known: Sequence[str]) -> str:
    """That a group has no such choice, with those that it has."""
    if choice == "null":
        return f"{group}=null: leave {group} out of the command line, or write ~{group} where it has a usual choice."
    near = get_close_matches(choice.lower(), known, n=1, cutoff=0.7)
    meant = f"; {near[0]} may be meant" if near else ""
    return f"{group}={choice}: there is no such choice, it must be one of {', '.join(known)}{meant}."


def _not_composed(error: ConfigCompositionException, name: str, words: Sequence[str]) -> str:
    """Keys that do not exist or exist already, and several values where no sweep is asked for."""
    text = str(error)
    if found := re.search(r"Could not override '([^']*)'", text):
        return no_key(found[1].partition("@")[0], known_keys(name, words))
    if found := re.search(r"Could not delete from config\. '([^']*)' does not exist", text):
        return no_key(found[1], known_keys(name, words))
    if found := re.search(r"An item is already at '([^']*)'", text):
        return f"{found[1]} exists already: leave out the + in front of it."
    if found := re.search(r"Ambiguous value for argument '(.*)'\n", text):
        return _several(found[1])
    if found := re.search(r"Error merging override (\S+)", text):
        return f"{found[1]}: {_first_line(error.__cause__)}."
    return f"{' '.join(text.split()).rstrip('.')}."


def _several(word: str) -> str:
    key, _, value = word.partition("=")
    if (installed("conf") / key).is_dir():
        return f"{word} holds several choices: add -m for a run with each of them."
    return f"{word} holds several values: write {key}=[{value}] for a list, or add -m for a run with each of them."


def _first_line(error: BaseException | None) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".") if error is not None else "it cannot be set"


def no_key(key: str, known: Sequence[str]) -> str:
    """That ``key`` does not exist, with those that may be meant."""
    if near := nearest(key, known):
        return f"there is no key {key}: {' or '.join(near)} may be meant."
    section = key.rpartition(".")[0]
    if inside := [one for one in known if one.startswith(f"{section}.")] if section else []:
        return f"there is no key {key}: {section} has {', '.join(one[len(section) + 1 :] for one in inside)}."
    return f"there is no key {key}: python train.py --cfg job prints all of them."


def nearest(key: str, known: Sequence[str]) -> list[str]:
    """The keys that ``key`` may mean, the likeliest first: of that name elsewhere, of a similar name, with it as a part."""
    last = key.rpartition(".")[2].lower()
    names = {one: one.rpartition(".")[2].lower() for one in known}
    same = [one for one, name in names.items() if name == last]
    if same:
        return sorted(same, key=lambda one: one.count("."))[:MOST_NAMED]
    near = get_close_matches(key, known, n=1, cutoff=0.8)
    alike = get_close_matches(last, sorted(set(names.values())), n=2, cutoff=0.75)
    near += [one for word in alike for one, name in names.items() if name == word]
    near += [one for one, name in names.items() if last in name.split("_") and len(last) > 1]
    return list(dict.fromkeys(near))[:MOST_NAMED]


def known_keys(name: str, words: Sequence[str]) -> list[str]:
    """All keys of the configuration ``name`` with the choices of ``words``, and its groups."""
    groups = [path.name for path in installed("conf").iterdir() if path.is_dir() and path.name != "dataset_task"]
    choices = [word for word in words if word.lstrip("+").partition("=")[0] in groups and "," not in word]
    for overrides in (choices, []):
        try:
            GlobalHydra.instance().clear()
            with hydra.initialize_config_dir(str(installed("conf")), version_base="1.3"):
                keys = _keys(hydra.compose(name, overrides))
                return [*groups, *(key for key in keys if not key.startswith("choices"))]
        except (HydraException, OmegaConfBaseException):
            continue
    return groups


def _keys(config: DictConfig) -> Iterator[str]:
    def below(values: dict[str, Any], path: str) -> Iterator[str]:
        for key, value in values.items():
            yield f"{path}{key}"
            if isinstance(value, dict):
                yield from below(value, f"{path}{key}.")

    yield from below(unresolved(config), "")


def running_sentence(error: BaseException | None) -> str | None:
    """What to tell the user of a mistake of theirs; None if ``error`` is not one."""
    while error is not None:
        if isinstance(error, UserError):
            # From a loader's process it arrives with that process's traceback in front.
            return _one_line(re.split(r"(?:^|\n)(?:seg_det\.errors\.)?UserError: ", str(error))[-1])
        if isinstance(error, OmegaConfBaseException):
            return f"{_one_line(str(error).splitlines()[0])}: set {error.full_key or 'it'} on the command line."
        if sentence := _of_the_machine(error):
            return sentence
        error = error.__cause__ or (error.__context__ if isinstance(error, InstantiationException) else None)
    return None


def _of_the_machine(error: BaseException) -> str | None:
    """What to tell of memory that is not there, files that cannot be read, and Lightning's refusals; None of anything else."""
    text = _one_line(str(error))
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        return (
            "the memory is not enough for these settings: lower data.batch_size, data.size or the width of the model."
        )
    if type(error).__name__ == "MisconfigurationException":  # not imported here
        return f"{text.rstrip('.')}: change the settings of trainer."
    if isinstance(error, OSError) and error.errno in FULL:
        where = f" at {_one_line(str(error.filename))}" if error.filename else ""
        return f"nothing more can be written{where} ({error.strerror}): free space there, or write to another folder."
    if WORKER_KILLED.search(text):
        return (
            "a process that loads images was ended from outside, mostly for lack of memory: lower data.num_workers or "
            "data.batch_size."
        )
    if isinstance(error, OSError) and error.filename and error.errno in OF_PATHS:
        return (
            f"{_one_line(str(error.filename))} cannot be used ({error.strerror}): correct the path or its permissions."
        )
    return None


def _one_line(text: str) -> str:
    """``text`` without what a terminal would not print as it is: a name in it may come from anybody's file."""
    words = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in words)
