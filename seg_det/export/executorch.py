"""ExecuTorch: the network on XNNPACK, everything else on its portable kernels; 8 bits by torchao's PT2E flow."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from seg_det.errors import UserError
from seg_det.export.base import Job, Target, unsupported
from seg_det.export.executorch_graph import delegated, modules_of, rewrite
from seg_det.export.pipeline import Graph, build_graph
from seg_det.ops.boxes import area
from seg_det.ops.images import normalise
from seg_det.predict.exported import Session
from seg_det.predict.graphs import CONSIDERED, Found
from seg_det.registry import TARGETS

aten = torch.ops.aten
KEY = "seg_det"  # the method that gives the metadata
OBSERVERS = ("histogram", "mean_minmax", "minmax")
# What is quantised. Not "cat": the predictions of a detector's maps keep scales of their own, and are joined in float.
PATTERNS = ("linear_relu", "linear", "conv_relu", "conv", "add_relu", "add", "mul_relu", "mul")
LAYERS = (aten.conv2d.default, aten.linear.default)
CLAMPS = (aten.hardtanh.default, aten.hardtanh_.default)


def open_session(path: str) -> Session:
    """The function that runs the file. ExecuTorch's own Python takes and gives tensors of torch, which it installs."""
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    names = program.load_method("outputs").execute([])[0].split(",")
    method = program.load_method("forward")
    largest = program.metadata("forward").input_tensor_meta(0).sizes()

    def run(image):
        if any(side > most for side, most in zip(image.shape, largest, strict=True)):
            raise ValueError(f"an image of {image.shape} is larger than {largest}, the most that {path} takes")
        outputs = method.execute([torch.tensor(image).contiguous()])  # it reads the memory as it lies
        return dict(zip(names, (output.numpy() for output in outputs), strict=True))

    return run


