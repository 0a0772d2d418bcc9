"""Post-processing as graphs that can be exported, one class a task: raw output in, outputs of the file out.

Each is built from a model, its card with every setting of its post-processing, and ``tail``, a runtime's own suppression of
one image (None: ours). Called, it gives predictions in pixels of the input; ``of_image`` gives them in pixels of the image
[3, H, W] that lies on ``canvas`` [3, h, w] by the card's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_det.ops.anchors import anchored
from seg_det.ops.resize_graph import extents, side_lengths
from seg_det.postprocess import candidates, select_static
from seg_det.types import DenseDetections, ModelCard

CONSIDERED = 1000  # pairs of anchor and class in the static suppression


class Found(NamedTuple):
    """Detections of one image with a fixed number of rows; those from ``found`` on are zero."""

    boxes: Tensor  # f32 [M, 4]
    scores: Tensor  # f32 [M], best first
    labels: Tensor  # i64 [M]
    found: Tensor  # i64 []


# Boxes [A, 4] and scores [A, C], -1 where there is no candidate, iou_threshold and max_detections by name.
Tail = Callable[..., Found]


class DetectionGraph(nn.Module):
    """Decoding and suppression; a detector's card stretches, so that boxes scale by sides."""

    anchors: Tensor  # f32 [A, 4]
    sides: Tensor  # f32 [4]

    def __init__(self, model: nn.Module, card: ModelCard, tail: Tail | None):
        super().__init__()
        settings = card.postprocess
        self.size = card.input_size
        self.limits = {name: settings[name] for name in ("iou_threshold", "max_detections")}
        self.candidates: Callable[..., tuple[Tensor, Tensor]] = partial(
            candidates, **{name: settings[name] for name in ("score", "score_threshold", "max_candidates")}
        )
        self.tail = tail
        self.register_buffer("anchors", anchored(model).anchors(card.input_size))
        self.register_buffer("sides", torch.tensor([self.size[1], self.size[0]] * 2, dtype=torch.float32))

    def forward(self, raw: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        boxes, scores = self.candidates(DenseDetections(*raw), self.anchors, self.size)
        if self.tail is None:
            return select_static(boxes, scores, **self.limits, considered=CONSIDERED)
        return tuple(output[None] for output in self.tail(boxes[0], scores[0], **self.limits))

    def of_image(self, raw: tuple[Tensor, Tensor], image: Tensor, canvas: Tensor) -> tuple[Tensor, ...]:
        boxes, scores, labels, count = (output[0] for output in self(raw))
        height, width = side_lengths(image)
        return boxes * (torch.stack([width, height, width, height]).float() / self.sides), scores, labels, count


class SegmentationGraph(nn.Module):
    """The class of each pixel, by bilinear interpolation of the logits or from the nearest cell."""

    def __init__(self, model: nn.Module, card: ModelCard, tail: Tail | None):
        super().__init__()
        self.rule, self.size = card.resize, card.input_size
        self.output = card.postprocess["output"]
        self.align_corners = card.postprocess["align_corners"]

    def forward(self, logits: Tensor) -> Tensor:
        """At the input's own size: the arithmetic of :meth:`_labels` with operators that every runtime has fast."""
        if self.output != "labels":
            wide = F.interpolate(logits, self.size, mode="bilinear", align_corners=self.align_corners)
            return wide.argmax(1).to(torch.uint8)
        labels = logits.argmax(1)
        for dim, side in zip((1, 2), self.size, strict=True):
            labels = labels.index_select(dim, self._nearest(side, labels.shape[dim]))
        return labels.to(torch.uint8)

    def _nearest(self, side: int, cells: int) -> Tensor:
        """The cell of each pixel of the input, i64 [side], as numbers that stand in the graph."""
        steps = (np.arange(side) + 0.5) / side
        places = (steps * side - 0.5) * ((cells - 1) / max(1, side - 1)) if self.align_corners else steps * cells - 0.5
        return torch.tensor(np.clip(np.floor(places.clip(min=0) + 0.5), 0, cells - 1).astype(int).tolist())

    def of_image(self, logits: Tensor, image: Tensor, canvas: Tensor) -> Tensor:
        seen = canvas.shape[-2:]
        covered: Sequence[Tensor]
        if self.rule == "whole":
            covered = side_lengths(canvas)
        else:
            covered = [
                side * extent.length / extent.content
                for side, extent in zip(seen, extents(self.rule, image, self.size), strict=True)
            ]
        return self._labels(logits, image.shape[-2:], covered, seen)[0]

    def _labels(self, logits: Tensor, counts: Any, covered: Any, seen: Any) -> Tensor:
        """Labels u8 [B, *counts] of an image whose pixels ``covered`` (H, W) the map lies on, seen at ``seen`` (H, W)."""
        scores = logits.argmax(1, keepdim=True) if self.output == "labels" else logits
        for dim, count, stop, pixels in zip((2, 3), counts, covered, seen, strict=True):
            places = self._places(count, stop, pixels, logits.shape[dim])
            scores = self._along(scores, places, logits.shape[dim], dim)
        labels = scores[:, 0] if self.output == "labels" else scores.argmax(1)
        return labels.to(torch.uint8)

    def _places(self, count: int, stop: Tensor, seen: int, cells: int) -> Tensor:
        share = (torch.arange(count, dtype=torch.float64) + 0.5) / stop
        places = (share * seen - 0.5) * ((cells - 1) / max(1, seen - 1)) if self.align_corners else share * cells - 0.5
        return torch.minimum(places.clamp(min=0), torch.scalar_tensor(cells - 1.0, dtype=torch.float64))

    def _along(self, x: Tensor, places: Tensor, cells: int, dim: int) -> Tensor:
        if self.output == "labels":
            return x.index_select(
                dim, torch.minimum((places + 0.5).floor(), torch.scalar_tensor(cells - 1.0, dtype=torch.float64)).long()
            )
        low = places.floor()
        high = torch.minimum(low + 1, torch.scalar_tensor(cells - 1.0, dtype=torch.float64)).long()
        share = ((places - low)[:, None] if dim == 2 else places - low).float()
        return torch.lerp(x.index_select(dim, low.long()), x.index_select(dim, high), share)


class ClassificationGraph(nn.Module):
    """Probabilities."""

    def __init__(self, model: nn.Module, card: ModelCard, tail: Tail | None):
        super().__init__()

    def forward(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def of_image(self, logits: Tensor, image: Tensor, canvas: Tensor) -> Tensor:
        return self.forward(logits)[0]
