"""``python -m seg_det doctor``: check the data that a training would use, and say what is wrong with it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from seg_det import checkpoint
from seg_det.commands.folders import command_line, open_folder, run_name
from seg_det.commands.labelled_data import read_source, read_training
from seg_det.commands.network import model_settings, postprocess, with_anchors
from seg_det.commands.quoting import as_typed
from seg_det.commands.recognising import below_root
from seg_det.commands.schemas import TrainingSchema, check
from seg_det.commands.settings import build, height_and_width, plain, switch, with_preferences
from seg_det.data.image_files import limit_pixels
from seg_det.data.records import with_records
from seg_det.doctor.examine import examine
from seg_det.doctor.findings import ERROR, WARNING, Finding, Found, Scope, Split, found, merged
from seg_det.doctor.fixes import fix
from seg_det.doctor.page import write_results
from seg_det.errors import UserError
from seg_det.files import write_json
from seg_det.installed import program
from seg_det.kinds.kind import Kind
from seg_det.kinds.lookup import kind_named, require_kind
from seg_det.ops.images import IMAGENET_MEAN, IMAGENET_STD
from seg_det.registry import LOSSES
from seg_det.report.pictures import counted
from seg_det.types import ModelCard

FAIL_ON = {"error": (ERROR,), "warning": (ERROR, WARNING), "never": ()}  # the severities that fail
PARTS = ("train", "val")
MOST_LINES = 8  # lines of one sort


def main(config: DictConfig) -> None:
    """Check the data, print and write what was found; exits with code 1 where ``fail_on`` says so.

    Raises UserError where no split can be read.
    """
    check(config, TrainingSchema)
    if config.fail_on not in FAIL_ON:
        raise UserError(f"fail_on must be one of {', '.join(FAIL_ON)}, got {config.fail_on!r}.")
    if config.resume:
        raise UserError("resume= names a run and no data: leave it out, and name the data as its training did.")
    switch(config.fix, "fix")
    config = with_preferences(with_anchors(config))
    limit_pixels(config.data.max_pixels)
    kind = kind_named(config.task.kind, "The configuration")
    scope, unreadable, whole = _read(config, kind)
    listed = merged([*unreadable, *examine(scope, kind.checks), *_anchors(config, kind, scope)])
    folder = open_folder("doctor", run_name(config), config)
    print(write_results(folder, run_name(config), scope, listed, command=command_line("doctor")))
    if config.fix:
        print(_corrected(config, whole, listed, folder))
    if any(one.severity in FAIL_ON[config.fail_on] for one in listed):
        sys.exit(1)


def _corrected(config: DictConfig, scope: Scope, listed: Sequence[Found], folder: Path) -> str:
    """Write corrected annotations and fixes.json; returns what to print. Raises UserError as the correction does."""
    fixed = fix(scope, {split.role: plain(config.dataset[split.role]) for split in scope.splits})
    write_json(folder / "fixes.json", {"changes": [change._asdict() for change in fixed.changes], "left": fixed.left})
    if not fixed.changes:
        return "fixes       nothing in the annotations had to be corrected"
    lines = _first([f"written     {path}" for path in fixed.written])
    lines.append(f"fixes       {counted(len(fixed.changes), 'change')}, listed in {folder / 'fixes.json'}")
    by_hand = [one.fault for one in listed if one.severity == ERROR and one.fault.startswith("leak")]
    left = [*fixed.left, *(f"{fault}: decide by hand which split keeps the images" for fault in by_hand)]
    lines += _first([f"not fixed   {sentence}" for sentence in left])
    return "\n".join([*lines, f"next        {_following(config, fixed.arguments)}"])


def _following(config: DictConfig, arguments: Sequence[str]) -> str:
    """The training command that uses the corrected copies."""
    keys = [argument.partition("=")[0] for argument in arguments]
    # dataset.train_annotations is read for dataset.train.annotations alone
    ours = {"fix", "fail_on", *keys, *(re.sub(r"\.(train|val)\.", r".\1_", key) for key in keys)}
    given = [word for word in HydraConfig.get().overrides.task if word.lstrip("+").partition("=")[0] not in ours]
    words = [*map(as_typed, given), *arguments]
    if "root" in config.dataset.train:  # below which the readers look
        root = Path(str(config.dataset.root))
        words = [word if word.startswith("dataset.root=") else below_root(word, root) for word in words]
    return shlex.join([*program("train").split(), *words])


def _first(lines: list[str]) -> list[str]:
    """The first lines of one sort, and how many there are more."""
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"            and {more} more"] if more > 0 else lines


def _read(config: DictConfig, kind: Kind) -> tuple[Scope, list[Found], Scope]:
    """The splits that can be read, without what their readers leave out, and what is wrong with the others.

    And the splits as they are written down: the two parts of data without a val part are one.
    """
    for section in (config.dataset.get(part) for part in PARTS):
        if isinstance(section, DictConfig):
            with open_dict(section):
                section.on_bad = "skip"
    try:
        parts = read_training(config.dataset)
    except UserError:
        scope, faults = _read_one_by_one(config, kind)
        return scope, faults, scope
    val = parts.val if parts.split is None else replace(parts.val, problems=parts.train.problems)
    for source in (parts.train, val):
        require_kind(kind, source)
    scope = Scope((Split("train", parts.train), Split("val", val)), height_and_width(config.data.size))
    if parts.split is None:
        return scope, [], scope
    both = with_records(parts.train, (*parts.train.records, *val.records))
    return scope, [], scope._replace(splits=(Split("train", both),))


def _read_one_by_one(config: DictConfig, kind: Kind) -> tuple[Scope, list[Found]]:
    splits: list[Split] = []
    faults: list[Found] = []
    errors: list[UserError] = []
    for part in PARTS:
        try:
            source = read_source(config.dataset, part)
        except UserError as error:
            errors.append(error)
            faults += found("split-unreadable", [Finding(f"the split {part} cannot be read: {error}", part)])
        else:
            require_kind(kind, source)
            splits.append(Split(part, source))
    if not splits:
        raise errors[0]
    return Scope(tuple(splits), height_and_width(config.data.size)), faults


def _anchors(config: DictConfig, kind: Kind, scope: Scope) -> Iterator[Found]:
    """What the network's anchors leave unmatched of the training objects, where it has any."""
    train = scope.of("train")
    if train is None or "anchor_shapes" not in config.task.model:
        return
    model = {**model_settings(config), "num_classes": len(train.source.categories)}
    card = ModelCard(
        task=kind.name,
        name=run_name(config),
        model=model,
        postprocess=postprocess(config.task),
        categories=train.source.categories,
        input_size=scope.size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    predictor = kind.task.predictor(checkpoint.build_model(model), card)
    doubt = kind.unmatched(predictor, train.source, build(config.task.loss, LOSSES))
    yield from found("box-without-anchor", [Finding(doubt, train.name)] if doubt else [])
