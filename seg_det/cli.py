"""What the entry points share: from a Hydra configuration to a run, and from an error to one sentence."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seg_det import checkpoint
from seg_det.data.records import DetectionSource
from seg_det.losses import SCORES
from seg_det.report.tables import format_cell, format_table
from seg_det.tasks.optimisation import Recipe
from seg_det.tasks.run import DetectionTraining, evaluate_detector, train_detector, write_json
from seg_det.tasks.start import Start
from seg_det.tasks.training import TrainerSettings
from seg_det.types import UserError

log = logging.getLogger(__name__)
RUNS = Path("runs")
NOISE = (  # beginnings of warnings that are about the libraries' own affairs
    "does not have many workers",
    "Experiment logs directory",
    "is deprecated, use `isinstance",
    "The number of training batches",
    "The dirpath has changed",
    "It is recommended to use `self.log",
    "epoch parameter in `scheduler.step",
)
HEADLINE = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def run(verb: Callable[[DictConfig], None], config: DictConfig) -> None:
    """Carry out an entry point's verb. A user's mistake ends it with one sentence, unless HYDRA_FULL_ERROR is set.

    In a sweep any error is written to the job's folder instead, so that the other jobs go on.
    """
    _quieten()
    _keep_freed_memory()
    try:
        _require_all(config)
        verb(config)
    except Exception as error:
        sentence = one_sentence(error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            text = sentence or f"{type(error).__name__}: {error}"
            folder = Path(HydraConfig.get().runtime.output_dir)
            write_json(folder / "error.json", {"error": text, "traceback": traceback.format_exc()})
            log.error("Job %s failed: %s", HydraConfig.get().job.num, text)
        elif sentence is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        else:
            sys.exit(f"error: {sentence}")


def _require_all(config: DictConfig) -> None:
    missing = _mandatory(OmegaConf.to_container(config, resolve=False))
    if missing:
        raise UserError(f"{missing[0]} has no value: add {missing[0]}=... to the command line.")


def _mandatory(values: dict[str, Any], path: str = "") -> list[str]:
    """Keys that the configuration leaves to the user: ``???`` in YAML."""
    found = []
    for key, value in values.items():
        found += _mandatory(value, f"{path}{key}.") if isinstance(value, dict) else [path + key] * (value == "???")
    return found


def one_sentence(error: BaseException | None) -> str | None:
    """What to tell the user of a mistake of theirs; None if ``error`` is not one."""
    while error is not None:
        if isinstance(error, UserError):
            # From a loader's process it arrives with that process's traceback in front.
            return re.split(r"(?:^|\n)(?:seg_det\.types\.)?UserError: ", str(error))[-1].strip()
        if isinstance(error, OmegaConfBaseException):
            return f"{str(error).splitlines()[0]}: set {error.full_key or 'it'} on the command line."
        error = error.__cause__ or (error.__context__ if isinstance(error, InstantiationException) else None)
    return None


def _keep_freed_memory() -> None:
    """Let glibc keep what the program frees instead of handing it back to the kernel page by page.

    Fresh pages are zeroed at first touch: where it was measured that took 8 % of a CPU training step and 11 to 15 % of
    drawing the shapes. Elsewhere than on glibc this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_mmap_max, 0)
    mallopt(m_top_pad, 256 * 2**20)


def _quieten() -> None:
    """Warnings that are about this program and not about what the user does."""
    for message in NOISE:
        warnings.filterwarnings("ignore", f".*{message}")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)


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
    metrics = train_detector(_training(config, folder, resume))
    if metrics is not None:
        _say(metrics, folder, f"python evaluate.py model={folder}")


def evaluate(config: DictConfig) -> None:
    """``python evaluate.py``: the figures of a trained model on a labelled split."""
    path = checkpoint.find(config.model or _newest_run())
    model, card = checkpoint.load(path)
    folder = _new_folder("evaluate", card.name)
    card = _with_postprocess(card, config.postprocess)
    source = _source(config.get("dataset") or _trained_on(path), config.split)
    _claim(folder, config)
    metrics = evaluate_detector(
        model,
        card,
        source,
        run=folder,
        config=OmegaConf.to_yaml(config),
        batch_size=config.data.batch_size,
        num_workers=_workers(config.data.num_workers),
        device=_device(config.device),
        count_difficult=config.count_difficult,
    )
    _say_all_figures(metrics)
    _say(metrics, folder, None)


def _training(config: DictConfig, folder: Path, resume: Path | None) -> DetectionTraining:
    backbone = {key: value for key, value in _plain(config.backbone).items() if key != "weights"}
    size = config.data.size if not isinstance(config.data.size, int) else [config.data.size] * 2
    recipe = _plain(config.recipe)
    suggested = recipe.pop("backbone_weights")
    return DetectionTraining(
        name=_name(config),
        run=folder,
        config=OmegaConf.to_yaml(config),
        model={**_plain(config.task.model), "backbone": backbone},
        train=_source(config.dataset, "train"),
        val=_source(config.dataset, "val"),
        augmentation=instantiate(config.augmentation, size=list(size)),
        input_size=tuple(size),
        batch_size=config.data.batch_size,
        num_workers=_workers(config.data.num_workers),
        loss=instantiate(config.task.loss),
        postprocess=_postprocess(config.task),
        recipe=Recipe(**recipe),
        trainer=TrainerSettings(**_plain(config.trainer)),
        start=Start(model=config.weights, backbone=config.backbone.weights, recipe=suggested),
        seed=config.seed,
        resume=resume,
    )


def _postprocess(task: DictConfig) -> dict[str, Any]:
    """The task's post-processing; how the logits are read as scores follows from the loss that trains them."""
    kind = task.loss.classification
    if kind not in SCORES:
        raise UserError(f"task.loss.classification must be one of {', '.join(SCORES)}, got {kind!r}.")
    return {"score": SCORES[kind], **_plain(task.postprocess)}


def _plain(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def _source(dataset: DictConfig, split: str) -> DetectionSource:
    if split not in ("train", "val"):
        raise UserError(f"split must be train or val, got {split!r}.")
    return instantiate(dataset[split])


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


def _with_postprocess(card: Any, changes: DictConfig) -> Any:
    given = {key: value for key, value in changes.items() if value is not None}
    return card.replace(postprocess={**card.postprocess, **given})


def _say(metrics: dict[str, Any], folder: Path, following: str | None) -> None:
    coco = metrics["coco"]
    figures = "  ".join(f"{name} {coco[name]:.3f}" for name in HEADLINE if coco.get(name) is not None)
    evaluation = metrics["evaluation"]
    lines = [
        f"\n{metrics['name']} on {evaluation['split']}, {evaluation['images']} images, {evaluation['ms_per_image']} ms each",
        figures,
        f"run folder  {folder}",
        f"report      {folder / 'report.html'}",
    ]
    if problems := metrics["problems"]:
        lines.insert(2, f"{len(problems)} problem{'s' * (len(problems) > 1)} in the data, listed in the report")
    if following:
        lines.append(f"next        {following}")
    print("\n".join(lines))


def _say_all_figures(metrics: dict[str, Any]) -> None:
    voc = metrics["voc"]
    counted = "counted" if voc["difficult_counted"] else "ignored"
    print("\n" + format_table([{"COCO": name, "value": value} for name, value in metrics["coco"].items()]))
    print("\n" + format_table([{"class": name, **figures} for name, figures in metrics["per_class"].items()]))
    means = [format_cell(voc[key]) for key in ("AP50_all_point", "AP50_11_point")]
    print(f"\nVOC AP50  all-point {means[0]}  11-point {means[1]}  difficult {counted}")
