"""The words and numbers of a report: what figures are called, what they mean, and how values are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from seg_det.report.tables import format_cell, format_number

TIMES = " \N{MULTIPLICATION SIGN} "
TITLES = MappingProxyType(
    {
        "coco": "COCO",
        "voc": "Pascal VOC",
        "accuracy": "Accuracy",
        "segmentation": "Segmentation",
        "test": "Test part",
        "operating_point": "Operating point, all classes",
        "confused": "Most often confused",
    }
)
MEANINGS = MappingProxyType(
    {
        "AP": "mean over IoU 0.50 to 0.95",
        "AP50": "at IoU 0.50",
        "AP75": "at IoU 0.75",
        "APs": "objects below 32² pixels",
        "APm": "objects of 32² to 96² pixels",
        "APl": "objects above 96² pixels",
        "AR1": "recall with 1 detection an image",
        "AR10": "recall with 10 detections an image",
        "AR100": "recall with 100 detections an image",
        "ARs": "recall, objects below 32² pixels",
        "ARm": "recall, objects of 32² to 96² pixels",
        "ARl": "recall, objects above 96² pixels",
        "AP50_all_point": "area under the whole curve, as VOC since 2010",
        "AP50_11_point": "at 11 recalls, as VOC 2007",
        "mIoU": "intersection over union, mean of the classes that are labelled somewhere",
        "mIoU_strict": "the same with 0 for classes that are predicted and labelled nowhere, as Cityscapes counts",
        "pixel_accuracy": "share of the labelled pixels",
        "classification": "in the right place, of the wrong class",
        "localisation": "of the right class, beside the object",
        "both": "of the wrong class and beside the object",
        "duplicate": "of an object that a better detection has found",
        "background": "where there is no object",
        "missed": "objects that nothing was about",
        "mean_accuracy": "share of a class's pixels, mean of the classes",
        "top1": "images whose class has the highest score",
        "top5": "images whose class is among the five highest",
    }
)
LABELS = MappingProxyType(
    {
        "params": "parameters",
        "madds": "multiply-adds",
        "ms_per_image": "ms an image",
        "cpu": "CPU",
        "gpu": "GPU",
        "python": "Python",
        "torch": "PyTorch",
        "seg_det": "seg_det",
    }
)


def merit(value: Any) -> str:
    """Figures of merit read best with the same three decimals everywhere; counts stay whole."""
    return f"{value:.3f}" if isinstance(value, float) and abs(value) < 100 else format_cell(value)


def scaled(value: float) -> str:
    """4.34 M for 4,337,013."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size / 2:  # 0.789 G, as papers write it, and not 789 M
            return f"{value / size:.3g}\N{NO-BREAK SPACE}{sign}"
    return format_number(value)


def words(key: str) -> str:
    """A key of metrics.json as people say it."""
    return LABELS.get(key, str(key).replace("_", " "))


def cell(key: str, value: Any) -> str:
    """Any fact on one line; sizes read as 224 by 224, a seed has no thousands separators."""
    if isinstance(value, Mapping):
        return ", ".join(f"{words(name)} {cell(name, item)}" for name, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return (TIMES if key.endswith("size") else ", ").join(cell("", item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if key == "seed" else format_cell(value)
