"""``dataset.root=FOLDER`` alone: the folder is recognised, and the command goes on as if its data set had been named."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from seg_det.commands.arguments import quoted, unquoted
from seg_det.data.recognise import BOXES, CLASSES, MASKS, recognise
from seg_det.errors import UserError

CONF = Path(__file__).resolve().parents[2] / "conf"
USUAL_TASK = "ssdlite"  # conf/train.yaml's
NAMED = ("dataset", "experiment", "resume")  # beside which the data set is not looked for
AUTO = "auto"


def point_at_data(arguments: Sequence[str]) -> list[str]:
    """``arguments`` of a command line with the data set that ``dataset.root`` holds, where none is named.

    Prints what was found. Ends the program with one sentence for a folder that is missing or unknown.
    """
    try:
        return _pointed(list(arguments))
    except UserError as error:
        sys.exit(f"error: {error}")


def _pointed(arguments: list[str]) -> list[str]:
    given = dict(word.lstrip("+").split("=", 1) for word in arguments if "=" in word)
    asked = given.get("dataset") == AUTO
    if asked:
        arguments = [word for word in arguments if word.lstrip("+") != f"dataset={AUTO}"]
    elif any(key in given for key in NAMED):
        return arguments
    if (root := given.get("dataset.root")) is None:
        if asked:
            raise UserError("dataset=auto wants the folder: add dataset.root=FOLDER.")
        return arguments
    path = Path(unquoted(root))
    if "," in root and not path.exists():  # several folders of a sweep
        return arguments
    found = recognise(path, _wanted(given.get("task", USUAL_TASK)))
    settings = [setting for setting in found.settings if setting.partition("=")[0] not in given]
    shown = " ".join([f"dataset={found.dataset}", *settings])
    print(f"{path} was recognised by {found.told_by}: {shown}")
    return [*arguments, f"dataset={found.dataset}", *map(_quoted, settings)]


def _wanted(task: str) -> str:
    """What a choice of conf/task learns from; boxes for one that is unknown, which Hydra will say."""
    file = CONF / "task" / f"{task}.yaml"
    if not file.is_file():
        return BOXES
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    if "kind" not in content:
        above = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
        return _wanted(above[0]) if above else BOXES
    from seg_det.kinds.lookup import KINDS  # imports torch, which --help need not

    data = KINDS[content["kind"]].data
    return next((wanted for wanted in (BOXES, MASKS) if wanted in data), CLASSES)


def _quoted(setting: str) -> str:
    """With the value in quotes where Hydra would take it apart."""
    key, _, value = setting.partition("=")
    return f"{key}={quoted(value)}"
