"""A page that runs the model in a browser: a folder with the ONNX file, onnxruntime-web and one HTML file, for any web server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import jinja2
import numpy as np
from markupsafe import Markup

from seg_det.data.images import read_rgb
from seg_det.errors import UserError
from seg_det.export import npm
from seg_det.export.base import Extras, Job
from seg_det.export.onnx import OnnxTarget
from seg_det.export.pipeline import Graph
from seg_det.files import relative, whole, write_whole
from seg_det.predict.lookup import task_of
from seg_det.predict.model import USUAL_THRESHOLD
from seg_det.registry import TARGETS
from seg_det.report.drawings import encode_jpeg, shrink
from seg_det.types import ModelCard

if TYPE_CHECKING:
    from onnx import ModelProto

FOLDER, RUNTIME, EXAMPLES, PAGE = "web", "ort", "examples", "index.html"
SCRIPTS = (
    "runtime",
    "drawing",
    "results",
    "state",
    "images",
    "camera",
    "view",
    "controls",
)  # one after the other, in one scope
EXAMPLE_PIXELS = 960  # longer side of an example at most
# What would end a script element or be taken for markup there; JSON may have any letter as \\uXXXX.
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&'\u2028\u2029"}


@TARGETS.register
@dataclass(frozen=True)
class WebTarget(OnnxTarget):
    """The ONNX target with a page around its file; ``examples`` validation images go into the folder. Raises UserError."""

    name: ClassVar[str] = "web"
    pipelines: ClassVar[tuple[str, ...]] = ("full",)
    program: ClassVar[bool] = False  # the page is
    opens: ClassVar[bool] = False  # the file is opened as any other of ONNX

    examples: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples < 0:
            raise UserError(f"target.examples must be a number of images from 0, got {self.examples}.")

    def write(self, job: Job, path: Path) -> dict[str, Any]:
        """See :class:`OnnxTarget`. Raises UserError also where npm gives other files than the expected ones."""
        with suppress(npm.RuntimeUnavailable):  # which surround() will tell
            npm.kept_runtime()
        return super().write(job, path)

    def _convert(self, graph: Graph) -> ModelProto:
        return in_32_bits(super()._convert(graph))

    def place(self, run: Path, stem: str) -> Path:
        """One name for every model: the page asks for it."""
        return run / FOLDER / f"model{self.suffix}"

    def surround(self, card: ModelCard, path: Path, images: Sequence[Path]) -> Extras:
        """Write the page, the runtime and the examples beside the model."""
        folder = path.parent
        shown = f"python -m http.server -d {relative(folder)}"
        files, notes = [], [f"To open the page: {shown}, then http://localhost:8000 in a browser."]
        try:
            files += [f"{RUNTIME}/{name}" for name in npm.copy_runtime(folder / RUNTIME)]
        except npm.RuntimeUnavailable as error:
            notes.append(f"The page cannot run yet: {error}. {REMEDY}")
        examples = [_example(folder, number, image) for number, image in enumerate(_spread(images, self.examples), 1)]
        missing = "" if files else notes[-1]
        write_whole(folder / PAGE, page(content(card, path, examples, missing)))
        return Extras([PAGE, *files, *examples], notes)


def in_32_bits(model: ModelProto) -> ModelProto:
    """``model`` with float32 wherever it computes in float64, which the WebGPU build of ONNX Runtime Web cannot.

    That are the positions of pixels when an image is resized: the file is proved on images as it is then.
    """
    from onnx import TensorProto, numpy_helper

    def halved(tensor: TensorProto) -> None:
        if tensor.data_type == TensorProto.DOUBLE:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))

    for tensor in model.graph.initializer:
        halved(tensor)
    for attribute in (one for node in model.graph.node for one in node.attribute):
        halved(attribute.t)
        if attribute.name == "to" and attribute.i == TensorProto.DOUBLE:  # of Cast
            attribute.i = TensorProto.FLOAT
    for value in (info.type.tensor_type for info in model.graph.value_info):
        if value.elem_type == TensorProto.DOUBLE:
            value.elem_type = TensorProto.FLOAT
    return model


REMEDY = "Install Node.js, which has npm, and export again with a network."


def content(card: ModelCard, path: Path, examples: Sequence[str], missing: str) -> dict[str, Any]:
    """What the page is told; ``missing`` is the sentence that it shows instead of running, "" for none."""
    task = task_of(card)
    thresholds = card.score_thresholds or [None] * len(card.categories)
    classes = [
        {"id": category.id, "name": category.name, "colour": f"rgb({red},{green},{blue})", "threshold": threshold}
        for category, (red, green, blue), threshold in zip(
            card.categories, task.colours(card.categories).tolist(), thresholds, strict=True
        )
    ]
    return {
        "name": card.name,
        "task": card.task,
        "model": path.name,
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "inputSize": list(card.input_size),
        "outputs": list(task.outputs),
        "classes": classes,
        "threshold": USUAL_THRESHOLD,
        "examples": list(examples),
        "runtime": RUNTIME,
        "version": npm.VERSION,
        "missing": missing,
    }


def page(told: dict[str, Any]) -> str:
    """The HTML file, whole: its style, its script and ``told`` are inside, and nothing but its own folder can be asked for."""
    parts = resources.files("seg_det.export") / "page"
    script = "\n".join((parts / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    style = (parts / "page.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True)
    template = environment.from_string((parts / "page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        told=told,
        data=Markup(in_script(told)),
        style=Markup(style),
        style_hash=_digest(style),
        script=Markup(script),
        script_hash=_digest(script),
    )


def in_script(told: dict[str, Any]) -> str:
    """JSON that can stand in a script element whatever the strings in it are."""
    return json.dumps(told, ensure_ascii=False, allow_nan=False).translate(UNSAFE)


def _digest(text: str) -> str:
    """As Content-Security-Policy names a script or style inside the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _example(folder: Path, number: int, image: Path) -> str:
    """Write one example, upright and small; returns its name in ``folder``."""
    name = f"{EXAMPLES}/{number}.jpg"
    with whole(folder / name) as file:
        file.write(encode_jpeg(shrink(read_rgb(image), EXAMPLE_PIXELS), quality=92))
    return name


def _spread(images: Sequence[Path], wanted: int) -> list[Path]:
    """``wanted`` of them, from all parts of the list."""
    wanted = min(wanted, len(images))
    return [images[(2 * i + 1) * len(images) // (2 * wanted)] for i in range(wanted)]
