"""What a model starts from: a whole model, a pretrained backbone, or nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from seg_det import checkpoint
from seg_det.types import UserError
from seg_det.weights import CATALOGUE, WeightsUnavailable, load_backbone, load_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where the first weights come from; the first that is given holds.

    ``model`` (a run or checkpoint) and ``backbone`` (a catalogue name, path or URL; "none" for no pretrained weights) are the
    user's word: they are loaded or the run ends. ``recipe`` is a suggestion: used where it fits and can be had.
    """

    model: str | None = None
    backbone: str | None = None
    recipe: str | None = None


def load_start(model: nn.Module, start: Start, classes: list[str], backbone_name: str, width: float | None) -> str:
    """Load the start weights into ``model``; returns what they are, for the report. Raises UserError if they do not fit."""
    if start.model:
        path = checkpoint.find(start.model)
        _same_classes(classes, path)
        load_model(model, path)
        return str(path)
    if start.backbone and start.backbone != "none":
        report = load_backbone(model.backbone, start.backbone)
        log.info("Backbone from %s (%d tensors; not needed: %s).", start.backbone, report.loaded, _names(report.unused))
        return start.backbone
    if start.backbone is None and start.recipe:
        return _suggested(model, start.recipe, {"backbone": backbone_name, "width": width})
    return "none"


def _suggested(model: nn.Module, name: str, wanted: dict[str, object]) -> str:
    row = CATALOGUE.get(name)
    if row is None:
        raise UserError(f"recipe.backbone_weights must be one of {', '.join(CATALOGUE)}, or null; got {name!r}.")
    differing = [f"{key} {value}" for key, value in row.fits.items() if wanted.get(key) != value]
    reason = f"they are for {' and '.join(differing)}" if differing else None
    if reason is None:
        try:
            report = load_backbone(model.backbone, name)
        except WeightsUnavailable as error:
            reason = str(error).rstrip(".")
        else:
            log.info("Backbone from %s: %s; not needed: %s.", name, row.figure, _names(report.unused))
            return name
    log.warning("TRAINING FROM SCRATCH: the weights %s are not used: %s. Expect a much lower accuracy.", name, reason)
    return "none"


def _same_classes(classes: list[str], path: Path) -> None:
    theirs = [category["name"] for category in checkpoint.read(path)["card"]["categories"]]
    if theirs != classes:
        differ = next(
            (f"{a} against {b}" for a, b in zip(theirs, classes, strict=False) if a != b), "the first are the same"
        )
        raise UserError(
            f"{path} has {len(theirs)} classes, the data has {len(classes)}, and they differ ({differ}): weights= takes a "
            f"model of the same classes in the same order; backbone.weights={path} takes its backbone alone."
        )


def _names(unused: tuple[str, ...]) -> str:
    return f"{', '.join(unused[:4])}{' …' if len(unused) > 4 else ''}" if unused else "nothing"
