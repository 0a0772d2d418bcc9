"""The verbs on detectors, end to end: what a run does, and what it leaves in its folder."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seg_det import __version__, checkpoint
from seg_det.data.classes import with_categories
from seg_det.data.loaders import evaluation_loader, read_image, train_loader
from seg_det.data.records import DetectionSource
from seg_det.data.transforms import DetectionTransform, resize_only
from seg_det.metrics.complexity import count
from seg_det.report.drawings import draw_boxes, side_by_side
from seg_det.report.html import write_report
from seg_det.report.tables import write_csv
from seg_det.tasks.detection import DetectionTask, Loss
from seg_det.tasks.evaluation import Evaluation, evaluate
from seg_det.tasks.optimisation import Recipe
from seg_det.tasks.start import Start, load_start
from seg_det.tasks.training import Trained, TrainerSettings, fit
from seg_det.types import ModelCard, UserError

log = logging.getLogger(__name__)
SAMPLES = 12  # drawn in the report
DRAWN_SCORE = 0.3  # detections below are not drawn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class DetectionTraining:
    """Everything that a training run is made of."""

    name: str  # "ssdlite_v2_shapes"
    run: Path
    config: str  # the whole configuration as YAML, for the report
    model: dict[str, Any]  # what checkpoint.build_model takes, without num_classes
    train: DetectionSource
    val: DetectionSource
    augmentation: DetectionTransform
    input_size: tuple[int, int]
    batch_size: int
    num_workers: int
    loss: Loss
    postprocess: dict[str, Any]
    recipe: Recipe
    trainer: TrainerSettings
    start: Start
    seed: int
    resume: Path | None = None


def train_detector(setup: DetectionTraining) -> dict[str, Any] | None:
    """Train, evaluate the best checkpoint, write the run folder; returns the content of metrics.json.

    With ``fast_dev_run`` nothing is saved or evaluated, and the result is None.
    """
    val = with_categories(setup.val, setup.train.categories, f"the training split {setup.train.name}")
    _check(setup, val)
    model = checkpoint.build_model({**setup.model, "num_classes": len(setup.train.categories)})
    start = _load_start(model, setup)
    if start == "none" and setup.recipe.freeze_until:
        log.warning("recipe.freeze_until is left out: without pretrained weights there is nothing to keep.")
        setup = replace(setup, recipe=replace(setup.recipe, freeze_until=None))
    card = _card(setup, start)
    task = DetectionTask(
        model, card, loss=setup.loss, recipe=setup.recipe, batch_size=setup.batch_size, val=val, run=setup.run
    )
    loading = {"batch_size": setup.batch_size, "num_workers": setup.num_workers}
    trained = fit(
        task,
        train_loader(setup.train, setup.augmentation, seed=setup.seed, **loading),
        evaluation_loader(val, resize_only(setup.input_size), shared=True, **loading),
        recipe=setup.recipe,
        settings=setup.trainer,
        resume=setup.resume,
    )
    if not trained.leads:
        return None
    if setup.trainer.fast_dev_run:
        print("fast_dev_run: one batch was trained and one evaluated; nothing was saved.")
        return None
    if setup.resume:
        _join_histories(setup.resume.parent.parent / "metrics.csv", setup.run / "metrics.csv")
    best, card = checkpoint.load(trained.checkpoint)
    evaluation = evaluate(best, card, val, **loading, device=trained.device)
    metrics = {
        **_measured("train", best, card, evaluation, val),
        "training": _training(setup, trained, start),
        "problems": [*setup.train.problems, *val.problems],
    }
    _finish(setup.run, metrics, evaluation, val, setup.config, history=setup.run / "metrics.csv")
    return metrics


def evaluate_detector(
    model: nn.Module,
    card: ModelCard,
    source: DetectionSource,
    *,
    run: Path,
    config: str,
    batch_size: int,
    num_workers: int,
    device: torch.device | str,
    count_difficult: bool,
) -> dict[str, Any]:
    """Evaluate a trained model on a split and write the run folder; returns the content of metrics.json."""
    source = with_categories(source, card.categories, f"the model {card.name}")
    evaluation = evaluate(
        model,
        card,
        source,
        batch_size=batch_size,
        num_workers=num_workers,
        device=device,
        count_difficult=count_difficult,
    )
    metrics = {**_measured("evaluate", model, card, evaluation, source), "problems": list(source.problems)}
    _finish(run, metrics, evaluation, source, config, history=None)
    return metrics


def _check(setup: DetectionTraining, val: DetectionSource) -> None:
    """What would otherwise fail in the middle of the run. Raises UserError."""
    for source in (setup.train, val):
        if not any((~record.crowd).any() for record in source.records):
            raise UserError(
                f"{source.name} has no object in any of its {len(source.records)} images: check its annotations."
            )
    if min(setup.batch_size, len(setup.train.records)) < 2:
        raise UserError("Training needs two images a step for its norms: set data.batch_size to 2 or more.")
    if setup.resume and (done := checkpoint.read(setup.resume)["epoch"] + 1) >= setup.trainer.max_epochs:
        raise UserError(f"{setup.resume} has {done} epochs behind it, all that trainer.max_epochs asks for: set more.")


def _load_start(model: nn.Module, setup: DetectionTraining) -> str:
    if setup.resume:  # brings all weights itself; they began where the first run began
        return checkpoint.read(setup.resume)["card"]["training_data"]["start"]
    backbone = setup.model["backbone"]
    names = [category.name for category in setup.train.categories]
    return load_start(model, setup.start, names, backbone["_target_"].rpartition(".")[2], backbone.get("width"))


def _join_histories(earlier: Path, later: Path) -> None:
    """Put the rows of a resumed run's curves in front of those of the run that went on with it."""
    if not earlier.is_file():
        return
    with earlier.open() as first, later.open() as second:
        before, after = list(csv.DictReader(first)), list(csv.DictReader(second))
    begin = min((int(row["step"]) for row in after), default=0)
    write_csv(later, [row for row in before if int(row["step"]) < begin] + after)


