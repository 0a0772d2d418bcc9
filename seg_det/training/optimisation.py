"""Optimisers, schedules and weight averaging, as a recipe's plain values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from seg_det.errors import UserError
from seg_det.training.muon import MuonAdamW
from seg_det.training.rmsprop import RMSpropTF

FROZEN_NORMS = ("none", "stages", "all")


@dataclass(frozen=True)
class Recipe:
    """How the weights are learned. ``lr`` is for ``lr_batch`` images a step and scales with the real number.

    ``head_lr`` multiplies the rate of everything but the backbone; ``hold`` is the share of the steps after the warm-up that
    have the full rate, before the schedule's curve. ``freeze_until`` names the last bottleneck (c1..c5) whose
    weights stay as they were loaded. ``frozen_norms`` says which of the backbone's norms do: "none", so that the statistics of
    all follow the data; those of the frozen "stages", which also makes steps faster; or "all". ``quantise`` trains and
    validates the network as 8 bits would compute it, with all norms as they were loaded; the weights that come out are
    ordinary ones, which 8 bits serve well.
    """

    optimiser: str = "adamw"
    lr: float = 0.002
    lr_batch: int = 16
    head_lr: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.02
    decay_depthwise: bool = True
    rmsprop_alpha: float = 0.9
    eps: float = 1e-8
    schedule: str = "cosine"
    warmup_steps: int = 50
    warmup_epochs: float = 0.0  # in addition
    warmup_start: float = 1e-3
    hold: float = 0.0
    final_lr: float = 0.0
    poly_power: float = 0.9
    step_epochs: float = 30
    step_factor: float = 0.1
    clip_norm: float | None = 10.0
    ema_decay: float | None = 0.998
    freeze_until: str | None = "c2"
    frozen_norms: str = "stages"
    quantise: bool = False

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
            ("frozen_norms", self.frozen_norms, FROZEN_NORMS),
        ):
            if value not in allowed:
                raise UserError(f"recipe.{key} must be one of {', '.join(allowed)}, got {value!r}.")
        for key in ("lr", "lr_batch", "head_lr", "eps", "step_epochs", "step_factor"):
            if getattr(self, key) <= 0:
                raise UserError(f"recipe.{key} must be positive, got {getattr(self, key)}.")
        for key in ("weight_decay", "warmup_steps", "warmup_epochs", "final_lr"):
            if getattr(self, key) < 0:
                raise UserError(f"recipe.{key} must not be negative, got {getattr(self, key)}.")
        if self.clip_norm is not None and self.clip_norm < 0:
            raise UserError(f"recipe.clip_norm must not be negative, got {self.clip_norm}; null clips nothing.")
        for key in ("momentum", "rmsprop_alpha", "ema_decay", "warmup_start", "hold"):
            if not 0 <= (getattr(self, key) or 0) < 1:
                raise UserError(f"recipe.{key} must be at least 0 and below 1, got {getattr(self, key)}.")


def optimiser(model: nn.Module, recipe: Recipe, images_per_step: int) -> Optimizer:
    """The recipe's optimiser for ``model``; the learning rate scaled linearly to ``images_per_step`` (arXiv 1706.02677)."""
    rate = recipe.lr * images_per_step / recipe.lr_batch
    backbone = {id(parameter) for parameter in model.get_submodule("backbone").parameters()}
    groups = []
    for group in parameter_groups(model, recipe.weight_decay, decay_depthwise=recipe.decay_depthwise):
        for part, factor in ((True, 1.0), (False, recipe.head_lr)):
            parameters = [parameter for parameter in group["params"] if (id(parameter) in backbone) == part]
            if parameters:
                groups.append({**group, "params": parameters, "lr": rate * factor})
    return OPTIMISERS[recipe.optimiser](groups, recipe, rate)


