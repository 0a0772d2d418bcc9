"""The tasks of conf/ for published weights, which come without a configuration: read without Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from seg_det.installed import installed
from seg_det.losses import SCORES

ALIGNED = "${task.postprocess.align_corners}"  # the one reference in the sections that are read


class TaskSettings(NamedTuple):
    """What conf/task/NAME.yaml says, with the loss and the post-processing that it chooses."""

    kind: str  # ModelCard.task
    model: Mapping[str, Any]  # with _target_, without what the backbone tells: width and padding
    postprocess: Mapping[str, Any]
    backbone: Mapping[str, Any]  # what the head prefers of its backbone
    extra_maps: bool  # whether the head has layers of its own width and padding


@cache
def task_settings(name: str, *, align_corners: bool | None = None) -> TaskSettings:
    """The settings of a task; ``align_corners`` is another value than the post-processing's own."""
    content, choices = _read("task", name)
    loss, postprocess = (_read(group, choices[group])[0] for group in ("loss", "postprocess"))
    if align_corners is not None:
        postprocess = {**postprocess, "align_corners": align_corners}
    rule = loss.get("classification")
    if rule is not None:
        postprocess = {"score": SCORES[rule], **postprocess}
    own = ("width", "padding")
    model = {
        key: postprocess["align_corners"] if value == ALIGNED else value
        for key, value in content["model"].items()
        if key not in own
    }
    backbone = content.get("backbone", {})
    return TaskSettings(
        content["kind"],
        MappingProxyType(model),
        MappingProxyType(postprocess),
        MappingProxyType(backbone),
        own[0] in content["model"],
    )


def _read(group: str, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A file of conf/ on top of those that it is based on, and the choices of other groups that these make."""
    import yaml  # which a model without published weights need not load

    content = yaml.safe_load((installed("conf") / group / f"{name}.yaml").read_text(encoding="utf-8"))
    merged: dict[str, Any] = {}
    choices: dict[str, str] = {}
    for entry in content.pop("defaults", []):
        if isinstance(entry, str):
            base, chosen = _read(group, entry)
            merged, choices = _over(merged, base), {**choices, **chosen}
        else:
            ((key, choice),) = entry.items()
            choices[key.removeprefix("override /").partition("@")[0]] = choice
    return _over(merged, content), choices


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """``top`` over ``base``; what both have as sections is merged."""
    both = {key for key in base if isinstance(base[key], dict) and isinstance(top.get(key), dict)}
    return {**base, **top, **{key: _over(base[key], top[key]) for key in both}}
