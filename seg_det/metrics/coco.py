"""COCO average precision: records or result files in, twelve figures and a table of classes out."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seg_det.data.objects import to_xywh
from seg_det.data.records import DetectionRecord
from seg_det.errors import UserError
from seg_det.metrics.arrays import Found, Objects, check_labels
from seg_det.metrics.coco_rows import own_rows
from seg_det.metrics.precision import AREAS, MAX_DETECTIONS, THRESHOLDS, Curves, coco_curves
from seg_det.metrics.precision_recall import PrecisionRecall, precision_recall
from seg_det.types import Category, Detections


class Figure(NamedTuple):
    """One line of the COCO summary: its IoU thresholds, object areas and most detections an image."""

    name: str
    kind: str
    iou: str
    area: str
    max_detections: int


FIGURES = (
    Figure("AP", "Precision", "0.50:0.95", "all", 100),
    Figure("AP50", "Precision", "0.50", "all", 100),
    Figure("AP75", "Precision", "0.75", "all", 100),
    Figure("APs", "Precision", "0.50:0.95", "small", 100),
    Figure("APm", "Precision", "0.50:0.95", "medium", 100),
    Figure("APl", "Precision", "0.50:0.95", "large", 100),
    Figure("AR1", "Recall", "0.50:0.95", "all", 1),
    Figure("AR10", "Recall", "0.50:0.95", "all", 10),
    Figure("AR100", "Recall", "0.50:0.95", "all", 100),
    Figure("ARs", "Recall", "0.50:0.95", "small", 100),
    Figure("ARm", "Recall", "0.50:0.95", "medium", 100),
    Figure("ARl", "Recall", "0.50:0.95", "large", 100),
)
# Ours, and what it is checked against; both give the same figures, pycocotools in some fifty times the time.
EVALUATORS = ("fast", "pycocotools")
SHAPE_KEYS = {"bbox": "bbox", "segm": "segmentation"}  # the key of a result row that each kind of IoU is computed from


@dataclass(frozen=True)
class CocoScores:
    """Fractions 0..1; None (pycocotools' -1) where the ground truth has no object to be found."""

    stats: dict[str, float | None]  # the names of FIGURES, in that order
    per_class: dict[str, dict[str, float | None]]  # class name -> AP, AP50, AP75 of all areas
    precision_recall: PrecisionRecall

    def summary(self) -> str:
        """The twelve lines that pycocotools prints, -1.000 for an absent figure included."""
        return "\n".join(self._line(figure) for figure in FIGURES)

    def _line(self, figure: Figure) -> str:
        value = self.stats[figure.name]
        title = f"Average {figure.kind}"
        return (
            f" {title:<18} ({figure.name[:2]}) @[ IoU={figure.iou:<9} | area={figure.area:>6} "
            f"| maxDets={figure.max_detections:>3} ] = {-1.0 if value is None else value:0.3f}"
        )


def ground_truth(records: Sequence[DetectionRecord], categories: Sequence[Category]) -> dict[str, Any]:
    """The records as a COCO ``dataset`` dict, with the data set's own category ids and annotation ids from 1.

    Boxes become xywh pixels. COCO knows crowds but no ``difficult``: such objects are ordinary ones here.
    """
    images = [
        {"id": record.image_id, "height": record.size[0], "width": record.size[1], "file_name": record.path.name}
        for record in records
    ]
    annotations = [annotation for record in records for annotation in _annotations(record, categories)]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    named = [{"id": category.id, "name": category.name} for category in categories]
    return {"images": images, "annotations": annotations, "categories": named}


def _annotations(record: DetectionRecord, categories: Sequence[Category]) -> list[dict[str, Any]]:
    columns = zip(
        to_xywh(record.boxes).tolist(),
        record.labels.tolist(),
        record.area.tolist(),
        record.crowd.tolist(),
        strict=True,
    )
    return [
        {
            "image_id": record.image_id,
            "category_id": categories[label].id,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
            "ignore": 0,
        }
        for box, label, area, crowd in columns
    ]


def results(
    image_ids: Iterable[int], detections: Iterable[Detections], categories: Sequence[Category]
) -> list[dict[str, Any]]:
    """Detections as rows of a COCO result file: original category ids, boxes xywh, scores as they are.

    Boxes are rounded to a thousandth of a pixel, which also shortens the file by a third.

    Raises:
        UserError: a label that no category has.
    """
    source_ids = np.array([category.id for category in categories], dtype=np.int64)
    rows: list[dict[str, Any]] = []
    for image_id, found in zip(image_ids, detections, strict=True):
        labels = found.labels.cpu().numpy()
        check_labels(np.full(len(labels), int(image_id)), labels, len(source_ids))
        boxes = to_xywh(found.boxes.float().cpu().numpy()).tolist()
        columns = zip(source_ids[labels].tolist(), boxes, found.scores.tolist(), strict=True)
        rows += [
            {"image_id": int(image_id), "category_id": category, "bbox": box, "score": score}
            for category, box, score in columns
        ]
    return rows


def evaluate_coco(
    ground_truth: dict[str, Any] | Path,
    results: list[dict[str, Any]] | Path,
    *,
    iou_type: str = "bbox",
    evaluator: str = "fast",
) -> CocoScores:
    """The COCO figures of result rows, as pycocotools with its default parameters; the arguments stay as they are.

    ``ground_truth`` is a COCO instances file or its content, ``results`` a COCO result file or its rows (none is
    allowed), ``iou_type`` is ``"bbox"`` or ``"segm"``. Crowd objects are ignored, as COCO does. For ``"segm"``, which
    pycocotools always evaluates, the area of a detection is its mask's, whether or not its row holds a box too.

    Raises:
        UserError: an unreadable file, rows without the needed keys, images or categories that the ground truth has not,
            scores or boxes that are not finite, an evaluator that is none of EVALUATORS.
    """
    if iou_type not in SHAPE_KEYS:
        raise UserError(f"iou_type={iou_type} is unknown; choose one of {', '.join(SHAPE_KEYS)}")
    check_evaluator(evaluator)
    dataset = _own_dataset(_load(ground_truth, "COCO ground truth"), SHAPE_KEYS[iou_type])
    rows = own_rows(_load(results, "COCO results"), dataset, SHAPE_KEYS[iou_type])
    categories = sorted((Category(c["id"], c["name"]) for c in dataset["categories"]), key=lambda c: c.id)
    if evaluator == "pycocotools" or iou_type == "segm":
        return _by_pycocotools(dataset, rows, iou_type, categories)
    return score_boxes(*_as_arrays(dataset, rows), categories)


def check_evaluator(evaluator: str) -> None:
    """Raises UserError for an evaluator that is none of EVALUATORS."""
    if evaluator not in EVALUATORS:
        raise UserError(f"evaluator={evaluator} is unknown; choose one of {', '.join(EVALUATORS)}")


def score_boxes(objects: Objects, found: Found, categories: Sequence[Category]) -> CocoScores:
    """The COCO figures of detected boxes, whose labels index the categories."""
    curves = coco_curves(objects, found, len(categories))
    return _scores({figure.name: _figure(figure, curves) for figure in FIGURES}, curves, categories)


def _scores(stats: dict[str, float | None], curves: Curves, categories: Sequence[Category]) -> CocoScores:
    return CocoScores(stats, _per_class(curves, categories), precision_recall(curves, unique_names(categories)))


def _figure(figure: Figure, curves: Curves) -> float | None:
    area = list(AREAS).index(figure.area)
    if figure.kind == "Recall":
        values = curves.recall[:, :, area, MAX_DETECTIONS.index(figure.max_detections)]
    else:
        values = curves.precision[..., area]
        if ":" not in figure.iou:
            values = values[float(figure.iou) == THRESHOLDS]
    present = values[values > -1]
    return float(present.mean()) if present.size else None


def _as_arrays(dataset: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[Objects, Found]:
    """Objects of images or categories that the data set does not list are left out, as pycocotools does."""
    images, labels = (
        {number: place for place, number in enumerate(sorted({entry["id"] for entry in dataset[table]}))}
        for table in ("images", "categories")
    )
    kept = [a for a in dataset["annotations"] if a["image_id"] in images and a["category_id"] in labels]
    object_columns, found_columns = (
        (
            np.array([images[row["image_id"]] for row in table], np.int64),
            np.array([labels[row["category_id"]] for row in table], np.int64),
            np.array([row["bbox"] for row in table], np.float64).reshape(-1, 4),
        )
        for table in (kept, rows)
    )
    area, crowd = np.array([a["area"] for a in kept], np.float64), np.array([a["iscrowd"] for a in kept], bool)
    return (
        Objects(*object_columns, area, crowd),
        Found(*found_columns, np.array([row["score"] for row in rows], np.float64)),
    )


def _by_pycocotools(
    dataset: dict[str, Any], rows: list[dict[str, Any]], iou_type: str, categories: Sequence[Category]
) -> CocoScores:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress without being asked
        truth = _index(dataset)
        found = truth.loadRes(rows) if rows else _index({**dataset, "annotations": []})
        evaluation = COCOeval(truth, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = {figure.name: _absent_as_none(value) for figure, value in zip(FIGURES, evaluation.stats, strict=True)}
    curves = Curves(np.ascontiguousarray(evaluation.eval["precision"][..., -1]), evaluation.eval["recall"])
    return _scores(stats, curves, categories)


def _load(source: Any, what: str) -> Any:
    if not isinstance(source, Path):
        return source
    try:
        return json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the {what} {source}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UserError(f"the {what} {source} is not valid JSON ({error}); write the file again") from error


def _own_dataset(dataset: dict[str, Any], shape_key: str) -> dict[str, Any]:
    """A copy that pycocotools may write into, with the optional keys it takes for granted filled in.

    Annotations are numbered anew from 1: pycocotools holds an object with id 0 for unmatched.
    """
    missing = {"images", "annotations", "categories"} - set(dataset)
    if missing:
        raise UserError(f"the ground truth has no {', '.join(sorted(missing))}; give a COCO instances file")
    annotations = []
    for number, annotation in enumerate(dataset["annotations"], start=1):
        if shape_key not in annotation:
            where = f"annotation id {annotation.get('id')} of image id {annotation.get('image_id')}"
            raise UserError(f"{where} has no {shape_key}; use annotations that hold it or another iou_type")
        defaults = {"iscrowd": 0}
        if "area" not in annotation:
            defaults["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        annotations.append({**defaults, **annotation, "id": number})
    return {"images": dataset["images"], "annotations": annotations, "categories": dataset["categories"]}


def _index(dataset: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _absent_as_none(value: float) -> float | None:
    return None if value < 0 else float(value)


def _per_class(curves: Curves, categories: Sequence[Category]) -> dict[str, dict[str, float | None]]:
    """Mean over recalls, with objects of all areas."""
    precision = curves.precision[..., 0].mean(axis=1)  # [T, K]; an absent class is -1 throughout
    at_50, at_75 = (int(np.flatnonzero(wanted == THRESHOLDS)[0]) for wanted in (0.5, 0.75))
    columns = zip(unique_names(categories), precision.mean(axis=0), precision[at_50], precision[at_75], strict=True)
    return {
        name: {"AP": _absent_as_none(mean), "AP50": _absent_as_none(ap_50), "AP75": _absent_as_none(ap_75)}
        for name, mean, ap_50, ap_75 in columns
    }


def unique_names(categories: Sequence[Category]) -> list[str]:
    """The names as keys of a table: a name that two categories share gets the id behind it, ``"cup (id 47)"``."""
    times = Counter(category.name for category in categories)
    return [c.name if times[c.name] == 1 else f"{c.name} (id {c.id})" for c in categories]
