"""The images and labels of a data set that a configuration names; prediction, which needs none, does not import this."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from seg_det.commands.saved_config import AUTO, FROZEN, OF_RUN
from seg_det.commands.settings import build, switch
from seg_det.data.classes import only_classes
from seg_det.data.places import below
from seg_det.data.problems import MissingPart
from seg_det.data.records import Source
from seg_det.data.split_file import PARTS, Split, read_split_file
from seg_det.data.splitting import DEFAULT_SHARE, Parts, Rule, describe, is_of, names_below, split_source
from seg_det.errors import UserError
from seg_det.registry import READERS

log = logging.getLogger(__name__)
TEST = "test"


def read_source(dataset: DictConfig, split: str, *, within: Sequence[Path] | None = None) -> Source:
    """The images and labels of a split; see :func:`read_parts` for a data set without a val part.

    ``within`` are the folders in which a reader may write, for a configuration that the user did not write; None: anywhere.
    """
    if split == TEST:
        return _required_test(dataset, within)
    if split not in PARTS:
        raise UserError(f"split must be train, val or test, got {split!r}.")
    if split == "val" and _rule(dataset) is None:
        if not isinstance(val := _own_val(dataset, within), MissingPart):
            return val
    elif split == "train" and _rule(dataset) is None and not _lacks_val(dataset, within):
        return _section(dataset, split, within)
    parts = read_parts(dataset, within=within)
    source = parts.val if split == "val" else parts.train
    if not source.records:
        raise UserError(f"{source.name} has no image left: set another dataset.val_share, or dataset.split_file.")
    return source if parts.split is None else replace(source, problems=parts.train.problems)


def read_parts(dataset: DictConfig, *, within: Sequence[Path] | None = None, doubts: bool = True) -> Parts:
    """Both parts. Where a data set has no val part, it is a share of the train part, as ``dataset.val_share`` says.

    ``doubts``: whether to log what is doubtful about the split, which both parts list. Raises UserError.
    """
    rule, missing = _rule(dataset), None
    train = _section(dataset, "train", within)
    if rule is None:
        val = _own_val(dataset, within)
        if not isinstance(val, MissingPart):
            return Parts(train, val)
        rule, missing = _rule_of(dataset, DEFAULT_SHARE), val
    parts = _split(train, dataset, rule, missing)
    for note in parts.val.problems if doubts else ():
        log.info("%s", note)
    return parts


def _required_test(dataset: DictConfig, within: Sequence[Path] | None) -> Source:
    if not isinstance(dataset.get(TEST), DictConfig):
        raise UserError(f"{dataset.get('name', 'The data set')} has no section for a test part: measure split=val.")
    try:
        return _section(dataset, TEST, within)
    except MissingPart as error:
        raise UserError(f"There is no test part: {error}") from error


def read_test(dataset: DictConfig, *, within: Sequence[Path] | None = None) -> Source | None:
    """The test part; None for a data set that has none. Raises UserError for one that cannot be read."""
    if not isinstance(dataset.get(TEST), DictConfig):
        return None
    try:
        return _section(dataset, TEST, within)
    except MissingPart:
        return None


def read_training(dataset: DictConfig, *, within: Sequence[Path] | None = None) -> Parts:
    """:func:`read_parts` with images in both. What is doubtful about the split is left to the caller to say."""
    parts = read_parts(dataset, within=within, doubts=False)
    if empty := [source.name for source in (parts.train, parts.val) if not source.records]:
        raise UserError(f"{empty[0]} has no image: set dataset.val_share to a share below 1, such as {DEFAULT_SHARE}.")
    return parts


def _section(dataset: DictConfig, split: str, within: Sequence[Path] | None) -> Source:
    if not isinstance(section := dataset.get(split), DictConfig):
        raise UserError(
            f"dataset.{split} must be a section with _target_, a reader, and its arguments, got {section!r}."
        )
    reader = READERS.get(section.get("_target_"))
    given = {"within": within} if "within" in signature(reader).parameters else {}
    return build(section, READERS, **given)


def _own_val(dataset: DictConfig, within: Sequence[Path] | None) -> Source | MissingPart:
    """The data set's own val part, or why it has none, where a share of the train part may stand in for it."""
    if dataset.get("val_annotations", "") is None:
        return MissingPart("dataset.val_annotations is null")
    try:
        return _section(dataset, "val", within)
    except MissingPart as error:
        if dataset.get("val_share") == AUTO and not _names_val():
            return error
        if "val_share" not in dataset:  # a configuration of an earlier version, or of data that are generated
            raise
        remedy = f"if there is no val part, dataset.val_share={DEFAULT_SHARE} takes a share of the train part"
        raise UserError(f"{str(error).rstrip('.')}; {remedy}.") from error


def _lacks_val(dataset: DictConfig, within: Sequence[Path] | None) -> bool:
    """Whether a share of the train part stands in for the val part; not for one that cannot be read."""
    if dataset.get("val_share") != AUTO:
        return False
    try:
        return isinstance(_own_val(dataset, within), MissingPart)
    except UserError:
        return False


def _names_val() -> bool:
    """Whether the command line says where the val part is; then another is not taken in its place."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    return any(re.match(r"\+*dataset\.val(?!_share)", override) for override in overrides)


def _rule(dataset: DictConfig) -> Rule | None:
    """How the data set is split; None where it has a val part."""
    share = dataset.get("val_share")
    if share not in (None, AUTO):
        return _rule_of(dataset, share)
    return _rule_of(dataset, _split_file(dataset).share) if dataset.get("split_file") else None


def _rule_of(dataset: DictConfig, share: float) -> Rule:
    alike = switch(dataset.get("near_duplicates", True), "dataset.near_duplicates")
    return Rule(share, dataset.get("group_by"), alike)


def _split_file(dataset: DictConfig) -> Split:
    return read_split_file(below(_root(dataset), str(dataset.split_file)))


def _root(dataset: DictConfig) -> Path:
    root = Path(str(dataset.root))
    return root.parent if root.is_file() else root  # YOLO's may be the file that describes it


def _split(train: Source, dataset: DictConfig, rule: Rule, missing: MissingPart | None) -> Parts:
    """The parts of ``train``; says what they are."""
    root, earlier, frozen = _root(dataset), None, bool(dataset.get(FROZEN))
    file, run = dataset.get("split_file"), dataset.get(OF_RUN)
    if file:
        earlier = _split_file(dataset)
    elif run and rule.share < 1 and _is_same(found := read_split_file(Path(run)), train, root):
        earlier, file, frozen = found, run, True
    parts = split_source(train, root, rule, earlier, frozen=frozen)
    by = f"dataset.split_file={file}" if earlier else f"dataset.val_share={rule.share:g}"
    by += "; dataset.val_share=1 measures all" if run and not frozen and rule.share < 1 else ""
    reason = f"{root} has no val part ({missing.reason})" if missing else f"{root} is split"
    log.info("%s: %s (%s)", reason, describe(parts), by)
    return parts


def _is_same(split: Split, source: Source, root: Path) -> bool:
    """Whether ``source``, which an evaluation names, is the data that the run of ``split`` was trained on."""
    return is_of(split, names_below([record.path for record in source.records], root))


def read_measured(dataset: DictConfig, config: DictConfig, split: str) -> Source:
    """The same, of ``config.classes`` alone where they are given; a data set that ``config`` does not name comes from a run."""
    source = read_source(dataset, split, within=None if config.get("dataset") else [Path.cwd()])
    return source if config.classes is None else only_classes(source, config.classes)
