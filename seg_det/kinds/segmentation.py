"""Segmentation: what masks are needed for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seg_det.automatic.rules import SEGMENTATION as SEGMENTATION_RULES
from seg_det.automatic.statistics import statistics_of_masks
from seg_det.data.images import read_rgb
from seg_det.data.loaders import read_mask
from seg_det.data.masks import require_counted_pixels
from seg_det.data.records import SegmentationRecord, SegmentationSource
from seg_det.data.segmentation_transforms import fitted
from seg_det.data.transforms import SegmentationTransform
from seg_det.doctor.findings import Checks
from seg_det.doctor.masks import check_masks
from seg_det.kinds.kind import Kind
from seg_det.metrics.segmentation import LabelMaps, SegmentationMetric, SegmentationReport
from seg_det.predict.predictor import NetworkPredictor
from seg_det.predict.segmentation import SEGMENTATION as TASK
from seg_det.report.drawings import Colour
from seg_det.report.masks import MaskWriter, beside, coloured, legend, overlay
from seg_det.report.pictures import BEST, WORST, Details, Picture, extremes, worst_and_best
from seg_det.types import Category, ModelCard, SegmentationBatch

COUNTED = 500  # masks that a preview reads
VIEW = 360  # pixels of the longer side of each of the views of an image in a report
MARKS = "Pixels that are wrong are red in the view on the right."


def _evaluation_transform(predictor: NetworkPredictor) -> SegmentationTransform:
    card = predictor.card
    return fitted(predictor.preprocessing.rule, card.input_size, fill=card.mean)


def _truth(record: SegmentationRecord) -> Tensor:
    return torch.from_numpy(read_mask(record))


def _batch_truths(batch: SegmentationBatch) -> list[Tensor]:
    if batch.originals is None:
        raise ValueError("expected a batch for evaluation, which holds the original masks")
    return batch.originals


def _scored(predictions: Sequence[Tensor], truths: Sequence[Tensor]) -> list[LabelMaps]:
    return [LabelMaps(mask.cpu(), truth.cpu()) for mask, truth in zip(predictions, truths, strict=True)]


def _differences(ours: dict[int, LabelMaps], theirs: dict[int, LabelMaps]) -> dict[str, float]:
    """The largest share of an image's pixels that have another class."""
    shares = [float((maps.predicted != theirs[i].predicted).float().mean()) for i, maps in ours.items()]
    return {"share of an image's pixels": max(shares, default=0.0)}


def _metric(
    source: SegmentationSource, *, save_predictions: str | None = None, folder: Path | None = None
) -> SegmentationMetric:
    """``save_predictions``: a form of :class:`MaskWriter`, for PNGs of all images in ``folder``."""
    save = None
    if save_predictions is not None:
        if folder is None:
            raise ValueError("expected a folder for the predictions that are to be saved")
        writer = MaskWriter(folder, source.categories, save_predictions)

        def save(record: SegmentationRecord, labels: Tensor) -> None:
            writer.write(record.path.stem, labels.numpy())

    return SegmentationMetric(source.records, source.categories, worst=WORST, best=BEST, save=save)


def _details(metric: SegmentationMetric, report: SegmentationReport, source: SegmentationSource) -> Details:
    records = {record.image_id: record for record in source.records}
    groups = extremes(metric.ranked())
    present = {label for maps in metric.samples.values() for mask in maps for label in mask.unique().tolist()}
    rules = (f"The lowest mIoU over the classes that are labelled in the image. {MARKS}", f"The highest mIoU. {MARKS}")
    shown = ([_picture(metric, records[image_id]) for image_id in group] for group in groups)
    return Details(worst_and_best(*shown, rules=rules, legend=legend(source.categories, present)))


def _picture(metric: SegmentationMetric, record: SegmentationRecord) -> Picture:
    maps = metric.samples[record.image_id]
    views = beside(read_rgb(record.path), maps.truth.numpy(), maps.predicted.numpy(), metric.categories, VIEW)
    labelled, wrong = metric.counted(record.image_id)
    note = f"mIoU {metric.miou(record.image_id):.3f}, {wrong / labelled:.1%} of the pixels wrong"
    return Picture(record.path.name, note, views)


def _drawn(maps: LabelMaps, record: SegmentationRecord, card: ModelCard) -> np.ndarray:
    return coloured(read_rgb(record.path), maps.predicted.numpy(), card.categories, VIEW)


def _legend(categories: Sequence[Category]) -> list[tuple[str, Colour]]:
    return legend(categories, range(len(categories)))


def _drawn_batch(batch: SegmentationBatch, categories: Sequence[Category]) -> list[np.ndarray]:
    images = batch.images.permute(0, 2, 3, 1).numpy()
    return [overlay(image, mask.numpy(), categories) for image, mask in zip(images, batch.masks, strict=True)]


def _class_counts(source: SegmentationSource) -> tuple[dict[str, int], str]:
    """Pixels, of so many images that it takes seconds."""
    records = source.records[:: math.ceil(len(source.records) / COUNTED)]
    counts = np.sum([np.bincount(read_mask(record).ravel(), minlength=256) for record in records], axis=0).tolist()
    unit = "pixels" if len(records) == len(source.records) else f"pixels in {len(records)} of the images,"
    return {category.name: count for category, count in zip(source.categories, counts, strict=False)}, unit


SEGMENTATION = Kind(
    task=TASK,
    checks=Checks(thorough=(check_masks,)),
    statistics=statistics_of_masks,
    rules=SEGMENTATION_RULES,
    data="masks",
    source=SegmentationSource,
    transform=SegmentationTransform,
    suggestion="dataset=shapes, voc_seg, cityscapes, camvid, coco_seg or custom_masks, with augmentation=segmentation",
    evaluation_transform=_evaluation_transform,
    truth=_truth,
    batch_truths=_batch_truths,
    scored=_scored,
    metric=_metric,
    options=frozenset({"save_predictions", "folder"}),
    class_figure="IoU",
    monitor="mIoU",
    shown=("mIoU", "pixel_accuracy", "mean_accuracy"),
    differences=_differences,
    check=require_counted_pixels,
    tiny_maps=False,
    details=_details,
    drawn=_drawn,
    legend=_legend,
    drawn_batch=_drawn_batch,
    class_counts=_class_counts,
)
