"""OpenVINO: every pipeline, images of any size, suppression by its own NonMaxSuppression, 8 bits by NNCF."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from seg_det.errors import UserError
from seg_det.export.base import Job, Target, unsupported
from seg_det.export.onnx import as_input, non_max_suppression
from seg_det.export.pipeline import Graph, build_graph
from seg_det.predict.exported import Session
from seg_det.registry import TARGETS

if TYPE_CHECKING:
    from openvino import Model, Node

KEY = "seg_det"  # of the metadata
WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
OBSERVERS = ("minmax", "mean_minmax", "median_minmax", "mean_no_outliers_minmax", "mean_quantile", "histogram")
PRESETS = ("mixed", "performance")
OVERFLOW_FIXES = ("disable", "first_layer", "enable")
EXACT = "precise_0"  # the mark of OpenVINO on values that are not to be stored in half precision


def open_session(path: str) -> Session:
    """The function that runs the file."""
    import sys

    # Or the package would tell its maker that it was imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # not in the stub: None is no module
    import openvino

    # A processor that knows bfloat16 would compute in it by default, which costs a detector more accuracy than 8 bits do.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", options)
    names = [output.get_any_name() for output in compiled.outputs]
    return lambda image: dict(zip(names, compiled([image]).values(), strict=True))


@TARGETS.register
@dataclass(frozen=True)
class OpenVinoTarget(Target):
    """``observer`` finds the ranges of activations for 8 bits: a set of NNCF's range estimators, in lower case.

    ``preset`` is NNCF's: "mixed" also shifts activations off zero, as h-swish wants it, "performance" does not.
    ``overflow_fix`` gives weights half the steps, of the "first_layer" or ("enable") of all: sums of products of 8 bits
    overflow on Intel's processors before VNNI (2019). ``bias_correction`` moves biases by the mean error of each layer.
    """

    name: ClassVar[str] = "openvino"
    suffix: ClassVar[str] = ".xml"
    extra: ClassVar[str] = "openvino"
    packages: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    runs: ClassVar[tuple[str, ...]] = ("openvino",)
    session = staticmethod(open_session)

    observer: str = "minmax"
    preset: str = "mixed"
    overflow_fix: str = "disable"
    bias_correction: bool = False

    def __post_init__(self) -> None:
        for key, known in (("observer", OBSERVERS), ("preset", PRESETS), ("overflow_fix", OVERFLOW_FIXES)):
            if getattr(self, key) not in known:
                raise UserError(f"target.{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}.")

    def write(self, job: Job, path: Path) -> dict[str, Any]:
        """Write ``job`` to ``path`` and the weights beside it. Raises UserError naming an operator that OpenVINO has not."""
        openvino = _silently_imported("openvino")
        tail = non_max_suppression if job.suppresses else None
        graph = build_graph(job, tail=tail, half=False)
        model = _converted(graph, self.name)
        facts: dict[str, Any] = {"tail": "NonMaxSuppression" if tail else None}
        if job.precision == "int8":
            model, counts = self._quantised(model, job)
            scheme = f"weights s8 by channel and symmetric, activations u8 by tensor, preset {self.preset}"
            facts["quantisation"] = {**counts, "scheme": scheme, "observer": self.observer, "scales": _scales(model)}
        for node in _outside(model):
            node.get_rt_info()[EXACT] = ""
        model.set_rt_info(job.metadata, [KEY])
        openvino.save_model(model, path, compress_to_fp16=job.precision == "fp16")
        return {**facts, "files": [path.with_suffix(".bin").name]}

    def _quantised(self, model: Model, job: Job) -> tuple[Model, dict[str, int]]:
        """8 bits between the first and the last layer with weights, save for the layers of the job's ``keep_float``."""
        nncf = _silently_imported("nncf")
        from nncf.quantization.advanced_parameters import OverflowFix
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        layers, floats = _layers(model), [*_floats(model, job.float_modules()), *_on_one_pixel(model)]
        floats = list({node.name: node for node in floats}.values())
        ignored = [node.get_friendly_name() for node in _outside(model, floats)]
        logging.getLogger("nncf").setLevel(logging.ERROR)
        quantised = nncf.quantize(
            model,
            nncf.Dataset([as_input(image, job) for image in job.images()]),
            preset=getattr(nncf.QuantizationPreset, self.preset.upper()),
            ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=getattr(RangeEstimatorParametersSet, self.observer.upper()),
                overflow_fix=OverflowFix[self.overflow_fix.upper()],
                disable_bias_correction=not self.bias_correction,
            ),
        )
        return quantised, {"layers": len(layers) - len(floats), "float_layers": len(floats)}

    def embedded(self, path: Path) -> str | None:
        """The metadata. Raises UserError if the file is no OpenVINO model."""
        openvino = _silently_imported("openvino")
        try:
            model = openvino.Core().read_model(path)
        except Exception as error:
            reason = str(error).strip().splitlines()[-1][:100]
            raise UserError(
                f"{path} is no OpenVINO model with its .bin beside it ({reason}): export it again."
            ) from error
        return model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None


def _silently_imported(name: str) -> ModuleType:
    """OpenVINO's or NNCF's package, without its telemetry, where it is not imported yet; the user's settings stay."""
    modules: dict[str, Any] = sys.modules  # None keeps a package from being imported
    modules.setdefault("openvino_telemetry", None)
    return importlib.import_module(name)


