"""A training run from end to end: what it does, and what it leaves in its folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import nn

from seg_det import __version__, checkpoint, origin
from seg_det.data.classes import with_categories
from seg_det.data.fingerprints import fingerprint
from seg_det.data.loaders import evaluation_loader, train_loader
from seg_det.data.multi_scale import MultiScale
from seg_det.data.records import Source, with_records
from seg_det.doctor.examine import warn
from seg_det.doctor.findings import Scope, Split
from seg_det.errors import UserError
from seg_det.evaluation.measure import evaluate
from seg_det.evaluation.run import Destination, measured, with_origin, write_run
from seg_det.facts import TrainingFacts
from seg_det.kinds.kind import Kind
from seg_det.kinds.lookup import kind_named, require_kind
from seg_det.ops.images import IMAGENET_MEAN, IMAGENET_STD
from seg_det.predict.loading import network_predictor
from seg_det.predict.predictor import NetworkPredictor
from seg_det.runs import RunRecord
from seg_det.training.budget import Budget, BudgetClock, Length
from seg_det.training.callbacks import StepSeeds
from seg_det.training.learner import Learner, Loss
from seg_det.training.loggers import csv_logger
from seg_det.training.optimisation import Recipe
from seg_det.training.start import Start, Started, check_resume, load_start, require_epochs_left
from seg_det.training.tested import measure_test, no_test
from seg_det.training.trainer import Trained, TrainerSettings, ended, fit
from seg_det.types import ModelCard
from seg_det.weights.fit import some
from seg_det.weights.unfold import unfold_norms

log = logging.getLogger(__name__)
NORM_IMAGES = 32  # at most, for the statistics of folded norms


@dataclass(frozen=True)
class Training:
    """Everything that a training run is made of."""

    kind: str  # a key of KINDS
    name: str  # "ssdlite_v2_shapes"
    run: Path
    config: str  # the whole configuration as YAML, for the report
    model: dict[str, Any]  # what checkpoint.build_model takes, without num_classes
    train: Source
    val: Source
    augmentation: Any  # a transform of the kind
    input_size: tuple[int, int]
    batch_size: int
    num_workers: int
    loss: Loss
    postprocess: dict[str, Any]
    recipe: Recipe
    trainer: TrainerSettings
    start: Start
    seed: int
    balance: float | None = None  # share of the images from which a class is no longer rare, see data.samplers
    training_sizes: tuple[tuple[int, int], ...] = ()  # (H, W) of which each batch gets one; none: the input size
    resize: str | None = None  # the rule of evaluation; None: the usual one of the kind
    mean: tuple[float, float, float] | None = None  # None: what the start weights were trained with, else ImageNet's
    std: tuple[float, float, float] | None = None
    test: Callable[[], Source | None] = no_test  # reads the test part, once everything has been chosen
    loggers: Sequence[Logger] | None = None  # None: metrics.csv alone, for the report's curves
    callbacks: Sequence[Callback] = ()
    budget: Budget | None = None
    length: Length | None = None  # the steps that the budget is expected to last for
    resume: Path | None = None
    command: str = ""  # that does it again, for the report

    @property
    def in_its_own_folder(self) -> bool:
        """Whether a run is resumed in the folder that it has: it lacks nothing but its evaluation."""
        return self.resume is not None and self.resume.parent.parent == self.run


def train_model(setup: Training) -> RunRecord | None:
    """Train, evaluate the best checkpoint, write the run folder; returns what metrics.json holds.

    A run that is resumed in its own folder has all its epochs, and is evaluated alone. With ``fast_dev_run`` nothing is saved
    or evaluated, and the result is None.
    """
    kind = kind_named(setup.kind, "The configuration")
    val = checked(kind, setup)
    say_doubts(kind, setup, val)
    model = checkpoint.build_model({**setup.model, "num_classes": len(setup.train.categories)})
    start = _load_start(model, setup)
    if start.weights == "none" and setup.recipe.freeze_until:
        log.warning("recipe.freeze_until is left out: without pretrained weights there is nothing to keep.")
        setup = replace(setup, recipe=replace(setup.recipe, freeze_until=None))
    card = card_of(kind, setup, start)
    task = Learner(
        kind,
        kind.task.predictor(model, card),
        loss=setup.loss,
        recipe=setup.recipe,
        batch_size=setup.batch_size,
        metric=kind.metric(val),
        run=setup.run,
        multi_scale=MultiScale(setup.training_sizes, setup.seed) if setup.training_sizes else None,
        length=setup.length,
    )
    if doubt := kind.doubts(task.predictor, setup.train, setup.loss):
        log.warning("%s", doubt)
    if not (setup.resume or setup.recipe.frozen_norms == "all" or setup.recipe.quantise):
        _unfold(task.predictor, setup.train, kind.evaluation_transform(task.predictor))
    complete = setup.resume if setup.in_its_own_folder else None
    trained = ended(complete, setup.trainer) if complete else _fit(task, setup, val)
    if not trained.leads:
        return None
    if setup.trainer.fast_dev_run:
        print("fast_dev_run: one batch was trained and one evaluated; nothing was saved.")
        return None
    return _report(kind, setup, val, trained, start)


def say_doubts(kind: Kind, setup: Training, val: Source) -> None:
    """Log what is wrong or doubtful with the data before hours are spent on it."""
    warn(Scope((Split("train", setup.train), Split("val", val)), setup.input_size), kind.checks)


def _report(kind: Kind, setup: Training, val: Source, trained: Trained, start: Started) -> RunRecord:
    """Evaluate the best checkpoint and write the run folder; returns what metrics.json holds."""
    destination = Destination(setup.run, setup.config, setup.command, setup.seed)
    if trained.checkpoint is None:
        raise ValueError(f"expected a checkpoint in {setup.run}")
    best, card = checkpoint.load(trained.checkpoint)
    if setup.recipe.quantise:
        figure = card.metrics.get(kind.monitor)
        log.info("Best in simulated 8 bits: %s %s. What follows are its weights in 32 bits.", kind.monitor, figure)
    predictor = network_predictor(best, card, trained.device)
    anchors = (kind.anchors(best, card, source, setup.loss) for source in (setup.train, val))
    batch_size, workers = setup.batch_size, setup.num_workers
    evaluation = evaluate(kind, predictor, val, batch_size=batch_size, num_workers=workers, device=trained.device)
    part = measure_test(
        kind, predictor, setup.test, val, batch_size=batch_size, num_workers=workers, device=trained.device
    )
    record = replace(
        measured("train", kind, best, card, evaluation, val),
        test=part.headline if part else {},
        tested=part.split if part else None,
        training=_training(setup, trained, start.weights),
        anchors=tuple(fit for fit in anchors if fit),
    )
    data = [*map(fingerprint, (setup.train, setup.val)), *((part.data,) if part else ())]
    record = with_origin(record, destination, trained.device, sources=(setup.train, val), data=data)
    write_run(kind, destination, record, evaluation, val, history=setup.run / "metrics.csv")
    return record


def _fit(task: Learner, setup: Training, val: Source) -> Trained:
    """Train on the training split, watched on ``val``."""
    loading = {"batch_size": setup.batch_size, "num_workers": setup.num_workers}
    batches = train_loader(
        setup.train,
        setup.augmentation,
        seed=setup.seed,
        epochs=setup.trainer.max_epochs,
        balance=setup.balance,
        **loading,
    )
    watched = evaluation_loader(val, task.kind.evaluation_transform(task.predictor), shared=True, **loading)
    return fit(
        task,
        batches,
        watched,
        recipe=setup.recipe,
        settings=setup.trainer,
        loggers=[csv_logger(run=setup.run, name=setup.name)] if setup.loggers is None else setup.loggers,
        callbacks=[StepSeeds(setup.seed), *_clock(setup), *setup.callbacks],
        resume=setup.resume,
    )


def _clock(setup: Training) -> list[Callback]:
    """What ends a run with a budget."""
    return [] if setup.budget is None or setup.length is None else [BudgetClock(setup.budget, setup.length)]


def checked(kind: Kind, setup: Training) -> Source:
    """The validation split with the training's classes. Raises UserError for what would fail in the middle of the run."""
    _suits(kind, setup)
    val = with_categories(setup.val, setup.train.categories, f"the training split {setup.train.name}")
    _check(kind, setup, val)
    return val


