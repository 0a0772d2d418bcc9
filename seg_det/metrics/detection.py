"""What an evaluation of a detector reports: COCO and Pascal VOC figures of the same detections, and their errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seg_det.data.records import DetectionRecord
from seg_det.metrics.arrays import Found, Objects, found_in, objects_of
from seg_det.metrics.cases import Case, case_of
from seg_det.metrics.coco import CocoScores, check_evaluator, evaluate_coco, ground_truth, results, score_boxes
from seg_det.metrics.errors import DetectionErrors, analyse_errors
from seg_det.metrics.packed import PackedDetections
from seg_det.metrics.voc import VocScores, average_voc, judge_voc
from seg_det.types import Category, Detections


@dataclass(frozen=True)
class DetectionReport:
    """All figures of one evaluation; fractions 0..1, None where there is no object to be found."""

    coco: CocoScores
    voc_all_point: VocScores  # at IoU 0.5
    voc_11_point: VocScores  # at IoU 0.5
    errors: DetectionErrors
    difficult_counted: bool  # by the VOC figures; COCO's count such objects always
    images: int
    detections: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON.

        Flat tables: ``coco``, ``voc``, ``operating_point``, ``error_counts``, ``AP50_lost`` to errors and the same of
        small, medium and large objects, ``confused`` (classes most often taken for another). Tables of tables:
        ``per_class``, ``confusion`` (object -> detection -> count), ``precision_recall`` (see
        :class:`~seg_det.metrics.precision_recall.PrecisionRecall`). Numbers: ``images``, ``detections``.
        """
        errors = self.errors
        return {
            "images": self.images,
            "detections": self.detections,
            "coco": dict(self.coco.stats),
            "voc": {
                "AP50_all_point": self.voc_all_point.mean_ap,
                "AP50_11_point": self.voc_11_point.mean_ap,
                "difficult_counted": self.difficult_counted,
            },
            "operating_point": errors.operating_point.to_dict(),
            "error_counts": dict(errors.counts),
            "AP50_lost": dict(errors.lost),
            **{f"AP50_lost_{size}": dict(lost) for size, lost in errors.lost_by_size.items()},
            "confused": errors.confused(),
            "per_class": {name: self._class_row(name) for name in self.coco.per_class},
            "confusion": errors.confusion,
            "precision_recall": self.coco.precision_recall.to_dict(),
        }

    def _class_row(self, name: str) -> dict[str, float | None]:
        return {
            **self.coco.per_class[name],
            "VOC_AP50_all_point": self.voc_all_point.per_class[name],
            "VOC_AP50_11_point": self.voc_11_point.per_class[name],
            **self.errors.per_class[name].to_dict(),
        }

    def headline(self) -> dict[str, float]:
        """One flat table for loggers and the model card: COCO's twelve and the two VOC means, absent ones left out."""
        figures = {
            **self.coco.stats,
            "VOC_AP50_all_point": self.voc_all_point.mean_ap,
            "VOC_AP50_11_point": self.voc_11_point.mean_ap,
        }
        return {name: value for name, value in figures.items() if value is not None}

    def by_class(self) -> dict[str, float]:
        """COCO's AP of each class that has objects, for loggers."""
        return {name: row["AP"] for name, row in self.coco.per_class.items() if row["AP"] is not None}


class DetectionMetric:
    """Collects the detections of an evaluation; memory grows by 24 bytes a detection and a few hundred an image.

    All images of ``records`` are evaluated: one that :meth:`update` never saw counts as an image without detections.
    Processes of a distributed evaluation are joined by handing the :meth:`state` of each to :meth:`merge`.
    ``evaluator`` says who computes the COCO figures: ours, ``"fast"``, or ``"pycocotools"``; they are equal.
    """

    def __init__(
        self,
        records: Sequence[DetectionRecord],
        categories: Sequence[Category],
        *,
        count_difficult: bool = False,
        evaluator: str = "fast",
    ) -> None:
        check_evaluator(evaluator)
        self.records = tuple(sorted(records, key=lambda record: record.image_id))  # as pycocotools takes images
        self.categories = tuple(categories)
        self.count_difficult = count_difficult
        self.evaluator = evaluator
        self.detections = PackedDetections()

    def update(self, image_ids: Iterable[int] | Tensor, detections: Iterable[Detections]) -> None:
        """Add the detections of some images, boxes in pixels of the upright file; an image seen before is left out.

        Distributed samplers pad their last batches with such images.
        """
        for image_id, found in zip(image_ids, detections, strict=True):
            self.detections.add(int(image_id), found)

    def state(self) -> Mapping[int, Detections]:
        """What was collected, by image id, in a form that another process can be sent."""
        return self.detections

    def merge(self, states: Iterable[Mapping[int, Detections]]) -> None:
        """Add what other collectors have in their :meth:`state`; one's own among them does no harm."""
        for state in states:
            self.update(state.keys(), state.values())

    def reset(self) -> None:
        """Forget all detections, before the next evaluation."""
        self.detections.clear()

    def results(self) -> list[dict[str, Any]]:
        """The collected detections as rows of a COCO result file, with the data set's own category ids."""
        return results(self.detections.keys(), self.detections.values(), self.categories)

    def compute(self) -> DetectionReport:
        """The figures of everything collected.

        Raises:
            UserError: detections of images that are not in the records, labels that no category has, or numbers that
                are not finite.
        """
        objects, found = objects_of(self.records), found_in(self.records, self.detections, len(self.categories))
        verdicts = judge_voc(self.records, objects, found, count_difficult=self.count_difficult)
        return DetectionReport(
            coco=self._coco(objects, found),
            voc_all_point=average_voc(verdicts, self.categories),
            voc_11_point=average_voc(verdicts, self.categories, use_11_points=True),
            errors=analyse_errors(objects, found, self.categories),
            difficult_counted=self.count_difficult,
            images=len(self.records),
            detections=len(found.label),
        )

    def case(self) -> Case:
        """Everything collected with what became of it, the images numbered like ``records``. Raises as :meth:`compute`."""
        found = found_in(self.records, self.detections, len(self.categories))
        return case_of(objects_of(self.records), found, len(self.categories))

    def _coco(self, objects: Objects, found: Found) -> CocoScores:
        if self.evaluator == "fast":
            return score_boxes(objects, found, self.categories)
        truth = ground_truth(self.records, self.categories)
        return evaluate_coco(truth, self.results(), evaluator=self.evaluator)
