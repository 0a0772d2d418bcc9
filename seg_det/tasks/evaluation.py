"""Measuring a detector on a labelled split: the same figures for every model that can be called."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from seg_det.data.loaders import evaluation_loader
from seg_det.data.records import DetectionSource
from seg_det.data.transforms import resize_only
from seg_det.metrics.detection import DetectionMetric, DetectionReport
from seg_det.tasks.detector import Detector
from seg_det.types import Detections, ModelCard


class Evaluation(NamedTuple):
    """What came out, and what it took."""

    report: DetectionReport
    results: list[dict[str, Any]]  # rows of a COCO result file, with the data set's own category ids
    detections: dict[int, Detections]  # by image id, in pixels of the files
    ms_per_image: float  # network and post-processing, without reading files


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    card: ModelCard,
    source: DetectionSource,
    *,
    batch_size: int,
    num_workers: int,
    device: torch.device | str = "cpu",
    count_difficult: bool = False,
) -> Evaluation:
    """Run ``model`` over all of ``source`` (whose labels are the card's) and score it."""
    detector = Detector(model, card).eval().to(device, memory_format=torch.channels_last)
    loader = evaluation_loader(source, resize_only(card.input_size), batch_size=batch_size, num_workers=num_workers)
    metric = DetectionMetric(source.records, source.categories, count_difficult=count_difficult)
    seconds = 0.0
    for batch in tqdm(loader, desc=f"evaluating {source.name}", unit="batch", leave=False):
        start = time.perf_counter()
        found = detector.detections(detector(batch.images.to(device, non_blocking=True)), batch.sizes)
        metric.update(batch.image_ids, found)  # brings the detections to the CPU, so the clock stops after the device
        seconds += time.perf_counter() - start
    return Evaluation(
        metric.compute(), metric.results(), metric.detections, 1000 * seconds / max(1, len(source.records))
    )
