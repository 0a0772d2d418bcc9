"""Measuring a predictor on a labelled split: the same figures for a network and for an exported file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from seg_det.data.images import read_rgb
from seg_det.data.loaders import loading, require_annotated_size
from seg_det.data.records import DetectionRecord, SegmentationRecord, Source
from seg_det.data.samplers import SizeBatches
from seg_det.kinds.kind import Kind, Metric, Report
from seg_det.predict.predictor import NotFinite, Predictor
from seg_det.predict.preprocessing import Preprocessing, Size, stacked
from seg_det.progress import progress_bar


class Sample(NamedTuple):
    """An image of a split as a predictor takes it."""

    canvas: Tensor  # u8 [3, h, w]
    size: Size  # (H, W) of the image
    image_id: int
    truth: Any  # of the kind, what is read beside the image to score a prediction


class Batch(NamedTuple):
    """Samples whose canvases have one size."""

    images: Tensor  # u8 [B, 3, h, w]
    sizes: list[Size]
    image_ids: list[int]
    truths: list[Any]


class Evaluation(NamedTuple):
    """What came out, and what it took."""

    report: Report
    metric: Metric  # with all predictions in it
    ms_per_image: float  # network and post-processing, without files and scores


class _Images(Dataset):
    def __init__(self, source: Source, preprocessing: Preprocessing, truth: Callable[[Any], Any]):
        self.records = source.records
        self.preprocessing = preprocessing
        self.truth = truth

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        record = self.records[index]
        image: np.ndarray = read_rgb(record.path)
        require_annotated_size(record, image)
        return Sample(self.preprocessing(image), image.shape[:2], record.image_id, self.truth(record))


def _together(samples: Sequence[Sample]) -> Batch:
    canvases, sizes, ids, truths = zip(*samples, strict=True)
    return Batch(stacked(canvases), list(sizes), list(ids), list(truths))


def loader(
    kind: Kind, preprocessing: Preprocessing, source: Source, *, batch_size: int, num_workers: int
) -> DataLoader:
    """All images of ``source`` once, in its order, except that those with canvases of one size come together."""
    images = _Images(source, preprocessing, kind.truth)
    order = SequentialSampler(images)
    batches: Sampler[list[int]] = BatchSampler(order, batch_size, drop_last=False)
    if preprocessing.varies and batch_size > 1:
        records = cast(Sequence[DetectionRecord | SegmentationRecord], source.records)  # classifiers resize all alike
        batches = SizeBatches(order, [preprocessing.canvas_size(r.size) for r in records], batch_size)
    return DataLoader(images, batch_sampler=batches, collate_fn=_together, **loading(num_workers))


def wait_for(device: torch.device | str) -> None:
    """Return once ``device`` has done what it was given; a processor has by then."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()


@torch.inference_mode()
def evaluate(
    kind: Kind,
    predictor: Predictor,
    source: Source,
    *,
    batch_size: int,
    num_workers: int,
    device: torch.device | str = "cpu",
    metric: Metric | None = None,
    options: dict[str, Any] | None = None,
) -> Evaluation:
    """Run ``predictor``, which is on ``device``, over all of ``source`` (whose labels are its card's) and score it.

    ``metric`` is by default the kind's with ``options``. Raises UserError.
    """
    batch_size = 1 if predictor.one_by_one else batch_size
    batches = loader(kind, predictor.preprocessing, source, batch_size=batch_size, num_workers=num_workers)
    metric = metric or kind.metric(source, **(options or {}))
    seconds = 0.0
    for batch in progress_bar(batches, desc=f"evaluating {source.name}", unit="batch"):
        start = time.perf_counter()
        predictions = predictions_of(predictor, batch, source, device)
        wait_for(device)  # so that the clock stops after it
        seconds += time.perf_counter() - start
        metric.update(batch.image_ids, kind.scored(predictions, batch.truths))
    return Evaluation(metric.compute(), metric, 1000 * seconds / max(1, len(source.records)))


def predictions_of(predictor: Predictor, batch: Batch, source: Source, device: torch.device | str = "cpu") -> list[Any]:
    """The predictions of a batch of ``source``. Raises NotFinite with the id and the file of an image."""
    try:
        return predictor.predict(batch.images.to(device, non_blocking=True), batch.sizes)
    except NotFinite as error:
        raise located(error, batch.image_ids, source) from error


def located(error: NotFinite, image_ids: Sequence[int], source: Source) -> NotFinite:
    """``error`` of a batch with the ids and files of its images."""
    files = {record.image_id: record.path for record in source.records if record.image_id in set(image_ids)}
    return NotFinite(error.rows, [f"with id {i}" for i in image_ids], [files.get(i, "") for i in image_ids])