@TARGETS.register
@dataclass(frozen=True)
class ExecuTorchTarget(Target):
    """``observer`` finds the ranges of activations for 8 bits: "histogram" (least square error), "mean_minmax" or "minmax".

    ``largest`` is the longest side of the images that pipeline=full takes. The format plans the memory of the largest, a small
    segmenter's 114 MB for 1536 instead of 4 with pipeline=normalised, which therefore goes before.
    ``normalised`` and ``raw`` take one image at a time, since XNNPACK would leave the network's reshapes to others otherwise.
    """

    name: ClassVar[str] = "executorch"
    suffix: ClassVar[str] = ".pte"
    extra: ClassVar[str] = "executorch"
    packages: ClassVar[tuple[str, ...]] = ("executorch", "torchao")
    runs: ClassVar[tuple[str, ...]] = ("executorch", "torch")
    pipelines: ClassVar[tuple[str, ...]] = ("normalised", "full", "raw")
    session = staticmethod(open_session)

    observer: str = "minmax"
    largest: int = 1024

    def write(self, job: Job, path: Path) -> dict[str, Any]:
        """Write ``job`` to ``path`` as one file. Raises UserError naming an operator that ExecuTorch has not."""
        if self.observer not in OBSERVERS:
            raise UserError(f"target.observer must be one of {', '.join(OBSERVERS)}, got {self.observer!r}.")
        kept = job.float_modules()
        tail = suppression if job.suppresses else None
        facts: dict[str, Any] = {"tail": "scan over the best candidates" if tail else None}
        try:
            with _quiet(), torch.no_grad():
                if job.precision == "int8":
                    model, quantisation = quantised(job, kept, self.observer)
                    job, facts["quantisation"] = replace(job, model=model), quantisation
                graph = build_graph(job, tail=tail)
                buffer, facts["delegated"] = self._lowered(graph, job.metadata)
        except UserError:
            raise
        except Exception as error:
            raise unsupported(error, self.name) from error
        path.write_bytes(buffer)
        return facts if job.pipeline != "full" else {**facts, "largest": self.largest}

    def _lowered(self, graph: Graph, metadata: str) -> tuple[bytes, dict[str, Any]]:
        """The file's content, and what of the network is delegated."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        full = graph.example.dim() == 3
        example = graph.example if full else graph.example[:1]
        sides = {d: torch.export.Dim(name, min=2, max=self.largest) for d, name in graph.dynamic.items() if full}
        program = torch.export.export(graph.module, (example,), dynamic_shapes=(sides,), strict=False)
        rewrite(program.graph_module)
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[XnnpackPartitioner()],
            constant_methods={KEY: metadata, "outputs": ",".join(graph.outputs)},
        )
        network = delegated(edge.exported_program().graph_module)
        return edge.to_executorch().buffer, network

    def embedded(self, path: Path) -> str | None:
        """The metadata. Raises UserError if the file is no program of ExecuTorch."""
        from executorch.runtime import Runtime

        try:
            program = Runtime.get().load_program(str(path))
            return program.load_method(KEY).execute([])[0] if KEY in program.method_names else None
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:100]
            raise UserError(f"{path} is no ExecuTorch program ({reason}): export it again.") from error


def suppression(boxes: Tensor, scores: Tensor, *, iou_threshold: float, max_detections: int) -> Found:
    """Greedy suppression as a loop in the graph, which each round takes the best that is left and strikes its rivals out.

    The best CONSIDERED pairs of anchor and class take part: exact where no more exceed the threshold, or enough are kept.
    """
    from torch._higher_order_ops.scan import scan

    classes = scores.shape[1]
    best = scores.flatten().topk(min(CONSIDERED, scores.numel()))
    labels = best.indices % classes
    chosen = boxes.index_select(0, torch.div(best.indices, classes, rounding_mode="floor"))
    areas = area(chosen)
    places = torch.arange(len(labels))

    def take(left: Tensor, _: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        value, place = left.max(0)  # without a side of their own, as reshaping what a scan gives is beyond ExecuTorch
        at = place[None]
        box = chosen.index_select(0, at)
        sides = torch.minimum(chosen[:, 2:], box[:, 2:]) - torch.maximum(chosen[:, :2], box[:, :2])
        sides = sides.clamp(min=0)
        overlap = sides[:, 0] * sides[:, 1]
        over = overlap > iou_threshold * (areas + areas.index_select(0, at) - overlap)
        struck = (over & (labels == labels.index_select(0, at))) | (places == at)
        return left.masked_fill(struck, -1.0), (value, place)

    _, (values, kept) = scan(take, best.values, torch.zeros(max_detections, 1))
    real = values > 0
    return Found(
        chosen.index_select(0, kept) * real[:, None],
        values * real,
        labels.index_select(0, kept) * real,
        real.sum(),
    )


def quantised(job: Job, kept: Sequence[nn.Module], observer: str) -> tuple[nn.Module, dict[str, Any]]:
    """The job's network in 8 bits, calibrated on the job's images, and the facts of it; ``kept`` stay in 32 bits."""
    from torchao.quantization.pt2e import allow_exported_model_train_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    card, model = job.card, job.model
    mean, std = torch.tensor(card.mean), torch.tensor(card.std)
    example = torch.zeros(1, 3, *card.input_size)
    exported = torch.export.export(model, (example,), strict=False).module()
    names = {name for name, module in model.named_modules() if any(module is other for other in kept)}
    prepared = prepare_pt2e(exported, _quantizer(observer, lambda node: not names & modules_of(node)))
    for images in job.images():
        prepared(normalise(images, mean, std))
    converted = allow_exported_model_train_eval(convert_pt2e(prepared))
    layers = [node for node in converted.graph.nodes if node.target in LAYERS]
    floats = [node for node in layers if not _is_dequantised(node.args[1])]
    return Quantised(converted, model), {
        "layers": len(layers),
        "float_layers": len(floats),
        "scheme": "weights symmetric by channel, activations asymmetric by tensor",
        "observer": observer,
        "scales": _scales(converted.graph),
    }


class Quantised(nn.Module):
    """A quantised graph in the place of the model that it was made from."""

    def __init__(self, graph: fx.GraphModule, model: nn.Module):
        super().__init__()
        self.graph = graph
        self.anchors: Callable[..., Tensor] | None = getattr(model, "anchors", None)

    def forward(self, images: Tensor) -> Any:
        return self.graph(images)


def _quantizer(observer: str, wanted: Callable[[fx.Node], bool]) -> Any:
    """XNNPACK's own, with ranges by ``observer``, for the nodes that are ``wanted``."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization import pt2e

    class Quantizer(XNNPACKQuantizer):
        SUPPORTED_PATTERNS: ClassVar[list[Any]] = [
            pattern for pattern in XNNPACKQuantizer.SUPPORTED_PATTERNS if pattern.name in PATTERNS
        ]

        def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
            model = super().annotate(model)
            _behind_clamps(model.graph)
            return model

    kinds = {
        "histogram": pt2e.HistogramObserver,
        "mean_minmax": pt2e.MovingAverageMinMaxObserver,
        "minmax": pt2e.MinMaxObserver,
    }
    config = get_symmetric_quantization_config(is_per_channel=True)
    activation = replace(config.input_activation, observer_or_fake_quant_ctr=kinds[observer].with_args(eps=2**-12))
    config = replace(config, input_activation=activation, output_activation=activation)
    return Quantizer().set_global(config).set_filter_function(wanted)


def _behind_clamps(graph: fx.Graph) -> None:
    """Ranges of what ReLU6 gives, not of what it takes, most of which it may cut off: XNNPACK computes it with its layer."""
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

    for node in graph.nodes:
        if node.target not in CLAMPS or len(node.args[0].users) > 1:
            continue
        if (before := node.args[0].meta.get(Q_ANNOTATION_KEY)) and before.output_qspec is not None:
            node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=before.output_qspec, _annotated=True)
            before.output_qspec = None


def _is_dequantised(node: Any) -> bool:
    return isinstance(node, fx.Node) and "dequantize" in str(node.target)


def _scales(graph: fx.Graph) -> dict[str, list[float]]:
    """[scale, zero point] of the activations, by the operator that gives them."""
    return {
        node.args[0].name: [float(node.args[1]), int(node.args[2])]
        for node in graph.nodes
        if "quantize_per_tensor" in str(node.target) and not _is_dequantised(node)
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of its own affairs."""
    logging_level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging_level)
