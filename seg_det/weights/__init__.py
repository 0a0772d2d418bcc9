"""Pretrained weights: where published ones come from, what a file holds, and filling a model from it.

``python -m seg_det.weights FILE`` says what a file (or a published name, or an address) holds.
"""

from seg_det.weights.catalogue import CATALOGUE, PublishedWeights, WeightsUnavailable
from seg_det.weights.fit import LoadReport
from seg_det.weights.loading import (
    describe,
    load_backbone,
    load_model,
    normalisation,
    read_tensors,
    resolve,
)
from seg_det.weights.published import (
    PublishedClassifier,
    PublishedModel,
    known_categories,
    published_classifier,
    published_model,
)

__all__ = [
    "CATALOGUE",
    "LoadReport",
    "PublishedClassifier",
    "PublishedModel",
    "PublishedWeights",
    "WeightsUnavailable",
    "describe",
    "known_categories",
    "load_backbone",
    "load_model",
    "normalisation",
    "published_classifier",
    "published_model",
    "read_tensors",
    "resolve",
]
