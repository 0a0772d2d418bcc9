"""A detector's anchors as something to be fitted: shapes on the cells of its feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from seg_det.ops.anchors import Shape, best_overlaps, shape_overlaps, shapes_of


@dataclass(frozen=True)
class Grid:
    """Where anchors stand: the maps of a detector, finest first, at one input size."""

    map_sizes: tuple[tuple[int, int], ...]  # (rows, columns)
    image_size: tuple[int, int]  # (H, W) of the input
    rule: str = "tensorflow"  # of seg_det.ops.anchors

    def best(self, boxes: Tensor, shapes: Sequence[Sequence[Shape]]) -> Tensor:
        """IoU [N] of each of the boxes [N, 4] with the best anchor."""
        return best_overlaps(boxes, shapes, self.map_sizes, self.image_size, rule=self.rule)

    def overlaps(self, boxes: Tensor, shapes: Tensor, level: int) -> Tensor:
        """IoU [N, S] of the boxes with the best anchor of each shape [S, 2] on the map ``level``."""
        return shape_overlaps(boxes, shapes.tolist(), self.map_sizes[level], self.image_size, rule=self.rule)

    def shapes_of(self, sides: Tensor) -> Tensor:
        """Shapes [N, 2] of widths and heights [N, 2] in pixels."""
        return shapes_of(sides, self.image_size, rule=self.rule)
