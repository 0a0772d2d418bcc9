"""Classification: from logits to the probability of each class of an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seg_det.predict import standalone
from seg_det.predict.graphs import ClassificationGraph
from seg_det.predict.predictor import NetworkPredictor, require_finite
from seg_det.predict.preprocessing import Size
from seg_det.predict.result import ClassificationResult
from seg_det.predict.task import Outputs, Task
from seg_det.types import ModelCard


class ImageClassifier(NetworkPredictor):
    """A classifier; its predictions are the logits [C] of each image, which rank the classes as their probabilities do."""

    def decode(self, raw: Tensor, canvas: Size, sizes: Sequence[Size]) -> list[Tensor]:
        """The logits of each image."""
        require_finite([raw])
        return list(raw)


def _result(logits: Tensor, card: ModelCard, size: Size, source: Path | np.ndarray) -> ClassificationResult:
    logits = logits.detach().float()
    return ClassificationResult(card.categories, size, source, (logits - logits.logsumexp(-1)).exp().cpu().numpy())


def _read(outputs: Outputs, card: ModelCard, size: Size, in_image: bool) -> Tensor:
    # Predictions are logits: the logarithms of probabilities are such.
    return torch.from_numpy(np.array(outputs["scores"])).float().clamp(min=1e-30).log()


CLASSIFICATION = Task(
    name="classification",
    output=Tensor,
    resizes=("centre_crop",),
    predictor=ImageClassifier,
    result=_result,
    formats=("csv",),
    outputs=("scores",),
    raw_outputs=("logits",),
    raw=lambda outputs: outputs["logits"],
    read=_read,
    graph=ClassificationGraph,
    programs={
        "full": standalone.classification_full,
        "normalised": standalone.classification_normalised,
        "raw": standalone.classification_raw,
    },
    show=standalone.show_classification,
)
