"""``python train.py``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import lightning
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from seg_det import checkpoint
from seg_det.commands.anchor_files import read_anchors
from seg_det.commands.folders import claim, command_line, follows, new_folder, run_name
from seg_det.commands.labelled import postprocess, read_training
from seg_det.commands.saved import as_split, config_of, resumable, writable
from seg_det.commands.settings import (
    batch_size,
    build,
    height_and_width,
    of_colours,
    plain,
    switch,
    with_preferences,
    workers,
)
from seg_det.data.images import limit_pixels
from seg_det.data.multi_scale import input_sizes
from seg_det.data.split_file import NAME as SPLIT_FILE
from seg_det.data.split_file import write_split
from seg_det.errors import UserError
from seg_det.files import relative
from seg_det.installed import program
from seg_det.kinds.lookup import kind_named
from seg_det.registry import AUGMENTATIONS, CALLBACKS, LOGGERS, LOSSES, TARGET, filled
from seg_det.report.terminal import summary
from seg_det.training.optimisation import Recipe
from seg_det.training.preview import preview
from seg_det.training.run import Training, train_model
from seg_det.training.start import Start
from seg_det.training.trainer import TrainerSettings

USUAL = {  # what conf/train.yaml chooses
    "logger": {"csv": "csv_logger", "tensorboard": "tensorboard_logger"},
    "callbacks": {"learning_rate": "learning_rate", "drawn_predictions": "drawn_predictions"},
}


def main(config: DictConfig) -> None:
    """``python train.py``: train, evaluate, write the run folder, say what came out."""
    resume, folder = None, relative(Path(HydraConfig.get().runtime.output_dir))
    if config.resume:
        resume = checkpoint.find(config.resume, prefer="last")
        config = _resumed(config, resume)
        if not any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra):
            folder = new_folder("train", run_name(config))
    else:
        config = with_preferences(_with_anchors(config))
        config.choices = OmegaConf.to_container(config.choices, resolve=True)  # Hydra's own values end with this job
    limit_pixels(config.data.max_pixels)
    looking = switch(config.get("preview", False), "preview")
    if looking:
        with suppress(OSError):
            folder.rmdir()  # Hydra has made it for a training
        folder = new_folder("preview", run_name(config))
    claim(folder, config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    setup = _training(config, folder, resume)
    if looking:
        print(f"preview     {preview(setup)}\nnext        the same command without preview=true")
        return
    metrics = train_model(setup)
    if metrics is not None:
        print(summary(metrics, folder, following=f"{program('evaluate')} model={folder}"))


def _with_anchors(config: DictConfig) -> DictConfig:
    """The configuration with the shapes of an anchor file in place of its name."""
    if isinstance(file := config.task.model.get("anchor_shapes"), str):
        config.task.model.anchor_shapes = read_anchors(Path(file))
    return config


def _training(config: DictConfig, folder: Path, resume: Path | None) -> Training:
    kind_named(config.task.kind, "The configuration")  # refuses an unknown one before what depends on it
    backbone = {key: value for key, value in plain(config.backbone).items() if key != "weights"}
    size = height_and_width(config.data.size)
    recipe = plain(config.recipe)
    suggested = recipe.pop("backbone_weights", None)
    within = writable(HydraConfig.get().overrides.task) if resume else None  # a resumed configuration is a file
    parts = read_training(config.dataset, within=within)
    if parts.split is not None and not follows():
        write_split(folder / SPLIT_FILE, parts.split)
    return Training(
        kind=config.task.kind,
        name=run_name(config),
        run=folder,
        config=OmegaConf.to_yaml(config),
        model={**plain(config.task.model), "backbone": backbone},
        train=parts.train,
        val=parts.val,
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
        mean=of_colours(config.data.mean, "mean"),
        std=of_colours(config.data.std, "std"),
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


def _resumed(config: DictConfig, path: Path) -> DictConfig:
    """The configuration of the run that ``path`` belongs to, with what was said on this command line."""
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task if not o.startswith("resume=")]
    groups = [o for o in overrides if o.split("=")[0] in HydraConfig.get().runtime.choices]
    if groups:
        raise UserError(f"A resumed run keeps its own configuration: leave out {' '.join(groups)}.")
    saved = resumable(config_of(path), path)
    as_split(saved.dataset, path)
    return OmegaConf.merge(saved, OmegaConf.from_dotlist(overrides), {"resume": str(path)})
