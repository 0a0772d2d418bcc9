"""What is wrong or doubtful with the objects of a split taken together: forms of boxes, crowds, repeated objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from seg_det.data.problems import TOLERANCE, Problems
from seg_det.errors import UserError
from seg_det.types import Category

FEWEST = 4  # boxes that tell corners from widths
STICKING_OUT = 0.25  # share of the boxes from which they are corners
MOST_CLASSES = 5  # in a message


def counted(count: int, one: str, several: str) -> str:
    """ "1 label file has", "2 label files have"."""
    return f"{count} {one if count == 1 else several}"


def require_pixels(values: np.ndarray, sizes: np.ndarray, what: str) -> None:
    """Raise UserError where all numbers f64 [N, ...] of ``what`` are shares of the image, (H, W) in ``sizes`` [N, 2]."""
    if values.size and values.min() >= 0 and values.max() <= 1 and values.max() > 0 and sizes.min() > 2:
        raise UserError(
            f"{what} look like shares of the image, since no number of them is above 1: write pixels, that is "
            "x times the width of the image and y times its height"
        )


def look_like_corners(xywh: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether boxes f64 [N, 4] of images of (H, W) [N, 2] make sense as x1 y1 x2 y2 and many do not as x y w h."""
    limits = sizes[:, ::-1] + TOLERANCE
    inside = (xywh[:, 2:] > xywh[:, :2]).all() and (xywh[:, 2:] <= limits).all() and (xywh[:, :2] >= -TOLERANCE).all()
    outside = (xywh[:, :2] + xywh[:, 2:] > limits).any(axis=1)
    return len(xywh) >= FEWEST and bool(inside) and outside.mean() > STICKING_OUT


def judge_crowds(
    labels: np.ndarray, crowd: np.ndarray, categories: Sequence[Category], where: str, problems: Problems
) -> None:
    """Note the classes whose objects are all crowds. Raises UserError where all objects of all classes are."""
    remedy = 'set "iscrowd": 0 for what are single objects (CVAT writes 1 for every brush mask)'
    if len(crowd) and crowd.all():
        raise UserError(f"{where}: all {len(crowd)} objects are marked iscrowd=1, so nothing can be learned; {remedy}")
    objects = np.bincount(labels, minlength=len(categories))
    crowds = np.bincount(labels[crowd], minlength=len(categories))
    hidden = np.flatnonzero((objects > 0) & (crowds == objects))
    if len(hidden):
        counts = [f"class {categories[i].name} has {crowds[i]} of {objects[i]}" for i in hidden[:MOST_CLASSES]]
        more = f" (and {len(hidden) - MOST_CLASSES} more classes)" if len(hidden) > MOST_CLASSES else ""
        problems.note(f"{where}: {', '.join(counts)}{more} objects marked iscrowd=1 and will not be learned; {remedy}")


def note_repeats(
    image: np.ndarray,
    labels: np.ndarray,
    boxes: np.ndarray,
    describe: Callable[[int], str],
    problems: Problems,
) -> None:
    """Note how many objects have the image, class and box f32 [N, 4] of an earlier one, with the first of them."""
    rows = np.column_stack([image, labels, boxes.view(np.int32).astype(np.int64)]).astype(np.uint64)
    codes = (rows * _FACTORS).sum(axis=1, dtype=np.uint64)  # wraps around; equal rows have equal codes
    order = np.argsort(codes, kind="stable")
    same = np.flatnonzero(codes[order][1:] == codes[order][:-1])
    pairs = [(order[at], order[at + 1]) for at in same if (rows[order[at]] == rows[order[at + 1]]).all()]
    if pairs:
        earlier, later = min(pairs, key=lambda pair: pair[1])
        problems.note(
            f"{counted(len(pairs), 'object has', 'objects have')} the image, class and box of another and all are kept "
            f"(the first: {describe(later)} repeats {describe(earlier)}): remove them if the annotations were merged twice"
        )


# Odd numbers of 64 bits without a pattern.
_FACTORS = np.random.default_rng(0).integers(0, 2**63, 6, np.uint64) * np.uint64(2) + np.uint64(1)
