"""A detector's anchors as something to be fitted: shapes on the cells of its feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from seg_det.ops.anchors import Shape, best_overlaps, shape_overlaps


@dataclass(frozen=True)
class Grid:
    """Where anchors stand: the maps of a detector, finest first, at one input size."""

    map_sizes: tuple[tuple[int, int], ...]  # (rows, columns)
    image_size: tuple[int, int]  # (H, W) of the input
    rule: str = "tensorflow"  # of seg_det.ops.anchors

    def best(self, boxes: Tensor, shapes: Sequence[Sequence[Shape]]) -> Tensor:
        """IoU [N] of each of the boxes [N, 4] with the best anchor."""
        return best_overlaps(boxes, shapes, self.map_sizes, self.image_size, rule=self.rule)

    def overlaps(self, boxes: Tensor, shapes: Sequence[Shape], level: int) -> Tensor:
        """IoU [N, S] of the boxes with the best anchor of each shape on the map ``level``."""
        return shape_overlaps(boxes, shapes, self.map_sizes[level], self.image_size, rule=self.rule)

    def units(self) -> tuple[int, int]:
        """(width, height) in pixels of what the scale 1 stands for."""
        from_sides = self.overlap_units
        return from_sides
