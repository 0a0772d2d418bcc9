"""ONNX, run by ONNX Runtime: every pipeline, images of any size, its own NonMaxSuppression and its own 8 bits."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.export.base import Job, Target, unsupported
from seg_det.export.pipeline import Graph, build_graph
from seg_det.ops.nms import nms
from seg_det.ops.placement import CROP_FRACTION
from seg_det.predict.exported import Session
from seg_det.predict.graphs import Found
from seg_det.registry import TARGETS

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

KEY = "seg_det"  # of the metadata
WEIGHTED = ("Conv", "Gemm", "MatMul")
OBSERVERS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}  # names of ONNX Runtime's
ACTIVATIONS = {"u8": "QUInt8", "s8": "QInt8"}
# What has 8-bit kernels, and what only moves values.
IN_8_BITS = (
    *WEIGHTED,
    *("Add", "Mul", "Clip", "Relu", "Concat", "Resize", "AveragePool", "GlobalAveragePool", "MaxPool", "ReduceMean"),
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Pad", "Split", "Slice"),
)


def open_session(path: str) -> Session:
    """The function that runs the file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(outputs, session.run(outputs, {name: image}), strict=True))


@TARGETS.register
@dataclass(frozen=True)
class OnnxTarget(Target):
    """``opset`` is the version of the operators, 18 or later.

    For 8 bits: ``observer`` finds the ranges of activations ("minmax", "percentile", of which ``percentile`` counts, or
    "entropy"), and these are stored as ``activations``, "u8" or "s8". Weights are symmetric, by channel.
    """

    name: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    extra: ClassVar[str] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnxscript")
    runs: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    session = staticmethod(open_session)

    opset: int = 20
    observer: str = "minmax"
    percentile: float = 99.999
    activations: str = "u8"  # with weights of s8: on Intel's and AMD's processors twice as fast as s8

    def __post_init__(self) -> None:
        for key, known in (("observer", OBSERVERS), ("activations", ACTIVATIONS)):
            if getattr(self, key) not in known:
                raise UserError(f"target.{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}.")

    def write(self, job: Job, path: Path) -> dict[str, Any]:
        """Write ``job`` to ``path`` as one file. Raises UserError naming an operator that ONNX has not."""
        import onnx

        tail = non_max_suppression if job.suppresses else None
        model = self._convert(build_graph(job, tail=tail))
        facts: dict[str, Any] = {"opset": self.opset, "tail": "NonMaxSuppression" if tail else None}
        if job.precision == "int8":
            model, facts["quantisation"] = self._quantised(model, job)
        onnx.helper.set_model_props(model, {KEY: job.metadata})
        onnx.save(model, str(path))
        return facts

    def _quantised(self, model: ModelProto, job: Job) -> tuple[ModelProto, dict[str, Any]]:
        """8 bits between the first and the last layer with weights, save for the layers of the job's ``keep_float``."""
        import onnx
        from onnxruntime import quantization

        floats = _floats(model, job.float_modules())
        names = [node.name for node in _body(model, floats)]
        if not names:  # ONNX Runtime would take that for all
            return model, {"layers": 0, "float_layers": len(floats), "scheme": "all layers in 32 bits", "scales": {}}
        images = _Images(model.graph.input[0].name, [as_input(image, job) for image in job.images()])
        with TemporaryDirectory() as folder, _quiet():
            file = Path(folder) / "int8.onnx"
            quantization.quantize_static(
                model,
                file,
                images,
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(IN_8_BITS),
                nodes_to_quantize=names,
                per_channel=True,
                activation_type=getattr(quantization.QuantType, ACTIVATIONS[self.activations]),
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=getattr(quantization.CalibrationMethod, OBSERVERS[self.observer]),
                # One image after the other, or the activations of all would be held at once.
                extra_options={"CalibStridedMinMax": 1, "CalibPercentile": self.percentile, "WeightSymmetric": True},
            )
            quantised = onnx.load(str(file))
        scheme = f"weights s8 by channel and symmetric, activations {self.activations} by tensor and asymmetric"
        counts = {"layers": len(_layers(model)) - len(floats), "float_layers": len(floats)}
        scales = {"scheme": scheme, "observer": self.observer, "scales": _scales(quantised)}
        return quantised, {**counts, **scales}

    def _convert(self, graph: Graph) -> Any:
        sides = dict.fromkeys(graph.dynamic, torch.export.Dim.DYNAMIC)
        try:
            with _quiet(), torch.no_grad():
                exported = torch.export.export(graph.module, (graph.example,), dynamic_shapes=(sides,), strict=False)
                program: Any = torch.onnx.export(  # None only without dynamo
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
        return _without_traces(program.model_proto)

    def embedded(self, path: Path) -> str | None:
        """The metadata. Raises UserError if the file is no ONNX model."""
        import onnx

        try:
            model = onnx.load(str(path), load_external_data=False)
        except Exception as error:
            raise UserError(f"{path} is no ONNX model ({str(error)[:100]}): export it again.") from error
        return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)


