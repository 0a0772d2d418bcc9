"""The configuration that an earlier run left in its folder: a file, which may come from somebody else.

It is read as plain values within bounds. What it may name is decided where it is used, by :mod:`seg_det.registry`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from seg_det.commands.containers import unresolved
from seg_det.commands.quoting import unquoted
from seg_det.commands.schemas import TrainingSchema, match_schema
from seg_det.commands.settings import plain
from seg_det.data.split_file import NAME as SPLIT_FILE
from seg_det.errors import UserError
from seg_det.migrations import CONFIG_STEPS, upgraded
from seg_det.values import DEEPEST, Wrong, require_plain, shown

MOST_BYTES = 2**20  # of a configuration
FROZEN = "split_frozen"  # key of a data set whose split file names all images that count
OF_RUN = "split_of_run"  # key of a data set that may be a run's own: the run's split file
AUTO = "auto"  # dataset.val_share
MOST_JOINED = 16  # references in values that join several: each can double the length of another


def config_of(path: Path) -> DictConfig:
    """The configuration of the run that the checkpoint ``path`` belongs to. Raises UserError that names the file."""
    file = path.parent.parent / "config.yaml"
    if not file.is_file():
        raise UserError(f"{path} does not lie in a run folder (there is no {file}): say which data with dataset=.")
    try:
        return _read(file)
    except (Wrong, OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise UserError(f"{file} is no configuration of a run ({reason}): say which data with dataset=.") from error


def dataset_of(path: Path) -> DictConfig:
    """The data set that the checkpoint ``path`` was trained on. Raises UserError."""
    config, file = config_of(path), path.parent.parent / "config.yaml"
    if not all(_is_section(config, key) for key in ("dataset", "dataset.train", "dataset.val")):
        raise UserError(f"{file} names no dataset with its splits train and val: say which data with dataset=.")
    return as_split(config.dataset, path)


def as_split(dataset: DictConfig, path: Path) -> DictConfig:
    """The data set of the run of ``path`` with the parts that the run had, and no others."""
    if (file := path.parent.parent / SPLIT_FILE).is_file():
        dataset.split_file, dataset[FROZEN] = str(file), True
    elif dataset.get("val_share") == AUTO:
        dataset.val_share = None  # it had a val part: no share of the train part stands in for that
    return dataset


def measured_dataset(config: DictConfig, path: Path | None) -> DictConfig:
    """The data set that ``config`` names, which may be that of the run of ``path``; else the run's. Raises UserError."""
    if not config.get("dataset"):
        return dataset_of(cast(Path, path))  # without a run, a configuration without a data set is refused before
    if path and (file := path.parent.parent / SPLIT_FILE).is_file():
        with open_dict(config.dataset):
            config.dataset[OF_RUN] = str(file)
    return config.dataset


def _is_section(config: DictConfig, key: str) -> bool:
    try:
        return isinstance(OmegaConf.select(config, key), DictConfig)
    except OmegaConfBaseException:  # a reference that leads nowhere
        return False


def resumable(config: DictConfig, path: Path) -> DictConfig:
    """``config``, the configuration of the run of ``path``, where it has all that training needs. Raises UserError."""
    file = path.parent.parent / "config.yaml"
    try:
        match_schema(plain(config), TrainingSchema, "config")
    except Wrong as error:
        raise UserError(
            f"{file} is no configuration of a training run: {error}; start anew without resume=."
        ) from error
    return config


def writable(overrides: Sequence[str]) -> list[Path]:
    """The folders in which a saved configuration may generate data: the working one, and what the command line names."""
    roots = [unquoted(o.partition("=")[2]) for o in overrides if o.lstrip("+").startswith("dataset.root=")]
    return [Path.cwd(), *map(Path, roots)]


def _read(file: Path) -> DictConfig:
    if file.stat().st_size > MOST_BYTES:
        raise Wrong("it", f"has more than {MOST_BYTES} bytes")
    text = file.read_text(encoding="utf-8")
    _check_events(text)
    config = OmegaConf.create(text)
    if not isinstance(config, DictConfig):
        raise Wrong("it", "does not hold a mapping")
    plain_values = unresolved(config)
    require_plain(plain_values)
    config = OmegaConf.create(upgraded(plain_values, CONFIG_STEPS, str(file)))
    _check_references(config)
    return config


def _check_events(text: str) -> None:
    """Raise Wrong for what no run writes and what grows while it is read: deep nesting and aliases."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise Wrong("it", f"has more than {DEEPEST} levels")
        if isinstance(event, yaml.AliasEvent):
            raise Wrong("it", f"uses the alias {shown(event.anchor)}, which no run writes")


def _check_references(config: DictConfig) -> None:
    """Raise Wrong for references whose values could outgrow the memory."""
    joined = 0
    for node, key, text in _references(config, OmegaConf.to_container(config, resolve=False)):
        count = text.count("${")
        joined += count if count > 1 else 0
        found = _referred(node, key) if count == 1 else None
        if isinstance(found, DictConfig | ListConfig) and "${" in str(OmegaConf.to_container(found, resolve=False)):
            raise Wrong(str(key), f"refers to {shown(text)}, which has references of its own")
    if joined > MOST_JOINED:
        raise Wrong("it", f"joins more than {MOST_JOINED} references in its values")


def _references(node: Any, raw: Any) -> Iterator[tuple[Any, Any, str]]:
    """The container, key and text of every value of ``node``, whose unresolved content is ``raw``, that refers to another."""
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if isinstance(value, str) and "${" in value:
            yield node, key, value
        elif isinstance(value, dict | list):
            yield from _references(node[key], value)


def _referred(node: Any, key: Any) -> Any:
    """What a value refers to; None where that cannot be found, which matters to those only who ask for it."""
    try:
        return node[key]
    except OmegaConfBaseException:
        return None
