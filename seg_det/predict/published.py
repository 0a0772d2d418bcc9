"""Weights that were not trained here as a model with a card, so that they are measured like all others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from seg_det import __version__, checkpoint
from seg_det.errors import UserError
from seg_det.predict.classification import CLASSIFICATION
from seg_det.types import Category, ModelCard
from seg_det.weights import (
    CATALOGUE,
    PublishedClassifier,
    PublishedModel,
    known_categories,
    load_model,
    published_classifier,
    published_model,
)

log = logging.getLogger(__name__)
CLASSIFIER = "Classifier"


def is_published(reference: str) -> bool:
    """Whether ``reference`` is a name of the catalogue or a weights file of other tools, rather than a run of ours."""
    weights = Path(reference).suffix in (".pth", ".pt", ".bin", ".safetensors")
    return reference in CATALOGUE or (weights and not Path(reference).is_dir())


def load_published(
    reference: str, classes: Sequence[Category] | Sequence[str] | None = None
) -> tuple[nn.Module, ModelCard]:
    """A published classifier, detector or segmenter with its card.

    ``classes`` are the categories of the data that it is measured on, or names of those that a detector is to find; None:
    all that it knows. A detector finds the chosen ones alone, with the scores that it gives them among all.
    Raises UserError if the weights do not fit them.
    """
    categories = _categories(reference, classes)
    names = [category.name for category in categories]
    found: PublishedModel | PublishedClassifier
    if dense := published_model(reference, names):
        found = dense
        _require_classes(reference, dense, categories)
        config = {**dense.model, "num_classes": len(categories)}
        kind, resize, postprocess = dense.kind, dense.resize, dense.postprocess
    else:
        found = published_classifier(reference)
        if len(categories) not in (found.outputs, found.outputs - 1):  # some count a background besides the classes
            raise UserError(
                f"{reference} tells {found.outputs} classes apart and the data names {len(categories)}: for ImageNet's give "
                f"a list with its indices, dataset.val_list=..., and dataset.num_classes=1000."
            )
        if not found.told:
            log.warning(
                "The names in %s do not tell its padding, eps and normalisation: %s and the mean %s were assumed.",
                reference,
                ", ".join(f"{key} {value}" for key, value in found.backbone.items() if key != "_target_")
                or "the usual",
                list(found.mean),
            )
        config = {"_target_": CLASSIFIER, "num_classes": len(categories), "backbone": found.backbone}
        kind, resize, postprocess = CLASSIFICATION.name, CLASSIFICATION.resizes[0], {}
    model = checkpoint.build_model(config)
    log.info("%s", load_model(model, reference, names))
    card = ModelCard(
        task=kind,
        name=Path(reference).stem,
        model=config,
        postprocess=postprocess,
        categories=tuple(categories),
        input_size=(found.input_size, found.input_size),
        mean=found.mean,
        std=found.std,
        resize=resize,
        training_data={
            "name": CATALOGUE[reference].trained_on if reference in CATALOGUE else "unknown",
            "start": reference,
        },
        version=__version__,
    )
    return model.eval(), card


def _categories(reference: str, classes: Sequence[Category] | Sequence[str] | None) -> Sequence[Category]:
    names = [one for one in classes or () if isinstance(one, str)]
    given = [one for one in classes or () if isinstance(one, Category)]
    return given or known_categories(reference, None if classes is None else names)


def _require_classes(reference: str, model: PublishedModel, categories: Sequence[Category]) -> None:
    if not model.named and model.outputs != len(categories):
        raise UserError(
            f"The outputs of {reference} for each class ({model.outputs}) have no names, and the data has "
            f"{len(categories)} classes: say which they are, in the order of the outputs, with classes=[NAME,...]."
        )