def as_input(images: Tensor, job: Job) -> np.ndarray:
    """A resized image f32 [1, 3, h, w] as the graph's input: one that resizes it leaves images of its own size as they are."""
    if job.pipeline != "full":
        return images.numpy()
    image = images[0].permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
    if job.card.resize == "centre_crop":  # a border of the width that the graph cuts away
        around = [round(side / CROP_FRACTION) - side for side in image.shape[:2]]
        image = np.pad(image, [*((cut // 2, cut - cut // 2) for cut in around), (0, 0)], mode="edge")
    return image


class _Images:
    """Calibration images as ONNX Runtime reads them: all, or the part that was last asked for."""

    def __init__(self, name: str, images: Sequence[np.ndarray]):
        self.name, self.images = name, images
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.rest = iter(self.images[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.rest, None)
        return None if image is None else {self.name: image}


def _layers(model: ModelProto) -> list[NodeProto]:
    """The operators with weights."""
    constants = {weights.name for weights in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type in WEIGHTED and constants & set(node.input[1:2])]


def _body(model: ModelProto, floats: Sequence[NodeProto]) -> list[NodeProto]:
    """The layers that are no ``floats``, and what lies between two of them with none of these on the way."""
    layers = [layer for layer in _layers(model) if layer not in floats]
    others = [node for node in model.graph.node if node not in floats]
    below = {name for layer in layers for name in layer.output}
    after = [node for node in others if node in layers or _reached(below, node.input, node.output)]
    above = {name for layer in layers for name in layer.input[:1]}
    return [node for node in reversed(after) if node in layers or _reached(above, node.output, node.input)]


def _reached(names: set[str], near: Sequence[str], far: Sequence[str]) -> bool:
    """Whether one of ``names`` is among the ``near`` values of a node, whose ``far`` ones then join them."""
    if found := bool(names & set(near)):
        names |= set(far)
    return found


def _floats(model: ModelProto, modules: Sequence[nn.Module]) -> list[NodeProto]:
    """The layers of ``modules``, recognised by their weights."""
    from onnx import numpy_helper

    kept = {w.detach().numpy().tobytes() for module in modules for w in module.parameters() if w.dim() > 1}
    named = {
        constant.name
        for constant in model.graph.initializer
        if (weights := numpy_helper.to_array(constant)).tobytes() in kept or weights.T.tobytes() in kept
    }
    return [layer for layer in _layers(model) if layer.input[1] in named]


def _scales(model: ModelProto) -> dict[str, list[float]]:
    """[scale, zero point] of the activations, by name."""
    from onnx import numpy_helper

    constants = {constant.name: constant for constant in model.graph.initializer}
    return {
        node.input[0]: [numpy_helper.to_array(constants[name]).item() for name in node.input[1:3]]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }


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


def _without_traces(model: ModelProto) -> ModelProto:
    """``model`` without what the exporter notes of each node's source code: paths of this machine, and half of a small file."""
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        for node in graph.node:
            del node.metadata_props[:]
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        for value in graph.value_info:
            del value.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of its own affairs."""
    loggers = [logging.getLogger(name) for name in (None, "torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
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
    from onnxscript import opset20

    op: Any = opset20  # its annotations are of tensors, and it is given the values of a graph

    def translate(boxes: Any, scores: Any, per_class: int, iou_threshold: float) -> Any:
        return op.NonMaxSuppression(
            boxes,
            scores,
            op.Constant(value_ints=[per_class]),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[0.0]),
        )

    return {torch.ops.seg_det.onnx_nms.default: translate}