def _suits(kind: Kind, setup: Training) -> None:
    """The parts of the configuration that are of one kind each. Raises UserError."""
    for source in (setup.train, setup.val):
        require_kind(kind, source)
    if not isinstance(setup.augmentation, kind.transform):
        raise UserError(f"This augmentation is not for {kind.name}: choose {kind.suggestion}.")
    if setup.recipe.quantise and not (setup.start.model or setup.resume):
        raise UserError("recipe.quantise fine-tunes a trained model: name its run, or a checkpoint, with weights=.")
    if setup.resize not in (None, *kind.task.resizes):
        raise UserError(
            f"data.resize must be {', '.join(kind.task.resizes)} or null for {kind.name}, got {setup.resize}."
        )


def _check(kind: Kind, setup: Training, val: Source) -> None:
    """What would otherwise fail in the middle of the run. Raises UserError."""
    for source in (setup.train, val):
        kind.check(source, every=True)
    if min(setup.batch_size, len(setup.train.records)) < kind.least_images:
        raise UserError(
            f"Training for {kind.name} needs {kind.least_images} images a step for its norms: set data.batch_size to "
            f"{kind.least_images} or more; {setup.train.name} has {len(setup.train.records)}."
        )
    if setup.resume:
        check_resume(setup.resume, setup.model)
    if setup.resume and not setup.in_its_own_folder:
        require_epochs_left(setup.resume, setup.trainer.max_epochs)


