"""Pretrained weights: where published ones come from, what a file holds, and filling a model from it.

``python -m seg_det.weights FILE`` says what a file (or a published name, or an address) holds.
"""

from seg_det.weights.catalogue import CATALOGUE, PublishedWeights, WeightsUnavailable
from seg_det.weights.fit import LoadReport
from seg_det.weights.loading import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    describe,
    load_backbone,
    load_model,
    published_classifier,
    read_tensors,
    resolve,
)

__all__ = [
    "CATALOGUE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LoadReport",
    "PublishedWeights",
    "WeightsUnavailable",
    "describe",
    "load_backbone",
    "load_model",
    "published_classifier",
    "read_tensors",
    "resolve",
]
