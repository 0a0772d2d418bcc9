"""SSD anchors: which shapes stand at each cell of each feature map, and where."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.ops.boxes import area, to_corners

BOXES_AT_A_TIME = 2**16  # compared with the anchors: bounds the memory
Shape = tuple[float, float]  # (scale relative to the image's shorter side, width / height)


class Anchored(Protocol):
    """A detector with anchors."""

    anchor_rule: str
    anchor_shapes: Sequence[Sequence[Shape]]

    def map_sizes(self, image_size: tuple[int, int]) -> list[tuple[int, int]]: ...
    def anchors(self, image_size: tuple[int, int]) -> Tensor: ...


class AnchorRule(NamedTuple):
    """What tells the anchors of one code base from those of another."""

    ratios: tuple[float, ...]  # of the shapes at a map's own scale, in the order of the predictors' outputs
    square: int  # place in that order of the square halfway to the next scale
    each_side: bool = False  # scales are of the image's height and width, each for itself, and no side is longer
    whole_steps: bool = False  # the distance of neighbouring cells is rounded up to whole pixels


RULES: Mapping[str, AnchorRule] = {
    "tensorflow": AnchorRule((1.0, 2.0, 0.5, 3.0, 0.3333), square=5),
    "torchvision": AnchorRule((1.0, 2.0, 1 / 2, 3.0, 1 / 3), square=1, each_side=True),
    "mmdet": AnchorRule((1.0, 2.0, 1 / 2, 3.0, 1 / 3), square=1, whole_steps=True),
}


def anchored(model: nn.Module) -> Anchored:
    """``model`` as the detector with anchors that it is."""
    return cast(Anchored, model)


def are_shapes(value: Any) -> bool:
    """Whether ``value`` is a list of (scale, width / height) pairs of positive numbers for each of some feature maps."""
    return _is_filled(value) and all(_is_filled(level) and all(map(_is_shape, level)) for level in value)


def _is_filled(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_positive, value))


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def anchor_rule(name: str) -> AnchorRule:
    """The rule of that name. Raises UserError for another name."""
    if name not in RULES:
        raise UserError(f"task.model.anchor_rule must be one of {', '.join(RULES)}, got {name!r}.")
    return RULES[name]


def ssd_shapes(
    maps: int,
    *,
    rule: str = "tensorflow",
    scales: Sequence[float] | None = None,
    min_scale: float = 0.2,
    max_scale: float = 0.95,
    reduce_first_map: bool = True,
) -> list[list[Shape]]:
    """Shapes of SSD's anchors for each of ``maps`` feature maps, finest first.

    Each map has all ratios at its scale and one more square halfway to the next scale. ``scales`` are one for each map and
    one beyond the last; left out, they are equally spaced, and 1. With ``reduce_first_map`` the finest map has three shapes
    only: a square at half of its scale, and 2:1 and 1:2. Raises UserError for another number of scales, and what is no scale.
    Source: SSD section 2.2; object_detection ``multiple_grid_anchor_generator``, torchvision ``DefaultBoxGenerator`` and
    mmdetection ``SSDAnchorGenerator``, which are the rules.
    """
    ratios, square = anchor_rule(rule)[:2]
    step = (max_scale - min_scale) / max(maps - 1, 1)
    scales = [min_scale + step * i for i in range(maps)] + [1.0] if scales is None else list(scales)
    if len(scales) != maps + 1:
        raise UserError(
            f"task.model.scales must hold one number for each of {maps} feature maps and one beyond, got {len(scales)}."
        )
    if not all(map(_is_positive, scales)):
        raise UserError(
            f"task.model.scales, min_scale and max_scale must be positive numbers, got the scales {scales}."
        )
    shapes = []
    for scale, following in itertools.pairwise(scales):
        own = [(scale, ratio) for ratio in ratios]
        shapes.append([*own[:square], (math.sqrt(scale * following), 1.0), *own[square:]])
    if reduce_first_map:
        shapes[0] = [(scales[0] / 2, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
    return shapes


def grid_anchors(
    shapes: Sequence[Sequence[Shape]],
    map_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    *,
    rule: str = "tensorflow",
) -> Tensor:
    """Anchors f32 [A, 4], xyxy pixels of an image of ``image_size`` (H, W), in the order map, row, column, shape.

    Width is ``scale * sqrt(ratio)`` and height ``scale / sqrt(ratio)`` of the shorter side; centres are the cells'. They may
    reach beyond the image. ``rule``: see :class:`AnchorRule`.
    """
    if len(shapes) != len(map_sizes):
        raise ValueError(f"expected anchor shapes for {len(map_sizes)} feature maps, got {len(shapes)}")
    grids = []
    for map_shapes, cells in zip(shapes, map_sizes, strict=True):
        rows, columns = (torch.arange(count, dtype=torch.float64) + 0.5 for count in cells)
        step = _step(cells, image_size, rule)
        wh = _sides(map_shapes, image_size, rule).expand(*cells, -1, 2)
        centres = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1) * step
        grids.append(to_corners(torch.cat([centres[:, :, None].expand_as(wh), wh], -1)).reshape(-1, 4))
    return torch.cat(grids).float()


def shape_overlaps(
    boxes: Tensor,
    shapes: Sequence[Shape],
    cells: tuple[int, int],
    image_size: tuple[int, int],
    *,
    rule: str = "tensorflow",
) -> Tensor:
    """IoU f32 [N, S] of boxes [N, 4] with the nearest anchor of each shape on one map of ``cells`` (rows, columns).

    That is the best anchor of the shape, because they differ in place alone. It takes no more than one IoU a shape, not one
    a cell, so a whole data set's boxes are compared with all anchors in seconds.
    """
    sides = _sides(shapes, image_size, rule).float()
    overlap = sides.new_ones(())
    for axis, step in enumerate(_step(cells, image_size, rule).tolist()):
        low, high, half = boxes[:, axis], boxes[:, 2 + axis], sides[:, axis, None] / 2
        centre = (((low + high) / (2 * step)).floor().clamp(0, cells[1 - axis] - 1) + 0.5) * step
        # [S, N]: each axis by itself and the boxes side by side take a third of the time
        overlap = overlap * (torch.minimum(high, centre + half) - torch.maximum(low, centre - half)).clamp(min=0)
    return (overlap / (area(boxes) + sides.prod(-1)[:, None] - overlap)).T


def best_overlaps(
    boxes: Tensor,
    shapes: Sequence[Sequence[Shape]],
    map_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    *,
    rule: str = "tensorflow",
) -> Tensor:
    """IoU f32 [N] of each of the boxes [N, 4], xyxy pixels, with its best one of the anchors of :func:`grid_anchors`."""
    best = [
        torch.stack(
            [
                shape_overlaps(part, map_shapes, cells, image_size, rule=rule).amax(1)
                for map_shapes, cells in zip(shapes, map_sizes, strict=True)
            ]
        ).amax(0)
        for part in boxes.split(BOXES_AT_A_TIME)
    ]
    return torch.cat(best)


def shapes_of(sides: Tensor, image_size: tuple[int, int], *, rule: str = "tensorflow") -> Tensor:
    """The shapes (scale, width / height) [N, 2] of anchors whose widths and heights [N, 2] are given in pixels."""
    width, height = (sides / _unit(image_size, rule)).unbind(-1)
    return torch.stack([(width * height).sqrt(), width / height], -1)


def _step(cells: tuple[int, int], image_size: tuple[int, int], rule: str) -> Tensor:
    """Distance of neighbouring cells in x and y, f64 [2], pixels."""
    steps = [side / count for side, count in zip(image_size, cells, strict=True)][::-1]
    whole_steps = anchor_rule(rule).whole_steps
    return torch.tensor([math.ceil(step) if whole_steps else step for step in steps], dtype=torch.float64)


def _unit(image_size: tuple[int, int], rule: str) -> Tensor:
    """Width and height in pixels of the square of scale 1, [2]."""
    height, width = image_size if anchor_rule(rule).each_side else (min(image_size),) * 2
    return torch.tensor([width, height])


def _sides(shapes: Sequence[Shape], image_size: tuple[int, int], rule: str) -> Tensor:
    """Width and height of each shape, f64 [S, 2], pixels."""
    sides = torch.tensor([(s * math.sqrt(r), s / math.sqrt(r)) for s, r in shapes], dtype=torch.float64)
    return (sides.clamp(max=1) if anchor_rule(rule).each_side else sides) * _unit(image_size, rule)
