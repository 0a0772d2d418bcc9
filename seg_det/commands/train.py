"""``python train.py``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import lightning
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from seg_det import checkpoint
from seg_det.commands import running, slurm
from seg_det.commands.automatic import Automatic, told
from seg_det.commands.composing import CHECKED_LATER
from seg_det.commands.containers import unresolved
from seg_det.commands.folders import command_line, follows, open_folder, require_name, run_name
from seg_det.commands.labelled_data import read_test, read_training
from seg_det.commands.network import model_settings, postprocess, with_anchors
from seg_det.commands.saved_config import as_split, config_of, resumable, writable
from seg_det.commands.schemas import TrainingSchema, check
from seg_det.commands.settings import (
    batch_size,
    build,
    height_and_width,
    per_channel,
    plain,
    with_preferences,
    workers,
)
from seg_det.commands.unfinished import newest_unfinished
from seg_det.data.image_files import limit_pixels
from seg_det.data.multi_scale import input_sizes
from seg_det.data.places import below
from seg_det.data.split_file import NAME as SPLIT_FILE
from seg_det.data.split_file import write_split
from seg_det.data.splitting import Parts
from seg_det.errors import Terminated, UserError
from seg_det.files import relative
from seg_det.installed import program
from seg_det.kinds.lookup import kind_named
from seg_det.registry import AUGMENTATIONS, CALLBACKS, LOGGERS, LOSSES, TARGET, filled
from seg_det.report.terminal import summary
from seg_det.run_log import LOG
from seg_det.runs import RunRecord
from seg_det.training.optimisation import Recipe
from seg_det.training.preview import preview
from seg_det.training.run import Training, train_model
from seg_det.training.start import Start, lacks_report
from seg_det.training.trainer import TrainerSettings

USUAL = {  # what conf/train.yaml chooses
    "logger": {"csv": "csv_logger", "tensorboard": "tensorboard_logger"},
    "callbacks": {"learning_rate": "learning_rate", "drawn_predictions": "drawn_predictions"},
}
AUTO = "auto"  # as resume: the newest run that was not finished
PLACES = frozenset(  # of data
    {"root", "images", "annotations"}
    | {f"{part}_{what}" for part in ("train", "val", "test") for what in ("images", "annotations", "list")}
)
OF_MODEL = ("backbone.", "task.model.", "task.kind")


def main(config: DictConfig) -> RunRecord | None:
    """``python train.py``: train, evaluate, write the run folder, say what came out; returns the run's record."""
    check(config, TrainingSchema)
    resume = None
    again = slurm.requeued()
    if again or config.resume:
        named = again or (newest_unfinished() if config.resume == AUTO else str(config.resume))
        resume = checkpoint.find(named, prefer="last")
        # The words of a requeued job are those that its run began with.
        config = _resumed(config, resume, [] if again else HydraConfig.get().overrides.task)
        check(config, TrainingSchema)
        config = _with_places(config, relative)  # for the report, which names no folder above the working one
    else:
        config = with_preferences(with_anchors(config))
        config.choices = OmegaConf.to_container(config.choices, resolve=True)  # Hydra's own values end with this job
    limit_pixels(config.data.max_pixels)
    within = writable(HydraConfig.get().overrides.task) if resume else None  # a resumed configuration is a file
    parts = read_training(config.dataset, within=within)
    test = partial(read_test, config.dataset, within=within)
    automatic = Automatic(config, parts, started=running.STATE.started, test=test, fixed=resume is not None)
    config = automatic.config
    looking = config.get("preview", False)
    folder = _folder(config, resume, "preview" if looking else "train")
    if automatic.choices:
        print(told(automatic.choices))
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    setup = replace(_training(config, folder, resume, parts, within), budget=automatic.budget, length=automatic.length)
    if looking:
        print(f"preview     {preview(setup)}\nnext        the same command without preview=true")
        return None
    slurm.remember(folder)
    record = _trained(setup)
    if record is not None:
        print(summary(record, folder, following=shlex.join([*program("evaluate").split(), f"model={folder}"])))
    return record


def _folder(config: DictConfig, resume: Path | None, verb: str) -> Path:
    """A new folder; that of the resumed run where it lacks nothing but its evaluation."""
    require_name(run_name(config))
    if verb == "train" and resume and lacks_report(resume, config.trainer.max_epochs):
        LOG.open(resume.parent.parent)
        return resume.parent.parent
    return open_folder(verb, run_name(config), _anywhere(config))


def _trained(setup: Training) -> RunRecord | None:
    """:func:`train_model`; a run that is interrupted ends with what to do about it."""
    try:
        return train_model(setup)
    except (KeyboardInterrupt, Terminated) as error:
        last = setup.run / "checkpoints" / "last.ckpt"
        if isinstance(error, Terminated) and error.args[0] == "SIGUSR1" and (note := slurm.requeue()):
            error.add_note(note)
        run = setup.run if last.is_file() else setup.resume and setup.resume.parent.parent
        if run is None:
            error.add_note("no checkpoint was written yet, so there is nothing to resume")
        else:
            error.add_note("resume with " + shlex.join([*program("train").split(), f"resume={run}"]))
        raise


