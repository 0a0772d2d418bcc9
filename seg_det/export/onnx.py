"""ONNX, run by ONNX Runtime: every pipeline, images of any size, suppression by its own NonMaxSuppression."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from seg_det.export.base import Found, Job, Session, Target, unsupported
from seg_det.export.pipeline import Graph, build_graph
from seg_det.ops.nms import nms
from seg_det.types import UserError

KEY = "seg_det"  # of the metadata


def open_session(path: str) -> Session:
    """The function that runs the file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(outputs, session.run(outputs, {name: image}), strict=True))


@dataclass(frozen=True)
class OnnxTarget(Target):
    """``opset`` is the version of the operators, 18 or later."""

    name: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    extra: ClassVar[str] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnxscript")
    runs: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    session = staticmethod(open_session)

    opset: int = 20

    def write(self, job: Job, path: Path) -> dict[str, Any]:
        """Write ``job`` to ``path`` as one file. Raises UserError naming an operator that ONNX has not."""
        import onnx

        tail = non_max_suppression if job.card.task == "detection" and job.pipeline != "raw" else None
        model = self._convert(build_graph(job, tail=tail))
        onnx.helper.set_model_props(model, {KEY: job.metadata})
        onnx.save(model, str(path))
        return {"opset": self.opset, "tail": "NonMaxSuppression" if tail else None}

    def _convert(self, graph: Graph) -> Any:
        sides = dict.fromkeys(graph.dynamic, torch.export.Dim.DYNAMIC)
        try:
            with _quiet(), torch.no_grad():
                exported = torch.export.export(graph.module, (graph.example,), dynamic_shapes=(sides,), strict=False)
                program = torch.onnx.export(
                    exported,
                    dynamo=True,
                    opset_version=self.opset,
                    input_names=[graph.input],
                    output_names=list(graph.outputs),
                    custom_translation_table=_translations(),
                    verbose=False,
                )
        except Exception as error:
            raise unsupported(error, self.name) from error
        return program.model_proto

    def embedded(self, path: Path) -> str | None:
        """The metadata. Raises UserError if the file is no ONNX model."""
        import onnx

        try:
            model = onnx.load(str(path), load_external_data=False)
        except Exception as error:
            raise UserError(f"{path} is no ONNX model ({str(error)[:100]}): export it again.") from error
        return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)


def non_max_suppression(boxes: Tensor, scores: Tensor, *, iou_threshold: float, max_detections: int) -> Found:
    """The tail by ONNX's operator. Exact: per class it gives as many as may remain in all."""
    anchors = boxes.shape[0]
    flat = scores.T
    kept = torch.ops.seg_det.onnx_nms(boxes[None], flat[None], max_detections, iou_threshold)
    rows, labels = kept[:, 2], kept[:, 1]
    # Filled up with empty rows, so that the best max_detections can be taken whatever there is.
    values = torch.cat([flat.flatten().index_select(0, labels * anchors + rows), scores.new_zeros(max_detections)])
    best = values.topk(max_detections)
    filler = torch.zeros(max_detections, dtype=torch.int64)
    rows, labels = (torch.cat([column, filler]).index_select(0, best.indices) for column in (rows, labels))
    real = best.values > 0
    return Found(boxes.index_select(0, rows) * real[:, None], best.values, labels * real, real.sum())


@torch.library.custom_op("seg_det::onnx_nms", mutates_args=())
def _onnx_nms(boxes: Tensor, scores: Tensor, per_class: int, iou_threshold: float) -> Tensor:
    """[n, 3] of (image, class, anchor) from boxes [1, A, 4] and scores [1, C, A]; no candidate where the score is not above 0."""
    labels, rows = (scores[0] > 0).nonzero(as_tuple=True)
    kept = nms(boxes[0, rows], scores[0, labels, rows], labels, iou_threshold)
    return torch.stack([torch.zeros_like(kept), labels[kept], rows[kept]], 1)


@_onnx_nms.register_fake
def _(boxes: Tensor, scores: Tensor, per_class: int, iou_threshold: float) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), 3, dtype=torch.int64)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of its own affairs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@cache
def _translations() -> dict[Any, Any]:
    from onnxscript import opset20 as op

    def translate(boxes, scores, per_class: int, iou_threshold: float):
        return op.NonMaxSuppression(
            boxes,
            scores,
            op.Constant(value_ints=[per_class]),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[0.0]),
        )

    return {torch.ops.seg_det.onnx_nms.default: translate}
