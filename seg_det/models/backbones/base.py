"""What all backbones have in common: a chain stem -> blocks -> head whose maps are tapped by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.nn.blocks import Activation, Block, ReLU, ReLU6, cut_after
from seg_det.nn.convolutions import PARTITIONS, split_channels
from seg_det.ops.strides import RULES, stride_to_dilation
from seg_det.types import Feature

ACTIVATIONS: dict[str, Activation] = {"relu": ReLU, "relu6": ReLU6}
TAILS = (None, "detection", "segmentation")
STEM_STRIDE = 2
# Of images a thread, whose widest maps then pass quickest: 4 of 224 x 224, 2 of 320 x 320 on two cores.
PIXELS_IN_CACHE = 2**17


class Hidden(NamedTuple):
    """The layer that a network has between global pooling and its classifier: a 1x1 convolution without norm."""

    channels: int
    act: Activation


class Point(NamedTuple):
    """Where a tap lies: the position of a block, and which field of its ``Points``."""

    block: int
    part: str


class Backbone(nn.Module):
    """Images f32 [B, 3, H, W] -> {tap: features [B, C, ceil(H / stride), ceil(W / stride)]}, built up to the last tap.

    The taps of every network, N = 1..5 for the strides 2..32 that it has without dilation:

    - ``cN``: output of the last block of that stride; ``cN_first`` of the first (torchvision's segmentation heads);
    - ``cN_depthwise``: what that block's depthwise convolution gives (LR-ASPP's fine tap);
    - ``cN_expand``, N < 5: the expanded map that the next coarser block convolves (``c4_expand`` is SSDLite's first tap);
      a network without expansions gives ``cN``;
    - ``head``: the last 1x1 convolution; a network without one gives ``c5``;
    - ``deep``: what segmentation heads stand on, ``c5`` or, where that convolution is narrow (MobileNetV3), ``head``.

    A subclass sets ``stem``, ``blocks`` (of the layers' strides and dilations that ``layers`` holds) and ``head``, and calls
    :meth:`finish`.
    Raises UserError for a tap or an output stride that the network cannot have.
    """

    deep = "c5"  # the tap that ``deep`` means
    hidden: Hidden | None = None
    reshaped: tuple[
        str, ...
    ] = ()  # prefixes of tensors that have by choice other shapes than in the published classifier

    stem: nn.Module
    blocks: nn.ModuleList
    head: nn.Module

    def __init__(
        self,
        *,
        taps: Sequence[str],
        strides: Sequence[int],
        output_stride: int,
        dilation_rule: str = "tf",
    ):
        super().__init__()
        name = type(self).__name__
        self.taps = tuple(taps)
        self._points = tap_points(strides)
        self._places = {tap: self.deep if tap == "deep" else tap for tap in self.taps}
        places = self._places.values()
        unknown = [tap for tap, place in self._places.items() if place not in self._points and place != "head"]
        if unknown or not taps:
            what = f"no tap {', '.join(unknown)}" if unknown else "to be asked for a tap"
            raise UserError(f"{name} has {what}: it has {', '.join(self._points)} and head; deep means {self.deep}.")
        check_choice("dilation_rule", dilation_rule, RULES)
        try:
            layers = stride_to_dilation([STEM_STRIDE, *strides], output_stride, rule=dilation_rule)
        except ValueError as error:
            raise UserError(f"The output stride does not fit {name}: {error}.") from error
        self.has_head = "head" in places
        needed = len(strides) if self.has_head else 1 + max(self._points[place].block for place in places)
        self.layers = layers[1 : needed + 1]
        self._stand_ins: list[nn.Module] = []  # a list, so that they are no part of the model
        self._reached = _reached([stride for stride, _ in layers])
        self._tapped: dict[int, list[tuple[str, str]]] = {i: [] for i in range(needed)}
        for tap, place in self._places.items():
            if place in self._points:
                point = self._points[place]
                self._tapped[point.block].append((tap, point.part))

    def finish(self, init: Callable[[nn.Module], None]) -> None:
        """Leave out what comes after the last tap inside the last block, and initialise what is there."""
        parts = [part for _, part in self._tapped[len(self.blocks) - 1]]
        if not self.has_head and parts and "out" not in parts:
            self.blocks[-1] = cut_after(self._block(-1), "depthwise" if "depthwise" in parts else "expand")
        self.apply(init)

    @property
    def features(self) -> list[Feature]:
        """The promised maps, in the order of the taps."""
        return [self._feature(tap) for tap in self.taps]

    def _block(self, place: int) -> Block:
        return cast(Block, self.blocks[place])  # a ModuleList does not know the class of its modules

    def _feature(self, tap: str) -> Feature:
        place = self._places[tap]
        if place == "head":
            conv = getattr(self.head, "conv", None)
            return Feature(tap, conv.out_channels if conv else self._block(-1).widths.out, self._reached[-1])
        block, part = self._points[place]
        # A block's stride lies in its depthwise convolution: the expansion before it still has the earlier one.
        stride = self._reached[block if part == "expand" else block + 1]
        return Feature(tap, getattr(self._block(block).widths, part), stride)

    def map_sizes(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        """(rows, columns) of each tapped map for images of ``image_size`` (H, W)."""
        height, width = image_size
        return [(-(-height // feature.stride), -(-width // feature.stride)) for feature in self.features]

    def stages_until(self, tap: str) -> list[nn.Module]:
        """The layers up to and with the blocks of ``tap`` (c1..c5): what fine-tuning may freeze."""
        stages = [name for name in self._points if "_" not in name]
        if tap not in stages:
            raise UserError(f"{type(self).__name__} can be frozen until {', '.join(stages)}, not until {tap}.")
        return [self.stem, *self.blocks[: self._points[tap].block + 1]]

    def train_behind(self, stages: Sequence[nn.Module]) -> None:
        """From now on training runs ``stages`` instead of the first layers, which they stand for: their folded copies, say."""
        self._stand_ins = list(stages)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        layers, first = [self.stem, *self.blocks], 0
        x = images
        found: dict[str, Tensor] = {}
        if self.training and self._stand_ins:
            first = len(self._stand_ins)
            x, found = self._stood_in(images)
        x, rest = self._traced(layers[first:], x, first)
        found |= rest
        if self.has_head:
            head = self.head(x)
            found |= {tap: head for tap, place in self._places.items() if place == "head"}
        return found

    def _stood_in(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What the stand-ins make of images: on a CPU of few at a time, whose maps its caches hold.

        That is the same, as they have no norms over batches.
        """
        pixels = images.shape[-2] * images.shape[-1]
        few = max(1, torch.get_num_threads() * PIXELS_IN_CACHE // pixels)
        parts = images.split(few) if images.device.type == "cpu" else [images]
        maps, found = zip(*(self._traced(self._stand_ins, part, 0) for part in parts), strict=True)
        return torch.cat(maps), {tap: torch.cat([some[tap] for some in found]) for tap in found[0]}

    def _traced(self, layers: Sequence[nn.Module], x: Tensor, first: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The output of ``layers`` for ``x``, and the taps; ``first`` is the place of the first one, 0 that of the stem."""
        found = {}
        for place, layer in enumerate(layers, first):
            if place == 0:
                x = layer(x)
                continue
            points = cast(Block, layer).trace(x)
            for tap, part in self._tapped[place - 1]:
                found[tap] = getattr(points, part)
            x = points.out
        return x, found


def _reached(strides: Sequence[int]) -> list[int]:
    """The stride of the map after each layer."""
    return list(accumulate(strides, lambda before, stride: before * stride))


def tap_points(strides: Sequence[int]) -> dict[str, Point]:
    """Where the taps of a network lie whose blocks have ``strides``, after a stem of stride 2."""
    reached = _reached([STEM_STRIDE, *strides])[1:]
    points = {}
    for level in range(1, reached[-1].bit_length()):
        if 2**level not in reached:  # a first block with a stride leaves the stem's own stride to nobody
            continue
        last = len(reached) - 1 - reached[::-1].index(2**level)
        points[f"c{level}_first"] = Point(reached.index(2**level), "out")
        points[f"c{level}"] = Point(last, "out")
        points[f"c{level}_depthwise"] = Point(last, "depthwise")
        if last + 1 < len(reached):
            points[f"c{level}_expand"] = Point(last + 1, "expand")
    return points


def check_width(width: float, narrowest: int, most: float = 8.0) -> None:
    """Raise UserError for a width multiplier that leaves nothing of the ``narrowest`` layer, or is beyond reason."""
    if not isinstance(width, int | float) or not 1 / narrowest <= width <= most:
        raise UserError(
            f"backbone.width must lie between {1 / narrowest:.3g}, which leaves one of the {narrowest} channels of the "
            f"narrowest layer, and {most:g}, got {width}."
        )


def check_choice(key: str, value: str | None, choices: Sequence[str | None]) -> None:
    """Raise UserError unless ``value`` of the configuration's ``backbone.key`` is one of ``choices``."""
    if value not in choices:
        raise UserError(f"backbone.{key} must be one of {', '.join(c or 'null' for c in choices)}, got {value}.")


def check_kernels(kernels: Sequence[int], partition: str, narrowest: int) -> None:
    """Raise UserError unless ``kernels`` are one to five odd sizes among which ``narrowest`` channels can be shared out."""
    check_choice("partition", partition, PARTITIONS)
    sizes = kernels if isinstance(kernels, Sequence) else ()
    if not 1 <= len(sizes) <= 5 or not all(isinstance(size, int) and size > 0 and size % 2 for size in sizes):
        raise UserError(f"backbone.kernels must list one to five odd sizes, for example [3,5,7], got {kernels}.")
    try:
        split_channels(narrowest, len(sizes), partition)
    except ValueError as error:
        raise UserError(f"backbone.kernels are too many for the narrowest layer: {error}.") from error


def init_fan_out(module: nn.Module) -> None:
    """Convolutions by Kaiming's normal rule over the outputs: trains from scratch at any width. Source: torchvision."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


BackboneBuilder = Callable[..., Backbone]  # backbone(taps=..., output_stride=...)
