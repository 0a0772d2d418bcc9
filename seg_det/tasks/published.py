"""Weights that were not trained here as a model with a card, so that they are measured like all others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from seg_det import __version__, checkpoint
from seg_det.tasks.classification import CLASSIFICATION
from seg_det.types import Category, ModelCard
from seg_det.weights import CATALOGUE, load_model, published_classifier

log = logging.getLogger(__name__)
CLASSIFIER = "seg_det.models.classifier.Classifier"


def is_published(reference: str) -> bool:
    """Whether ``reference`` is a name of the catalogue or a weights file of other tools, rather than a run of ours."""
    return reference in CATALOGUE or Path(reference).suffix in (".pth", ".pt", ".bin", ".safetensors")


def load_published(reference: str, categories: Sequence[Category]) -> tuple[nn.Module, ModelCard]:
    """A published classifier for the classes of the data that it is measured on. Raises UserError if it does not fit them."""
    found = published_classifier(reference)
    config = {"_target_": CLASSIFIER, "num_classes": len(categories), "backbone": found.backbone}
    model = checkpoint.build_model(config)
    report = load_model(model, reference)
    log.info("%s", report)
    card = ModelCard(
        task=CLASSIFICATION.name,
        name=Path(reference).stem,
        model=config,
        postprocess={},
        categories=tuple(categories),
        input_size=(found.input_size, found.input_size),
        mean=found.mean,
        std=found.std,
        resize=CLASSIFICATION.resizes[0],
        training_data={"name": CATALOGUE[reference].trained_on if reference in CATALOGUE else "unknown", "start": reference},
        version=__version__,
    )
    return model.eval(), card
