"""Whether the tensors of a file fit a model, and filling the model with them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.nn.convolutions import SameConv2d
from seg_det.weights.naming import Naming
from seg_det.weights.networks import Network, identify

STEM = "backbone.stem.conv.weight"
CLASSIFIER = ("classifier.weight", "classifier.bias")
PADDING_NAMES = {"same": "SAME padding", "symmetric": "symmetric padding"}
BOXES = "xywh"  # the box code: shift in x and y, logarithms of width and height
CLASS_OUTPUTS = r"class_predictors\.\d+\.project\.\w+"
BOX_OUTPUTS = r"box_predictors\.\d+\.project\.\w+"
BACKGROUND = 1001  # outputs of TensorFlow's ImageNet classifiers
NORM = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}  # does nothing but for its eps


class Outputs(NamedTuple):
    """Which outputs of an anchor a detector takes over: the file has ``total`` of them, the model ``chosen``."""

    total: int
    chosen: tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """What was loaded.

    ``loaded`` counts the model's tensors that were filled, ``unused`` are the keys of the file that the model had no place
    for, ``kept`` the layers left as initialised, ``notes`` what was changed on the way, and ``warnings`` sentences about
    settings of the model under which these weights compute something else.
    """

    path: Path
    naming: str
    loaded: int
    unused: tuple[str, ...]
    kept: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        kept = [f"left as initialised: {some(self.kept, shown=8)}"] if self.kept else []
        rest = [f"not needed: {some(self.unused)}"] if self.unused else []
        whole = f"{self.loaded} tensors from {self.path} ({self.naming} names)"
        return "; ".join([whole, *kept, *rest, *self.notes, *self.warnings])


def some(items: Sequence[str], shown: int = 3) -> str:
    """The first ``shown`` items and how many more there are."""
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


def arrange(tensors: Mapping[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    """The tensors under our names of a whole model, in PyTorch's layout; parts of one tensor are joined."""
    given = naming.rename(tensors)
    # TensorFlow's filters are height, width, inputs, outputs; files of TensorFlow names may be in either layout.
    stem = tensors[given[STEM][0]].shape if STEM in given else ()
    turned = len(stem) == 4 and stem[0] == stem[1] == stem[2] != stem[3]
    parts = {
        ours: [_turned(tensors[key], key) if turned else tensors[key] for key in keys] for ours, keys in given.items()
    }
    return {ours: _boxes_ordered(ours, _joined(tensors), naming.boxes) for ours, tensors in parts.items()}


def _turned(tensor: Tensor, key: str) -> Tensor:
    if tensor.ndim != 4:
        return tensor
    if "depthwise_weights" in key:  # height, width, channels, multiplier
        return tensor.permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(1)
    return tensor.permute(3, 2, 0, 1)


def _joined(parts: list[Tensor]) -> Tensor:
    fit = len(parts) > 1 and parts[0].ndim and len({part.shape[1:] for part in parts}) == 1
    return torch.cat(parts) if fit else parts[0]


def _boxes_ordered(key: str, tensor: Tensor, order: str) -> Tensor:
    """The outputs of a box predictor with the four numbers of each anchor in our order."""
    if order == BOXES or not re.fullmatch(BOX_OUTPUTS, key):
        return tensor
    return _taken(tensor, Outputs(len(BOXES), tuple(order.index(side) for side in BOXES)))


def _taken(tensor: Tensor, outputs: Outputs) -> Tensor:
    """The chosen outputs of every anchor; a tensor that has no such outputs as it is, to be refused by its shape."""
    if not tensor.ndim or tensor.shape[0] % outputs.total:
        return tensor
    return tensor.unflatten(0, (-1, outputs.total))[:, list(outputs.chosen)].flatten(0, 1)


def fill(
    model: nn.Module, tensors: Mapping[str, Tensor], naming: Naming, path: Path, outputs: Outputs | None = None
) -> LoadReport:
    """Fill a model that has a ``backbone``; all of it but ``backbone.reshaped`` must fit, or nothing is changed.

    ``outputs`` are those of the file's class predictors that the model has; None: all.
    Raises UserError with the missing keys, the differing shapes, and the network that the file seems to hold.
    """
    own = model.state_dict()
    sources, arranged = naming.rename(tensors), arrange(tensors, naming)
    if outputs:
        arranged = {k: _taken(t, outputs) if re.fullmatch(CLASS_OUTPUTS, k) else t for k, t in arranged.items()}
    given, notes, folded = _adapted(arranged, model, naming)
    if outputs:
        notes.append(
            f"of {outputs.total} outputs of an anchor {len(outputs.chosen)} were taken, by the names of the classes"
        )
    missing = [key for key in own if key not in given and not key.endswith(".num_batches_tracked")]
    differing = [key for key, tensor in given.items() if not _alike(tensor, own[key])]
    reshaped = tuple(f"backbone.{prefix}" for prefix in getattr(model.backbone, "reshaped", ()))
    kept = {_layer(key) for key in (*missing, *differing) if key.startswith(reshaped)}
    missing, differing = ([key for key in keys if _layer(key) not in kept] for keys in (missing, differing))
    if missing or differing:
        shapes = [f"{some(sources[key])} {_form(given[key])} for {key} {_form(own[key])}" for key in differing]
        raise _does_not_fit(f"{path} ({naming.name} names)", missing, shapes, identify(arranged, naming))
    given = {key: tensor for key, tensor in given.items() if _layer(key) not in kept}
    _copy(given, own, path)
    used = {key for ours in given for key in sources.get(ours, ())}
    return LoadReport(
        path=path,
        naming=naming.name,
        loaded=len(given),
        unused=tuple(key for key in tensors if key not in used),
        kept=_summary(kept, own),
        notes=tuple(notes),
        warnings=tuple(_warnings(model, naming, folded)),
    )