def _load_start(model: nn.Module, setup: Training) -> Started:
    names = [category.name for category in setup.train.categories]
    if setup.resume:  # brings all weights itself; they began where the first run began
        card = ModelCard.from_dict(checkpoint.read(setup.resume)["card"], f"The card of {setup.resume}")
        if (theirs := [category.name for category in card.categories]) != names:
            raise UserError(
                f"{setup.resume} was trained on {len(theirs)} classes ({some(theirs)}), {setup.train.name} has {len(names)} "
                f"({some(names)}): resume goes on with the same classes; to start anew on these from its backbone, leave "
                f"resume out and set backbone.weights={setup.resume}."
            )
        return Started(str(card.training_data.get("start", "none")), card.mean, card.std)
    return load_start(model, setup.start, names, setup.model["backbone"])


def card_of(kind: Kind, setup: Training, start: Started) -> ModelCard:
    """The card of the model that a training begins with."""
    return ModelCard(
        task=kind.name,
        name=setup.name,
        model={**setup.model, "num_classes": len(setup.train.categories)},
        postprocess=setup.postprocess,
        categories=setup.train.categories,
        input_size=setup.input_size,
        mean=setup.mean or start.mean or IMAGENET_MEAN,
        std=setup.std or start.std or IMAGENET_STD,
        resize=setup.resize or setup.augmentation.resize or kind.task.resizes[0],
        training_data={
            "name": setup.train.name,
            "images": len(setup.train.records),
            "start": origin.anonymous(start.weights),
        },
        version=__version__,
    )


def _unfold(predictor: NetworkPredictor, source: Source, transform: Any) -> None:
    """Give norms that came folded into the convolutions the statistics of a few training images, so that they can train."""
    records = source.records[:: math.ceil(len(source.records) / NORM_IMAGES)]
    batches = evaluation_loader(with_records(source, records), transform, batch_size=NORM_IMAGES, num_workers=0)
    if found := unfold_norms(predictor, lambda: predictor(next(iter(batches)).images)):
        log.info("%d folded batch norms took the statistics of training images.", found)


def _training(setup: Training, trained: Trained, start: str) -> TrainingFacts:
    return TrainingFacts(
        epochs=trained.epochs,
        steps=trained.steps,
        minutes=round(trained.minutes, 2),
        images=len(setup.train.records),
        split=setup.train.name,
        weights=start,
        seed=setup.seed,
    )