def _converted(graph: Graph, target: str) -> Model:
    """The graph as OpenVINO's, its input and outputs named, the sides of its input fixed where they are."""
    openvino = _silently_imported("openvino")
    from openvino.frontend.pytorch import ConversionExtension

    sides = dict.fromkeys(graph.dynamic, torch.export.Dim.DYNAMIC)
    extensions = [ConversionExtension(f"{operator}.default", translate) for operator, translate in TRANSLATIONS.items()]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(graph.module, (graph.example,), dynamic_shapes=(sides,), strict=False)
            model = openvino.convert_model(program, extension=extensions)
    except Exception as error:
        raise unsupported(error, target) from error
    shape = [-1 if dim in graph.dynamic else side for dim, side in enumerate(graph.example.shape)]
    model.reshape(openvino.PartialShape(shape))
    model.input(0).get_tensor().set_names({graph.input})
    for output, name in zip(model.outputs, graph.outputs, strict=True):
        output.get_tensor().set_names({name})
    return model


def _suppression(node: Any) -> list[Any]:
    """OpenVINO's operator for the tail's; it takes and gives the same."""
    from openvino import opset13

    boxes, scores, per_class, iou_threshold = (node.get_input(i) for i in range(4))
    found = opset13.non_max_suppression(
        boxes,
        scores,
        per_class,
        iou_threshold,
        opset13.constant(0.0, np.float32),
        box_encoding="corner",
        sort_result_descending=False,
        output_type="i64",
    )
    return [found.output(0)]


def _power_of_two(node: Any) -> list[Any]:
    from openvino import opset13

    exponent = node.get_input(0)
    two = opset13.convert_like(opset13.constant(2.0, np.float32), exponent)
    return [opset13.power(two, exponent).output(0)]


TRANSLATIONS = {"seg_det.onnx_nms": _suppression, "aten.exp2": _power_of_two}  # of what the converter does not know


def _layers(model: Model) -> list[Node]:
    """The operators with weights."""
    nodes = model.get_ordered_ops()
    computed = _downstream(nodes, _names(model.get_parameters()))
    return [n for n in nodes if n.get_type_name() in WEIGHTED and n.input_value(1).get_node().name not in computed]


def _scales(model: Model) -> dict[str, list[float]]:
    """[scale, zero point] of the activations, by the name of what computes them."""
    found = {}
    for node in model.get_ordered_ops():
        source = node.input_value(0).get_node() if node.get_type_name() == "FakeQuantize" else None
        if source is not None and source.get_type_name() != "Constant":
            low, high = (float(node.input_value(i).get_node().data.ravel()[0]) for i in (1, 2))
            scale = (high - low) / (node.get_attributes()["levels"] - 1)
            found[source.get_friendly_name()] = [scale, round(-low / scale)]
    return found


def _outside(model: Model, floats: Iterable[Node] = ()) -> list[Node]:
    """What does not lie between the first and the last layer with weights: pre-processing, decoding, suppression.

    And ``floats`` among the layers, with what lies between others only beyond them. With their constants, as far as nothing
    else reads these.
    """
    kept = _names(floats)
    nodes, layers = model.get_ordered_ops(), _names(_layers(model)) - kept
    body = _downstream(nodes, layers, kept) & _upstream(nodes, layers, kept)
    feeding = {node.name for node in nodes if _names(_readers(node)) & body}
    return [node for node in nodes if node.name in kept or node.name not in body | feeding]


def _downstream(nodes: list[Node], start: set[str], stops: Set[str] = frozenset()) -> set[str]:
    """The names of what is computed from the nodes ``start`` without the nodes ``stops``, and these; ``nodes`` as they run."""
    reached = set(start)
    for node in nodes:
        if node.name not in stops and any(value.get_node().name in reached for value in node.input_values()):
            reached.add(node.name)
    return reached


def _upstream(nodes: list[Node], start: set[str], stops: Set[str] = frozenset()) -> set[str]:
    """The names of what the nodes ``start`` are computed from without the nodes ``stops``, and these."""
    reached = set(start)
    for node in reversed(nodes):
        if node.name not in stops and _names(_readers(node)) & reached:
            reached.add(node.name)
    return reached


def _readers(node: Node) -> list[Node]:
    return [reader.get_node() for output in node.outputs() for reader in output.get_target_inputs()]


def _names(nodes: Iterable[Node]) -> set[str]:
    return {node.name for node in nodes}


def _floats(model: Model, modules: Iterable[nn.Module]) -> list[Node]:
    """The layers of ``modules``, recognised by their weights."""
    kept = {
        weights.detach().numpy().tobytes() for module in modules for weights in module.parameters() if weights.dim() > 1
    }
    return [layer for layer in _layers(model) if _weights(layer).tobytes() in kept]


def _on_one_pixel(model: Model) -> list[Node]:
    """Layers on maps of 1x1: in 8 bits OpenVINO 2026.4 makes noise of a small detector's last ones, and they cost nothing."""
    return [
        layer
        for layer in _layers(model)
        if [side.to_string() for side in layer.get_input_partial_shape(0)][2:] == ["1", "1"]
    ]


def _weights(layer: Node) -> np.ndarray:
    node = layer.input_value(1).get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node.data
