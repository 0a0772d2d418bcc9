"""Exact greedy non-maximum suppression as tensor algebra: no loop over boxes, any number of images at once."""

from __future__ import annotations

import torch
from torch import Tensor

from seg_det.ops.boxes import area, intersection


def suppresses(boxes: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Which earlier box would suppress which later one: bool [..., N, N], ``[i, j]`` true if j precedes i and overlaps it.

    ``boxes`` [..., N, 4] and ``labels`` [..., N] stand in descending order of score; only equal labels suppress each other.
    """
    return rivals(boxes, labels, iou_threshold).tril(-1)


def rivals(boxes: Tensor, labels: Tensor, threshold: float, *, of_smaller: bool = False) -> Tensor:
    """Which pairs of boxes [..., N, 4] have one of ``labels`` [..., N] and overlap too far: bool [..., N, N].

    ``threshold`` bounds the intersection as a share of the union, or with ``of_smaller`` of the smaller box of the two.
    """
    areas = area(boxes)
    overlap = intersection(boxes, boxes)
    mine, theirs = areas.unsqueeze(-1), areas.unsqueeze(-2)
    # IoU > t without a division: exact for zero-area boxes too, which suppress nothing.
    over = overlap > threshold * (torch.minimum(mine, theirs) if of_smaller else mine + theirs - overlap)
    return over & (labels.unsqueeze(-1) == labels.unsqueeze(-2))


def greedy_keep(suppressed_by: Tensor, candidates: Tensor) -> Tensor:
    """Which of the ordered ``candidates`` (bool [..., N]) greedy NMS keeps, given :func:`suppresses`'s matrix.

    Greedy NMS is the only fix point of keep_i = candidate_i and no j with (j suppresses i and keep_j): the relation is
    strictly lower triangular, so each round settles at least one more link of every suppression chain, and the iteration
    ends after as many rounds as the longest chain has links, with the exact answer.
    """
    matrix = suppressed_by.to(torch.float32)
    keep = candidates
    while True:
        hit = torch.matmul(matrix, keep.to(torch.float32).unsqueeze(-1)).squeeze(-1) > 0
        settled = candidates & ~hit
        if torch.equal(settled, keep):
            return keep
        keep = settled


def greedy_rounds(scores: Tensor, rival: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Greedy NMS with fixed shapes, for graphs without data-dependent ones: indices i64 and scores [B, rounds], best first.

    ``scores`` [B, N] are negative where there is no candidate, ``rival`` [B, N, N] is :func:`rivals`'s. Each round takes the
    best that is left and strikes it and its rivals out: as long as there are candidates this is greedy NMS itself, the exact
    answer. Rounds that find none give negative scores.
    """
    place = torch.arange(scores.shape[1], device=scores.device)
    indices, values = [], []
    for _ in range(rounds):
        best, index = scores.max(1, keepdim=True)
        row = rival.gather(1, index.unsqueeze(-1).expand(-1, -1, rival.shape[2])).squeeze(1)
        scores = scores.masked_fill(row | (place == index), -1.0)
        indices.append(index)
        values.append(best)
    return torch.cat(indices, 1), torch.cat(values, 1)


def greedy_picks(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> tuple[Tensor, Tensor]:
    """Greedy NMS one pick at a time: indices i64 and scores [B, R] of at most ``most`` boxes, best first.

    ``boxes`` [B, N, 4], each row of them by itself; ``scores`` [B, N] are negative where there is no candidate, and those
    that come out are where a row has no pick left. Memory grows with B x N, where :func:`suppresses` needs N squared.
    """
    areas = area(boxes)
    indices, values = [], []
    for _ in range(min(most, scores.shape[1])):
        best, index = scores.max(1, keepdim=True)
        if not (best > 0).any():
            break
        picked = boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
        overlap = intersection(picked, boxes).squeeze(1)
        over = overlap > iou_threshold * (area(picked) + areas - overlap)
        scores = scores.masked_fill(over, -1.0).scatter(1, index, -1.0)
        indices.append(index)
        values.append(best)
    if not indices:
        return scores.new_zeros(len(scores), 0).long(), scores.new_zeros(len(scores), 0)
    return torch.cat(indices, 1), torch.cat(values, 1)


def nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Indices i64 [M] of the boxes that class-aware greedy NMS keeps, best score first; ties go to the lower index.

    ``boxes`` f32 [N, 4] xyxy, ``scores`` [N], ``labels`` [N]. Memory grows with N squared: cut to the best scores first.
    """
    order = scores.sort(descending=True, stable=True).indices
    matrix = suppresses(boxes[order], labels[order], iou_threshold)
    return order[greedy_keep(matrix, torch.ones_like(order, dtype=torch.bool))]
