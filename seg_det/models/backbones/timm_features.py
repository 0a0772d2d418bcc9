"""Any network of timm as a backbone: baselines such as ResNet, Inception v3 and v4, MobileNetV4 (needs the extra ``timm``)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.registry import BACKBONES
from seg_det.types import Feature

OWN = {  # networks that timm lacks under the names that people look for, and our backbone instead
    "inception_v1": "inception_v1",
    "googlenet": "inception_v1",
    "inception_v2": "inception_v2",
    "bninception": "inception_v2",
    "bn_inception": "inception_v2",
}

Colour = tuple[float, float, float]  # RGB, 0..255


class Level(NamedTuple):
    """One of the feature maps that timm lists for a network."""

    place: int
    stride: int  # without dilation
    module: str  # whose output it is, by timm's name in the classifier


@BACKBONES.register
class TimmFeatures(nn.Module):
    """timm's network ``name``: images f32 [B, 3, H, W] -> {tap: features [B, C, h, w]}, built up to the last tap.

    It keeps the contract of ``Backbone``. ``cN`` is the network's last level of stride 2**N before dilation, ``head`` and
    ``deep`` are the deepest; there is nothing else to tap, so ``cN_first``, ``cN_expand`` and ``cN_depthwise`` are ``cN``.
    A network that does not pad, such as Inception, gives maps below ceil(H / stride): ``map_sizes`` has the true ones. It
    starts with random weights; see :func:`pretrained_state`. Raises UserError where timm cannot be imported, and for a
    name, a tap or an output stride that timm does not have.
    """

    hidden = None  # the classifier's hidden layer, which some networks of ours have
    reshaped: tuple[str, ...] = ()

    def __init__(self, *, taps: Sequence[str], output_stride: int = 32, name: str):
        super().__init__()
        self.name = name
        self.output_stride = output_stride
        self.taps = tuple(taps)
        self._tapped = {tap: _level(name, tap) for tap in self.taps}
        if not self.taps:
            raise UserError(f"timm's {name} has to be asked for a tap: c1 to c5, or head.")
        indices = tuple(sorted({level.place for level in self._tapped.values()}))
        self.network = _build(name, output_stride, indices)
        self._position = {index: i for i, index in enumerate(indices)}
        # Vision transformers with windows keep the channels last.
        self._channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"

    @property
    def features(self) -> list[Feature]:
        """The promised maps, in the order of the taps."""
        info: Any = self.network.feature_info  # a class of timm
        strides, channels = info.reduction(), info.channels()
        places = [self._position[self._tapped[tap].place] for tap in self.taps]
        return [Feature(tap, channels[i], strides[i]) for tap, i in zip(self.taps, places, strict=True)]

    def map_sizes(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        """(rows, columns) of each tapped map for images of ``image_size`` (H, W).

        Raises UserError for a size that the network cannot take.
        """
        sizes = _map_sizes(self.name, self.output_stride, tuple(self._position), tuple(image_size))
        return [sizes[self._position[self._tapped[tap].place]] for tap in self.taps]

    def stages_until(self, tap: str) -> list[nn.Module]:
        """The layers up to and with the level of ``tap``: what fine-tuning may freeze. They are registered in running order."""
        name = _level(self.name, tap).module
        modules = dict(self.network.named_modules())
        end = modules.get(name) or modules.get(name.replace(".", "_"))  # timm flattens what it cuts
        if end is None:
            raise UserError(f"timm's {self.name} cannot be frozen in part: set recipe.freeze_until=null.")
        return _until(self.network, end)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.network(images)
        if self._channels_last:
            maps = [x.permute(0, 3, 1, 2) for x in maps]
        return {tap: maps[self._position[level.place]] for tap, level in self._tapped.items()}


def pretrained_state(name: str) -> dict[str, Tensor]:
    """The tensors of timm's published weights for ``name`` in the names of :class:`TimmFeatures`, all levels.

    ``name`` may carry a tag of timm, such as ``resnet50.tv_in1k``. They come over the network once and stay in timm's own
    cache. Raises UserError if there are none or they cannot be fetched.
    """
    _levels(name)
    timm = _timm()
    try:
        network = timm.create_model(name, features_only=True, pretrained=True)
    except Exception as error:  # timm's sources fail with errors of four libraries
        raise UserError(
            f"timm's weights for {name} could not be had ({_reason(error)}): go online once, or name a file in "
            f"backbone.weights, or start from random weights with backbone.weights=none."
        ) from error
    return {f"network.{key}": tensor for key, tensor in network.state_dict().items()}


def rename_tensors(backbone: TimmFeatures, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file of timm's, a classifier's or one of our own, under the names of ``backbone``.

    timm flattens what it cuts: layers_0.conv.weight is layers.0.conv.weight of the classifier.
    Raises UserError with what is missing or has another shape.
    """
    flat = {key.removeprefix("backbone.").removeprefix("network.").replace(".", "_"): t for key, t in tensors.items()}
    own = backbone.state_dict()
    found = {key: flat.get(key.removeprefix("network.").replace(".", "_")) for key in own}
    wrong = [key for key, tensor in found.items() if tensor is None or tensor.shape != own[key].shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"The file does not fit timm's {backbone.name}: it lacks {', '.join(wrong[:3])}{more}, or their shape."
        )
    return {key: tensor for key, tensor in found.items() if tensor is not None}


