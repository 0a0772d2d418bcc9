"""From raw head output to detections and label maps: exact, and in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seg_det.errors import UserError
from seg_det.ops.boxes import clip, decode, rescale
from seg_det.ops.interpolation import Side, Weights
from seg_det.ops.nms import greedy_keep, greedy_picks, greedy_rounds, rivals, suppresses
from seg_det.types import DenseDetections, Detections

SCORES = ("softmax", "sigmoid")
OUTPUTS = ("logits", "labels")
LONGEST_PREFIX = 2**11  # of the best pairs of anchor and class that are compared with one another, image by image
MOST_ROWS = 10**6  # of candidates and of detections
COMPARED = 2**24  # of them at a time, all images together: bounds the memory
BAND = {"cpu": 2**20, "other": 2**24}  # logits interpolated at a time: what a cache holds, what a device likes


def class_scores(logits: Tensor, score: str) -> Tensor:
    """Scores [..., C] from logits [..., C + 1]: "softmax" or "sigmoid", the background column left out."""
    if score not in SCORES:
        raise UserError(f"postprocess.score must be {' or '.join(SCORES)}, got {score!r}.")
    scores = logits.softmax(-1) if score == "softmax" else logits.sigmoid()
    return scores[..., 1:]


class Limits(NamedTuple):
    """Of the suppression of one image's boxes."""

    iou_threshold: float
    max_candidates: int  # of a class
    max_detections: int


def check_limits(
    *,
    score: str = "softmax",
    score_threshold: float = 0.01,
    iou_threshold: float = 0.55,
    max_candidates: int | None = 400,
    max_detections: int = 100,
) -> None:
    """Raises UserError for an argument of :func:`detect` that cannot be."""
    if score not in SCORES:
        raise UserError(f"postprocess.score must be {' or '.join(SCORES)}, got {score!r}.")
    for key, share in (("score_threshold", score_threshold), ("iou_threshold", iou_threshold)):
        if not (isinstance(share, int | float) and 0 <= share <= 1):
            raise UserError(f"postprocess.{key} must be from 0 to 1, got {share}.")
    for key, count in (("max_candidates", max_candidates), ("max_detections", max_detections)):
        if not (isinstance(count, int) and count > 0) and (count is not None or key == "max_detections"):
            also = ", or null for all" if key == "max_candidates" else ""
            raise UserError(f"postprocess.{key} must be a whole number from 1{also}, got {count}.")
        if count is not None and count > MOST_ROWS:
            raise UserError(f"postprocess.{key} must be at most {MOST_ROWS}, got {count}.")


def candidates(
    raw: DenseDetections,
    anchors: Tensor,
    image_size: tuple[int, int],
    *,
    score: str,
    score_threshold: float,
    max_candidates: int | None,
) -> tuple[Tensor, Tensor]:
    """What suppression is given: boxes [B, A, 4] in pixels of ``image_size`` (H, W), and scores [B, A, C].

    A score is -1 where its class has ``max_candidates`` better anchors (None: no limit), which bounds how far the prefix of
    :func:`detect` can grow, or where it does not exceed ``score_threshold``.
    """
    scores = class_scores(raw.logits.float(), score)
    boxes = clip(decode(raw.deltas.float(), anchors), image_size)
    if max_candidates and scores.shape[1] > max_candidates:
        # Runtimes find the best along the last dimension only, and LiteRT's converter only where their places are used.
        by_class = scores.transpose(1, 2)
        least = by_class.gather(-1, by_class.topk(max_candidates).indices[..., -1:])
        scores = scores.masked_fill(scores < least.transpose(1, 2), -1.0)
    return boxes, scores.masked_fill(scores <= score_threshold, -1.0)


