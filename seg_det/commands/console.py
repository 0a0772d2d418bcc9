"""``seg-det COMMAND ...``, the installed program, and ``python -m seg_det COMMAND ...``. Imports no torch by itself."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from seg_det import __version__
from seg_det.installed import installed

HYDRA = {
    "train": "train a model, evaluate it and write a run folder",
    "evaluate": "measure a run, a checkpoint or an exported file",
    "predict": "predict on images, folders, videos or cameras",
    "export": "write a file for a device, with pre- and post-processing built in",
    "doctor": "check a data set before training on it",
    "anchors": "fit anchors to the objects of a data set",
}
WEIGHTS, PREPARE = "weights", "prepare"
PREFIX = "prepare_"  # of the scripts in datasets/


def main() -> int | None:
    """Run the command that sys.argv names; returns the exit status."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in HYDRA:
        from seg_det.commands.entry import start

        start(name, words=words, before=[name])
        return 0
    if name == WEIGHTS:
        from seg_det.commands.weights import main as weights

        return weights(words)
    if name == PREPARE:
        return _prepare(words)
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if name == "--version":
        print(f"seg_det {__version__}")
        return 0
    print(f"error: there is no command {name!r}: {', '.join(_commands())} are.", file=sys.stderr)
    return 2


def _prepare(words: Sequence[str]) -> int:
    """Run the script of a data set in datasets/."""
    known = sorted(path.stem.removeprefix(PREFIX) for path in installed("datasets").glob(f"{PREFIX}*.py"))
    name, *rest = words or ["--help"]
    if name not in known:
        shown = ", ".join(known)
        if name in ("-h", "--help"):
            print(f"seg-det prepare DATASET [--help]: downloads or generates one of {shown}.")
            return 0
        print(f"error: {name!r} cannot be prepared: {shown} can.", file=sys.stderr)
        return 2
    script = installed("datasets") / f"{PREFIX}{name}.py"
    sys.argv = [f"seg-det prepare {name}", *rest]
    runpy.run_path(str(script), run_name="__main__")  # ends with SystemExit
    return 0


def _commands() -> dict[str, str]:
    return {
        **HYDRA,
        WEIGHTS: "say what a weights file holds",
        PREPARE: "download or generate a data set",
    }


def _usage() -> str:
    width = max(map(len, _commands()))
    rows = [f"  {name:{width}}  {meaning}" for name, meaning in _commands().items()]
    return "\n".join(
        ["usage: seg-det COMMAND [KEY=VALUE ...]", "", *rows, "", "seg-det COMMAND --help lists the keys of a command."]
    )
