"""What 8 bits do to a network of this package, simulated in 32: the common ground of the runtimes that compute in integers.

The weights of each layer are rounded to [-127, 127] by output channel, its input to [0, 255] with a zero point for the
whole tensor. A norm behind a convolution multiplies each output channel by a number, which scales the channel's weights and
their step alike: rounding before or after folding is the same, so that the norms stay where they are.
Rounding lets gradients through, outside of the range none (arXiv 1712.05877, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

WEIGHT_LEVELS = 127
INPUT_LEVELS = 255
SLOWEST = 0.01  # the least share of a new batch in the range of an input
NAME = "simulation"  # of the part that a simulated layer has more than others
TINY = torch.finfo(torch.float32).tiny


def rounded_weights(weights: Tensor) -> Tensor:
    """``weights`` [out, ...] at one of 255 values of each output channel, the largest of which is kept exactly."""
    values = weights.float()
    steps = values.detach().flatten(1).abs().amax(1).div(WEIGHT_LEVELS).clamp(min=TINY)
    zeros = torch.zeros_like(steps, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(values, steps, zeros, 0, -WEIGHT_LEVELS, WEIGHT_LEVELS).to(
        weights.dtype
    )


def rounded(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``x`` at one of 256 values from ``low`` [] to ``high`` [], the range widened to 0, which is one of them."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = ((high - low) / INPUT_LEVELS).clamp(min=TINY)
    zero = (-low / step).round().clamp(0, INPUT_LEVELS).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(x.float(), step, zero, 0, INPUT_LEVELS).to(x.dtype)


class Simulation(nn.Module):
    """Part of a layer: while ``active`` the layer computes with rounded weights on a rounded input.

    In training mode it follows the input's range: the mean of the batches' least and largest values, from the hundredth batch
    on a moving one. While it ``widens`` the range takes in all values instead, which serves detectors better when the weights
    do not learn to live with the range.
    """

    low: Tensor  # f32 []
    high: Tensor  # f32 []
    batches: Tensor  # i64 []

    def __init__(self, device: torch.device):
        super().__init__()
        self.active = True
        self.widens = False
        self.register_buffer("low", torch.zeros((), device=device))
        self.register_buffer("high", torch.zeros((), device=device))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64, device=device))

    def before(self, layer: nn.Conv2d | nn.Linear, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x, *others = inputs
        if self.training:
            self._observe(x.detach().float())
        if not self.active:
            return None
        layer.__dict__["weight"] = rounded_weights(layer.weight)  # seen instead of the parameter, which stays as it is
        return rounded(x, self.low, self.high), *others

    def after(self, layer: nn.Conv2d | nn.Linear, inputs: tuple[Any, ...], output: Any) -> None:
        layer.__dict__.pop("weight", None)

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        low, high = x.aminmax()
        if self.widens:
            low, high = torch.minimum(low, self.low), torch.maximum(high, self.high)
        share = (self.batches + 1).reciprocal().clamp(min=1.0 if self.widens else SLOWEST)
        self.low.lerp_(low, share)
        self.high.lerp_(high, share)
        self.batches += 1


def simulate(model: nn.Module) -> dict[str, Simulation]:
    """Give every convolution and matrix of ``model`` its :class:`Simulation`; these by the layers' names."""
    found = {}
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            found[name] = Simulation(layer.weight.device).train(layer.training)
            layer.add_module(NAME, found[name])
            layer.register_forward_pre_hook(found[name].before)
            layer.register_forward_hook(found[name].after, always_call=True)
    return found


def calibrate(simulations: Iterable[Simulation], run: Callable[[], object]) -> None:
    """Find the whole ranges of the inputs while ``run`` calls the model, which computes in 32 bits meanwhile."""
    simulations = list(simulations)
    for simulation in simulations:
        simulation.train()
        simulation.active, simulation.widens = False, True
    run()
    for simulation in simulations:
        simulation.eval()
        simulation.active, simulation.widens = True, False


def take_ranges(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the simulations' entries of a model's ``state`` and return them: what is left is that of an ordinary model."""
    return {key: state.pop(key) for key in list(state) if f".{NAME}." in key}
