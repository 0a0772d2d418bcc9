"""Muon beside AdamW: filters that mix channels learn all their directions at one rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import cast, overload

import torch
from torch import Tensor
from torch.optim import AdamW

NARROW = 16  # rows or columns up to which a filter has too few directions: depthwise filters, outputs for few classes
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of x, x^3 and x^5: five rounds bring singular values from 0.01..1 near 1
ROUNDS = 5


class MuonAdamW(AdamW):
    """Muon for filters of more than 16 inputs and outputs, AdamW for everything else, with the same rates and weight decay.

    The step of a filter, read as a matrix [out, in * kernel], is its momentum (Nesterov's) with all singular values near 1,
    times 0.2 * lr * sqrt(longer side): about as long as AdamW's, whose rates so fit. ``momentum`` is of the filters and the
    first of AdamW's betas. torch.optim.Muon takes matrices alone, and one at a time; here those of one shape go together.
    Sources: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; for the length Liu et al. 2025, arXiv 2502.16982,
    section 2.2.
    """

    def __init__(self, groups: Iterable[dict], lr: float, *, momentum: float = 0.9, eps: float = 1e-8):
        parted = []
        for group in groups:
            for matrices in (True, False):
                parameters = [p for p in group["params"] if _mixes_channels(p) == matrices]
                if parameters:
                    parted.append({**group, "params": parameters, "matrices": matrices})
        super().__init__(parted, lr, betas=(momentum, 0.999), eps=eps)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:  # it clears and clips gradients through all groups, so before AdamW has its own alone
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["matrices"]]
        super().step()
        self.param_groups = groups
        for group in groups:
            if group["matrices"]:
                self._step_matrices([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _step_matrices(self, parameters: list[Tensor], group: dict) -> None:
        rate, momentum = group["lr"], group["betas"][0]
        alike = defaultdict(list)  # the parameters of one shape, lying down: fewer rows than columns
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())  # AdamW looks for it in every state that it loads
                state["momentum"] = torch.zeros_like(parameter)
            state["step"] += 1
            gradient = cast(Tensor, parameter.grad)  # parameters without one are left out before
            state["momentum"].lerp_(gradient, 1 - momentum)
            ahead = gradient.lerp(state["momentum"], momentum).flatten(1)
            stands = ahead.shape[0] > ahead.shape[1]
            ahead = ahead.T if stands else ahead
            alike[ahead.shape].append((parameter, ahead, stands))
        for (_, longer), some in alike.items():
            steps = orthogonalised(torch.stack([ahead for _, ahead, _ in some]))
            for (parameter, _, stands), step in zip(some, steps, strict=True):
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_((step.T if stands else step).reshape(parameter.shape), alpha=-0.2 * rate * longer**0.5)


def _mixes_channels(parameter: Tensor) -> bool:
    return parameter.ndim > 1 and min(parameter.shape[0], parameter[0].numel()) > NARROW


def orthogonalised(matrices: Tensor) -> Tensor:
    """f32 [N, rows, columns], rows <= columns -> the same with singular values near 1, most in 0.7..1.2, by Newton-Schulz."""
    first, third, fifth = COEFFICIENTS
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x
