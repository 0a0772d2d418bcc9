"""Parameters and multiply-accumulates of a model, in all, by type of layer and by part of the network."""

from __future__ import annotations

import copy
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Counted = _ConvNd | nn.Linear
COUNTED = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm,
)  # fmt: skip


class Cost(NamedTuple):
    """Of some layers: counts, or per cent of the whole model."""

    params: float
    madds: float


@dataclass(frozen=True)
class Complexity:
    """What a model costs for one image; the rows of ``by_type`` and of ``by_part`` each add up to the totals."""

    params: int
    madds: int  # multiply-accumulates: half of the figure that counts a multiplication and an addition as two
    by_type: dict[str, Cost]  # "conv 1x1", "depthwise 3x3", "linear", "norm", ...; the dearest in madds first
    by_part: dict[str, Cost]  # "backbone stem", "backbone stride 8", "extras", ...; in the order of the network

    @property
    def params_without_norm(self) -> int:
        """What is left once the norms are folded into the convolutions, their biases aside."""
        return self.params - (int(self.by_type["norm"].params) if "norm" in self.by_type else 0)

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
    calls = _calls(model, image_size)
    madds: dict[str, int] = defaultdict(int)
    for call in calls:
        madds[call.type] += call.madds
    params = _params(model)
    counts: dict[str, int] = defaultdict(int)
    for module, number in params.values():
        counts[layer_type(module)] += number
    names = sorted({*counts, *madds}, key=lambda name: (-madds[name], -counts[name]))
    by_type = {name: Cost(counts[name], madds[name]) for name in names}
    return Complexity(sum(counts.values()), sum(madds.values()), by_type, _by_part(model, calls, params, image_size[0]))


class _Call(NamedTuple):
    """One use of a counted layer."""

    name: str  # of the module
    type: str
    madds: int
    rows: int  # of its output; 0 for a linear layer


def _calls(model: nn.Module, image_size: tuple[int, int]) -> list[_Call]:
    """What a forward pass uses, in its order."""
    ghost = copy.deepcopy(model).to("meta").eval()  # shapes without data: no arithmetic, no batch statistics
    calls: list[_Call] = []

    def note(name: str, module: Counted, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        madds = module.weight.numel() * _positions(module, inputs[0], output)
        calls.append(_Call(name, layer_type(module), madds, output.shape[2] if output.ndim > 2 else 0))

    for name, module in ghost.named_modules():
        if isinstance(module, COUNTED):
            module.register_forward_hook(partial(note, name))
    dtype = next((p.dtype for p in ghost.parameters() if p.is_floating_point()), torch.float32)
    with torch.no_grad():
        ghost(torch.empty(1, 3, *image_size, device="meta", dtype=dtype))
    return calls


def _by_part(
    model: nn.Module, calls: Sequence[_Call], params: Mapping[str, tuple[nn.Module, int]], height: int
) -> dict[str, Cost]:
    strides = _strides(calls, height)
    costs = {_part(name, strides): [0, 0] for name, _ in model.named_modules() if name in params}
    for name, (_, number) in params.items():
        costs[_part(name, strides)][0] += number
    for call in calls:
        costs[_part(call.name, strides)][1] += call.madds
    return {part: Cost(*cost) for part, cost in costs.items() if any(cost)}


def _strides(calls: Sequence[_Call], height: int) -> dict[str, int]:
    """The stride that each block of the backbone ends with: of the last layer in it, which is no squeeze-and-excite's."""
    ends = {block: call.rows for call in calls if call.rows and (block := _block(call.name))}
    return {block: 2 ** round(math.log2(height / rows)) for block, rows in ends.items()}


def _block(name: str) -> str | None:
    found = re.match(r"backbone\.blocks\.\d+", name)
    return found.group() if found else None


def _part(name: str, strides: Mapping[str, int]) -> str:
    """The row that a module called ``name`` belongs to: the stages of a backbone are told apart by stride."""
    if (block := _block(name)) and block in strides:
        return f"backbone stride {strides[block]}"
    words = name.split(".")
    return " ".join(words[:2] if words[0] == "backbone" else words[:1]) or "model"


def _positions(module: Counted, given: Tensor, output: Tensor) -> int:
    """How often the whole weight is applied: each weight takes part once at every place that it is laid on."""
    if isinstance(module, nn.Linear):
        return output.numel() // module.out_features
    if isinstance(module, TRANSPOSED):
        return given.numel() // module.in_channels
    return output.numel() // module.out_channels


def _params(model: nn.Module) -> dict[str, tuple[nn.Module, int]]:
    """Each module that has parameters of its own with their number; one that several layers share is the first one's.

    Of the model and not of its copy, where tied parameters have come apart.
    """
    counts: dict[str, tuple[nn.Module, int]] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(id(p) for p in own)
        if own or any(True for _ in module.parameters(recurse=False)):
            counts[name] = module, sum(p.numel() for p in own)
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