def _does_not_fit(what: str, missing: Sequence[str], shapes: Sequence[str], network: Network | None) -> UserError:
    """What keeps a file from filling a model, and the network that it seems to hold."""
    faults = [f"it lacks {some(missing)}"] if missing else []
    faults += [f"its shapes differ: {some(shapes)}"] if shapes else []
    faults += [f"it holds {network.name} ({network.overrides})"] if network else []
    return UserError(f"{what} does not fit the model: {'; '.join(faults)}.")


def _copy(given: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """Fill a model's tensors ``own``. Raises UserError, and changes nothing, for numbers that are not finite."""
    if broken := [key for key, tensor in given.items() if not tensor.isfinite().all()]:
        raise UserError(
            f"{path} holds numbers that are not finite, in {some(broken)}: get it again, or an earlier one."
        )
    for key, tensor in given.items():
        own[key].copy_(tensor)


def _adapted(
    arranged: Mapping[str, Tensor], model: nn.Module, naming: Naming
) -> tuple[dict[str, Tensor], list[str], bool]:
    """What the model has a place for, in its form; notes on what that took; whether norms were folded."""
    own = model.state_dict()
    given = {key: tensor for key, tensor in arranged.items() if key in own}
    notes = []
    folded = _folded(given, own) if naming.folds else []
    for norm in folded:
        layer = cast(nn.BatchNorm2d, model.get_submodule(norm))  # norms alone are folded
        values = {f"{norm}.{leaf}": value for leaf, value in identity_norm(layer.eps).items()}
        given |= {key: torch.full_like(own[key], value) for key, value in values.items()}
    if folded:
        notes.append(f"{len(folded)} batch norms are folded into the convolutions")
    if naming.background and _drop_background(given, own):
        notes.append(f"output 0 of {BACKGROUND}, the background, was left out")
    return {key: _flat(tensor, own[key]) for key, tensor in given.items()}, notes, bool(folded)


def _folded(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """The norms of which the file has the bias alone."""
    norms = [key.removesuffix(".running_var") for key in own if key.endswith(".running_var")]
    return [norm for norm in norms if [leaf for leaf in NORM if f"{norm}.{leaf}" in given] == ["bias"]]


def identity_norm(eps: float) -> dict[str, float]:
    """What, besides a bias, makes a norm pass its input on: gamma undoes the division by sqrt(1 + eps)."""
    return {"weight": math.sqrt(1 + eps), **{leaf: NORM[leaf] for leaf in ("running_mean", "running_var")}}


def _drop_background(given: dict[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Take the background out of ``given`` where the model has ImageNet's 1000 classes alone; whether that was so."""
    found = [key for key in CLASSIFIER if key in given and _rows(given[key]) == BACKGROUND == _rows(own[key]) + 1]
    for key in found:
        given[key] = given[key][1:]
    return bool(found)


def _flat(tensor: Tensor, wanted: Tensor) -> Tensor:
    """A 1x1 convolution for a linear layer, and back."""
    (long, short), both = sorted((tensor.shape, wanted.shape), key=len, reverse=True), {tensor.ndim, wanted.ndim}
    return tensor.reshape(wanted.shape) if both == {2, 4} and long == (*short, 1, 1) else tensor


def _rows(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.ndim else 0


def _alike(tensor: Tensor, wanted: Tensor) -> bool:
    """Whether ``tensor`` can be copied to ``wanted`` as it is meant."""
    kinds = (tensor.is_floating_point(), tensor.layout), (wanted.is_floating_point(), wanted.layout)
    return tensor.shape == wanted.shape and kinds[0] == kinds[1]


def _form(tensor: Tensor) -> str:
    return f"{list(tensor.shape)}{'' if tensor.is_floating_point() else f' of {tensor.dtype}'}"


def _layer(key: str) -> str:
    """A norm stays with its convolution, and the two convolutions of squeeze-and-excite with each other."""
    return re.split(r"\.(?:conv|norm|reduce|restore)\.", key)[0]


def _summary(kept: set[str], own: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The kept layers in the model's order, a block's as one where all of them are."""
    layers = list(dict.fromkeys(_layer(key) for key in own))
    partly = {layer.rpartition(".")[0] for layer in layers if layer not in kept}
    names = [layer if (block := layer.rpartition(".")[0]) in partly else block for layer in layers if layer in kept]
    return tuple(name.removeprefix("backbone.") for name in dict.fromkeys(names))


def _warnings(model: nn.Module, naming: Naming, folded: bool) -> Iterable[str]:
    strided = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1]
    paddings = {"same" if isinstance(layer, SameConv2d) else "symmetric" for layer in strided}
    if naming.padding and (other := paddings - {naming.padding}):
        yield (
            f"these weights were trained with {PADDING_NAMES[naming.padding]} and the model has "
            f"{PADDING_NAMES[other.pop()]}: set backbone.padding={naming.padding}"
        )
    layers = list(model.get_submodule("backbone").modules())
    eps = next((layer.eps for layer in layers if isinstance(layer, nn.BatchNorm2d)), None)
    if eps and naming.eps and not folded and not math.isclose(eps, naming.eps):
        yield (
            f"these weights were trained with a batch-norm eps of {naming.eps:g} and the model has {eps:g}: "
            f"set backbone.bn_eps={naming.eps:g}"
        )