def _card(setup: DetectionTraining, start: str) -> ModelCard:
    return ModelCard(
        task="detection",
        name=setup.name,
        model={**setup.model, "num_classes": len(setup.train.categories)},
        postprocess=setup.postprocess,
        categories=setup.train.categories,
        input_size=setup.input_size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        training_data={"name": setup.train.name, "images": len(setup.train.records), "start": start},
        version=__version__,
    )


def _training(setup: DetectionTraining, trained: Trained, start: str) -> dict[str, Any]:
    return {
        "epochs": trained.epochs,
        "steps": trained.steps,
        "minutes": round(trained.minutes, 2),
        "images": len(setup.train.records),
        "split": setup.train.name,
        "weights": start,
        "seed": setup.seed,
    }


def _measured(
    verb: str, model: nn.Module, card: ModelCard, evaluation: Evaluation, source: DetectionSource
) -> dict[str, Any]:
    complexity = count(model, card.input_size)
    return {
        "verb": verb,
        "name": card.name,
        **evaluation.report.to_dict(),
        "model": {"params": complexity.params, "madds": complexity.madds, "input_size": list(card.input_size)},
        "evaluation": {
            "split": source.name,
            "images": len(source.records),
            "ms_per_image": round(evaluation.ms_per_image, 2),
        },
        "card": card.to_dict(),
    }


def _finish(
    run: Path,
    metrics: dict[str, Any],
    evaluation: Evaluation,
    source: DetectionSource,
    config: str,
    history: Path | None,
) -> None:
    write_json(run / "predictions.json", evaluation.results)
    write_json(run / "metrics.json", metrics)
    samples = _samples(evaluation, source, [category.name for category in source.categories])
    write_report(run, metrics=metrics, history=history, config=config, samples=samples)


def _samples(evaluation: Evaluation, source: DetectionSource, names: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    step = max(1, len(source.records) // SAMPLES)
    drawn = []
    for record in source.records[::step][:SAMPLES]:
        image = read_image(record)
        found = evaluation.detections[record.image_id]
        found = found.select(found.scores >= DRAWN_SCORE)
        truth = draw_boxes(image, record.boxes, record.labels, names)
        guess = draw_boxes(image, found.boxes.numpy(), found.labels.numpy(), names, found.scores.numpy())
        drawn.append((record.path.name, side_by_side(truth, guess)))
    return drawn


def write_json(path: Path, content: object) -> None:
    """Write ``content`` whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False))
    part.replace(path)
