"""Detection: from a detector's raw output to boxes in pixels of the images."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seg_det.ops.anchors import anchored
from seg_det.postprocess import check_limits, detect, to_file_size
from seg_det.predict import standalone
from seg_det.predict.graphs import DetectionGraph
from seg_det.predict.predictor import NetworkPredictor, require_finite
from seg_det.predict.preprocessing import Size
from seg_det.predict.result import DetectionResult
from seg_det.predict.task import Outputs, Task
from seg_det.registry import arguments
from seg_det.types import DenseDetections, Detections, ModelCard


class Detector(NetworkPredictor):
    """A detector with its anchors; the card's ``postprocess`` holds the arguments of :func:`~seg_det.postprocess.detect`.

    Raises UserError for arguments that cannot be.
    """

    anchors: Tensor  # f32 [A, 4], for canvases of the card's size

    def __init__(self, model: nn.Module, card: ModelCard):
        super().__init__(model, card)
        check_limits(**arguments(check_limits, card.postprocess, key="postprocess"))
        self.register_buffer("anchors", anchored(model).anchors(card.input_size), persistent=False)
        self._anchors_at: dict[Size, Tensor] = {}  # of other sizes, where training changes its

    def anchors_of(self, canvas: Size) -> Tensor:
        """The anchors f32 [A, 4] for canvases of a size."""
        if canvas == tuple(self.card.input_size):
            return self.anchors
        if canvas not in self._anchors_at:
            self._anchors_at[canvas] = anchored(self.model).anchors(canvas).to(self.anchors.device)
        return self._anchors_at[canvas]

    def decode(self, raw: DenseDetections, canvas: Size, sizes: Sequence[Size]) -> list[Detections]:
        """Detections in pixels of the images; every rule of resizing for detection stretches."""
        require_finite(raw)
        found = detect(raw, self.anchors_of(canvas), canvas, **self.card.postprocess)
        return [to_file_size(one, canvas, size) for one, size in zip(found, sizes, strict=True)]


def _result(found: Detections, card: ModelCard, size: Size, source: Path | np.ndarray) -> DetectionResult:
    boxes, scores, labels = (part.detach().cpu().numpy() for part in found)
    return DetectionResult(card.categories, size, source, boxes, scores, labels)


def _above(found: Detections, thresholds: Tensor) -> Detections:
    return found.select(found.scores >= thresholds.to(found.scores)[found.labels])


def _read(outputs: Outputs, card: ModelCard, size: Size, in_image: bool) -> Detections:
    count = int(outputs["count"])
    boxes, scores, labels = (torch.from_numpy(np.array(outputs[n][:count])) for n in ("boxes", "scores", "labels"))
    found = Detections(boxes.float(), scores.float(), labels.long())
    return found if in_image else to_file_size(found, card.input_size, size)


def _facts(model: nn.Module, card: ModelCard) -> dict[str, Any]:
    return {"anchors": anchored(model).anchors(card.input_size).tolist()}


DETECTION = Task(
    name="detection",
    output=DenseDetections,
    resizes=("stretch", "stretch_antialiased"),
    predictor=Detector,
    result=_result,
    above=_above,
    formats=("yolo", "voc", "csv"),
    outputs=("boxes", "scores", "labels", "count"),
    raw_outputs=("logits", "deltas"),
    raw=lambda outputs: DenseDetections(outputs["logits"], outputs["deltas"]),
    read=_read,
    graph=DetectionGraph,
    suppresses=True,
    defaults={
        name: setting.default
        for name, setting in inspect.signature(detect).parameters.items()
        if setting.kind is setting.KEYWORD_ONLY
    },
    facts=_facts,
    programs={
        "full": standalone.detection_full,
        "normalised": standalone.detection_normalised,
        "raw": standalone.detection_raw,
    },
    show=standalone.show_detection,
)
