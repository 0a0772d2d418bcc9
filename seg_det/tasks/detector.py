"""A trained detector as a function: images in, detections out. Training, evaluation and prediction all call this one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seg_det.ops.images import normalise
from seg_det.postprocess import detect, to_file_size
from seg_det.types import DenseDetections, Detections, ModelCard


class Detector(nn.Module):
    """A model with the pre- and post-processing of its card."""

    def __init__(self, model: nn.Module, card: ModelCard):
        super().__init__()
        self.model = model
        self.card = card
        self.register_buffer("anchors", model.anchors(card.input_size), persistent=False)
        self.register_buffer("mean", torch.tensor(card.mean), persistent=False)
        self.register_buffer("std", torch.tensor(card.std), persistent=False)

    def forward(self, images: Tensor) -> DenseDetections:
        """Raw output for images u8 [B, 3, H, W] of the card's input size."""
        return self.model(normalise(images, self.mean, self.std))

    def detections(self, raw: DenseDetections, sizes: Tensor) -> list[Detections]:
        """Detections in pixels of the files, whose (H, W) are ``sizes`` [B, 2]."""
        size = self.card.input_size
        found = detect(raw, self.anchors, size, **self.card.postprocess)
        return [to_file_size(d, size, tuple(s)) for d, s in zip(found, sizes.tolist(), strict=True)]
