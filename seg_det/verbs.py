"""The verbs of the entry points: from a Hydra configuration to a run."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from seg_det import checkpoint
from seg_det.anchors.files import read_anchors
from seg_det.data.classes import only_classes
from seg_det.data.loaders import Source
from seg_det.data.multi_scale import input_sizes
from seg_det.export.base import require
from seg_det.export.runtimes import Opened, is_exported, open_file
from seg_det.export.sidecar import sha256
from seg_det.losses import SCORES
from seg_det.report.terminal import figures, summary
from seg_det.tasks.optimisation import Recipe
from seg_det.tasks.published import is_published, load_published
from seg_det.tasks.run import KINDS, Training, evaluate_model, train_model
from seg_det.tasks.sensitivity import search, search_text, sensitivity
from seg_det.tasks.start import Start
from seg_det.tasks.training import TrainerSettings
from seg_det.tasks.verification import Export, export_model, table
from seg_det.types import ModelCard, UserError
from seg_det.weights import resolve

RUNS = Path("runs")


def train(config: DictConfig) -> None:
    """``python train.py``: train, evaluate, write the run folder, say what came out."""
    resume, folder = None, _relative(Path(HydraConfig.get().runtime.output_dir))
    if config.resume:
        resume = checkpoint.find(config.resume, prefer="last")
        config = _resumed(config, resume)
        if not any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra):
            folder = _new_folder("train", _name(config))
    else:
        config = _with_anchors(config)
        config.choices = OmegaConf.to_container(config.choices, resolve=True)  # Hydra's own values end with this job
    _claim(folder, config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    metrics = train_model(_training(config, folder, resume))
    if metrics is not None:
        print(summary(metrics, folder, following=f"python evaluate.py model={folder}"))


def evaluate(config: DictConfig) -> None:
    """``python evaluate.py``: the figures of a trained model on a labelled split."""
    model, card, source = _measured(config)
    folder = _new_folder("evaluate", card.name)
    _claim(folder, config)
    metrics = evaluate_model(
        model,
        card,
        source,
        run=folder,
        config=OmegaConf.to_yaml(config),
        batch_size=_batch_size(config.data.batch_size),
        num_workers=_workers(config.data.num_workers),
        device=_device(config.device),
        options=_evaluation_options(config, folder),
    )
    print(figures(metrics))
    print(summary(metrics, folder))


def export(config: DictConfig) -> None:
    """``python export.py``: a file for a runtime, proved on images; exits with 1 where it is not the same model."""
    target = instantiate(config.target)
    require(target)
    reference = str(config.model or _newest_run())
    if is_exported(reference):
        raise UserError(f"{reference} is exported already: give the run or the checkpoint that it came from.")
    model, card, dataset = _trained(reference, config)
    if config.resize is not None:
        if config.resize not in KINDS[card.task].resizes:
            known = ", ".join(KINDS[card.task].resizes)
            raise UserError(f"resize must be one of {known} for {card.task}, got {config.resize!r}.")
        card = card.replace(resize=config.resize)
    path = resolve(reference) if is_published(reference) else checkpoint.find(reference)
    folder = _new_folder("export", card.name)
    _claim(folder, config)
    setup = Export(
        target=target,
        model=model,
        card=card,
        checkpoint={"path": str(path), "sha256": sha256(path)},
        run=folder,
        validation=_measured_source(dataset, config, config.verification.split),
        pipeline=config.pipeline,
        precision=config.precision,
        calibration=_measured_source(dataset, config, "train") if config.precision == "int8" else None,
        calibration_images=config.calibration.images,
        seed=config.seed,
        keep_float=tuple(config.keep_float),
        verified_images=config.verification.images,
        tolerance=config.tolerance,
        num_workers=_workers(config.data.num_workers),
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
    reference = str(config.model or _newest_run())
    if is_exported(reference):
        opened = open_file(Path(reference))
        dataset = config.get("dataset") or _trained_on(Path(opened.export["checkpoint"]["path"]))
        return opened, _baked(opened, config), _measured_source(_of_kind(dataset, opened.card), config, config.split)
    model, card, dataset = _trained(reference, config)
    return model, card, _measured_source(dataset, config, config.split)


def _trained(reference: str, config: DictConfig) -> tuple[nn.Module, ModelCard, DictConfig]:
    """The model that ``reference`` means, its card with what was said on the command line, and its data set."""
    if is_published(reference):
        dataset = _named_dataset(config)
        split = config.get("split") or config.verification.split
        model, card = load_published(reference, _measured_source(dataset, config, split).categories)
    else:
        path = checkpoint.find(reference)
        model, card = checkpoint.load(path)
        dataset = _of_kind(config.get("dataset") or _trained_on(path), card)
    card = _with_postprocess(card, config.postprocess)
    if config.input_size is not None:
        card = card.replace(input_size=_two(config.input_size))
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
    backbone = {key: value for key, value in _plain(config.backbone).items() if key != "weights"}
    size = _two(config.data.size)
    recipe = _plain(config.recipe)
    suggested = recipe.pop("backbone_weights")
    return Training(
        kind=config.task.kind,
        name=_name(config),
        run=folder,
        config=OmegaConf.to_yaml(config),
        model={**_plain(config.task.model), "backbone": backbone},
        train=_source(config.dataset, "train"),
        val=_source(config.dataset, "val"),
        augmentation=instantiate(config.augmentation, size=list(size)),
        input_size=size,
        batch_size=_batch_size(config.data.batch_size),
        num_workers=_workers(config.data.num_workers),
        loss=instantiate(config.task.loss),
        postprocess=postprocess(config.task),
        recipe=Recipe(**recipe),
        trainer=TrainerSettings(**_plain(config.trainer)),
        start=Start(model=config.weights, backbone=config.backbone.weights, recipe=suggested),
        balance=config.data.balance,
        training_sizes=input_sizes(_plain(config.data)["multi_scale"], size),
        resize=config.data.resize,
        mean=_three(config.data.mean, "mean"),
        std=_three(config.data.std, "std"),
        seed=config.seed,
        resume=resume,
    )


def postprocess(task: DictConfig) -> dict[str, Any]:
    """The task's post-processing; how a detector's logits are read as scores follows from the loss that trains them."""
    if task.kind != "detection":
        return _plain(task.postprocess)
    loss = task.loss.classification
    if loss not in SCORES:
        raise UserError(f"task.loss.classification must be one of {', '.join(SCORES)}, got {loss!r}.")
    return {"score": SCORES[loss], **_plain(task.postprocess)}


def _plain(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


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


def _two(size: int | list[int]) -> tuple[int, int]:
    """(H, W) of a size that is one number or two."""
    return (size, size) if isinstance(size, int) else tuple(size)


def _three(values: list[float] | None, key: str) -> tuple[float, float, float] | None:
    if values is None:
        return None
    if not isinstance(values, ListConfig) or len(values) != 3 or (key == "std" and min(values) <= 0):
        above = " above 0" if key == "std" else ""
        raise UserError(f"data.{key} takes three numbers{above}, of red, green and blue, got {values}.")
    return tuple(values)


def _source(dataset: DictConfig, split: str) -> Source:
    if split not in ("train", "val"):
        raise UserError(f"split must be train or val, got {split!r}.")
    return instantiate(dataset[split])


def _measured_source(dataset: DictConfig, config: DictConfig, split: str) -> Source:
    source = _source(dataset, split)
    return source if config.classes is None else only_classes(source, config.classes)


def _workers(wanted: int | str) -> int:
    if wanted == "auto":
        return min(8, max(0, (os.cpu_count() or 1) - 1))
    if not isinstance(wanted, int) or wanted < 0:
        raise UserError(f"data.num_workers must be auto or a number from 0, got {wanted}.")
    return wanted


def _batch_size(wanted: int) -> int:
    if not isinstance(wanted, int) or wanted < 1:
        raise UserError(f"data.batch_size must be a number from 1, got {wanted}.")
    return wanted


def _device(wanted: str) -> torch.device:
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if wanted == "auto" else wanted)


def _relative(path: Path) -> Path:
    """``path`` as the user would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _name(config: DictConfig) -> str:
    return "_".join(config.choices[key] for key in ("task", "backbone", "dataset"))