def _anywhere(config: DictConfig) -> DictConfig:
    """``config`` as the run keeps it: with absolute paths of its data, so that it is evaluated from any working directory."""
    return _with_places(config, lambda path: path.absolute())


def _with_places(config: DictConfig, move: Callable[[Path], Path]) -> DictConfig:
    """``config`` with other paths of its data."""
    kept, train = config.copy(), config.dataset.get("train")
    root = unresolved(config.dataset).get("root") if isinstance(train, DictConfig) and "root" in train else None
    sections = [kept.dataset, *(kept.dataset.get(part) for part in ("train", "val", "test"))]
    for section in [section for section in sections if isinstance(section, DictConfig)]:
        values = {key: value for key, value in unresolved(section).items() if key in PLACES and isinstance(value, str)}
        for key, value in values.items():
            if "${" not in value and (key == "root" or _outside(root, value)):
                section[key] = str(move(Path(value)))
    return kept


def _outside(root: str | None, place: str) -> bool:
    """Whether ``place`` counts from the working folder; a reader that has a root looks for others below it."""
    return below(root, place) == Path(place)


def _training(
    config: DictConfig, folder: Path, resume: Path | None, parts: Parts, within: Sequence[Path] | None
) -> Training:
    kind_named(config.task.kind, "The configuration")  # refuses an unknown one before what depends on it
    for key in ("backbone.bn_eps", "task.model.bn_eps"):
        if isinstance(eps := OmegaConf.select(config, key), int | float) and eps <= 0:
            raise UserError(f"{key} must be above 0, got {eps}.")
    size = height_and_width(config.data.size)
    recipe = plain(config.recipe)
    suggested = recipe.pop("backbone_weights", None)
    if parts.split is not None and not follows():
        write_split(folder / SPLIT_FILE, parts.split)
    return Training(
        kind=config.task.kind,
        name=run_name(config),
        run=folder,
        config=OmegaConf.to_yaml(config),
        model=model_settings(config),
        train=parts.train,
        val=parts.val,
        test=partial(read_test, config.dataset, within=within),
        augmentation=build(config.augmentation, AUGMENTATIONS, size=list(size)),
        input_size=size,
        batch_size=batch_size(config.data.batch_size),
        num_workers=workers(config.data.num_workers),
        loss=build(config.task.loss, LOSSES),
        postprocess=postprocess(config.task),
        recipe=filled(Recipe, recipe, "recipe"),
        trainer=filled(TrainerSettings, plain(config.trainer), "trainer"),
        start=Start(model=config.weights, backbone=config.backbone.get("weights"), recipe=suggested),
        balance=config.data.balance,
        training_sizes=input_sizes(plain(config.data).get("multi_scale"), size),
        resize=config.data.resize,
        mean=per_channel(config.data.mean, "mean"),
        std=per_channel(config.data.std, "std"),
        loggers=[build(section, LOGGERS, run=folder, name=run_name(config)) for section in _chosen(config, "logger")],
        callbacks=[build(section, CALLBACKS) for section in _chosen(config, "callbacks")],
        seed=config.seed,
        resume=resume,
        command=command_line("train"),
    )


def _chosen(config: DictConfig, group: str) -> list[DictConfig]:
    """The sections of a group of which several are chosen; a run of an earlier version has the usual ones."""
    usual = {key: {TARGET: target} for key, target in USUAL[group].items()}
    return list(OmegaConf.create(config.get(group, usual)).values())


def _resumed(config: DictConfig, path: Path, words: Sequence[str]) -> DictConfig:
    """The configuration of the run that ``path`` belongs to, with what was said on this command line, its ``words``."""
    overrides = [o for o in words if not o.startswith("resume=")]
    groups = [o for o in overrides if o.lstrip("+").split("=")[0] in HydraConfig.get().runtime.choices]
    if groups:
        raise UserError(f"A resumed run keeps its own configuration: leave out {' '.join(groups)}.")
    saved = resumable(config_of(path), path)
    as_split(saved.dataset, path)
    for override in OverridesParser.create().parse_overrides(overrides):
        _override(saved, config, override)
    return cast(DictConfig, OmegaConf.merge(saved, {"resume": str(path)}))


def _override(saved: DictConfig, composed: DictConfig, override: Override) -> None:
    """Set a key of the saved configuration as the command line, which was ``composed`` of other choices, says."""
    key, missing = override.key_or_group, object()
    old = OmegaConf.select(saved, key, default=missing)
    typed = override.input_line or key
    added = typed.startswith("+") and not CHECKED_LATER.fullmatch(key)
    if override.is_delete() or (
        old is missing and (added or OmegaConf.select(composed, key, default=missing) is missing)
    ):
        raise UserError(f"The resumed run has no key {key} to set: leave out {typed}.")
    if key.startswith(OF_MODEL) and old != override.value():
        raise UserError(f"A resumed run keeps its own model, whose {key} is {old}: leave out {typed}.")
    OmegaConf.update(saved, key, override.value(), force_add=True)
