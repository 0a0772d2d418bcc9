"""Parameters and multiply-accumulates of a model, in all and by type of layer."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
COUNTED = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm,
)  # fmt: skip


class Cost(NamedTuple):
    """Of one type of layer: counts, or per cent of the whole model."""

    params: float
    madds: float


@dataclass(frozen=True)
class Complexity:
    """What a model costs for one image; the rows of ``by_type`` add up to the totals."""

    params: int
    madds: int  # multiply-accumulates: half of the figure that counts a multiplication and an addition as two
    by_type: dict[str, Cost]  # "conv 1x1", "depthwise 3x3", "linear", "norm", ...; the dearest in madds first

    @property
    def params_without_norm(self) -> int:
        """What is left once the norms are folded into the convolutions, their biases aside."""
        return self.params - (self.by_type["norm"].params if "norm" in self.by_type else 0)

    def shares(self) -> dict[str, Cost]:
        """Per cent of the totals, as MobileNetV1 Table 2 gives them."""
        return {
            name: Cost(100 * cost.params / max(self.params, 1), 100 * cost.madds / max(self.madds, 1))
            for name, cost in self.by_type.items()
        }


def count(model: nn.Module, image_size: tuple[int, int]) -> Complexity:
    """Count a model at ``image_size`` (H, W), batch 1, RGB; the model itself is neither run nor changed.

    Convolutions and linear layers are counted with all their taps, those on padding included, and without the addition
    of a bias; a layer that is used several times, each time. Norms, activations, additions, pooling and functional
    calls cost nothing here, which is how the papers count.
    """
    ghost = copy.deepcopy(model).to("meta").eval()  # shapes without data: no arithmetic, no batch statistics
    madds: dict[str, int] = defaultdict(int)

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        madds[layer_type(module)] += module.weight.numel() * _positions(module, inputs[0], output)

    for module in ghost.modules():
        if isinstance(module, COUNTED):
            module.register_forward_hook(note)
    dtype = next((p.dtype for p in ghost.parameters() if p.is_floating_point()), torch.float32)
    with torch.no_grad():
        ghost(torch.empty(1, 3, *image_size, device="meta", dtype=dtype))
    params = _params_by_type(model)  # not of the ghost, where tied parameters have come apart
    names = sorted({*params, *madds}, key=lambda name: (-madds[name], -params[name]))
    by_type = {name: Cost(params[name], madds[name]) for name in names}
    return Complexity(sum(params.values()), sum(madds.values()), by_type)


def _positions(module: nn.Module, given: Tensor, output: Tensor) -> int:
    """How often the whole weight is applied: each weight takes part once at every place that it is laid on."""
    if isinstance(module, nn.Linear):
        return output.numel() // module.out_features
    if isinstance(module, TRANSPOSED):
        return given.numel() // module.in_channels
    return output.numel() // module.out_channels


def _params_by_type(model: nn.Module) -> dict[str, int]:
    """Number of parameters; one that several layers share is counted with the first of them."""
    counts: dict[str, int] = defaultdict(int)
    seen: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                counts[layer_type(module)] += parameter.numel()
    return counts


def layer_type(module: nn.Module) -> str:
    """The row that a layer belongs to: ``"conv 3x3"``, ``"depthwise 5x5"``, ``"linear"``, ``"norm"`` or ``"other"``."""
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, NORMS):
        return "norm"
    if not isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        return "other"
    return f"{_conv_kind(module)} {'x'.join(str(k) for k in module.kernel_size)}"


def _conv_kind(module: nn.Module) -> str:
    if isinstance(module, TRANSPOSED):
        return "transposed conv"
    if module.groups == 1:
        return "conv"
    return "depthwise" if module.groups == module.in_channels else "grouped conv"
