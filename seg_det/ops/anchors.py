"""SSD anchors: which shapes stand at each cell of each feature map, and where."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seg_det.ops.boxes import to_corners

Shape = tuple[float, float]  # (scale relative to the image's shorter side, width / height)


def ssd_shapes(
    maps: int,
    *,
    min_scale: float = 0.2,
    max_scale: float = 0.95,
    ratios: Sequence[float] = (1.0, 2.0, 0.5, 3.0, 0.3333),
    reduce_first_map: bool = True,
) -> list[list[Shape]]:
    """Shapes of TensorFlow's SSD anchors for each of ``maps`` feature maps, finest first.

    Scales are equally spaced; each map has all ratios at its scale and one more square halfway to the next scale. With
    ``reduce_first_map`` the finest map has three shapes only: a square at half of the smallest scale, and 2:1 and 1:2.
    Source: SSD section 2.2; object_detection ``multiple_grid_anchor_generator`` defaults.
    """
    step = (max_scale - min_scale) / max(maps - 1, 1)
    scales = [min_scale + step * i for i in range(maps)] + [1.0]
    shapes = [
        [(scale, ratio) for ratio in ratios] + [(math.sqrt(scale * following), 1.0)]
        for scale, following in itertools.pairwise(scales)
    ]
    if reduce_first_map:
        shapes[0] = [(min_scale / 2, 1.0), (min_scale, 2.0), (min_scale, 0.5)]
    return shapes


def grid_anchors(
    shapes: Sequence[Sequence[Shape]], map_sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]
) -> Tensor:
    """Anchors f32 [A, 4], xyxy pixels of an image of ``image_size`` (H, W), in the order map, row, column, shape.

    Width is ``scale * sqrt(ratio)`` and height ``scale / sqrt(ratio)`` of the shorter side; centres are the cells'.
    """
    if len(shapes) != len(map_sizes):
        raise ValueError(f"expected anchor shapes for {len(map_sizes)} feature maps, got {len(shapes)}")
    side = min(image_size)
    grids = []
    for map_shapes, (rows, columns) in zip(shapes, map_sizes, strict=True):
        y = (torch.arange(rows, dtype=torch.float64) + 0.5) * image_size[0] / rows
        x = (torch.arange(columns, dtype=torch.float64) + 0.5) * image_size[1] / columns
        sides = [(side * scale * math.sqrt(ratio), side * scale / math.sqrt(ratio)) for scale, ratio in map_shapes]
        wh = torch.tensor(sides, dtype=torch.float64).expand(rows, columns, -1, 2)
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[:, :, None].expand_as(wh)
        grids.append(to_corners(torch.cat([centres, wh], -1)).reshape(-1, 4))
    return torch.cat(grids).float()
