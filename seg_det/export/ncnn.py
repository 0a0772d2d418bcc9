"""ncnn, converted by pnnx: the network alone, one image of a fixed size; the runner beside the file reads its outputs.

ncnn knows neither suppression nor sizes that the image decides, so there is ``pipeline=raw`` only, and what follows it is the
runner's, in numpy: decoding and exact suppression, or the class of each pixel. ``precision=fp16`` stores the weights in 16 bits;
ncnn computes in 16 bits by default where a phone's processor can, whatever the file holds, and in 32 in the runner. There is no
``precision=int8``: ncnn's tools for it (ncnn2table, ncnn2int8) are programs that its Python packages do not ship.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.export import ExportedProgram

from seg_det.errors import UserError
from seg_det.export.base import Job, Target, unsupported
from seg_det.export.pipeline import Graph, build_graph
from seg_det.predict.exported import Session
from seg_det.predict.lookup import task_of
from seg_det.registry import TARGETS

MAGIC = "7767517"  # the first line of a .param
COMMENT = "# seg_det "  # behind the last layer, where ncnn reads no more
TAIL = "numpy in the runner: decoding and exact suppression"


def open_session(path: str) -> Session:
    """The function that runs the file, which knows no batches: image after image."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1  # several wait for each other in loops: seconds instead of milliseconds on a busy machine
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(path) or net.load_model(path.removesuffix(".param") + ".bin"):
        raise ValueError("ncnn cannot read it with its .bin")
    names = net.output_names()

    def run(images):
        found = []
        for image in np.ascontiguousarray(images, np.float32):
            extractor = net.create_extractor()
            extractor.input("images", ncnn.Mat(image).clone())  # a Mat does not keep its array alive
            outputs = [extractor.extract(name)[1] for name in names]
            found.append([np.array(output) for output in outputs])
        return {name: np.stack(rows) for name, rows in zip(names, zip(*found))}  # noqa: B905

    return run


@TARGETS.register
@dataclass(frozen=True)
class NcnnTarget(Target):
    """The ``.param`` has the layers and the card, the ``.bin`` beside it the weights."""

    name: ClassVar[str] = "ncnn"
    suffix: ClassVar[str] = ".param"
    extra: ClassVar[str] = "ncnn"
    packages: ClassVar[tuple[str, ...]] = ("ncnn", "pnnx")
    runs: ClassVar[tuple[str, ...]] = ("ncnn",)
    pipelines: ClassVar[tuple[str, ...]] = ("raw",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16")
    session = staticmethod(open_session)

    def write(self, job: Job, path: Path) -> dict[str, Any]:
        """Write ``job`` to ``path`` and the weights beside it. Raises UserError naming an operator that ncnn has not."""
        graph = build_graph(job, half=False)
        try:
            program, traced = _traced(graph)
        except Exception as error:
            raise unsupported(error, self.name) from error
        weights = path.with_suffix(".bin")
        text = _converted(traced, list(graph.example[:1].shape), weights, half=job.half)
        if unknown := re.search(r"^((?:aten|prims?|torch|pnnx|F|nn)(?:::|\.)\w+)", text, re.MULTILINE):
            weights.unlink()
            raise unsupported(ValueError(_refusal(unknown[1], program)), self.name)
        blobs = {"in0": graph.input, **{f"out{i}": name for i, name in enumerate(graph.outputs)}}
        text = re.sub(r"(?<= )(in|out)\d+(?=\s)", lambda blob: blobs.get(blob[0], blob[0]), text)
        metadata = json.dumps(json.loads(job.metadata)) if job.metadata else ""
        path.write_text(f"{text.rstrip()}\n{COMMENT}{metadata}\n", encoding="utf-8")
        return {"tail": TAIL if task_of(job.card).suppresses else None, "files": [weights.name]}

    def embedded(self, path: Path) -> str | None:
        """The metadata. Raises UserError if the file is no ncnn model."""
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines or lines[0].strip() != MAGIC:
            raise UserError(f"{path} is no ncnn model: export it again.")
        return next((line.removeprefix(COMMENT) or None for line in lines if line.startswith(COMMENT)), None)


def _traced(graph: Graph) -> tuple[ExportedProgram, torch.jit.ScriptModule]:
    """The graph for one image, as torch.export has it and as TorchScript, which pnnx reads.

    The way over torch.export leaves sizes that a trace would compute as the numbers that they are.
    """
    images = graph.example[:1]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(graph.module, (images,), strict=False)
        return program, torch.jit.trace(program.module(), images, check_trace=False)


def _converted(traced: torch.jit.ScriptModule, shape: list[int], weights: Path, *, half: bool) -> str:
    """The text of the .param; writes the .bin to ``weights``. Raises UserError where pnnx gives up."""
    import pnnx

    with tempfile.TemporaryDirectory() as folder:
        traced.save(f"{folder}/model.pt")
        size = ",".join(map(str, shape))
        command = [pnnx.EXEC_PATH, "model.pt", f"inputshape=[{size}]", f"fp16={int(half)}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        written = [Path(folder, f"model.ncnn.{kind}") for kind in ("param", "bin")]
        if done.returncode or not all(file.is_file() for file in written):
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise unsupported(ValueError(said[-1] if said else f"pnnx ended with {done.returncode}"), "ncnn")
        weights.write_bytes(written[1].read_bytes())
        return written[0].read_text(encoding="utf-8")


def _refusal(layer: str, program: ExportedProgram) -> str:
    """What pnnx left as it was, and the innermost module whose operator that is."""
    operator = f"aten.{re.split(r'::|[.]', layer)[-1]}"
    for node in program.graph.nodes:
        if node.op == "call_function" and str(node.target).startswith(f"{operator}."):
            modules = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values() if name]
            return f"{operator} in module self.{modules[-1]}" if modules else operator
    return layer
