"""Norms for weights that were published without: those folded into the convolutions, as files of TensorFlow Lite are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seg_det.weights.fit import identity_norm


def folded_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The norms of ``model`` that only add a bias: what :func:`seg_det.weights.fit.fill` leaves of folded ones."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return [norm for norm in norms if _is_folded(norm)]


def _is_folded(norm: nn.BatchNorm2d) -> bool:
    pairs = ((getattr(norm, leaf), value) for leaf, value in identity_norm(norm.eps).items())
    return all(torch.equal(tensor, torch.full_like(tensor, value)) for tensor, value in pairs)


@torch.no_grad()
def unfold_norms(model: nn.Module, look: Callable[[], Any]) -> int:
    """Give the folded norms of ``model`` the statistics of images, and return how many there were.

    ``look`` runs the model on a batch. In evaluation mode each norm computes what it did before: its mean and variance become
    those of its input, its weight and bias take them out again. In training mode, where a folded norm would bring every
    channel to variance 1 and lose what the weights know, it now computes about the same.
    """
    norms, training = folded_norms(model), model.training
    if not norms:
        return 0
    seen: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}
    hooks = [norm.register_forward_pre_hook(partial(_remember, seen)) for norm in norms]
    model.eval()
    look()
    model.train(training)
    for hook in hooks:
        hook.remove()
    for norm, (variance, mean) in seen.items():
        norm.get_buffer("running_mean").copy_(mean)
        norm.get_buffer("running_var").copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)
    return len(seen)


def _remember(seen: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]], norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
    seen[norm] = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
