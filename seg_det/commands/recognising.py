"""``dataset.root=FOLDER`` alone: the folder is recognised, and the command goes on as if its data set had been named."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from seg_det.commands.quoting import unquoted, with_quotes
from seg_det.data.recognise import BOXES, CLASSES, MASKS, Recognised, recognise
from seg_det.errors import UserError
from seg_det.installed import installed

USUAL_TASK = "ssdlite"  # conf/train.yaml's
NAMED = ("dataset", "experiment", "resume")  # beside which the data set is not looked for
AUTO = "auto"


def with_recognised_data(arguments: Sequence[str], *, of_model: bool = False) -> list[str]:
    """``arguments`` of a command line with the data set that ``dataset.root`` holds, where none is named.

    It is read for the task, or ``of_model`` for that of the model that the command line names. Prints what was found.
    Ends the program with one sentence for a folder that is missing or unknown.
    """
    try:
        return _with_recognised_data(list(arguments), of_model=of_model)
    except UserError as error:
        sys.exit(f"error: {error}")


def _with_recognised_data(arguments: list[str], *, of_model: bool) -> list[str]:
    given = dict(word.lstrip("+").split("=", 1) for word in arguments if "=" in word)
    asked = given.get("dataset") == AUTO
    if asked:
        arguments = [word for word in arguments if word.lstrip("+") != f"dataset={AUTO}"]
    elif any(key in given for key in NAMED):
        _require_root(given)
        return arguments
    if (root := given.get("dataset.root")) is None:
        if asked:
            raise UserError("dataset=auto wants the folder: add dataset.root=FOLDER.")
        return arguments
    roots = _roots(root)
    wanted = learned_from(given.get("model")) if of_model else _wanted_by(given.get("task", USUAL_TASK))
    found = _common([recognise(path, wanted) for path in roots], roots)
    settings = [setting for setting in found.settings if not _is_said(setting.partition("=")[0], given)]
    shown = " ".join([f"dataset={found.dataset}", *(below_root(setting, roots[0]) for setting in settings)])
    print(f"{', '.join(map(str, roots))} was recognised by {found.told_by}: {shown}")
    if left := [below_root(one, roots[0]) for one in found.others if one.partition("=")[0] not in given]:
        print(
            f"{roots[0]} holds more, which is left out: {', '.join(left)}; give one of these settings to read that instead"
        )
    return [*arguments, f"dataset={found.dataset}", *with_quotes(settings)]


def below_root(setting: str, root: Path) -> str:
    """``setting`` with a path below ``root`` as the command line takes it, counted from there."""
    key, _, value = setting.partition("=")
    return f"{key}={Path(value).relative_to(root).as_posix()}" if Path(value).is_relative_to(root) else setting


def _require_root(given: dict[str, str]) -> None:
    """Raise UserError for a missing folder beside an experiment that may name no data set: shapes would be drawn into it."""
    if "experiment" not in given or {"dataset", "resume"} & given.keys():
        return
    if missing := [path for path in _roots(given.get("dataset.root", ".")) if not path.exists()]:
        raise UserError(f"dataset.root={missing[0]} does not exist: correct the path.")


def _roots(value: str) -> list[Path]:
    """The folder of ``dataset.root``, or several of a sweep."""
    path = Path(unquoted(value))
    return [path] if "," not in value or path.exists() else [Path(unquoted(one.strip())) for one in value.split(",")]


def _common(found: Sequence[Recognised], roots: Sequence[Path]) -> Recognised:
    """What all folders of a sweep are. Raises UserError where they differ."""
    if len(found) == 1:
        return found[0]
    forms = [
        one._replace(settings=tuple(_of_any_root(setting, root) for setting in one.settings))
        for one, root in zip(found, roots, strict=True)
    ]
    other = next((place for place, one in enumerate(forms) if one[:2] != forms[0][:2]), None)
    if other is not None:
        raise UserError(
            f"{roots[0]} and {roots[other]} are laid out differently (dataset={forms[0].dataset} by {forms[0].told_by}, "
            f"dataset={forms[other].dataset} by {forms[other].told_by}): run them one by one."
        )
    return forms[0]


def _of_any_root(setting: str, root: Path) -> str:
    """``setting`` with a path below ``root`` as one below whatever root a job has."""
    key, _, value = setting.partition("=")
    if not Path(value).is_relative_to(root):
        return setting
    return f"{key}=${{dataset.root}}/{Path(value).relative_to(root).as_posix()}".removesuffix("/.")


def _is_said(key: str, given: dict[str, str]) -> bool:
    """Whether the command line has the key, or for the share that validates says otherwise what does."""
    own_val = any(word.startswith("dataset.val_") or word == "dataset.split_file" for word in given)
    return key in given or (key == "dataset.val_share" and own_val)


def _wanted_by(tasks: str) -> str:
    """What a task, or several of a sweep, learn from. Raises UserError where that differs."""
    wanted = {task: _wanted(task) for task in tasks.split(",")}
    if len(set(wanted.values())) > 1:
        shown = ", ".join(f"task={task} from {what}" for task, what in wanted.items())
        raise UserError(f"The tasks of this sweep do not learn from the same ({shown}): run them one by one.")
    return wanted[next(iter(wanted))]


def _wanted(task: str) -> str:
    """What a choice of conf/task learns from; boxes for one that is unknown, which Hydra will say."""
    file = installed("conf") / "task" / f"{task}.yaml"
    if not file.is_file():
        return BOXES
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    if "kind" not in content:
        above = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
        return _wanted(above[0]) if above else BOXES
    return _of_kind(content["kind"])


def learned_from(reference: str | None) -> str:
    """What a run, a checkpoint or an exported file learned from; None: the newest run. Raises UserError."""
    from seg_det import checkpoint  # imports torch, which --help need not
    from seg_det.commands.folders import newest_run
    from seg_det.predict.exported import is_exported, open_file
    from seg_det.predict.published import is_published

    reference = reference or str(newest_run())
    if is_published(reference):
        raise UserError(
            f"{reference} was not trained here: name the data set beside its folder, dataset=custom_coco say."
        )
    if is_exported(reference):
        return _of_kind(open_file(Path(reference)).card.task)
    card = checkpoint.card_of(path := checkpoint.find(reference))
    if card is None:
        raise UserError(f"{path} has no card: name the data set beside its folder, dataset=custom_coco say.")
    return _of_kind(card.task)


def _of_kind(kind: str) -> str:
    """What a kind of task learns from. Raises UserError for an unknown kind."""
    from seg_det.kinds.lookup import kind_named

    data = kind_named(kind, "The model").data
    return next((wanted for wanted in (BOXES, MASKS) if wanted in data), CLASSES)
