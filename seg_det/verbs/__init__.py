"""The verbs of the entry points: from a Hydra configuration to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import nn

from seg_det import checkpoint
from seg_det.anchors.files import read_anchors
from seg_det.data.images import limit_pixels
from seg_det.data.loaders import Source
from seg_det.data.multi_scale import input_sizes
from seg_det.export.base import require
from seg_det.export.runtimes import Opened, is_exported, open_file
from seg_det.export.sidecar import sha256
from seg_det.registry import AUGMENTATIONS, LOSSES, TARGETS, filled
from seg_det.report.terminal import figures, summary
from seg_det.tasks.kinds import kind_of
from seg_det.tasks.optimisation import Recipe
from seg_det.tasks.published import is_published, load_published
from seg_det.tasks.run import Training, evaluate_model, train_model
from seg_det.tasks.sensitivity import search, search_text, sensitivity
from seg_det.tasks.start import Start
from seg_det.tasks.training import TrainerSettings
from seg_det.tasks.verification import Export, export_model, table
from seg_det.types import ModelCard, UserError
from seg_det.verbs.folders import claim, new_folder, newest_run, relative, run_name
from seg_det.verbs.saved import config_of, dataset_of, resumable, writable
from seg_det.verbs.settings import (
    batch_size,
    build,
    device,
    height_and_width,
    of_colours,
    plain,
    postprocess,
    read_measured,
    read_source,
    workers,
)
from seg_det.weights import resolve


def train(config: DictConfig) -> None:
    """``python train.py``: train, evaluate, write the run folder, say what came out."""
    resume, folder = None, relative(Path(HydraConfig.get().runtime.output_dir))
    if config.resume:
        resume = checkpoint.find(config.resume, prefer="last")
        config = _resumed(config, resume)
        if not any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra):
            folder = new_folder("train", run_name(config))
    else:
        config = _with_anchors(config)
        config.choices = OmegaConf.to_container(config.choices, resolve=True)  # Hydra's own values end with this job
    limit_pixels(config.data.get("max_pixels"))  # runs of earlier versions do not have it
    claim(folder, config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    metrics = train_model(_training(config, folder, resume))
    if metrics is not None:
        print(summary(metrics, folder, following=f"python evaluate.py model={folder}"))


def evaluate(config: DictConfig) -> None:
    """``python evaluate.py``: the figures of a trained model on a labelled split."""
    limit_pixels(config.data.max_pixels)
    model, card, source = _measured(config)
    folder = new_folder("evaluate", card.name)
    claim(folder, config)
    metrics = evaluate_model(
        model,
        card,
        source,
        run=folder,
        config=OmegaConf.to_yaml(config),
        batch_size=batch_size(config.data.batch_size),
        num_workers=workers(config.data.num_workers),
        device=device(config.device),
        options=_evaluation_options(config, folder),
    )
    print(figures(metrics))
    print(summary(metrics, folder))


def export(config: DictConfig) -> None:
    """``python export.py``: a file for a runtime, proved on images; exits with 1 where it is not the same model."""
    limit_pixels(config.data.max_pixels)
    target = build(config.target, TARGETS)
    require(target)
    reference = str(config.model or newest_run())
    if is_exported(reference):
        raise UserError(f"{reference} is exported already: give the run or the checkpoint that it came from.")
    model, card, dataset = _trained(reference, config)
    if config.resize is not None:
        if config.resize not in kind_of(card).resizes:
            known = ", ".join(kind_of(card).resizes)
            raise UserError(f"resize must be one of {known} for {card.task}, got {config.resize!r}.")
        card = card.replace(resize=config.resize)
    path = resolve(reference) if is_published(reference) else checkpoint.find(reference)
    folder = new_folder("export", card.name)
    claim(folder, config)
    setup = Export(
        target=target,
        model=model,
        card=card,
        checkpoint={"path": str(path), "sha256": sha256(path)},
        run=folder,
        validation=read_measured(dataset, config, config.verification.split),
        pipeline=config.pipeline,
        precision=config.precision,
        calibration=read_measured(dataset, config, "train") if config.precision == "int8" else None,
        calibration_images=config.calibration.images,
        seed=config.seed,
        keep_float=tuple(config.keep_float),
        verified_images=config.verification.images,
        tolerance=config.tolerance,
        num_workers=workers(config.data.num_workers),
    )
    found = sensitivity(setup, config.sensitivity_images) if config.sensitivity else None
    content = search(setup, config.sensitivity_images, found) if config.search else export_model(setup)
    if config.search:
        print(search_text(content))
    print(table(content))
    print("\n".join(f"{folder / name}" for name in [*content["files"], "export.json"]))
    if content["accepted"] is False:
        raise UserError(
            f"{folder / content['files'][0]} was rejected: its {content['metric']} is {content['difference']:.4f} from the "
            f"checkpoint's, and tolerance={content['tolerance']:g} is the most; set tolerance= to accept it."
        )


def _measured(config: DictConfig) -> tuple[nn.Module | Opened, ModelCard, Source]:
    """What evaluate.py measures, and on what."""
    reference = str(config.model or newest_run())
    if is_exported(reference):
        opened = open_file(Path(reference))
        kind_of(opened.card, f"The card of {reference}", checkpoint.outline(opened.card, f"The card of {reference}"))
        dataset = config.get("dataset") or dataset_of(_origin(opened))
        return opened, _baked(opened, config), read_measured(_of_kind(dataset, opened.card), config, config.split)
    model, card, dataset = _trained(reference, config)
    return model, card, read_measured(dataset, config, config.split)


def _origin(opened: Opened) -> Path:
    """The checkpoint that an exported file names. Raises UserError where it names none."""
    path = opened.export.get("checkpoint", {}).get("path")
    if not isinstance(path, str):
        raise UserError(f"The card of {opened.path} names no checkpoint: say which data with dataset=.")
    return Path(path)


def _trained(reference: str, config: DictConfig) -> tuple[nn.Module, ModelCard, DictConfig]:
    """The model that ``reference`` means, its card with what was said on the command line, and its data set."""
    if is_published(reference):
        dataset = _named_dataset(config)
        split = config.get("split") or config.verification.split
        model, card = load_published(reference, read_measured(dataset, config, split).categories)
    else:
        path = checkpoint.find(reference)
        model, card = checkpoint.load(path)
        kind_of(card, f"The card of {path}", model)
        dataset = _of_kind(config.get("dataset") or dataset_of(path), card)
    card = _with_postprocess(card, config.postprocess)
    if config.input_size is not None:
        card = card.replace(input_size=height_and_width(config.input_size))
    return model, card, dataset


def _of_kind(dataset: DictConfig, card: ModelCard) -> DictConfig:
    """A data set that can be read for several kinds of task, told which."""
    if "kind" in dataset:
        dataset.kind = card.task
    return dataset


def _baked(opened: Opened, config: DictConfig) -> ModelCard:
    """The card of an exported file. Raises UserError for settings that cannot be changed any more."""
    given = [f"postprocess.{key}" for key, value in config.postprocess.items() if value is not None]
    given += ["input_size"] if config.input_size is not None else []
    if given:
        raise UserError(f"{given[0]} is part of the exported {opened.path}: leave it out, or export anew with it.")
    return opened.card


def _with_anchors(config: DictConfig) -> DictConfig:
    """The configuration with the shapes of an anchor file in place of its name."""
    if isinstance(file := config.task.model.get("anchor_shapes"), str):
        config.task.model.anchor_shapes = read_anchors(Path(file))
    return config


def _training(config: DictConfig, folder: Path, resume: Path | None) -> Training:
    backbone = {key: value for key, value in plain(config.backbone).items() if key != "weights"}
    size = height_and_width(config.data.size)
    recipe = plain(config.recipe)
    suggested = recipe.pop("backbone_weights", None)
    within = writable(HydraConfig.get().overrides.task) if resume else None  # a resumed configuration is a file
    return Training(
        kind=config.task.kind,
        name=run_name(config),
        run=folder,
        config=OmegaConf.to_yaml(config),
        model={**plain(config.task.model), "backbone": backbone},
        train=read_source(config.dataset, "train", within=within),
        val=read_source(config.dataset, "val", within=within),
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
        seed=config.seed,
        resume=resume,
    )


def _evaluation_options(config: DictConfig, folder: Path) -> dict[str, Any]:
    """What was asked of the evaluation beyond the usual."""
    options: dict[str, Any] = {"count_difficult": True} if config.count_difficult else {}
    if config.evaluator != "fast":
        options["evaluator"] = config.evaluator
    if config.save_predictions:
        options |= {"save_predictions": config.save_predictions, "folder": folder / "predictions"}
    return options


def _named_dataset(config: DictConfig) -> DictConfig:
    if not config.get("dataset"):
        raise UserError(
            f"{config.model} was not trained here: say which data with dataset=imagefolder dataset.root=..."
        )
    return config.dataset


def _resumed(config: DictConfig, path: Path) -> DictConfig:
    """The configuration of the run that ``path`` belongs to, with what was said on this command line."""
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task if not o.startswith("resume=")]
    groups = [o for o in overrides if o.split("=")[0] in HydraConfig.get().runtime.choices]
    if groups:
        raise UserError(f"resume goes on with the run's own configuration: leave out {' '.join(groups)}.")
    saved = resumable(config_of(path), path)
    return OmegaConf.merge(saved, OmegaConf.from_dotlist(overrides), {"resume": str(path)})


def _with_postprocess(card: ModelCard, changes: DictConfig) -> ModelCard:
    given = {key: value for key, value in plain(changes).items() if value is not None}
    if unknown := [key for key in given if key not in card.postprocess]:
        known = f"it has {', '.join(card.postprocess)}" if card.postprocess else "it has none"
        raise UserError(f"{card.name} has no postprocess.{unknown[0]}: {known}.")
    return card.replace(postprocess={**card.postprocess, **given})
