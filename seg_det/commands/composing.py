"""From a command line to a run: what Hydra cannot read or does not know ends the program with one sentence."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from seg_det.commands.error_sentences import composing_sentence, known_keys, no_choice, no_key
from seg_det.commands.help import asked, help_text
from seg_det.commands.quoting import SWEEPING, is_path, unquoted, with_quotes
from seg_det.errors import UserError
from seg_det.installed import installed
from seg_det.run_log import recorded

FULL = "HYDRA_FULL_ERROR"
SAVED = "SEG_DET_HYDRA_FULL_ERROR"  # the user's own value, while Hydra reads the command line
# Sections whose keys are checked by what takes them, so that + may add one that the file does not list.
CHECKED_LATER = re.compile(
    r"(task\.(model|loss|postprocess)|backbone|augmentation|target|dataset\.(train|val)|score_threshold|hydra)\b.*"
)


def start(main: Callable[[], None], name: str, complete: Callable[[Sequence[str]], list[str]] = list) -> None:
    """Run ``main``, a function of Hydra's with the configuration ``name``, on the command line of this process.

    ``complete`` adds to the arguments once their paths are quoted. What Hydra refuses is said in one sentence.
    """
    _print_anything()
    with recorded():
        _start(main, name, complete)


def _start(main: Callable[[], None], name: str, complete: Callable[[Sequence[str]], list[str]]) -> None:
    # Python's argparse takes no settings behind a flag that itself stands behind one.
    words = sorted(sys.argv[1:], key=lambda word: word not in SWEEPING)
    try:
        _check_words(words)
        if asked(words):
            _check_choices(words)
            print(help_text(name, with_quotes(words)))
            return
        sys.argv[1:] = complete(with_quotes(words))
        _check_choices(sys.argv[1:])
        refuse_new_keys(name, sys.argv[1:])
        _composed(main)
    except (HydraException, OmegaConfBaseException, OSError, UserError) as error:
        sentence = composing_sentence(error, name, sys.argv[1:])
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


def refuse_new_keys(name: str, overrides: Sequence[str]) -> None:
    """Raise UserError for keys that + adds to ``overrides`` and that nothing would read: where keys are not checked."""
    keys = [word.lstrip("+").partition("=")[0] for word in overrides if word.startswith("+")]
    doubtful = [key for key in keys if re.fullmatch(r"[\w.]+", key) and not CHECKED_LATER.fullmatch(key)]
    if not doubtful or any(word.startswith("resume=") for word in overrides):  # whose keys are those of its run
        return
    known = known_keys(name, overrides)
    for key in doubtful:
        if key not in known:
            raise UserError(f"+{key} adds a key that nothing reads: {no_key(key, known)}")
