"""What a model starts from: a whole model, a pretrained backbone, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from seg_det import checkpoint
from seg_det.errors import UserError
from seg_det.models.backbones.timm_features import (
    TimmFeatures,
    pretrained_normalisation,
    pretrained_state,
    rename_tensors,
)
from seg_det.registry import short_name
from seg_det.types import ModelCard
from seg_det.weights import (
    CATALOGUE,
    LoadReport,
    PublishedWeights,
    WeightsUnavailable,
    load_backbone,
    load_model,
    normalisation,
    read_tensors,
    resolve,
)

log = logging.getLogger(__name__)
AUTO, TIMM = "auto", "timm"
REPORT = "report.html"  # what a run writes last
# In checkpoints: that training was over, and how many batches of an epoch a checkpoint within it has behind it.
ENDED, MID_EPOCH, BATCHES = "ended", "mid_epoch", "batches"
VALIDATING = "validating"  # of a checkpoint within an epoch: that its validation comes next


@dataclass(frozen=True)
class Start:
    """Where the first weights come from; the first that is given holds.

    ``model`` and ``backbone`` (a run, a checkpoint, a name of the catalogue, a path or an address; for backbones also "timm",
    timm's own for its networks, and "none") are the user's word: they are loaded or the run ends. ``recipe`` is a suggestion,
    used where it fits and can be had: a name of the catalogue, or "auto" for the published weights of this very backbone.
    """

    model: str | None = None
    backbone: str | None = None
    recipe: str | None = None


class Started(NamedTuple):
    """What was loaded, "none" for nothing, and the normalisation of images that it was trained with, where that is known."""

    weights: str
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


def load_start(model: nn.Module, start: Start, classes: Sequence[str], backbone: Mapping[str, Any]) -> Started:
    """Load the start weights into ``model``, whose backbone has the configuration ``backbone``.

    Raises UserError if they do not fit.
    """
    if start.model:
        return _whole_model(model, start.model, classes)
    own = model.get_submodule("backbone")
    if start.backbone == TIMM:
        return _from_timm(own)
    if start.backbone and start.backbone != "none":
        path = _of_run(start.backbone)
        if isinstance(own, TimmFeatures):
            own.load_state_dict(rename_tensors(own, read_tensors(resolve(path))))
            log.info("Backbone from %s (timm's names).", start.backbone)
            return Started(start.backbone, *pretrained_normalisation(own.name))
        report = load_backbone(own, path)
        _tell(f"Backbone from {start.backbone}", report)
        return _started(start.backbone, path)
    if start.backbone is None and start.recipe:
        return _suggested(model, start.recipe, backbone)
    return Started("none")


def _whole_model(model: nn.Module, reference: str, classes: Sequence[str]) -> Started:
    path = _of_run(reference)
    if path.endswith(".ckpt"):
        _same_classes(classes, Path(path))
    _tell(f"Model from {path}", load_model(model, path, classes))
    return _started(path, path)


def _of_run(reference: str) -> str:
    """The checkpoint of a run's folder; anything else as it is."""
    return str(checkpoint.find(reference)) if reference not in CATALOGUE and Path(reference).is_dir() else reference


def _started(reference: str, path: str) -> Started:
    """What was loaded from ``path``, with the images' normalisation that its catalogue row, card or naming tells."""
    if row := CATALOGUE.get(path):
        return Started(reference, row.mean, row.std)
    if path.endswith(".ckpt") and (card := checkpoint.card_of(Path(path))):
        return Started(reference, card.mean, card.std)
    return Started(reference, *(normalisation(path) or ()))


def _from_timm(backbone: nn.Module) -> Started:
    if not isinstance(backbone, TimmFeatures):
        raise UserError("backbone.weights=timm is for backbone=timm: name published weights, a file or an address.")
    try:
        tensors = pretrained_state(backbone.name)
    except UserError as error:
        raise WeightsUnavailable(str(error)) from error
    backbone.load_state_dict({key: tensors[key] for key in backbone.state_dict()})
    log.info("Backbone from timm's weights for %s (%d tensors).", backbone.name, len(backbone.state_dict()))
    return Started(f"timm's {backbone.name}", *pretrained_normalisation(backbone.name))


def _suggested(model: nn.Module, name: str, backbone: Mapping[str, Any]) -> Started:
    own = model.get_submodule("backbone")
    try:
        if name == AUTO and isinstance(own, TimmFeatures):
            return _from_timm(own)
        row = _fitting(name, backbone)
        _tell(f"Backbone from {row.name}, {row.figure}", load_backbone(own, row.name))
        return _started(row.name, row.name)
    except WeightsUnavailable as error:
        log.warning("TRAINING FROM SCRATCH: %s. Expect a much lower accuracy.", str(error).rstrip("."))
        return Started("none")


def _fitting(name: str, backbone: Mapping[str, Any]) -> PublishedWeights:
    """The row of the catalogue that a recipe's ``name`` means. Raises WeightsUnavailable if it is not for this backbone."""
    if name not in (AUTO, *CATALOGUE):
        raise UserError(f"recipe.backbone_weights must be auto, one of {', '.join(CATALOGUE)}, or null; got {name!r}.")
    row = CATALOGUE[name] if name in CATALOGUE else _nearest(backbone)
    if row is None:
        told = {"of": short_name(backbone["_target_"]), **backbone}
        settings = ", ".join(f"{key} {told[key]}" for key in ("variant", "minimalistic", "width") if key in told)
        raise WeightsUnavailable(f"no published weights are for {told['of']} with {settings or 'these settings'}")
    found = row.differences(backbone)
    if differing := [*found.shapes, *found.conventions]:
        raise WeightsUnavailable(f"the weights {row.name} are for {' and '.join(differing)}")
    return row


def _nearest(backbone: Mapping[str, Any]) -> PublishedWeights | None:
    """The row of the catalogue whose tensors fit, with the fewest settings that differ."""
    found = {row.name: row.differences(backbone) for row in CATALOGUE.values()}
    fitting = [name for name, differences in found.items() if not differences.shapes]
    nearest = min(fitting, key=lambda name: (len(found[name].conventions), len(found[name].tail)), default=None)
    return CATALOGUE[nearest] if nearest else None


def epochs_of(path: Path) -> int:
    """The whole epochs that a checkpoint of training has behind it. Raises UserError where it does not say."""
    content = checkpoint.read(path)
    if not isinstance(epoch := content.get("epoch"), int) or epoch < (-1 if MID_EPOCH in content else 0):
        raise UserError(f"{path} does not say how many epochs it has behind it: name a checkpoint of train.py.")
    return epoch + 1


def steps_of(path: Path) -> int:
    """The steps that a checkpoint of training has behind it. Raises UserError where it does not say."""
    if not isinstance(steps := checkpoint.read(path).get("global_step"), int) or steps < 0:
        raise UserError(f"{path} does not say how many steps it has behind it: name a checkpoint of train.py.")
    return steps


def lacks_validation(path: Path) -> bool:
    """Whether a checkpoint was written when all steps of its epoch were done, and before its validation was."""
    position = checkpoint.read(path).get(MID_EPOCH)
    return isinstance(position, dict) and position.get(VALIDATING) is True


def lacks_report(path: Path, max_epochs: Any) -> bool:
    """Whether the run of the checkpoint ``path`` was ended after its last epoch, before all of its folder was written.

    The last epoch is that of ``max_epochs``, or the one after which early stopping or a timer ended the training.
    """
    if not isinstance(max_epochs, int) or (path.parent.parent / REPORT).is_file():
        return False
    return epochs_of(path) >= max_epochs or checkpoint.read(path).get(ENDED) is True


def require_epochs_left(path: Path, max_epochs: int) -> None:
    """Raise UserError for a checkpoint without epochs left."""
    if (epochs := epochs_of(path)) >= max_epochs:
        raise UserError(f"{path} has {epochs} epochs behind it, all that trainer.max_epochs asks for: set more.")


def check_resume(path: Path, config: Mapping[str, Any]) -> None:
    """Raise UserError for a checkpoint of another model than the run's ``config`` describes."""
    content, what = checkpoint.read(path), f"The configuration of {path}"
    card = ModelCard.from_dict(content["card"], f"The card of {path}")
    configured = card.replace(model={**config, "num_classes": len(card.categories)})
    checkpoint.require_fit(checkpoint.outline(configured, what), checkpoint.model_state(content), what)


def _same_classes(classes: Sequence[str], path: Path) -> None:
    card = ModelCard.from_dict(checkpoint.read(path)["card"], f"The card of {path}")
    theirs = [category.name for category in card.categories]
    if theirs != list(classes):
        differ = next(
            (f"{a} against {b}" for a, b in zip(theirs, classes, strict=False) if a != b), "the first are the same"
        )
        raise UserError(
            f"{path} has {len(theirs)} classes, the data has {len(classes)}, and they differ ({differ}): weights= takes a "
            f"model of the same classes in the same order; backbone.weights={path} takes its backbone alone."
        )


def _tell(what: str, report: LoadReport) -> None:
    log.info("%s: %s.", what, report)
    for warning in report.warnings:
        log.warning("%s", warning)
