"""The verbs of the entry points: from a Hydra configuration to a run."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from seg_det import checkpoint
from seg_det.data.classes import only_classes
from seg_det.data.loaders import Source
from seg_det.losses import SCORES
from seg_det.report.terminal import figures, summary
from seg_det.tasks.optimisation import Recipe
from seg_det.tasks.published import is_published, load_published
from seg_det.tasks.run import Training, evaluate_model, train_model
from seg_det.tasks.start import Start
from seg_det.tasks.training import TrainerSettings
from seg_det.types import ModelCard, UserError

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
        config.choices = OmegaConf.to_container(config.choices, resolve=True)  # Hydra's own values end with this job
    _claim(folder, config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    metrics = train_model(_training(config, folder, resume))
    if metrics is not None:
        print(summary(metrics, folder, following=f"python evaluate.py model={folder}"))


def evaluate(config: DictConfig) -> None:
    """``python evaluate.py``: the figures of a trained model on a labelled split."""
    reference = str(config.model or _newest_run())
    if is_published(reference):
        source = _measured_source(_named_dataset(config), config)
        model, card = load_published(reference, source.categories)
    else:
        path = checkpoint.find(reference)
        model, card = checkpoint.load(path)
        if "kind" in config.get("dataset", {}):
            config.dataset.kind = card.task
        source = _measured_source(config.get("dataset") or _trained_on(path), config)
    card = _with_postprocess(card, config.postprocess)
    if config.input_size is not None:
        card = card.replace(input_size=_two(config.input_size))
    folder = _new_folder("evaluate", card.name)
    _claim(folder, config)
    metrics = evaluate_model(
        model,
        card,
        source,
        run=folder,
        config=OmegaConf.to_yaml(config),
        batch_size=config.data.batch_size,
        num_workers=_workers(config.data.num_workers),
        device=_device(config.device),
        options=_evaluation_options(config, folder),
    )
    print(figures(metrics))
    print(summary(metrics, folder))


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
        batch_size=config.data.batch_size,
        num_workers=_workers(config.data.num_workers),
        loss=instantiate(config.task.loss),
        postprocess=postprocess(config.task),
        recipe=Recipe(**recipe),
        trainer=TrainerSettings(**_plain(config.trainer)),
        start=Start(model=config.weights, backbone=config.backbone.weights, recipe=suggested),
        balance=config.data.balance,
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
    if values is not None and len(values) != 3:
        raise UserError(f"data.{key} takes three numbers, of red, green and blue, got {list(values)}.")
    return tuple(values) if values else None


def _source(dataset: DictConfig, split: str) -> Source:
    if split not in ("train", "val"):
        raise UserError(f"split must be train or val, got {split!r}.")
    return instantiate(dataset[split])


def _measured_source(dataset: DictConfig, config: DictConfig) -> Source:
    source = _source(dataset, config.split)
    return source if config.classes is None else only_classes(source, config.classes)


def _workers(wanted: int | str) -> int:
    return min(8, max(0, (os.cpu_count() or 1) - 1)) if wanted == "auto" else wanted


def _device(wanted: str) -> torch.device:
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if wanted == "auto" else wanted)


def _relative(path: Path) -> Path:
    """``path`` as the user would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _name(config: DictConfig) -> str:
    return "_".join(config.choices[key] for key in ("task", "backbone", "dataset"))


def _new_folder(verb: str, name: str) -> Path:
    return RUNS / verb / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _claim(folder: Path, config: DictConfig) -> None:
    """The run's own folder, with its configuration in it; never one that another run has written."""
    if int(os.environ.get("LOCAL_RANK", 0)) > 0:  # a further process of a run that has its folder
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
