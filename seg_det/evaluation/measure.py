"""Measuring a model on a labelled split: the same figures for every model that can be called."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from seg_det.data.loaders import evaluation_loader
from seg_det.data.records import Source
from seg_det.kinds.kind import Kind, Metric, Report
from seg_det.types import ModelCard


class Evaluation(NamedTuple):
    """What came out, and what it took."""

    report: Report
    metric: Metric  # with all predictions in it
    ms_per_image: float  # network and post-processing, without files and scores


def evaluate(
    kind: Kind,
    model: nn.Module,
    card: ModelCard,
    source: Source,
    *,
    batch_size: int,
    num_workers: int,
    device: torch.device | str = "cpu",
    options: dict[str, Any] | None = None,
) -> Evaluation:
    """Run ``model`` over all of ``source`` (whose labels are the card's) and score it; ``options`` are the metric's."""
    predictor = kind.predictor(model, card).eval().to(device, memory_format=torch.channels_last)
    loader = evaluation_loader(source, kind.evaluation_transform(card), batch_size=batch_size, num_workers=num_workers)
    return measure(predictor, loader, kind.metric(source, **(options or {})), source, device=device)


@torch.inference_mode()
def measure(
    predictor: nn.Module, loader: DataLoader, metric: Metric, source: Source, *, device: torch.device | str = "cpu"
) -> Evaluation:
    """Score what ``predictor`` says on all batches of ``loader``, which are the images of ``source``."""
    seconds = 0.0
    for batch in tqdm(loader, desc=f"evaluating {source.name}", unit="batch", leave=False):
        start = time.perf_counter()
        predictions = predictor.predict(batch.images.to(device, non_blocking=True), batch)
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)  # so that the clock stops after the device
        seconds += time.perf_counter() - start
        metric.update(batch.image_ids, predictions)
    return Evaluation(metric.compute(), metric, 1000 * seconds / max(1, len(source.records)))