OPTIMISERS: dict[str, Callable[[list[dict], Recipe, float], Optimizer]] = {
    "sgd": lambda groups, r, lr: torch.optim.SGD(groups, lr, momentum=r.momentum),
    "rmsprop": lambda groups, r, lr: RMSpropTF(groups, lr, alpha=r.rmsprop_alpha, eps=r.eps, momentum=r.momentum),
    "adamw": lambda groups, r, lr: torch.optim.AdamW(groups, lr, betas=(float(r.momentum), 0.999), eps=r.eps),
    "muon": lambda groups, r, lr: MuonAdamW(groups, lr, momentum=r.momentum, eps=r.eps),
}


def parameter_groups(model: nn.Module, weight_decay: float, *, decay_depthwise: bool = True) -> list[dict]:
    """Two groups: with weight decay the filters and matrices, without it norms, biases and (as chosen) depthwise filters."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in model.modules():
        depthwise = isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                decays = parameter.ndim > 1 and (decay_depthwise or not depthwise)
                (decayed if decays else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


# The share of the peak rate at ``progress`` 0..1 of the steps after the warm-up and the hold, or after so many epochs.
SCHEDULES: dict[str, Callable[[Recipe, float, float], float]] = {
    "cosine": lambda r, progress, _: r.final_lr + (1 - r.final_lr) * (1 + math.cos(math.pi * progress)) / 2,
    "poly": lambda r, progress, _: (1 - progress) ** r.poly_power,
    "step": lambda r, _, epochs: r.step_factor ** math.floor(epochs / r.step_epochs + 1e-9),  # 7.2 / 2.4 is 3
    "constant": lambda *_: 1.0,
}


def wanted_warmup(recipe: Recipe, steps_per_epoch: int) -> int:
    """Steps of the recipe's warm-up."""
    return recipe.warmup_steps + round(recipe.warmup_epochs * steps_per_epoch)


def warmup_of(recipe: Recipe, total_steps: int, steps_per_epoch: int) -> int:
    """Steps of the warm-up of a run: one that would take more than half of the run is cut to a tenth of it."""
    wanted = wanted_warmup(recipe, steps_per_epoch)
    return wanted if wanted <= total_steps / 2 else min(wanted, total_steps // 10)


def schedule(
    opt: Optimizer, recipe: Recipe, total_steps: int, steps_per_epoch: int, *, present: Callable[[], int] | None = None
) -> LRScheduler:
    """Learning rate by optimiser step: linear warm-up from ``warmup_start`` of it, ``hold`` of the steps left at the full rate,
    then the recipe's curve.

    A function of the step alone, so that a run that is resumed with more epochs follows the longer run's curve; and of what
    ``present`` gives in place of ``total_steps`` in a run whose length changes while it goes on.
    """
    warmup = warmup_of(recipe, total_steps, steps_per_epoch)
    steps = present or (lambda: total_steps)

    def share(step: int) -> float:
        if step < warmup:
            return recipe.warmup_start + (1 - recipe.warmup_start) * step / warmup
        progress = min(1.0, (step - warmup) / max(1, steps() - warmup))
        progress = max(0.0, progress - recipe.hold) / (1 - recipe.hold)
        return SCHEDULES[recipe.schedule](recipe, progress, step / steps_per_epoch)

    return LambdaLR(opt, share)


class EMA(WeightAveraging):
    """Exponential moving average of weights and norm statistics, used for evaluation and saved as the model.

    The decay rises as (1 + n) / (10 + n) until it reaches ``decay``, so that a short run is not held back by its start
    (the rule of TensorFlow's ExponentialMovingAverage with ``num_updates``).
    """

    def __init__(self, decay: float):
        @torch.no_grad()
        def average(averaged: list[Tensor], current: list[Tensor], updates: int | Tensor) -> None:
            n = int(updates)
            weight = 1 - min(decay, (1 + n) / (10 + n))
            if torch.is_floating_point(averaged[0]):
                torch._foreach_lerp_(averaged, current, weight)
            else:  # counters of batches seen
                torch._foreach_copy_(averaged, current)

        super().__init__(multi_avg_fn=average)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # The model itself moves to the device only after this hook, and the average would stay behind.
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def swap(self, learner: L.LightningModule) -> None:
        """Exchange the weights of ``learner`` and their averages, as each validation does at its begin and end."""
        self._swap_models(learner)
