"""Training a model of any kind: the steps that Lightning calls."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from seg_det.data.multi_scale import MultiScale
from seg_det.data.records import Source
from seg_det.errors import UserError
from seg_det.evaluation.measure import located
from seg_det.kinds.kind import Kind, Losses, Metric
from seg_det.models.backbones.base import Backbone
from seg_det.nn.blocks import fold_norms
from seg_det.nn.fake_quant import simulate, take_ranges
from seg_det.ops.images import sides
from seg_det.predict.predictor import NetworkPredictor, NotFinite
from seg_det.training.budget import Length
from seg_det.training.optimisation import Recipe, optimiser, schedule, wanted_warmup, warmup_of
from seg_det.training.start import ENDED
from seg_det.types import ModelCard

log = logging.getLogger(__name__)
Loss = Callable[..., Losses]
MOST_LOGGED = 100  # classes whose own figures go into the log of the epochs
STATES = (
    "state_dict",
    "current_model_state",
)  # of a checkpoint: the model, and where weights are averaged, the one in training


class Learner(L.LightningModule):
    """Trains a predictor's model with ``loss`` and ``recipe``, scores it with ``metric``, saves its card in checkpoints."""

    def __init__(
        self,
        kind: Kind,
        predictor: NetworkPredictor,
        *,
        loss: Loss,
        recipe: Recipe,
        batch_size: int,
        metric: Metric,
        run: Path,
        multi_scale: MultiScale | None = None,
        length: Length | None = None,
    ):
        super().__init__()
        self.kind = kind
        self.predictor = predictor
        self.card = predictor.card
        self.loss = loss
        self.recipe = recipe
        self.batch_size = batch_size
        self.metric = metric
        self.run = run
        self.multi_scale = multi_scale
        self.length = length  # of a run with a budget
        self.begun = False  # whether a first batch was learned
        if recipe.freeze_until:
            for stage in _stages(predictor.model, recipe.freeze_until):
                stage.requires_grad_(False)
        self._frozen_norms = _kept_norms(predictor.model, recipe)
        for norm in self._frozen_norms:
            norm.requires_grad_(False)
        if recipe.quantise:
            simulate(predictor.model)

    def on_train_start(self) -> None:  # with the weights loaded, on their device, in their memory format
        recipe, backbone = self.recipe, self.predictor.model.get_submodule("backbone")
        until = recipe.freeze_until if recipe.frozen_norms != "none" and not recipe.quantise else None
        if until and isinstance(backbone, Backbone):  # nothing in them changes, so norms can be folded: a faster step
            stages = backbone.stages_until(until)
            backbone.train_behind([fold_norms(copy.deepcopy(stage)).requires_grad_(False) for stage in stages])

    def on_train_epoch_start(self) -> None:
        for norm in self._frozen_norms:  # each validation leaves the whole model in training mode
            norm.eval()

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        if self.multi_scale is not None:
            batch = self.multi_scale(batch, self.current_epoch, batch_index)
        losses = self.kind.loss(self.loss, self.predictor, self.predictor(batch.images), batch)
        total = losses.total()
        if not torch.isfinite(total):
            self._stop_at_nan(batch, losses)
        values = {f"train/{name}": value for name, value in losses._asdict().items()} if len(losses) > 1 else {}
        self.log_dict({"train/loss": total.detach(), **values}, prog_bar=True, batch_size=len(batch.images))
        return total

    def on_train_batch_end(self, *_: Any) -> None:
        self.begun = True

    def _stop_at_nan(self, batch: Any, losses: Losses) -> None:
        path = self.run / "nan_batch.json"
        values = {name: str(value.item()) for name, value in losses._asdict().items()}
        content = {"step": self.global_step, "image_ids": batch.image_ids.tolist(), "losses": values}
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        raise UserError(
            f"The loss became {values} at step {self.global_step}; the ids of the batch's images are in {path}: "
            "look at their labels, or lower recipe.lr, or set recipe.clip_norm."
        )

    def validation_step(self, batch: Any, batch_index: int) -> Any:
        """What the metric gets of each image of the batch."""
        raw = self.predictor(batch.images)
        losses = self.kind.loss(self.loss, self.predictor, raw, batch)
        self.log("val/loss", losses.total(), batch_size=len(batch.images), sync_dist=True)
        scored = self.kind.scored(self._decoded(raw, batch), self.kind.batch_truths(batch))
        self.metric.update(batch.image_ids, scored)
        return scored

    def _decoded(self, raw: Any, batch: Any) -> list[Any]:
        """The predictions of a batch. Raises NotFinite with the ids of its images."""
        sizes = self.kind.batch_sizes(batch)
        try:
            return self.predictor.decode(raw, sides(batch.images), sizes)
        except NotFinite as error:
            raise located(error, batch.image_ids.tolist(), validation_source(self.trainer)) from error

    def on_validation_epoch_end(self) -> None:
        self._gather()
        report = self.metric.compute()
        headline = report.headline()
        self.metric.reset()
        self.card = self.card.replace(metrics=headline, score_thresholds=self.kind.thresholds(report))
        for name, value in headline.items():
            if value is not None:
                self.log(f"val/{name}", value, prog_bar=name in self.kind.shown[:2])
        by_class = report.by_class()
        if len(by_class) <= MOST_LOGGED:
            self.log_dict({f"val/{self.kind.class_figure}/{name}": value for name, value in by_class.items()})

    def _gather(self) -> None:
        """Every process scores all predictions of a distributed run: each has the same figures to log and to save by."""
        if self.trainer.world_size == 1:
            return
        states: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(states, self.metric.state())
        self.metric.reset()
        self.metric.merge(states)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        per_step = self.batch_size * self.trainer.accumulate_grad_batches * self.trainer.world_size
        opt = optimiser(self.predictor.model, self.recipe, per_step)
        steps = int(self.trainer.estimated_stepping_batches)
        per_epoch = max(1, steps // (self.trainer.max_epochs or 1))
        if (length := self.length) is not None:
            steps = length.steps
        wanted, warmup = wanted_warmup(self.recipe, per_epoch), warmup_of(self.recipe, steps, per_epoch)
        if warmup < wanted and self.trainer.is_global_zero:
            log.warning(
                "The warm-up of %d steps would take more than half of the %d steps of this run, so it is shortened to %d: set "
                "recipe.warmup_steps (and recipe.warmup_epochs) to choose another.",
                wanted,
                steps,
                warmup,
            )
        present = None if length is None else lambda: length.steps
        rate = schedule(opt, self.recipe, steps, per_epoch, present=present)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": rate, "interval": "step", "name": "lr"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["card"] = self.card.to_dict()
        checkpoint[ENDED] = self.trainer.should_stop
        if self.recipe.quantise:  # the model's own tensors stay those of any run, the ranges lie beside them
            checkpoint["ranges"] = {part: take_ranges(checkpoint[part]) for part in STATES if part in checkpoint}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        found = ModelCard.from_dict(checkpoint["card"], "The card of the resumed checkpoint")  # of its last validation
        self.card = self.card.replace(metrics=found.metrics, score_thresholds=found.score_thresholds)
        if not self.recipe.quantise:
            return
        if "ranges" not in checkpoint:
            raise UserError(
                "recipe.quantise cannot begin in the middle of a run: leave resume out and start from its model with weights=."
            )
        for part, ranges in checkpoint["ranges"].items():
            checkpoint[part] |= ranges


def validation_source(trainer: L.Trainer) -> Source:
    """The split that a training is watched on."""
    loader: Any = trainer.val_dataloaders
    source: Source = loader.dataset.source
    return source


def _stages(model: nn.Module, tap: str) -> list[nn.Module]:
    backbone: Any = model.get_submodule("backbone")  # a Backbone, or timm's, which keeps its contract
    stages: list[nn.Module] = backbone.stages_until(tap)
    return stages


def _kept_norms(model: nn.Module, recipe: Recipe) -> list[nn.Module]:
    """Norms that stay as they were loaded: of frozen stages, of the backbone, or, for 8 bits, where they will be folded, all."""
    parts: list[nn.Module] = []
    if recipe.quantise:
        parts = [model]
    elif recipe.frozen_norms == "all":
        parts = [model.get_submodule("backbone")]
    elif recipe.frozen_norms == "stages" and recipe.freeze_until:
        parts = _stages(model, recipe.freeze_until)
    return [module for part in parts for module in part.modules() if isinstance(module, nn.BatchNorm2d)]
