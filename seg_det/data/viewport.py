"""What part of an image a training sample shows: SSD's zoom-out and IoU crop, a scaled crop, as windows in pixels.

A window is i64 [4], xyxy in pixels of the image; it may reach beyond the image's borders.
Source: Liu et al., "SSD: Single Shot MultiBox Detector" (2016), sections 2.2 and 3.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

CROP_TRIALS = 50
CROP_SCALE = (0.3, 1.0)
CROP_ASPECT = (0.5, 2.0)


class Placement(NamedTuple):
    """What a viewport shows: the part ``source`` of the image fills the part ``target`` of the output, both xyxy."""

    source: np.ndarray  # i64 [4], pixels of the image
    target: np.ndarray  # i64 [4], pixels of the output


def zoom_out_window(rng: np.random.Generator, size: tuple[int, int], max_ratio: float) -> np.ndarray:
    """Window of 1 to ``max_ratio`` times each side of an image of ``size`` (H, W) with the image anywhere in it.

    Returns i64 [4], xyxy pixels of the image, the first two at most 0.
    """
    image = np.array(size[::-1])
    canvas = np.rint(image * rng.uniform(1, max_ratio)).astype(np.int64)
    corner = -rng.integers(canvas - image, endpoint=True)
    return np.concatenate([corner, corner + canvas])


def iou_crop_window(
    rng: np.random.Generator, window: np.ndarray, boxes: np.ndarray, min_ious: Sequence[float]
) -> np.ndarray:
    """Part of ``window`` (i64 [4]) that overlaps one of ``boxes`` (f64 [N, 4], same pixels) well enough, as i64 [4].

    Up to ``CROP_TRIALS`` windows have 0.3 to 1 of each side and an aspect ratio of 0.5 to 2. One is good enough if the
    centre of a box lies in it and its IoU with such a box reaches a threshold drawn from ``min_ious``: 0 takes any that
    holds a centre, 1 stands for the whole window. A threshold that none reaches is replaced by another; where none is
    left (no boxes, say) the whole window remains. The released SSD code asks for the IoU of at least one box, too.
    """
    candidates = _crop_candidates(rng, window)
    overlap = np.where(centres_inside(candidates, boxes), _pairwise_iou(candidates, boxes), -1.0)
    best = overlap.max(axis=1, initial=-1.0)
    for threshold in rng.permutation(min_ious):
        if threshold >= 1:
            break
        good = np.flatnonzero(best >= threshold)
        if good.size:
            return candidates[good[0]]
    return window


def scaled_crop_window(
    rng: np.random.Generator, image_size: tuple[int, int], crop: tuple[int, int], scale: float
) -> np.ndarray:
    """What a crop of (H, W) shows of an image of (H, W) that was scaled by ``scale``: i64 [4], xyxy pixels of the image.

    It lies anywhere inside the image; along a side where it is the longer one, the image lies anywhere inside it.
    """
    image, sides = np.array(image_size[::-1]), np.maximum(np.rint(np.array(crop[::-1]) / scale), 1).astype(np.int64)
    room = image - sides
    corner = rng.integers(np.minimum(room, 0), np.maximum(room, 0), endpoint=True)
    return np.concatenate([corner, corner + sides])


def place(window: np.ndarray, image_size: tuple[int, int], output_size: tuple[int, int]) -> Placement:
    """Where the part of ``window`` (i64 [4]) that lies in an image of (H, W) goes in an output of (H, W).

    The target is rounded to whole pixels, at least one; boxes are moved by the same rounded rectangle.
    """
    output = np.array(output_size[::-1])
    lower, upper = np.maximum(window[:2], 0), np.minimum(window[2:], image_size[::-1])
    scale = output / (window[2:] - window[:2])
    first = np.minimum(np.rint((lower - window[:2]) * scale).astype(np.int64), output - 1)
    last = np.maximum(np.rint((upper - window[:2]) * scale).astype(np.int64), first + 1)
    return Placement(np.concatenate([lower, upper]), np.concatenate([first, last]))


def placed_image(image: np.ndarray, placement: Placement, canvas: np.ndarray) -> np.ndarray:
    """The visible part of ``image`` (u8 [H, W, 3]), resized into its place on a copy of ``canvas``."""
    (left, top, right, bottom), (x1, y1, x2, y2) = placement
    visible = cv2.resize(image[top:bottom, left:right], (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_LINEAR)
    if visible.shape == canvas.shape:
        return visible
    output = canvas.copy()
    output[y1:y2, x1:x2] = visible
    return output


def placed_boxes(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """Boxes f64 [N, 4] in pixels of the image, in pixels of the output; not clipped."""
    source, target = placement
    scale = (target[2:] - target[:2]) / (source[2:] - source[:2])
    return (boxes - np.tile(source[:2], 2)) * np.tile(scale, 2) + np.tile(target[:2], 2)


def centres_inside(windows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether the centre of each of ``boxes`` [N, 4] lies within each of ``windows`` [M, 4]: bool [M, N]."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((windows[:, None, :2] < centres) & (centres < windows[:, None, 2:])).all(axis=2)


def _crop_candidates(rng: np.random.Generator, window: np.ndarray) -> np.ndarray:
    """Windows within ``window`` (i64 [4]) that have an allowed aspect ratio: i64 [M, 4], M <= ``CROP_TRIALS``."""
    whole = window[2:] - window[:2]
    sides = np.maximum(np.rint(rng.uniform(*CROP_SCALE, (CROP_TRIALS, 2)) * whole), 1).astype(np.int64)
    corners = window[:2] + rng.integers(whole - sides, endpoint=True)
    aspect = sides[:, 0] / sides[:, 1]
    allowed = (CROP_ASPECT[0] <= aspect) & (aspect <= CROP_ASPECT[1])
    return np.hstack([corners, corners + sides])[allowed]


def _pairwise_iou(windows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of each of ``windows`` [M, 4] with each of ``boxes`` [N, 4]: [M, N]."""
    upper = np.minimum(windows[:, None, 2:], boxes[:, 2:])
    intersection = (upper - np.maximum(windows[:, None, :2], boxes[:, :2])).clip(0).prod(axis=2)
    area_windows, area_boxes = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (windows, boxes))
    return intersection / (area_windows[:, None] + area_boxes - intersection)
