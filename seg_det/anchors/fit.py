"""Anchor shapes fitted to boxes: k-means on shapes, then a search on the anchors as they stand on their maps.

The number of shapes of each map stays, so that the head stays as it is, and so does the order of the maps: no shape has a
scale below those of a finer map or above those of a coarser one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from seg_det.anchors.grid import Grid
from seg_det.ops.anchors import Shape
from seg_det.ops.boxes import to_centre
from seg_det.progress import progress_bar

KMEANS_STEPS = 30
RECALL_WEIGHT = 3.0  # of the recall beside the mean IoU: with 1 the mean rises at the cost of the recall on some data
FIRST_STEP, STEP_DECAY = 0.3, 0.85  # of the logarithms of scale and ratio; the second is its factor from round to round
LEAPS = 8  # shapes of uncovered objects that a shape is compared with in each round
DIGITS = 4  # of the numbers that come out

Shapes = list[list[Shape]]


def fit_shapes(
    boxes: Tensor,
    grid: Grid,
    present: Sequence[Sequence[Shape]],
    *,
    iou: float = 0.5,
    objects: int = 10000,
    rounds: int = 20,
    seed: int = 0,
) -> Shapes:
    """Shapes for each map, as many as ``present`` has, of which the best anchors of ``boxes`` f32 [N, 4] are good ones.

    They maximise the share of boxes that reach ``iou`` and, with less weight, the mean IoU, on ``objects`` boxes drawn at
    random. The search starts from the present shapes and from a k-means clustering with the distance 1 - IoU (YOLO9000,
    section 2). By that measure the result is never worse than ``present`` on all boxes, and it is a function of the
    arguments alone.
    """
    generator = torch.Generator().manual_seed(seed)
    sample = boxes[torch.randperm(len(boxes), generator=generator)[:objects]]
    starts = [_as_tensors(present), _clustered(sample, grid, [len(shapes) for shapes in present], generator)]
    found = [_rounded(_search(sample, grid, start, iou, rounds, generator)) for start in starts]
    kept = [[(scale, ratio) for scale, ratio in level] for level in present]
    return max((kept, *found), key=lambda shapes: _qualities(grid.best(boxes, shapes)[:, None], iou).item())


def _qualities(best: Tensor, iou: float) -> Tensor:
    """What the search maximises, [T], of the boxes' best IoU in each of T trials, [N, T]."""
    return RECALL_WEIGHT * (best >= iou).float().mean(0) + best.mean(0)


def _as_tensors(shapes: Sequence[Sequence[Shape]]) -> list[Tensor]:
    return [torch.tensor([tuple(shape) for shape in level], dtype=torch.float64) for level in shapes]


def _rounded(shapes: list[Tensor]) -> Shapes:
    def short(x: float) -> float:
        return float(f"{x:.{DIGITS}g}")

    return [[(short(scale), short(ratio)) for scale, ratio in level.tolist()] for level in shapes]


def _clustered(boxes: Tensor, grid: Grid, counts: list[int], generator: torch.Generator) -> list[Tensor]:
    """Centres of a k-means clustering of the boxes' shapes, the smallest for the finest map."""
    shapes = grid.shapes_of(kmeans(to_centre(boxes)[:, 2:].double(), sum(counts), generator))
    return list(shapes[shapes[:, 0].argsort()].split(counts))


def kmeans(sides: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Widths and heights [clusters, 2] around which those of the boxes, [N, 2], lie; the distance is 1 - IoU.

    Fewer boxes than clusters come more than once.
    """
    order = torch.randperm(len(sides), generator=generator)
    centres = sides[order.repeat(math.ceil(clusters / len(sides)))[:clusters]]
    for _ in range(KMEANS_STEPS):
        nearest = _iou_of_sides(sides, centres).argmax(1)
        members = torch.bincount(nearest, minlength=clusters)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, sides)
        centres = torch.where(members > 0, sums / members.clamp(min=1), centres)
    return centres


def _iou_of_sides(a: Tensor, b: Tensor) -> Tensor:
    """IoU [N, M] of boxes with one centre, of widths and heights [N, 2] and [M, 2]."""
    overlap = torch.minimum(a[:, None], b).prod(-1)
    return overlap / (a.prod(-1)[:, None] + b.prod(-1) - overlap)


def _search(
    boxes: Tensor, grid: Grid, start: list[Tensor], iou: float, rounds: int, generator: torch.Generator
) -> list[Tensor]:
    """One shape after the other is moved to the best of its neighbours and some objects' shapes, ``rounds`` times."""
    shapes = [level.clone() for level in start]
    overlaps = torch.cat([grid.overlaps(boxes, level, i).T for i, level in enumerate(shapes)])  # [S, N]
    first = [0, *accumulate(len(level) for level in shapes)]
    wanted = grid.shapes_of(to_centre(boxes)[:, 2:].double())
    for turn in progress_bar(range(rounds), desc="fitting anchors", unit="round"):
        step = FIRST_STEP * STEP_DECAY**turn
        for i, level in enumerate(shapes):
            low = max((s[:, 0].max().item() for s in shapes[:i]), default=0.0)
            high = min((s[:, 0].min().item() for s in shapes[i + 1 :]), default=math.inf)
            for j, row in enumerate(range(first[i], first[i + 1])):
                overlaps[row] = 0.0
                others = overlaps.amax(0)
                trials = torch.cat([_neighbours(level[j], step), _leaps(wanted, others < iou, generator)])
                allowed = (trials[:, 0] >= low) & (trials[:, 0] <= high)
                allowed[0] = True  # where it is
                trials = trials[allowed]
                gained = grid.overlaps(boxes, trials, i)
                best = _qualities(torch.maximum(gained.T, others).T, iou).argmax()
                level[j], overlaps[row] = trials[best], gained[:, best]
    return shapes


def _neighbours(shape: Tensor, step: float) -> Tensor:
    """The shape itself, larger and smaller, wider and higher: [5, 2]."""
    moves = torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=shape.dtype)
    return shape * (moves * step).exp()


def _leaps(wanted: Tensor, uncovered: Tensor, generator: torch.Generator) -> Tensor:
    """Shapes of some of the objects that no other shape covers."""
    places = uncovered.nonzero()[:, 0]
    return wanted[places[torch.randperm(len(places), generator=generator)[:LEAPS]]]
