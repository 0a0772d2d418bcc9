"""LiteRT, formerly TensorFlow Lite: one image of a fixed size, suppression by its own operator, 8 bits by AI Edge Quantizer.

Graphs have fixed shapes: there is no pipeline=full, and B is 1. Integers in outputs are i32. With precision=fp16 the weights are
stored in 16 bits; processors compute in 32 all the same, graphics in 16. The input stays [1, 3, h, w]: inside, the network works
on [1, h, w, channels], and the one transposition costs next to nothing.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.export.base import Job, Target, unsupported
from seg_det.export.litert_graph import OBSERVERS, applied, delegated, fingerprints, quantisation, quantised, read
from seg_det.export.pipeline import Graph, build_graph
from seg_det.models.segmentation_heads import ImagePooling
from seg_det.ops.boxes import area
from seg_det.ops.nms import nms
from seg_det.predict.exported import Session
from seg_det.predict.graphs import CONSIDERED, Found
from seg_det.quiet import quiet_loading
from seg_det.registry import TARGETS

KEY = "seg_det"  # of the metadata
MARK = b"TFL3"  # of the format, from the fourth byte on


def open_session(path: str) -> Session:
    """The function that runs the file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    run = interpreter.get_signature_runner()
    (name,) = run.get_input_details()
    places = {about["index"]: output for output, about in run.get_output_details().items()}
    outputs = [places[about["index"]] for about in interpreter.get_output_details()]

    def session(image):
        found = run(**{name: image})
        return {output: found[output] for output in outputs}

    return session


@TARGETS.register
@dataclass(frozen=True)
class LiteRtTarget(Target):
    """``observer`` finds the ranges of activations for 8 bits.

    "minmax" takes all values, "mean_minmax" the mean of the images' extremes, "mse" the range of the least squared error.
    """

    name: ClassVar[str] = "litert"
    suffix: ClassVar[str] = ".tflite"
    extra: ClassVar[str] = "litert"
    packages: ClassVar[tuple[str, ...]] = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")
    runs: ClassVar[tuple[str, ...]] = ("ai-edge-litert",)
    pipelines: ClassVar[tuple[str, ...]] = ("normalised", "raw")
    session = staticmethod(open_session)
    snippet: ClassVar[str | None] = "litert.kt"

    observer: str = "minmax"

    def write(self, job: Job, path: Path) -> dict[str, Any]:
        """Write ``job`` to ``path`` as one file. Raises UserError naming an operator that LiteRT has not."""
        from ai_edge_litert.tools import flatbuffer_utils

        if self.observer not in OBSERVERS:
            raise UserError(f"target.observer must be one of {', '.join(OBSERVERS)}, got {self.observer!r}.")
        kept = fingerprints(job.float_modules())
        tail = non_max_suppression if job.suppresses else None
        graph = build_graph(job, tail=tail, half=False)
        content = converted(graph, self.name)
        facts: dict[str, Any] = {"tail": "NON_MAX_SUPPRESSION_V4" if tail else None}
        if job.precision == "fp16":
            content = _halved(content)
        if job.precision == "int8":
            content = quantised(content, job.images(), OBSERVERS[self.observer], kept)
            facts["quantisation"] = {**quantisation(read(content)), "observer": self.observer}
        model = read(content)
        _describe(model, graph, job.metadata)
        flatbuffer_utils.write_model(model, str(path))
        return {**facts, "delegated": delegated(path)}

    def embedded(self, path: Path) -> str | None:
        """The metadata. Raises UserError if the file is no LiteRT model."""
        content = path.read_bytes()
        try:
            if content[4:8] != MARK:
                raise ValueError(f"it does not begin as {MARK.decode()}")
            model = read(content)
            found = (entry.buffer for entry in model.metadata or () if entry.name == KEY.encode())
            return next((bytes(model.buffers[index].data).decode() for index in found), None)
        except Exception as error:
            raise UserError(f"{path} is no LiteRT model ({str(error)[:100]}): export it again.") from error


def converted(graph: Graph, target: str) -> bytes:
    """``graph`` for one image, in float, as the format's bytes."""
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    with quiet_loading():
        import litert_torch
        from ai_edge_litert.interpreter import Interpreter

    _teach_converter()
    module = _spread(copy.deepcopy(graph.module))
    logging.getLogger().addFilter(_grave)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            content = bytes(litert_torch.convert(module, (graph.example[:1],)).model_content())
    except Exception as error:
        raise unsupported(error, target) from error
    finally:
        logging.getLogger().removeFilter(_grave)
    try:
        with quiet_loading():
            Interpreter(model_content=content)
    except ValueError as error:  # the converter writes operators that the runtime has not
        raise unsupported(error, target) from error
    return content


def _grave(record: logging.LogRecord) -> bool:
    """Leaves out what the converter tells of its own affairs."""
    return record.levelno >= logging.ERROR


