"""From raw head output to detections: scores, boxes, non-maximum suppression, exact and batched."""

from __future__ import annotations

import torch
from torch import Tensor

from seg_det.ops.boxes import clip, decode, rescale
from seg_det.ops.nms import greedy_keep, suppresses
from seg_det.types import DenseDetections, Detections, UserError


def class_scores(logits: Tensor, score: str) -> Tensor:
    """Scores [..., C] from logits [..., C + 1]: "softmax" or "sigmoid", the background column left out."""
    if score not in ("softmax", "sigmoid"):
        raise UserError(f"postprocess.score must be softmax or sigmoid, got {score!r}.")
    scores = logits.softmax(-1) if score == "softmax" else logits.sigmoid()
    return scores[..., 1:]


def detect(
    raw: DenseDetections,
    anchors: Tensor,
    image_size: tuple[int, int],
    *,
    score: str = "softmax",
    score_threshold: float = 0.01,
    iou_threshold: float = 0.55,
    max_candidates: int = 400,
    max_detections: int = 100,
) -> list[Detections]:
    """Detections of each image, boxes in pixels of ``image_size`` (H, W), best first, at most ``max_detections``.

    For each class, the best ``max_candidates`` anchors above ``score_threshold`` go through greedy NMS at ``iou_threshold``;
    the best of all classes remain. The result is exactly that, but computed lazily: a global best-first prefix of all
    (anchor, class) pairs is suppressed class by class, and doubled for those images only that still want detections.
    """
    scores = class_scores(raw.logits.float(), score)
    boxes = clip(decode(raw.deltas.float(), anchors), image_size)
    classes = scores.shape[-1]
    if scores.shape[1] > max_candidates:  # bounds how far the prefix can grow
        scores = scores.masked_fill(scores < scores.topk(max_candidates, dim=1).values[:, -1:], -1.0)
    flat = scores.flatten(1).masked_fill(scores.flatten(1) <= score_threshold, -1.0)
    found: list[Detections | None] = [None] * len(flat)
    pending = torch.arange(len(flat), device=flat.device)
    prefix = min(2 * max_detections, flat.shape[1])
    while len(pending):
        best = flat[pending].topk(prefix)
        labels = best.indices % classes
        chosen = boxes[pending[:, None], best.indices // classes]
        candidates = (best.values > 0) & (_rank_in_class(labels) < max_candidates)
        keep = greedy_keep(suppresses(chosen, labels, iou_threshold), candidates)
        exhausted = (best.values[:, -1] <= 0) | (prefix == flat.shape[1])
        done = exhausted | (keep.sum(1) >= max_detections)
        for row, image in zip(done.nonzero().flatten().tolist(), pending[done].tolist(), strict=True):
            kept = keep[row].nonzero().flatten()[:max_detections]
            found[image] = Detections(chosen[row, kept], best.values[row, kept], labels[row, kept])
        pending = pending[~done]
        prefix = min(2 * prefix, flat.shape[1])
    return found


def to_file_size(detections: Detections, image_size: tuple[int, int], file_size: tuple[int, int]) -> Detections:
    """The detections of an image stretched to ``image_size`` (H, W), in pixels of its file of ``file_size``."""
    return detections._replace(boxes=rescale(detections.boxes, image_size, file_size))


def _rank_in_class(labels: Tensor) -> Tensor:
    """How many earlier entries of each row [B, P] have the same label."""
    return (labels[..., :, None] == labels[..., None, :]).tril(-1).sum(-1)
