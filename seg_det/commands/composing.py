"""From a command line to a run: what Hydra cannot read or does not know ends the program with one sentence."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from seg_det.commands.arguments import SWEEPING, is_path, quoted, unquoted, with_quotes
from seg_det.commands.containers import unresolved
from seg_det.errors import UserError
from seg_det.installed import installed

FULL = "HYDRA_FULL_ERROR"
SAVED = "SEG_DET_HYDRA_FULL_ERROR"  # the user's own value, while Hydra reads the command line
# Sections whose keys are checked by what takes them, so that + may add one that the file does not list.
CHECKED = re.compile(
    r"(task\.(model|loss|postprocess)|backbone|augmentation|target|dataset\.(train|val)|score_threshold|hydra)\b.*"
)
MOST_NAMED = 3


def start(main: Callable[[], None], name: str, point: Callable[[Sequence[str]], list[str]] = list) -> None:
    """Run ``main``, a function of Hydra's with the configuration ``name``, on the command line of this process.

    ``point`` completes the arguments once their paths are quoted. What Hydra refuses is said in one sentence.
    """
    _print_anything()
    # Python's argparse takes no settings behind a flag that itself stands behind one.
    words = sorted(sys.argv[1:], key=lambda word: word not in SWEEPING)
    try:
        _check_words(words)
        sys.argv[1:] = point(with_quotes(words))
        _check_choices(sys.argv[1:])
        refuse_new_keys(name, sys.argv[1:])
        _composed(main)
    except (HydraException, OmegaConfBaseException, OSError, UserError) as error:
        sentence = _sentence(error, name, sys.argv[1:])
        if sentence is None or os.environ.get(FULL) == "1":
            raise
        sys.exit(f"error: {sentence}")


def _print_anything() -> None:
    """A terminal that lacks a letter of a name shows its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _composed(main: Callable[[], None]) -> None:
    """``main()``, for whose errors of composition Hydra is told to raise them; :func:`leave_hydra` ends that."""
    os.environ[SAVED] = os.environ.get(FULL, "")
    os.environ[FULL] = "1"
    try:
        main()
    finally:
        leave_hydra()


def leave_hydra() -> None:
    """The configuration is composed: errors are from now on those of the command, with the user's own setting."""
    if SAVED not in os.environ:
        return
    if own := os.environ.pop(SAVED):
        os.environ[FULL] = own
    else:
        os.environ.pop(FULL, None)


def _check_words(words: Sequence[str]) -> None:
    """Raise UserError for what is no setting: words without =, and settings with dashes in front."""
    for index, word in enumerate(words):
        key, equals, _ = word.partition("=")
        if key.startswith("--") and key not in get_args_parser()._option_string_actions:
            raise UserError(
                f"{word}: settings have no dashes in front: write KEY=VALUE, such as trainer.max_epochs=10."
            )
        if word.startswith("dataset.") and word.endswith("=") and is_path(key):
            raise UserError(f"{word} has no value: write the path behind it.")
        if word in ("=", "") or (equals and not key):
            near = f"{words[index - 1]}={words[index + 1]}" if 0 < index < len(words) - 1 else "KEY=VALUE"
            raise UserError(f"{word!r} stands alone: settings are written without blanks around =, as in {near}.")


def _sentence(error: Exception, name: str, words: Sequence[str]) -> str | None:
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


def _check_choices(words: Sequence[str]) -> None:
    """Raise UserError for a choice of a group that does not exist; configurations of the user's own may have more."""
    if any(word.startswith(("--config-dir", "-cd", "hydra.searchpath", "--config-path", "-cp")) for word in words):
        return
    for word in words:
        group, _, value = word.lstrip("+").partition("=")
        if not re.fullmatch(r"\w+", group) or not (installed("conf") / group).is_dir() or "(" in value:
            continue
        known = sorted(path.stem for path in (installed("conf") / group).glob("*.yaml"))
        for choice in re.split(r"\s*,\s*", value.strip("[]")):
            if unquoted(choice) not in (*known, ""):
                raise UserError(no_choice(group, choice, known))


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


def refuse_new_keys(name: str, overrides: Sequence[str]) -> None:
    """Raise UserError for keys that + adds to ``overrides`` and that nothing would read: where keys are not checked."""
    keys = [word.lstrip("+").partition("=")[0] for word in overrides if word.startswith("+")]
    doubtful = [key for key in keys if re.fullmatch(r"[\w.]+", key) and not CHECKED.fullmatch(key)]
    if not doubtful or any(word.startswith("resume=") for word in overrides):  # whose keys are those of its run
        return
    known = known_keys(name, overrides)
    for key in doubtful:
        if key not in known:
            raise UserError(f"+{key} adds a key that nothing reads: {no_key(key, known)}")
