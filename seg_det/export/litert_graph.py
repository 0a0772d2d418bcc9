"""What stands in a LiteRT file, and 8 bits for the part between the first and the last layer with weights."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from seg_det.quiet import quiet_loading

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
FLOAT32, INT8 = 0, 9  # types of tensors in the format
SAMPLES = 512  # values of a tensor that are kept of each image
# What LiteRT's delegate for graphics has kernels for (its model_builder, of the operators that a network may have).
GRAPHICS = (
    "ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D DEQUANTIZE DIV ELU EXP FULLY_CONNECTED "
    "HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG PACK PAD POW PRELU QUANTIZE "
    "REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SIN SLICE SOFTMAX SPACE_TO_DEPTH "
    "SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV"
)


class Operator(NamedTuple):
    """One operator of a file; inputs and outputs are numbers of tensors."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(content: bytes) -> Any:
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def operators_of(model: Any) -> list[Operator]:
    """In the order of running."""
    from ai_edge_litert.tools.flatbuffer_utils import opcode_to_name

    return [
        Operator(opcode_to_name(model, found.opcodeIndex), tuple(found.inputs), tuple(found.outputs))
        for found in model.subgraphs[0].operators
    ]


def body_of(operators: list[Operator]) -> list[Operator]:
    """What lies between the first and the last layer with weights, and these."""
    after: set[int] = set()
    before: set[int] = set()
    for operator in operators:
        if operator.kind in WEIGHTED or after & set(operator.inputs):
            after |= set(operator.outputs)
    for operator in reversed(operators):
        if operator.kind in WEIGHTED or before & set(operator.outputs):
            before |= {*operator.inputs, *operator.outputs}
    return [found for found in operators if set(found.outputs) & after & before]


def quantised(
    content: bytes, images: Iterable[Tensor], observer: Callable[[Seen], tuple[float, float]], kept: set[bytes]
) -> bytes:
    """8 bits between the first and the last layer with weights, save for layers whose weights are ``kept``."""
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    model = read(content)
    chosen = _chosen(model, kept)
    tensors = model.subgraphs[0].tensors
    names = [";".join(_name(tensors[output]) for output in operator.outputs) for operator in chosen]
    work = quantizer.Quantizer(content)
    exactly = "^(" + "|".join(re.escape(name) for name in names) + ");?$"
    work.add_static_config(exactly, TFLOperationName.ALL_SUPPORTED, 8, 8)
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        work.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    ranges = _ranges(content, model, chosen, images, observer)
    return applied(work, ranges)


def applied(work: Any, ranges: dict[str, Any] | None = None) -> bytes:
    """The file that a quantiser makes, without its progress on the screen."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        return bytes(work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)


def _chosen(model: Any, kept: set[bytes]) -> list[Operator]:
    """The operators to compute in 8 bits; what comes after nothing but layers in float stays in float too."""
    chosen: list[Operator] = []
    whole: set[int] = set()  # numbers of tensors of the body in float
    for operator in body_of(operators_of(model)):
        if operator.kind in WEIGHTED:
            weights = _constant(model, operator.inputs[1])
            in_float = weights is not None and _fingerprint(weights) in kept
        else:
            computed = [i for i in operator.inputs if i >= 0 and _constant(model, i) is None]
            in_float = set(computed) <= whole
        if in_float:
            whole |= set(operator.outputs)
        else:
            chosen.append(operator)
    return chosen


def _constant(model: Any, number: int) -> np.ndarray | None:
    """The values of a tensor of a float file; None where they are computed."""
    tensor = model.subgraphs[0].tensors[number]
    data = model.buffers[tensor.buffer].data
    return None if data is None else np.frombuffer(bytes(data), np.float32 if tensor.type == FLOAT32 else np.uint8)


def fingerprints(modules: Iterable[nn.Module]) -> set[bytes]:
    weights = (value for module in modules for value in module.parameters() if value.dim() > 1)
    return {_fingerprint(value.detach().numpy()) for value in weights}


def _fingerprint(weights: np.ndarray) -> bytes:
    """The same in whatever order a format has the weights."""
    return np.sort(weights, axis=None).tobytes()


def _name(tensor: Any) -> str:
    return bytes(tensor.name).decode()


def _ranges(
    content: bytes,
    model: Any,
    operators: list[Operator],
    images: Iterable[Tensor],
    observer: Callable[[Seen], tuple[float, float]],
) -> dict[str, dict[str, np.ndarray]]:
    """The least and the largest value of the float tensors of ``operators``, by name."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,  # these keep no values
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    tensors = model.subgraphs[0].tensors
    touched = {i for operator in operators for i in (*operator.inputs, *operator.outputs) if i >= 0}
    numbers = [i for i in touched if tensors[i].type == FLOAT32 and _constant(model, i) is None]
    seen = {i: Seen() for i in numbers}
    for image in images:
        interpreter.set_tensor(entry["index"], image.numpy())
        interpreter.invoke()
        for i in numbers:
            seen[i].add(interpreter.get_tensor(i))
    return {
        _name(tensors[i]): {
            key: np.array([[value]], np.float32) for key, value in zip(("min", "max"), observer(values), strict=True)
        }
        for i, values in seen.items()
    }


