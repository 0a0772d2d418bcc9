"""The rules, in the order in which they are applied; docs/automatic.md has the experiment that each comes from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from seg_det.anchors.fit import fit_shapes
from seg_det.anchors.grid import Grid
from seg_det.automatic.choosing import Rule, Situation
from seg_det.metrics.coverage import coverage
from seg_det.ops.anchors import anchored

Chosen = tuple[Any, str] | None

SIZES = (320, 416, 512)  # of a detector's input, which it may choose
SMALL_SIDE = 12.0  # pixels: what the smallest tenth of the objects should have
SMALL = 32  # pixels: two cells of a map of stride 16
SMALL_SHARE = 0.05  # of the objects, from which a finer map is added
RECALL = 0.99  # of the objects, below which the anchors are fitted
ENOUGH_OBJECTS = 30  # to fit anchors to
STEPS = 1000  # of a run whose length nobody set
EPOCHS = (12, 100)  # the fewest and the most of such a run
VALIDATIONS = 10  # in a run
SPARE = (
    2  # times the steps that a run with a budget is expected to have, in case that they go faster than they were timed
)
MANY_PASSES = 100  # over each image, from which the images are changed more


def _size(s: Situation) -> tuple[int, int]:
    size = s.get("data.size")
    return (size, size) if isinstance(size, int) else tuple(size)


def _steps_per_epoch(s: Situation) -> int:
    limit = s.get("trainer.limit_train_batches")
    whole = max(1, s.data.images // (s.get("data.batch_size") * s.get("trainer.accumulate_grad_batches")))
    if limit is None:
        return whole
    return max(1, min(whole, limit) if isinstance(limit, int) else int(whole * limit))


def _steps(s: Situation) -> int:
    """Of the whole run."""
    return s.budget() or s.get("trainer.max_epochs") * _steps_per_epoch(s)


def _passes(s: Situation) -> float:
    """How often each image is seen."""
    per_step = s.get("data.batch_size") * s.get("trainer.accumulate_grad_batches")
    return _steps(s) * per_step / max(1, s.data.images)


def input_size(s: Situation) -> Chosen:
    """Of detectors: the smallest size at which the small objects are not too small, no larger than the images."""
    if not len(s.data.sides):
        return None
    small = float(np.quantile(s.data.sides, 0.1))
    largest = 1.25 * max(s.data.height, s.data.width)
    allowed = [size for size in SIZES if size == SIZES[0] or size <= largest]
    wanted = next((size for size in allowed if small * size >= SMALL_SIDE), allowed[-1])
    return wanted, f"a tenth of the objects are below {small * wanted:.0f} pixels there"


def finer_tap(s: Situation) -> Chosen:
    """The map of half the stride, where many objects are small for the finest one."""
    finest, *coarser = s.get("task.model.taps")
    if not finest.startswith("c4") or not len(s.data.sides):
        return None
    height, width = _size(s)
    share = float((s.data.sides * math.sqrt(height * width) < SMALL).mean())
    if share < SMALL_SHARE:
        return None
    taps = [finest.replace("c4", "c3"), finest, *coarser]
    return taps, f"{share:.0%} of the objects are below {SMALL} pixels, two cells of the map {finest}"


def anchors(s: Situation) -> Chosen:
    """Anchors fitted to the objects, where the present ones miss some."""
    size = _size(s)
    boxes = s.boxes(size)
    model = anchored(s.model())
    if len(boxes) < ENOUGH_OBJECTS:
        return None
    grid = Grid(tuple(model.map_sizes(size)), size, model.anchor_rule)
    before = coverage(boxes, grid.best(boxes, model.anchor_shapes), 0.5)["all"]
    if before.recall is None or before.recall >= RECALL:
        return None
    fitted = fit_shapes(boxes, grid, model.anchor_shapes, objects=2000, rounds=12)
    after = coverage(boxes, grid.best(boxes, fitted), 0.5)["all"]
    shares = f"{before.recall:.1%} of the objects to {after.recall:.1%}"
    return [[list(shape) for shape in level] for level in fitted], f"fitted: matched at IoU 0.5 from {shares}"


def part_of_an_epoch(s: Situation) -> Chosen:
    """So many batches that a run with a budget has several validations; each epoch takes other images."""
    steps = s.budget()
    if steps is None or _steps_per_epoch(s) * VALIDATIONS <= steps:
        return None
    return max(1, math.ceil(steps / VALIDATIONS)), f"validates {VALIDATIONS} times in {steps} steps"


def epochs(s: Situation) -> Chosen:
    """About a thousand steps, at least twelve passes over the images and at most a hundred; with a budget, more than it has."""
    per_epoch = _steps_per_epoch(s)
    if (steps := s.budget()) is not None:
        return math.ceil(SPARE * steps / per_epoch) + 1, f"about {steps} steps; the budget ends the run"
    wanted = min(EPOCHS[1], max(EPOCHS[0], math.ceil(STEPS / per_epoch)))
    return wanted, f"{wanted * per_epoch} steps, {per_epoch} an epoch"


def validations(s: Situation) -> Chosen:
    """Ten in a run."""
    every = max(1, _steps(s) // _steps_per_epoch(s) // VALIDATIONS)
    return every, f"about {VALIDATIONS} validations in the run"


def detector_rate(s: Situation) -> Chosen:
    """Half the rate of recipe=finetune."""
    return 0.001, "anchors that match let a lower rate learn as fast and end better"


def warmup(s: Situation) -> Chosen:
    """A twentieth of the run, at most a thousand steps."""
    steps = max(1, min(1000, _steps(s) // 20))
    return steps, f"a twentieth of {_steps(s)} steps"


def averaging(s: Situation) -> Chosen:
    """Over about the last tenth of the run."""
    decay = round(min(0.9998, max(0.9, 1 - 10 / _steps(s))), 4)
    return decay, f"averages over about a tenth of {_steps(s)} steps"


def zoom_out_share(s: Situation) -> Chosen:
    """How often an image is laid on a larger canvas."""
    return (0.5, _many(s)) if _passes(s) >= MANY_PASSES else (0.25, _few(s))


def zoom_out_most(s: Situation) -> Chosen:
    """How large that canvas is."""
    return (2.0, _many(s)) if _passes(s) >= MANY_PASSES else (1.5, _few(s))


def crops(s: Situation) -> Chosen:
    """Half of the images whole in a run that sees each a few times."""
    if _passes(s) >= MANY_PASSES:
        return None
    return [0.3, 0.5, 0.7, 0.9, 1.0, 1.0, 1.0, 1.0], _few(s)


def _few(s: Situation) -> str:
    return f"each image is seen {_passes(s):.0f} times: light augmentation"


def _many(s: Situation) -> str:
    return f"each image is seen {_passes(s):.0f} times: stronger augmentation"


def class_weights(s: Situation) -> Chosen:
    """The fourth root of the median class's share of the pixels over the class's own."""
    shown = s.data.pixels[s.data.pixels > 0]
    if len(shown) < 2 or shown.max() < 4 * shown.min():
        return None
    weights = (np.median(shown) / np.maximum(s.data.pixels, shown.min())) ** 0.25
    return weights.round(2).tolist(), f"the classes have {shown.min():.2%} to {shown.max():.0%} of the pixels"


def lovasz(s: Situation) -> Chosen:
    """What mIoU measures is part of the loss."""
    return 1.0, "mIoU counts rare classes as much as frequent ones"


def segmenter_batch(s: Situation) -> Chosen:
    """Crops are many pixels: more steps serve better than more of them a step."""
    return 8, "more steps in the same time"


LENGTH = (
    Rule("trainer.limit_train_batches", part_of_an_epoch),
    Rule("trainer.max_epochs", epochs),
    Rule("trainer.check_val_every_n_epoch", validations),
)
SCHEDULE = (Rule("recipe.warmup_steps", warmup), Rule("recipe.ema_decay", averaging))
DETECTION = (
    Rule("data.size", input_size),
    Rule("task.model.taps", finer_tap),
    Rule("task.model.anchor_shapes", anchors),
    *LENGTH,
    Rule("recipe.lr", detector_rate),
    *SCHEDULE,
    Rule("augmentation.zoom_out_probability", zoom_out_share),
    Rule("augmentation.zoom_out_max", zoom_out_most),
    Rule("augmentation.crop_min_ious", crops),
)
SEGMENTATION = (
    Rule("data.batch_size", segmenter_batch),
    Rule("task.loss.class_weights", class_weights),
    Rule("task.loss.lovasz_weight", lovasz),
    *LENGTH,
    Rule("recipe.head_lr", lambda s: (4.0, "the head starts from nothing, the backbone does not")),
    Rule("recipe.schedule", lambda s: ("poly", "as DeepLab is trained")),
    *SCHEDULE,
)
CLASSIFICATION = (*LENGTH, *SCHEDULE)
