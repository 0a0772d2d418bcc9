"""The values that a key may have, where they are some words: read from the source of what checks them, which imports torch."""

from __future__ import annotations

import ast
from functools import cache

from seg_det.installed import PACKAGE

# By key, or by key and the choice of its group: the module and its constant, a tuple or a dictionary by these words.
CHECKED = {
    "data.resize": ("ops.placement", "RULES"),
    "dataset.on_bad": ("data.problems", "POLICIES"),
    "evaluator": ("metrics.coco", "EVALUATORS"),
    "fail_on": ("commands.doctor", "FAIL_ON"),
    "tiles.merge": ("predict.tiles", "MERGES"),
    "postprocess.output": ("postprocess", "OUTPUTS"),
    "task.postprocess.output": ("postprocess", "OUTPUTS"),
    "precision": ("sidecar", "PRECISIONS"),
    "pipeline": ("sidecar", "PIPELINES"),
    "trainer.accelerator": ("training.trainer", "ACCELERATORS"),
    "trainer.precision": ("training.trainer", "PRECISIONS"),
    "trainer.profiler": ("training.trainer", "PROFILERS"),
    "recipe.optimiser": ("training.optimisation", "OPTIMISERS"),
    "recipe.schedule": ("training.optimisation", "SCHEDULES"),
    "recipe.frozen_norms": ("training.optimisation", "FROZEN_NORMS"),
    "task.loss.classification": ("losses.detection", "SCORES"),
    "task.loss.localisation": ("losses.boxes", "BOX_LOSSES"),
    "task.model.anchor_rule": ("ops.anchors", "RULES"),
    "task.model.gate": ("models.lraspp", "GATES"),
    "task.model.padding": ("nn.convolutions", "PADDINGS"),
    "backbone.padding": ("nn.convolutions", "PADDINGS"),
    "backbone.partition": ("nn.convolutions", "PARTITIONS"),
    "backbone.dilation_rule": ("ops.strides", "RULES"),
    "backbone.act": ("models.backbones.base", "ACTIVATIONS"),
    "backbone.width_rule": ("models.backbones.mobilenet_v3", "WIDTH_RULES"),
    "target.observer=onnx": ("export.onnx", "OBSERVERS"),
    "target.observer=web": ("export.onnx", "OBSERVERS"),
    "target.activations=onnx": ("export.onnx", "ACTIVATIONS"),
    "target.activations=web": ("export.onnx", "ACTIVATIONS"),
    "target.observer=openvino": ("export.openvino", "OBSERVERS"),
    "target.preset": ("export.openvino", "PRESETS"),
    "target.overflow_fix": ("export.openvino", "OVERFLOW_FIXES"),
    "target.observer=litert": ("export.litert_graph", "OBSERVERS"),
    "target.observer=executorch": ("export.executorch", "OBSERVERS"),
}


def choices_of(key: str, choice: str | None = None) -> tuple[str, ...]:
    """The words that ``key`` may be, with this ``choice`` of its group; none where others are possible."""
    place = CHECKED.get(f"{key}={choice}") or CHECKED.get(key)
    return () if place is None else words(*place)


@cache
def words(module: str, constant: str) -> tuple[str, ...]:
    """The strings of a tuple, or the keys of a dictionary, that ``module`` assigns to ``constant``."""
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    value = _assigned(ast.parse(path.read_text(encoding="utf-8")))[constant]
    nodes = value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", [])
    return tuple(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """What a module assigns to names at its top level."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and value is not None:
            found[target.id] = value
    return found
