"""Settings that nobody set, chosen for the data and the machine by :mod:`seg_det.automatic.rules`; and a run's budget."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import nn

from seg_det import checkpoint
from seg_det.automatic.choosing import Choice, Situation, choose
from seg_det.automatic.rules import LENGTH, STEPS
from seg_det.automatic.timing import Timing, timed
from seg_det.commands.network import model_settings
from seg_det.commands.settings import height_and_width, plain, switch
from seg_det.data.objects import input_boxes
from seg_det.data.records import Source
from seg_det.data.splitting import Parts
from seg_det.errors import UserError
from seg_det.kinds.lookup import kind_named, require_kind
from seg_det.predict.loading import chosen_device
from seg_det.predict.published import is_published
from seg_det.registry import filled
from seg_det.training.budget import OVERHEAD, REPORT_SECONDS, Budget, Length

log = logging.getLogger(__name__)
GROUPS = ("augmentation", "recipe", "trainer", "loss")  # that one who chooses them has chosen whole
SECTIONS = {"loss": "task.loss"}  # of a group that lies elsewhere
NETWORK = ("data.size", "task.model.taps", "task.model.anchor_shapes")  # what the rules choose of it
FEWEST_STEPS = 10  # for which a budget must last
FORWARD = 0.4  # of a training step, without a backward pass


def is_wanted(config: DictConfig) -> bool:
    """Whether the settings are chosen: as ``auto`` says, or where nothing else is said, not for an experiment's."""
    if config.get("auto") is not None:
        return switch(config.auto, "auto")
    return HydraConfig.get().runtime.choices.get("experiment") is None


