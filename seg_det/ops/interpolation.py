"""From the cells of a network's map to the pixels of an image, one side at a time: bilinear interpolation is separable."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Side(NamedTuple):
    """How the cells of a map lie along one side of an image.

    Cells and pixels are matched by their centres at the same share of the side. With ``align_corners`` the outermost cells
    lie on the centres of the outermost of the ``seen`` pixels.
    """

    start: float  # in pixels of the image: where the map begins and ends, possibly outside of it
    stop: float
    seen: int  # pixels of the network's input between the two
    cells: int
    align_corners: bool = False

    def covered(self, length: int) -> slice:
        """The pixels of an image of ``length`` whose centres the map covers."""
        return slice(max(0, math.ceil(self.start - 0.5)), min(length, math.ceil(self.stop - 0.5)))

    def places(self, pixels: slice) -> Tensor:
        """Where the centres of ``pixels`` lie, in cells: f64 [N], 0 on the first cell's centre; ends at the outermost."""
        centres = torch.arange(pixels.start, pixels.stop, dtype=torch.float64) + 0.5
        share = (centres - self.start) / (self.stop - self.start)
        if self.align_corners:
            place = (share * self.seen - 0.5) * ((self.cells - 1) / max(1, self.seen - 1))
        else:
            place = share * self.cells - 0.5
        return place.clamp(0, self.cells - 1)

    def nearest(self, pixels: slice) -> Tensor:
        """The cell nearest to each of ``pixels``: i64 [N]."""
        return (self.places(pixels) + 0.5).floor().long().clamp(max=self.cells - 1)

    def weights(self, pixels: slice) -> Weights:
        """What each of ``pixels`` takes from which two cells."""
        places = self.places(pixels)
        low = places.long()
        return Weights(low, (low + 1).clamp(max=self.cells - 1), (places - low).float())


class Weights(NamedTuple):
    """Linear interpolation between neighbouring cells, for each of N pixels."""

    low: Tensor  # i64 [N], a cell
    high: Tensor  # i64 [N], the next one
    share: Tensor  # f32 [N], of the higher

    def to(self, device: torch.device) -> Weights:
        return Weights(*(field.to(device) for field in self))

    def part(self, pixels: slice) -> Weights:
        """The weights of some of the pixels, counted from the first of these."""
        return Weights(*(field[pixels] for field in self))

    def matrix(self, cells: int) -> Tensor:
        """The same for a product of matrices: f32 [N, cells]."""
        matrix = torch.zeros(len(self.low), cells)
        matrix.scatter_(1, self.low[:, None], 1 - self.share[:, None])
        return matrix.scatter_add_(1, self.high[:, None], self.share[:, None])

    def along(self, x: Tensor, dim: int) -> Tensor:
        """``x`` [..., cells, ...] interpolated along ``dim``: [..., N, ...]."""
        shape = [-1 if d == dim % x.ndim else 1 for d in range(x.ndim)]
        return torch.lerp(x.index_select(dim, self.low), x.index_select(dim, self.high), self.share.view(shape))
