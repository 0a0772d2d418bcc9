"""The graphs that are exported: a network between its pre-processing and its post-processing, as the package's text says."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.export.base import Job, Tail
from seg_det.export.resize import extents, fit, side_lengths
from seg_det.nn.blocks import fold_norms
from seg_det.ops.images import normalise
from seg_det.postprocess import candidates, detect, select_static
from seg_det.types import DenseDetections, ModelCard

CONSIDERED = 1000  # pairs of anchor and class in the static suppression
OUTPUTS = {
    "detection": ("boxes", "scores", "labels", "count"),
    "segmentation": ("mask",),
    "classification": ("scores",),
}
RAW = {"detection": ("logits", "deltas"), "segmentation": ("logits",), "classification": ("logits",)}
DEFAULTS = {
    "detection": {
        name: setting.default
        for name, setting in inspect.signature(detect).parameters.items()
        if setting.kind is setting.KEYWORD_ONLY
    },
    "segmentation": {"output": "logits", "align_corners": False},
}
EXAMPLE_SIZE = (120, 160)  # (H, W) of the image that a dynamic graph is traced with


@dataclass(frozen=True)
class Graph:
    """What a target converts."""

    module: nn.Module
    example: Tensor  # its input
    dynamic: dict[int, str]  # sides of the input that may differ, by name
    input: str
    outputs: tuple[str, ...]


def outputs_of(card: ModelCard, pipeline: str) -> tuple[str, ...]:
    """Names of the outputs, in order."""
    return (RAW if pipeline == "raw" else OUTPUTS)[card.task]


def completed(card: ModelCard, pipeline: str) -> ModelCard:
    """``card`` with every setting of its post-processing, which readers without this package have no defaults for.

    Raises UserError where it looks at an image more than once, or at images as they are where the input is fixed.
    """
    reading = card.postprocess
    if card.task == "segmentation" and (
        reading.get("flip") or list(reading.get("scales", (1.0,))) != [1.0] or reading.get("overlap") is not None
    ):
        raise UserError(
            f"{card.name} looks at each image more than once: export with postprocess.flip=false, "
            "postprocess.scales=[1.0] and postprocess.overlap=null."
        )
    if card.resize == "whole" and pipeline != "full":
        raise UserError(
            f"{card.name} takes images as large as they are, and pipeline={pipeline} has a fixed input: add resize=letterbox or "
            "resize=stretch (and input_size=), or choose pipeline=full."
        )
    return card.replace(postprocess={**DEFAULTS.get(card.task, {}), **reading})


def exportable(model: nn.Module) -> nn.Module:
    """A copy of ``model`` to export: evaluation mode, batch norms folded, nothing but what prediction needs."""
    model = copy.deepcopy(model).eval().float().cpu().to(memory_format=torch.contiguous_format)
    if getattr(model, "auxiliary", None) is not None:
        model.auxiliary = None
    return fold_norms(model).requires_grad_(False)


def build_graph(job: Job, *, tail: Tail | None = None, half: bool | None = None) -> Graph:
    """The graph of ``job``. ``tail`` is a runtime's own suppression of one image, else it is the static one of ours.

    ``half`` (by default what the job says) makes the network compute in 16 bits, between 32-bit ends.
    """
    card = job.card
    network = Network(job.model, card, half=job.half if half is None else half)
    height, width = card.input_size
    names = outputs_of(card, job.pipeline)
    if job.pipeline == "full":
        module = Full(network, card, tail)
        example = torch.randint(0, 256, (*EXAMPLE_SIZE, 3), dtype=torch.uint8)
        return Graph(module.eval(), example, {0: "height", 1: "width"}, "image", names)
    one = job.pipeline == "normalised" and tail is not None
    example = torch.randint(0, 256, (1 if one else 2, 3, height, width)).float()  # a side of 1 would not be dynamic
    module = network if job.pipeline == "raw" else Normalised(network, card, tail)
    return Graph(module.eval(), example, {} if one else {0: "batch"}, "images", names)


class Network(nn.Module):
    """The network with its normalisation: ``images`` f32 [B, 3, h, w], 0..255, to its raw outputs in float32."""

    def __init__(self, model: nn.Module, card: ModelCard, *, half: bool):
        super().__init__()
        self.model = model.half() if half else model
        self.dtype = torch.float16 if half else torch.float32
        self.register_buffer("mean", torch.tensor(card.mean))
        self.register_buffer("std", torch.tensor(card.std))

    def forward(self, images: Tensor) -> Any:
        raw = self.model(normalise(images, self.mean, self.std).to(self.dtype))
        if isinstance(raw, Tensor):
            return raw.float()
        if isinstance(raw, DenseDetections):
            return raw.logits.float(), raw.deltas.float()
        return raw.logits.float()


class Normalised(nn.Module):
    """From resized images to predictions in pixels of these."""

    def __init__(self, network: Network, card: ModelCard, tail: Tail | None):
        super().__init__()
        self.network = network
        self.reader = READERS[card.task](network.model, card, tail)

    def forward(self, images: Tensor) -> Any:
        return self.reader(self.network(images))


class Full(nn.Module):
    """From an image of any size to predictions in its pixels."""

    def __init__(self, network: Network, card: ModelCard, tail: Tail | None):
        super().__init__()
        self.network = network
        self.card = card
        self.reader = READERS[card.task](network.model, card, tail)

    def forward(self, image: Tensor) -> Any:
        pixels = image.permute(2, 0, 1).float()
        canvas = fit(pixels, self.card.resize, self.card.input_size, self.card.mean)
        return self.reader.of_image(self.network(canvas[None]), pixels, canvas)


class DetectionReader(nn.Module):
    """Decoding and suppression; a detector's card stretches, so that boxes scale by sides."""

    def __init__(self, model: nn.Module, card: ModelCard, tail: Tail | None):
        super().__init__()
        settings = card.postprocess
        self.size = card.input_size
        self.limits = {name: settings[name] for name in ("iou_threshold", "max_detections")}
        self.candidates = partial(
            candidates, **{name: settings[name] for name in ("score", "score_threshold", "max_candidates")}
        )
        self.tail = tail
        self.register_buffer("anchors", model.anchors(card.input_size))
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


class SegmentationReader(nn.Module):
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


class ClassificationReader(nn.Module):
    """Probabilities."""

    def __init__(self, model: nn.Module, card: ModelCard, tail: Tail | None):
        super().__init__()

    def forward(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def of_image(self, logits: Tensor, image: Tensor, canvas: Tensor) -> Tensor:
        return self(logits)[0]


READERS = {
    "detection": DetectionReader,
    "segmentation": SegmentationReader,
    "classification": ClassificationReader,
}
