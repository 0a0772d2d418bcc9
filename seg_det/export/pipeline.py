"""The graphs that are exported: a network between its pre-processing and its post-processing, as the package's text says."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.export.base import Job
from seg_det.nn.blocks import fold_norms
from seg_det.nn.convolutions import in_format
from seg_det.ops.images import normalise
from seg_det.ops.resize_graph import fit
from seg_det.predict.graphs import Tail
from seg_det.predict.lookup import task_of
from seg_det.types import DenseDetections, ModelCard

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
    task = task_of(card)
    return task.raw_outputs if pipeline == "raw" else task.outputs


def completed(card: ModelCard, pipeline: str) -> ModelCard:
    """``card`` with every setting of its post-processing, which readers without this package have no defaults for.

    Raises UserError where it looks at an image more than once, or at images as they are where the input is fixed.
    """
    task = task_of(card)
    task.require_exportable(card)
    if card.resize == "whole" and pipeline != "full":
        raise UserError(
            f"{card.name} takes images as large as they are, and pipeline={pipeline} has a fixed input: add resize=letterbox or "
            "resize=stretch (and input_size=), or choose pipeline=full."
        )
    return card.replace(postprocess={**task.defaults, **card.postprocess})


def exportable(model: nn.Module) -> nn.Module:
    """A copy of ``model`` to export: evaluation mode, batch norms folded, nothing but what prediction needs."""
    model = in_format(copy.deepcopy(model).eval().float().cpu(), torch.contiguous_format)
    if getattr(model, "auxiliary", None) is not None:
        model.register_module("auxiliary", None)
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
        module: nn.Module = Full(network, card, tail)
        example = torch.randint(0, 256, (*EXAMPLE_SIZE, 3), dtype=torch.uint8)
        return Graph(module.eval(), example, {0: "height", 1: "width"}, "image", names)
    one = job.pipeline == "normalised" and tail is not None
    example = torch.randint(0, 256, (1 if one else 2, 3, height, width)).float()  # a side of 1 would not be dynamic
    module = network if job.pipeline == "raw" else Normalised(network, card, tail)
    return Graph(module.eval(), example, {} if one else {0: "batch"}, "images", names)


class Network(nn.Module):
    """The network with its normalisation: ``images`` f32 [B, 3, h, w], 0..255, to its raw outputs in float32."""

    mean: Tensor  # f32 [3]
    std: Tensor  # f32 [3]

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
        self.reader = task_of(card).graph(network.model, card, tail)

    def forward(self, images: Tensor) -> Any:
        return self.reader(self.network(images))


class Full(nn.Module):
    """From an image of any size to predictions in its pixels."""

    def __init__(self, network: Network, card: ModelCard, tail: Tail | None):
        super().__init__()
        self.network = network
        self.card = card
        self.reader: Any = task_of(card).graph(network.model, card, tail)

    def forward(self, image: Tensor) -> Any:
        pixels = image.permute(2, 0, 1).float()
        canvas = fit(pixels, self.card.resize, self.card.input_size, self.card.mean)
        return self.reader.of_image(self.network(canvas[None]), pixels, canvas)