def _new_folder(verb: str, name: str) -> Path:
    """Named by the second; a run that comes in the second of another waits for the next one."""
    while True:
        folder = RUNS / verb / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        if _follows() or not folder.exists():
            return folder
        time.sleep(0.1)


def _follows() -> bool:
    """Whether this is a further process of a run that has its folder."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0


def _claim(folder: Path, config: DictConfig) -> None:
    """The run's own folder, with its configuration in it; never one that another run has written."""
    if _follows():
        return
    if (folder / "config.yaml").exists():
        raise UserError(
            f"{folder} belongs to another run, which would be overwritten: start again, or set hydra.run.dir."
        )
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "config.yaml")


def _resumed(config: DictConfig, path: Path) -> DictConfig:
    """The configuration of the run that ``path`` belongs to, with what was said on this command line."""
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task if not o.startswith("resume=")]
    groups = [o for o in overrides if o.split("=")[0] in HydraConfig.get().runtime.choices]
    if groups:
        raise UserError(f"resume goes on with the run's own configuration: leave out {' '.join(groups)}.")
    saved = _run_config(path)
    return OmegaConf.merge(saved, OmegaConf.from_dotlist(overrides), {"resume": str(path)})


def _run_config(path: Path) -> DictConfig:
    file = path.parent.parent / "config.yaml"
    if not file.is_file():
        raise UserError(f"{path} does not lie in a run folder (there is no {file}): say which data with dataset=.")
    return OmegaConf.load(file)


def _trained_on(path: Path) -> DictConfig:
    return _run_config(path).dataset


def _newest_run() -> Path:
    found = sorted((RUNS / "train").glob("**/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"There is no training run below {RUNS / 'train'}: run train.py first, or name a model=.")
    return found[-1].parent.parent


def _with_postprocess(card: ModelCard, changes: DictConfig) -> ModelCard:
    given = {key: value for key, value in _plain(changes).items() if value is not None}
    if unknown := [key for key in given if key not in card.postprocess]:
        known = f"it has {', '.join(card.postprocess)}" if card.postprocess else "it has none"
        raise UserError(f"{card.name} has no postprocess.{unknown[0]}: {known}.")
    return card.replace(postprocess={**card.postprocess, **given})