def pretrained_normalisation(name: str) -> tuple[Colour, Colour]:
    """Mean and standard deviation of 0..255 values that timm's published weights for ``name`` were trained with."""
    card = _timm().get_pretrained_cfg(name)
    return _levels_of(card.mean), _levels_of(card.std)


def _levels_of(shares: Sequence[float]) -> Colour:
    red, green, blue = (255 * value for value in shares)
    return red, green, blue


def _timm() -> ModuleType:
    try:
        import timm
    except Exception as error:  # a torchvision built for another torch makes the import raise nearly anything
        raise UserError(f"backbone=timm needs timm: pip install -e '.[timm]' ({_reason(error)}).") from error
    return timm


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:240].rstrip(".")


@cache
def _levels(name: str) -> tuple[Level, ...]:
    """What timm lists for a network as it is published. Raises UserError for one that it does not have."""
    timm = _timm()
    if not timm.is_model(name):
        if name in OWN:
            raise UserError(f"backbone.name={name} is not in timm: use backbone={OWN[name]}.")
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "python -c 'import timm; print(timm.list_models())'"
        raise UserError(f"backbone.name={name} is no network of timm {timm.__version__}: {hint}")
    try:
        with torch.device("meta"):  # shapes without data: a ResNet-101 costs nothing
            info = timm.create_model(name, features_only=True).feature_info
    except Exception as error:  # each family refuses in its own way
        raise UserError(f"timm gives no feature maps of backbone.name={name}: {_reason(error)}.") from error
    return tuple(map(Level, info.out_indices, info.reduction(), info.module_name()))


def _taps(levels: Sequence[Level]) -> dict[str, Level]:
    """The last level of each stride that is a power of two (a transformer's patches may be 14 pixels wide), by its tap."""
    return {
        f"c{stride.bit_length() - 1}": level for level in levels if (stride := level.stride).bit_count() == 1 < stride
    }


def _level(name: str, tap: str) -> Level:
    levels = _levels(name)
    if tap in ("deep", "head"):
        return levels[-1]
    known = _taps(levels)
    level, _, part = tap.partition("_")
    if level not in known or part not in ("", "first", "expand", "depthwise"):
        raise UserError(f"timm's {name} has no tap {tap}: it has {', '.join(known)} and head.")
    return known[level]


def _build(name: str, output_stride: int, indices: tuple[int, ...]) -> nn.Module:
    """The network up to the last of the levels ``indices``; a smaller output stride turns strides into dilation."""
    timm = _timm()
    levels = {level.place: level for level in _levels(name)}
    strides = [level.stride for level in levels.values()]
    own = output_stride >= min(32, strides[-1])
    dilated = {} if own else {"output_stride": output_stride}  # most networks know no such argument
    try:
        network = timm.create_model(name, features_only=True, out_indices=indices, **dilated)
        fits = own or (output_stride in strides and max(network.feature_info.reduction()) <= output_stride)
    except Exception as error:  # TypeError, AssertionError, ...: each family refuses in its own way
        if own:
            raise UserError(f"timm cannot build backbone.name={name}: {_reason(error)}.") from error
        fits = False
    if not fits:
        raise UserError(
            f"timm's {name} cannot have output stride {output_stride}, which the task asks for: "
            f"take a network that can be dilated, such as resnet50 or mobilenetv4_conv_small."
        )
    _cut(network, levels[indices[-1]])
    return network


def _cut(network: nn.Module, last: Level) -> None:
    """Drop the blocks after the last level: timm's EfficientNet and MobileNetV3 families keep and run them for nothing."""
    parent, _, position = last.module.rpartition(".")
    if parent == "blocks" and isinstance(blocks := getattr(network, "blocks", None), nn.Sequential):
        del blocks[int(position) + 1 :]


@cache
def _map_sizes(
    name: str, output_stride: int, indices: tuple[int, ...], image_size: tuple[int, int]
) -> list[tuple[int, int]]:
    with torch.device("meta"):
        network = _build(name, output_stride, indices).eval()
        try:
            maps = network(torch.empty(1, 3, *image_size))
        except Exception as error:  # too small for an unpadded convolution, not a multiple of a window, ...
            size = "x".join(str(side) for side in image_size)
            raise UserError(
                f"timm's {name} cannot take images of {size}: {_reason(error)}; change data.size."
            ) from error
    last = getattr(network, "output_fmt", "NCHW") == "NHWC"
    return [tuple(x.shape[1:3] if last else x.shape[2:4]) for x in maps]


def _until(module: nn.Module, end: nn.Module) -> list[nn.Module]:
    """The children of ``module`` up to and with ``end``; of the one that ``end`` lies in, its children in turn."""
    stages: list[nn.Module] = []
    for child in module.children():
        if child is end:
            return [*stages, child]
        if any(part is end for part in child.modules()):
            return stages + _until(child, end)
        stages.append(child)
    return stages