class Seen:
    """What was seen of a tensor: the extremes of each image, and some of its values."""

    def __init__(self) -> None:
        self.lows: list[float] = []
        self.highs: list[float] = []
        self.some: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        values = values.ravel()
        self.lows.append(float(values.min()))
        self.highs.append(float(values.max()))
        self.some.append(values[:: len(values) // SAMPLES + 1].copy())


def extremes(seen: Seen) -> tuple[float, float]:
    return min(seen.lows), max(seen.highs)


def mean_extremes(seen: Seen) -> tuple[float, float]:
    return float(np.mean(seen.lows)), float(np.mean(seen.highs))


def least_error(seen: Seen) -> tuple[float, float]:
    """The extremes drawn in by the factor whose 256 levels are nearest to the values."""
    values = np.concatenate(seen.some)
    low, high = min(extremes(seen)[0], 0.0), max(extremes(seen)[1], 1e-6)
    shrunk = [(low * factor, high * factor) for factor in np.linspace(0.3, 1, 36)]
    return min(shrunk, key=lambda ends: _error(values, *ends))


def _error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    return float(np.square(np.clip(np.round((values - low) / step), 0, 255) * step + low - values).mean())


OBSERVERS = {"minmax": extremes, "mean_minmax": mean_extremes, "mse": least_error}


def quantisation(model: Any) -> dict[str, Any]:
    """What a file has in 8 bits."""
    tensors = model.subgraphs[0].tensors
    layers = [operator for operator in operators_of(model) if operator.kind in WEIGHTED]
    whole = [layer for layer in layers if tensors[layer.outputs[0]].type == FLOAT32]
    scales = {
        _name(tensor): [float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])]
        for operator in operators_of(model)
        for tensor in (tensors[number] for number in operator.outputs)
        if tensor.type == INT8
    }
    scheme = "int8: weights by channel and symmetric, activations by tensor and asymmetric"
    return {"layers": len(layers) - len(whole), "float_layers": len(whole), "scheme": scheme, "scales": scales}


def delegated(path: Path) -> dict[str, Any]:
    """Which operators of the network's body XNNPACK takes here, and which LiteRT's delegate for graphics has no kernels for."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet_loading():
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
    found = [
        Operator(about["op_name"], tuple(about["inputs"].tolist()), tuple(about["outputs"].tolist()))
        for about in interpreter._get_ops_details()
    ]
    operators = [operator for operator in found if operator.kind != "DELEGATE"]
    taken = [_inside(operators, part) for part in found if part.kind == "DELEGATE"]
    body = body_of(operators)
    left = Counter(operator.kind for operator in body if not any(operator in part for part in taken))
    graphics = Counter(operator.kind for operator in body if operator.kind not in GRAPHICS.split())
    share = 1 - sum(left.values()) / max(1, len(body))
    return {"to": "XNNPACK", "share": share, "left": dict(left), "left_by_gpu": dict(graphics)}


def _inside(operators: list[Operator], part: Operator) -> list[Operator]:
    """The operators that a delegate's ``part`` of the graph stands for."""
    wanted, inside = set(part.outputs) - set(part.inputs), []
    for operator in reversed(operators):
        if wanted & set(operator.outputs):
            inside.append(operator)
            wanted |= set(operator.inputs) - set(part.inputs)
    return inside
