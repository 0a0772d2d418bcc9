"""How long a training step takes here, before the first one is made."""

from __future__ import annotations

import time
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

WARM = 1  # steps that are not counted
COUNTED = 3
UNSTEADY = 1.6  # the slowest step of those counted over the fastest, from which the timing means nothing


class Timing(NamedTuple):
    """Seconds of training steps."""

    step: float
    slowest: float
    fastest: float

    @property
    def steady(self) -> bool:
        """Whether the steps took about the same time: not where other programs use the machine."""
        return self.slowest < UNSTEADY * self.fastest


def timed(model: nn.Module, batch_size: int, size: tuple[int, int], device: torch.device) -> Timing:
    """The time of forward and backward passes of ``model`` on random images f32 [batch_size, 3, H, W]."""
    model = model.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    images = torch.rand(batch_size, 3, *size, device=device).contiguous(memory_format=torch.channels_last)
    seconds = [_step(model, images, device) for _ in range(WARM + COUNTED)][WARM:]
    return Timing(median(seconds), max(seconds), min(seconds))


def _step(model: nn.Module, images: Tensor, device: torch.device) -> float:
    begin = time.perf_counter()
    torch.stack([part.float().square().mean() for part in _tensors(model(images))]).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def _tensors(raw: Any) -> list[Tensor]:
    """All tensors with gradients of raw output."""
    if isinstance(raw, Tensor):
        return [raw] if raw.requires_grad else []
    return [found for part in raw if part is not None for found in _tensors(part)]