class SpreadPooling(nn.Module):
    """Image pooling whose one value is spread by bilinear upsampling, which delegates know; the converter errs at expanding."""

    def __init__(self, pooling: ImagePooling):
        super().__init__()
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        pooled = super(ImagePooling, self.pooling).forward(x.mean((2, 3), keepdim=True))
        return F.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=False)


def _spread(module: nn.Module) -> nn.Module:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ImagePooling) and not isinstance(parent, SpreadPooling):
                setattr(parent, name, SpreadPooling(child))
    return module


def _describe(model: Any, graph: Graph, metadata: str) -> None:
    """Give input and outputs their names, and put the metadata inside."""
    from ai_edge_litert.schema_py_generated import BufferT, MetadataT

    (signature,) = model.signatureDefs
    signature.inputs[0].name = graph.input
    for place in signature.outputs:  # output_0, output_1, ...
        place.name = graph.outputs[int(bytes(place.name).decode().rpartition("_")[2])]
    buffer, entry = BufferT(), MetadataT()
    buffer.data = np.frombuffer(metadata.encode(), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = KEY, len(model.buffers) - 1
    model.metadata = [*(model.metadata or ()), entry]


def _halved(content: bytes) -> bytes:
    """The weights in 16 bits."""
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    work = quantizer.Quantizer(content)
    work.add_weight_only_config(".*", TFLOperationName.ALL_SUPPORTED, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
    return applied(work)


def non_max_suppression(boxes: Tensor, scores: Tensor, *, iou_threshold: float, max_detections: int) -> Found:
    """The tail by LiteRT's operator. The best ``CONSIDERED`` pairs take part, as in the static suppression of ours."""
    classes = scores.shape[1]
    best = scores.flatten().topk(min(CONSIDERED, scores.numel()))
    count = len(best.values)
    # The places in the order of scores: unlike these they are never level.
    places = torch.arange(count, 0, -1, dtype=torch.float32) * (best.values > 0)
    labels = best.indices.int() % classes
    chosen = boxes.index_select(0, best.indices // classes)
    kept, found = torch.ops.seg_det.litert_nms(_apart(chosen, labels, classes), places, max_detections, iou_threshold)
    real = torch.arange(max_detections) < found
    columns = (column.index_select(0, kept) for column in (chosen, best.values, labels))
    boxes, values, labels = (column.where(real[:, None] if column.dim() > 1 else real, 0) for column in columns)
    return Found(boxes, values, labels.long(), found)


def _apart(boxes: Tensor, labels: Tensor, classes: int) -> Tensor:
    """``boxes`` [N, 4] for an operator that knows no classes, and takes a box without area again and again.

    Classes lie apart on a grid of images, which moves no side by more than the last bits of its coordinates. Boxes without area,
    which suppress nothing, become boxes that touch nothing.
    """
    columns = math.isqrt(classes - 1) + 1
    laid = boxes + torch.stack([labels % columns, labels // columns] * 2, 1) * (boxes.max() + 1)
    left = torch.arange(-2, -2 * len(boxes) - 2, -2, dtype=torch.float32)
    aside = torch.stack([left, torch.full_like(left, -2), left + 1, torch.full_like(left, -1)], 1)
    return laid.where((area(laid) > 0)[:, None], aside)


@torch.library.custom_op("seg_det::litert_nms", mutates_args=())
def _litert_nms(boxes: Tensor, scores: Tensor, limit: int, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """Rows i32 [limit] of boxes [N, 4], best first, and how many they are, i32 []; no candidate where a score is not above 0."""
    rows = (scores > 0).nonzero().flatten()
    kept = rows[nms(boxes[rows], scores[rows], torch.zeros_like(rows), iou_threshold)][:limit]
    return torch.cat([kept, kept.new_zeros(limit - len(kept))]).int(), torch.tensor(len(kept), dtype=torch.int32)


@_litert_nms.register_fake
def _(boxes: Tensor, scores: Tensor, limit: int, iou_threshold: float) -> tuple[Tensor, Tensor]:
    return boxes.new_empty(limit, dtype=torch.int32), boxes.new_empty((), dtype=torch.int32)


@cache
def _teach_converter() -> None:
    """LiteRT's operator for the tail's."""
    from litert_converter.mlir import ir
    from litert_converter.mlir.dialects import stablehlo
    from litert_torch.backend.lowerings import registry, utils

    @registry.lower(torch.ops.seg_det.litert_nms.default)
    def lower(context: Any, boxes: Any, scores: Any, limit: int, iou_threshold: float) -> Any:
        # It suppresses from the threshold on, ours above it; beyond 1 it would take a box again and again.
        above = min(np.nextafter(np.float32(iou_threshold), np.float32(2)), np.float32(1))
        numbers = (utils.numpy_array_constant(np.array(n)) for n in (np.int32(limit), above, np.float32(0)))
        return stablehlo.custom_call(
            result=utils.node_meta_to_ir_types(context.node),
            inputs=[boxes, scores, *numbers],
            call_target_name=ir.StringAttr.get("tfl.non_max_suppression_v4"),
            has_side_effect=ir.BoolAttr.get(False),
            backend_config=ir.StringAttr.get("{}"),
        )
