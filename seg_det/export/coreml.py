"""Core ML: one image of a fixed size, suppression round by round in the graph. Written anywhere, run on Apple's systems only.

There is no ``pipeline=full``: Core ML has no arrays of bytes, and its converter refuses the arithmetic on an image's sides.
With ``precision=fp16`` and ``int8`` the network computes in 16 bits, as the Neural Engine does; decoding and suppression stay in
32. ``int8`` stores the weights in 8 bits, symmetric, one scale a channel. Activations are not quantised: coremltools finds their
ranges by running the file, which only Apple's systems do, so that no calibration image is looked at. Layers of ``keep_float``
keep weights of 16 bits. Integers in outputs are i32.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from seg_det.errors import UserError
from seg_det.export.base import Job, Target, unsupported
from seg_det.export.pipeline import Graph, build_graph
from seg_det.ops.nms import rivals
from seg_det.predict.exported import Session
from seg_det.predict.graphs import CONSIDERED, Found
from seg_det.registry import TARGETS

if TYPE_CHECKING:
    from coremltools.models import MLModel

KEY = "seg_det"  # of the metadata
TYPES = {"labels": np.int32, "count": np.int32, "mask": np.int32}  # of the outputs that are no f32
WEIGHTED = ("conv", "linear", "matmul")


def open_session(path: str) -> Session:
    """The function that runs the file; on Apple's systems."""
    import coremltools

    model = coremltools.models.MLModel(path)
    names = [output.name for output in model.get_spec().description.output]

    def run(images):
        found = model.predict({"images": images})
        return {name: found[name] for name in names}

    return run


@TARGETS.register
@dataclass(frozen=True)
class CoreMlTarget(Target):
    """``ios`` is the oldest system that is to run the file, 16 or later; macOS counts as the iOS of its year."""

    name: ClassVar[str] = "coreml"
    suffix: ClassVar[str] = ".mlpackage"
    extra: ClassVar[str] = "coreml"
    packages: ClassVar[tuple[str, ...]] = ("coremltools",)
    runs: ClassVar[tuple[str, ...]] = ("coremltools",)
    pipelines: ClassVar[tuple[str, ...]] = ("normalised", "raw")
    calibrates: ClassVar[bool] = False
    session = staticmethod(open_session)
    snippet: ClassVar[str | None] = "coreml.swift"

    ios: int = 17

    def write(self, job: Job, path: Path) -> dict[str, Any]:
        """Write ``job`` to the folder ``path``. Raises UserError naming an operator that Core ML has not."""
        tail = greedy if job.suppresses else None
        with _quiet():
            model = self._converted(build_graph(job, tail=tail, half=False), half=job.precision != "fp32")
            facts: dict[str, Any] = {"ios": self.ios, "tail": "greedy rounds in the graph" if tail else None}
            if job.precision == "int8":
                model, facts["quantisation"] = _quantised(model, job)
            model.user_defined_metadata[KEY] = job.metadata
            model.save(str(path))
        return facts

    def _converted(self, graph: Graph, *, half: bool) -> MLModel:
        import coremltools as ct

        oldest = getattr(ct.target, f"iOS{self.ios}", None)
        if oldest is None or self.ios < 16:
            raise UserError(
                f"target.ios must be 16 or later and known to coremltools {ct.__version__}, got {self.ios}."
            )
        images = graph.example[:1]
        try:
            with torch.no_grad():
                # The way over torch.export leaves sizes that a trace would compute as the numbers that they are.
                program = torch.export.export(graph.module, (images,), strict=False).module()
                return ct.convert(
                    torch.jit.trace(program, images, check_trace=False),
                    inputs=[ct.TensorType(name=graph.input, shape=images.shape, dtype=np.float32)],
                    outputs=[ct.TensorType(name=n, dtype=TYPES.get(n, np.float32)) for n in graph.outputs],
                    minimum_deployment_target=oldest,
                    compute_precision=ct.transform.FP16ComputePrecision(Body()) if half else ct.precision.FLOAT32,
                    skip_model_load=True,
                )
        except Exception as error:
            raise unsupported(error, self.name) from error

    def elsewhere(self) -> str | None:
        """Core ML belongs to Apple's systems."""
        return None if sys.platform == "darwin" else "Core ML runs on Apple's systems only"

    def embedded(self, path: Path) -> str | None:
        """The metadata. Raises UserError if the file is no Core ML package."""
        with _quiet():
            import coremltools

        try:
            spec = coremltools.models.utils.load_spec(str(path))
        except Exception as error:
            raise UserError(f"{path} is no Core ML package ({str(error)[:100]}): export it again.") from error
        return spec.description.metadata.userDefined.get(KEY) or None