def detect(
    raw: DenseDetections,
    anchors: Tensor,
    image_size: tuple[int, int],
    *,
    score: str = "softmax",
    score_threshold: float = 0.01,
    iou_threshold: float = 0.55,
    max_candidates: int | None = 400,
    max_detections: int = 100,
) -> list[Detections]:
    """Detections of each image, boxes in pixels of ``image_size`` (H, W), best first, at most ``max_detections``.

    For each class, the best ``max_candidates`` anchors (None: all) above ``score_threshold`` go through greedy NMS at
    ``iou_threshold``; the best of all classes remain. The result is exactly that, but computed lazily: a global best-first
    prefix of all (anchor, class) pairs is suppressed class by class, and doubled for those images only that still want
    detections. Where that becomes too long, because hardly a box survives, the classes are gone through one pick at a time.
    """
    boxes, scores = candidates(
        raw,
        anchors,
        image_size,
        score=score,
        score_threshold=score_threshold,
        max_candidates=max_candidates,
    )
    limits = Limits(iou_threshold, max_candidates or scores.shape[1], max_detections)
    pairs = scores.shape[1] * scores.shape[2]
    found: dict[int, Detections] = {}
    pending = torch.arange(len(scores), device=scores.device)
    prefix = min(2 * max_detections, pairs)
    while len(pending) and prefix <= LONGEST_PREFIX:
        for part in pending.split(max(1, COMPARED // prefix**2)):
            found |= _from_prefix(boxes, scores, part, prefix, limits)
        pending = torch.tensor([i for i in pending.tolist() if i not in found], dtype=torch.long, device=scores.device)
        prefix = min(2 * prefix, pairs)  # where it is all of them, none is pending
    found |= {image: _pick_by_class(boxes[image], scores[image], limits) for image in pending.tolist()}
    return [found[image] for image in range(len(scores))]


def _from_prefix(
    boxes: Tensor,
    scores: Tensor,
    images: Tensor,
    prefix: int,
    limits: Limits,
) -> dict[int, Detections]:
    """The detections of those of the ``images`` (i64) for which the best ``prefix`` pairs of anchor and class suffice."""
    best = scores[images].flatten(1).topk(prefix)
    labels = best.indices % scores.shape[2]
    chosen = boxes[images[:, None], best.indices // scores.shape[2]]
    allowed = (best.values > 0) & (_rank_in_class(labels) < limits.max_candidates)
    keep = greedy_keep(suppresses(chosen, labels, limits.iou_threshold), allowed)
    exhausted = (best.values[:, -1] <= 0) | (prefix == scores.shape[1] * scores.shape[2])
    done = exhausted | (keep.sum(1) >= limits.max_detections)
    found = {}
    for row, image in zip(done.nonzero().flatten().tolist(), images[done].tolist(), strict=True):
        kept = keep[row].nonzero().flatten()[: limits.max_detections]
        found[image] = Detections(chosen[row, kept], best.values[row, kept], labels[row, kept])
    return found


def _pick_by_class(boxes: Tensor, scores: Tensor, limits: Limits) -> Detections:
    """The detections of one image, boxes [A, 4] and scores [A, C], in memory that grows with A x C alone."""
    best = scores.T.topk(min(limits.max_candidates, len(scores)))  # [C, N]
    places, values = greedy_picks(boxes[best.indices], best.values, limits.iou_threshold, limits.max_detections)
    anchors = best.indices.gather(1, places)
    merged = values.flatten().topk(min(limits.max_detections, values.numel()))
    kept = merged.indices[merged.values > 0]
    labels = torch.div(kept, max(1, places.shape[1]), rounding_mode="floor")
    return Detections(boxes[anchors.flatten()[kept]], values.flatten()[kept], labels)


def select_static(
    boxes: Tensor, scores: Tensor, *, iou_threshold: float, max_detections: int, considered: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`detect`'s suppression with fixed shapes, for exported graphs: boxes [B, M, 4], scores, labels [B, M], count [B].

    ``boxes`` and ``scores`` are :func:`candidates`'s. M is ``max_detections``; rows from ``count`` on are zero. The best
    ``considered`` pairs of anchor and class take part: exact where no more exceed the threshold, or M of these are kept.
    """
    classes = scores.shape[-1]
    flat = scores.flatten(1)
    best = flat.topk(min(considered, flat.shape[1]))
    labels = best.indices % classes
    place = torch.div(best.indices, classes, rounding_mode="floor")
    chosen = boxes.gather(1, place.unsqueeze(-1).expand(-1, -1, 4))
    rounds = min(max_detections, flat.shape[1])
    kept, values = greedy_rounds(best.values, rivals(chosen, labels, iou_threshold), rounds)
    real = values > 0
    found = chosen.gather(1, kept.unsqueeze(-1).expand(-1, -1, 4)) * real.unsqueeze(-1)
    return found, values * real, labels.gather(1, kept) * real, real.sum(1)


def to_file_size(detections: Detections, image_size: tuple[int, int], file_size: tuple[int, int]) -> Detections:
    """The detections of an image stretched to ``image_size`` (H, W), in pixels of its file of ``file_size``."""
    return detections._replace(boxes=rescale(detections.boxes, image_size, file_size))


def _rank_in_class(labels: Tensor) -> Tensor:
    """How many earlier entries of each row [B, P] have the same label."""
    return (labels[..., :, None] == labels[..., None, :]).tril(-1).sum(-1)


class Patch(NamedTuple):
    """What a network said about a part of an image."""

    logits: Tensor  # f32 [C, h, w]
    box: tuple[float, float, float, float]  # xyxy pixels of the file that the map lies on; beyond the file lies padding
    size: tuple[int, int]  # (H, W) of the network's input there


def canvas_patch(logits: Tensor, canvas: tuple[int, int], content: tuple[int, int], size: tuple[int, int]) -> Patch:
    """The patch of a ``canvas`` whose top left ``content`` is an image of ``size``; all (H, W), logits f32 [C, h, w]."""
    box = (0.0, 0.0, canvas[1] * size[1] / content[1], canvas[0] * size[0] / content[0])
    return Patch(logits, box, canvas)


def label_map(
    patches: Sequence[Patch], size: tuple[int, int], *, output: str = "logits", align_corners: bool = False
) -> Tensor:
    """The class of each pixel of an image of ``size`` (H, W): u8 [H, W], the lower class where two are level.

    ``output`` "logits" interpolates the logits bilinearly to the pixels and takes the best class there. Several patches, of
    other scales, mirrored or windows, are averaged as probabilities; together they must cover the image. A patch of another
    scale keeps its place in the image, also with ``align_corners``, where TensorFlow's loop would stretch it. "labels" takes the
    best class at the map's own places and each pixel the nearest place: far less work, which suits a phone.

    ``align_corners``: see :class:`seg_det.ops.interpolation.Side`.

    Raises ValueError for another output, and for "labels" of several patches.
    """
    if output not in OUTPUTS:
        raise ValueError(f"expected an output of {', '.join(OUTPUTS)}, got {output!r}")
    if output == "labels":
        if len(patches) > 1:
            raise ValueError(f"expected one patch for the output labels, got {len(patches)}")
        return _nearest_labels(patches[0], size, align_corners)
    wide = [_widened(patch, size, align_corners) for patch in patches]
    logits = patches[0].logits
    labels = torch.empty(size, dtype=torch.uint8, device=logits.device)
    rows = max(1, BAND["cpu" if logits.device.type == "cpu" else "other"] // (len(logits) * size[1]))
    for top in range(0, size[0], rows):
        band = slice(top, min(top + rows, size[0]))
        labels[band] = _band_scores(wide, band, size[1]).max(0).indices
    return labels


def _sides(patch: Patch, align_corners: bool) -> tuple[Side, Side]:
    """Of the rows and of the columns."""
    left, top, right, bottom = patch.box
    height, width = patch.logits.shape[1:]
    return (
        Side(top, bottom, patch.size[0], height, align_corners),
        Side(left, right, patch.size[1], width, align_corners),
    )


def _nearest_labels(patch: Patch, size: tuple[int, int], align_corners: bool) -> Tensor:
    labels = patch.logits.max(0).indices.to(torch.uint8)
    for dim, (side, length) in enumerate(zip(_sides(patch, align_corners), size, strict=True)):
        labels = labels.index_select(dim, side.nearest(slice(0, length)).to(labels.device))
    return labels


class _Wide(NamedTuple):
    """A patch that has been brought to the columns of the image, but not yet to its rows."""

    logits: Tensor  # f32 [C, h, columns]
    rows: slice  # of the image
    columns: slice
    weights: Weights  # of the rows


def _widened(patch: Patch, size: tuple[int, int], align_corners: bool) -> _Wide:
    vertical, horizontal = _sides(patch, align_corners)
    rows, columns = vertical.covered(size[0]), horizontal.covered(size[1])
    device = patch.logits.device
    logits = horizontal.weights(columns).to(device).along(patch.logits.float().contiguous(), 2)
    return _Wide(logits, rows, columns, vertical.weights(rows).to(device))


def _band_scores(patches: Sequence[_Wide], band: slice, width: int) -> Tensor:
    """Scores f32 [C, rows of the band, width], highest for the class that the patches agree on."""
    if len(patches) == 1:
        return patches[0].weights.part(band).along(patches[0].logits, 1)
    # The sum of probabilities: at each pixel it is the same multiple of the mean for all classes.
    total = patches[0].logits.new_zeros(len(patches[0].logits), band.stop - band.start, width)
    for patch in patches:
        start, stop = max(band.start, patch.rows.start), min(band.stop, patch.rows.stop)
        if start < stop:
            inside = slice(start - patch.rows.start, stop - patch.rows.start)
            scores = patch.weights.part(inside).along(patch.logits, 1).softmax(0)
            total[:, start - band.start : stop - band.start, patch.columns] += scores
    return total