class Automatic:
    """The choices for a training on ``parts``, made in ``config``, and what its budget comes to.

    ``budget`` is None for a run without one. A run that is resumed is ``fixed``: nothing is chosen anew. Raises UserError for
    settings that contradict each other, and for a budget in which nothing can be learned.
    """

    def __init__(
        self,
        config: DictConfig,
        parts: Parts,
        *,
        started: float,
        test: Callable[[], Source | None],
        fixed: bool = False,
    ):
        self.config = config.copy()
        self.parts = parts
        self.said = _said(HydraConfig.get().overrides.task)
        self.kind = kind_named(config.task.kind, "The configuration")
        for source in (parts.train, parts.val):
            require_kind(self.kind, source)
        given = filled(Budget, plain(config.get("budget") or OmegaConf.create({})), "budget")
        limited = given.minutes is not None or given.steps is not None
        self.budget = replace(given, started=started) if limited else None
        if self.budget and self.budget.minutes is not None:
            _require_one_device(config.trainer.devices)
            measured = test()  # nothing is chosen by it but the time to leave for it
            images = len(measured.records) if measured else 0
            self.budget = replace(self.budget, evaluations=1 + images / max(1, len(parts.val.records)))
        if limited and not fixed and self._is_set("trainer.max_epochs"):
            raise UserError("trainer.max_epochs and budget both say how long to train: leave one of them out.")
        self.fixed = fixed
        rules = () if fixed else self.kind.rules if is_wanted(config) else LENGTH if limited else ()
        of_weights = self._as_in_weights() if rules is self.kind.rules else []
        self.choices = [*of_weights, *(choose(rules, self._situation(parts.train), self._put) if rules else [])]
        if self.choices:
            self.config.chosen = [choice._asdict() for choice in self.choices]
            self.config.auto = False  # the choices are made

    @property
    def length(self) -> Length | None:
        """The steps for which the budget is expected to last."""
        return None if self.steps is None else Length(self.steps)

    @cached_property
    def steps(self) -> int | None:
        """Of a run with a budget, for the network as it has been chosen."""
        if self.budget is None or self.budget.minutes is None:
            return None if self.budget is None else self.budget.steps
        if self.fixed:
            return STEPS  # until the clock has what the checkpoint says
        timing = self._timing()
        if (left := self._seconds_of_steps(self.budget, timing)) < FEWEST_STEPS * timing.step:
            least = self.budget.minutes + (FEWEST_STEPS * timing.step - left) / 60
            raise UserError(
                f"budget.minutes={self.budget.minutes:g} is too short: the start, {FEWEST_STEPS} steps and the evaluation take "
                f"about {least:.1f} minutes here; give more, or set a smaller data.size."
            )
        if timing.steady:
            return int(left / timing.step)
        log.warning(
            "Training steps take %.2f to %.2f seconds: other programs use this machine. The settings are chosen for %d steps; "
            "the budget ends the run all the same.",
            timing.fastest,
            timing.slowest,
            STEPS,
        )
        return STEPS

    def _seconds_of_steps(self, budget: Budget, timing: Timing) -> float:
        """What a budget of minutes leaves for steps beside the start, a validation, the final evaluation and the report."""
        images = len(self.parts.val.records) * (budget.evaluations * OVERHEAD + 1)
        end = images / self.config.data.batch_size * FORWARD * timing.step + REPORT_SECONDS
        return 60 * (budget.minutes or 0) - (time.monotonic() - budget.started) - end

    def _timing(self) -> Timing:
        model = self._model()
        if until := self.config.recipe.get("freeze_until"):
            backbone: Any = model.get_submodule("backbone")
            for stage in backbone.stages_until(until):
                stage.requires_grad_(False)
        device = chosen_device("cpu" if self.config.trainer.accelerator == "cpu" else "auto")
        size = height_and_width(self.config.data.size)
        with torch.random.fork_rng():
            return timed(model, self.config.data.batch_size, size, device)

    def _as_in_weights(self) -> list[Choice]:
        """The network of ``weights``, a run or a checkpoint, which a training that starts from it needs."""
        if (weights := self.config.get("weights")) is None:
            return []
        found = []
        if not is_published(weights) and (card := checkpoint.card_of(checkpoint.find(str(weights)))) is not None:
            sizes = [Choice("data.size", list(card.input_size), "as the model of weights has it")]
            parts = [Choice(f"task.model.{key}", value, sizes[0].reason) for key, value in card.model.items()]
            known = [one for one in (*sizes, *parts) if one.key in NETWORK and self._has(one.key)]
            found = [one for one in known if not self._is_set(one.key) and one.value != self._get(one.key)]
        for one in found:
            self._put(one.key, one.value)
        self.said += NETWORK  # no rule changes it
        return found

    def _situation(self, train: Source) -> Situation:
        records: Any = train.records  # with boxes, of the kind whose rules ask for them
        return Situation(
            data=self.kind.statistics(train),
            get=self._get,
            is_set=lambda key: self._is_set(key) or not self._has(key),
            boxes=lambda size: input_boxes(records, size),
            model=self._model,
            budget=lambda: self.steps,
        )

    def _model(self) -> nn.Module:
        return checkpoint.build_model({**model_settings(self.config), "num_classes": len(self.parts.train.categories)})

    def _put(self, key: str, value: Any) -> None:
        OmegaConf.update(self.config, key, value, force_add=True)

    def _get(self, key: str) -> Any:
        value = OmegaConf.select(self.config, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    def _has(self, key: str) -> bool:
        missing = object()
        return OmegaConf.select(self.config, key, default=missing) is not missing

    def _is_set(self, key: str) -> bool:
        return any(key == one or key.startswith(f"{one}.") for one in self.said)


def _require_one_device(devices: Any) -> None:
    """Raise UserError for several: processes that each look at their own clock would end at different steps."""
    count = len(devices) if OmegaConf.is_list(devices) else devices
    if str(count) != "1":
        raise UserError(
            f"budget.minutes needs trainer.devices=1, got {devices}: set budget.steps for a training on several devices."
        )


def told(found: Sequence[Choice]) -> str:
    """A line for each choice."""
    return "\n".join(f"{choice.key}={_short(choice.value)}: {choice.reason}" for choice in found)


def _short(value: Any, most: int = 60) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _said(overrides: Sequence[str]) -> list[str]:
    """Keys and sections that the command line sets."""
    found = []
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if "." in key or key in GROUPS:
            found.append(SECTIONS.get(key, key))
    return found