class Body:
    """Tells the network's own operators from those of its pre- and post-processing: between the first and last with weights."""

    def __init__(self) -> None:
        self.names: set[str] | None = None  # asked for while the program changes: what it was at first counts

    def __call__(self, operator: Any) -> bool:
        if self.names is None:
            operators = list(operator.enclosing_block.operations)
            before = _reached(operators, lambda one: [value.op for value in _values(one)])
            after = _reached(operators[::-1], lambda one: [user for value in one.outputs for user in value.child_ops])
            self.names = before & after
        return operator.name in self.names


def _reached(operators: list[Any], neighbours: Callable[[Any], list[Any]]) -> set[str]:
    """The names of the layers with weights and of what lies behind one of them, in the direction of ``neighbours``."""
    names: set[str] = set()
    for one in operators:
        if one.op_type in WEIGHTED or any(other is not None and other.name in names for other in neighbours(one)):
            names.add(one.name)
    return names


def _values(operator: Any) -> list[Any]:
    values = operator.inputs.values()
    return [
        one for value in values for one in (value if isinstance(value, (list, tuple)) else [value]) if one is not None
    ]


def greedy(boxes: Tensor, scores: Tensor, *, iou_threshold: float, max_detections: int) -> Found:
    """:func:`seg_det.postprocess.select_static` in operators that Core ML has, of boxes [A, 4] and scores [A, C]."""
    anchors, classes = scores.shape
    best = scores.flatten().topk(min(CONSIDERED, anchors * classes))
    left = best.values
    boxes = boxes.index_select(0, torch.arange(anchors).repeat_interleave(classes).index_select(0, best.indices))
    labels = torch.arange(classes).repeat(anchors).index_select(0, best.indices)
    rival = rivals(boxes, labels, iou_threshold).float()
    place = torch.arange(len(left))
    scored, rows = [], []
    for _ in range(min(max_detections, anchors * classes)):
        value, row = left.max(0, keepdim=True)
        struck = rival.index_select(0, row)[0] + (place == row).float()
        left = torch.where(struck > 0, -1.0, left)
        scored.append(value)
        rows.append(row)
    kept, values = torch.cat(rows), torch.cat(scored)
    real = (values > 0).float()
    found = boxes.index_select(0, kept) * real[:, None]
    return Found(found, values * real, labels.index_select(0, kept) * real.int(), real.int().sum())


def _quantised(model: MLModel, job: Job) -> tuple[MLModel, dict[str, Any]]:
    """The weights in 8 bits, save those of the job's ``keep_float``, which are recognised by their values."""
    import coremltools.optimize.coreml as optimise

    layers = optimise.get_weights_metadata(model, weight_threshold=0)
    layers = {name: one for name, one in layers.items() if any(op.op_type in WEIGHTED for op in one.child_ops)}
    layers = {name: one for name, one in layers.items() if one.val.ndim > 1}
    kept = {
        weights.detach().half().numpy().tobytes()
        for module in job.float_modules()
        for weights in module.parameters()
        if weights.dim() > 1
    }
    floats = {name for name, one in layers.items() if one.val.astype("float16").tobytes() in kept}
    way = optimise.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")
    chosen = {name: way for name in layers if name not in floats}
    model = optimise.linear_quantize_weights(model, optimise.OptimizationConfig(op_name_configs=chosen))
    return model, {
        "layers": len(layers),
        "float_layers": len(floats),
        "weights": "int8, symmetric, one scale a channel",
        "activations": "fp16, not quantised",
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the converter tells of its own affairs, and its bars of progress."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
