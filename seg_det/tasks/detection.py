"""Training a detector: the steps that Lightning calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from seg_det.data.records import DetectionSource
from seg_det.losses import DetectionLosses
from seg_det.metrics.detection import DetectionMetric
from seg_det.tasks.detector import Detector
from seg_det.tasks.optimisation import Recipe, optimiser, schedule
from seg_det.types import DetectionBatch, ModelCard, UserError

Loss = Callable[..., DetectionLosses]  # (raw, batch, anchors) -> losses


class DetectionTask(L.LightningModule):
    """Trains ``model`` with ``loss`` and ``recipe``; evaluates on ``val`` and saves ``card`` in every checkpoint."""

    def __init__(
        self,
        model: nn.Module,
        card: ModelCard,
        *,
        loss: Loss,
        recipe: Recipe,
        batch_size: int,
        val: DetectionSource,
        run: Path,
    ):
        super().__init__()
        self.detector = Detector(model, card)
        self.card = card
        self.loss = loss
        self.recipe = recipe
        self.batch_size = batch_size
        self.metric = DetectionMetric(val.records, val.categories)
        self.run = run
        if recipe.freeze_until:
            for stage in model.backbone.stages_until(recipe.freeze_until):
                stage.requires_grad_(False)

    def training_step(self, batch: DetectionBatch, batch_index: int) -> Tensor:
        losses = self.loss(self.detector(batch.images), batch, self.detector.anchors)
        total = losses.total()
        if not torch.isfinite(total):
            self._stop_at_nan(batch, losses)
        values = {f"train/{name}": value for name, value in losses._asdict().items()}
        self.log_dict({"train/loss": total.detach(), **values}, prog_bar=True, batch_size=len(batch.images))
        return total

    def _stop_at_nan(self, batch: DetectionBatch, losses: DetectionLosses) -> None:
        path = self.run / "nan_batch.json"
        values = {name: str(value.item()) for name, value in losses._asdict().items()}
        content = {"step": self.global_step, "image_ids": batch.image_ids.tolist(), "losses": values}
        path.write_text(json.dumps(content, indent=1))
        raise UserError(
            f"The loss became {values} at step {self.global_step}; the ids of the batch's images are in {path}: "
            "look at their boxes, or lower recipe.lr, or set recipe.clip_norm."
        )

    def validation_step(self, batch: DetectionBatch, batch_index: int) -> None:
        raw = self.detector(batch.images)
        losses = self.loss(raw, batch, self.detector.anchors)
        self.log("val/loss", losses.total(), batch_size=len(batch.images), sync_dist=True)
        self.metric.update(batch.image_ids, self.detector.detections(raw, batch.sizes))

    def on_validation_epoch_end(self) -> None:
        self._gather()
        headline = self.metric.compute().headline()
        self.metric.reset()
        self.card = self.card.replace(metrics=headline)
        shown = {"AP", "AP50"}
        for name, value in headline.items():
            self.log(f"val/{name}", value, prog_bar=name in shown)

    def _gather(self) -> None:
        """Every process evaluates all detections of a distributed run: each has the same figures to log and to save by."""
        if self.trainer.world_size == 1:
            return
        shares: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(shares, self.metric.detections)
        for share in shares:
            self.metric.update(share.keys(), share.values())

    def configure_optimizers(self) -> dict[str, Any]:
        per_step = self.batch_size * self.trainer.accumulate_grad_batches * self.trainer.world_size
        opt = optimiser(self.detector.model, self.recipe, per_step)
        steps = int(self.trainer.estimated_stepping_batches)
        rate = schedule(opt, self.recipe, steps, max(1, steps // (self.trainer.max_epochs or 1)))
        return {"optimizer": opt, "lr_scheduler": {"scheduler": rate, "interval": "step", "name": "lr"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["card"] = self.card.to_dict()
