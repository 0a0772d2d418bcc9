"""RMSProp as TensorFlow computes it, which the papers' learning rates are for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor
from torch.optim import Optimizer


class RMSpropTF(Optimizer):
    """RMSProp with epsilon inside the root, squares that start at 1, and the rate inside the momentum.

    s <- alpha * s + (1 - alpha) * g^2;  v <- momentum * v + lr * g / sqrt(s + eps);  w <- w - v. With torch's own rule
    (root, then epsilon; squares from 0) the first steps are up to 1 / sqrt(1 - alpha) times as long, and an epsilon of 1,
    as the MobileNet recipes have it, means something else. Weight decay is added to the gradient.
    Source: TensorFlow's ApplyRMSProp.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        *,
        alpha: float = 0.9,
        eps: float = 1e-10,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            params, {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
        )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["square"] = torch.ones_like(parameter)
                self.state[parameter]["velocity"] = torch.zeros_like(parameter)
        squares = [self.state[p]["square"] for p in parameters]
        velocities = [self.state[p]["velocity"] for p in parameters]
        gradients: list[Tensor] | tuple[Tensor, ...] = [p.grad for p in parameters if p.grad is not None]
        if group["weight_decay"]:
            gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        torch._foreach_mul_(squares, group["alpha"])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["alpha"])
        root = torch._foreach_sqrt(torch._foreach_add(squares, group["eps"]))
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_addcdiv_(velocities, gradients, root, group["lr"])
        torch._foreach_sub_(parameters, velocities)
