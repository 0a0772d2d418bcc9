"""COCO's average precision and recall by class, size and threshold: the arrays of pycocotools, without its loops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seg_det.metrics.arrays import Found, Objects
from seg_det.metrics.matching import match, overlapping, rank_within

# As pycocotools builds them: its numbers hang on the last bit.
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of IoU
RECALLS = np.linspace(0.0, 1.0, 101)
# Both ends belong to a range. "all" ends where COCO's ends.
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MAX_DETECTIONS = (1, 10, 100)  # of one class in one image


class Curves(NamedTuple):
    """By T thresholds, R recalls, K classes, A areas, M most detections; -1 where there is no object to be found."""

    precision: np.ndarray  # f64 [T, R, K, A], with 100 detections
    recall: np.ndarray  # f64 [T, K, A, M]


def coco_curves(objects: Objects, found: Found, num_classes: int) -> Curves:
    """Precision at each recall, and the highest recall; labels are 0..num_classes - 1."""
    found, rank = best_first(found, MAX_DETECTIONS[-1])
    ignored = np.stack([objects.crowd | outside(objects.area, bounds) for bounds in AREAS.values()])
    pairs = overlapping(objects, found, THRESHOLDS[0])
    matches = match(pairs, found.group, THRESHOLDS, ignored=ignored, crowd=objects.crowd)
    precision = np.full((len(THRESHOLDS), len(RECALLS), num_classes, len(AREAS)), -1.0)
    recall = np.full((len(THRESHOLDS), num_classes, len(AREAS), len(MAX_DETECTIONS)), -1.0)
    for a, bounds in enumerate(AREAS.values()):
        present = np.bincount(objects.label[~ignored[a]], minlength=num_classes)
        spare = outside(found.area, bounds)
        for t in range(len(THRESHOLDS)):
            true, counted = judged(matches.detection, matches.object[a, t], ignored[a], spare)
            precision[t, :, :, a] = interpolated(true, counted, found.label, present)
            for m, most in enumerate(MAX_DETECTIONS):
                hits = np.bincount(found.label[true[rank[true] < most]], minlength=num_classes)
                recall[t, :, a, m] = np.divide(hits, present, out=np.full(num_classes, -1.0), where=present > 0)
    return Curves(precision, recall)


def best_first(found: Found, most: int) -> tuple[Found, np.ndarray]:
    """The ``most`` best detections of each class in each image, and their ranks there, i64 [D].

    They stand by class and descending score; equal scores by image, of one image as they stood before.
    """
    order = np.argsort(found.image, kind="stable")
    order = order[np.argsort(-found.score[order], kind="stable")]
    # Of numbers of 16 bits, NumPy's stable sort is a radix sort.
    label = found.label[order].astype(np.min_scalar_type(found.label.max(initial=0)))
    found = found.select(order[np.argsort(label, kind="stable")])
    rank = rank_within(found.group)
    return found.select(rank < most), rank[rank < most]


def outside(area: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """bool: whether an area is not within the bounds, both of which are."""
    return (area < bounds[0]) | (area > bounds[1])


def judged(
    detection: np.ndarray, target: np.ndarray, ignored: np.ndarray, spare: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the true detections, ascending i64; and which detections count at all, bool [D].

    detection, target: i64 [C], rows of detections and what they found, -1 for nothing; ignored: bool [G];
    spare: bool [D], detections that do not count unless they find something.
    """
    counted = ~spare
    hit = target >= 0
    detection, real = detection[hit], ~ignored[target[hit]]
    counted[detection] = real
    return np.sort(detection[real]), counted


def interpolated(true: np.ndarray, counted: np.ndarray, labels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The best precision at each recall or a greater one, f64 [R, K]; 0 where it is not reached, -1 without objects.

    true: i64, rows of the finds; counted, labels: [D] by class and descending score; present: i64 [K], objects to find.
    """
    # Precision peaks at the finds: what lies between them need not be looked at.
    passed = np.append(0, np.cumsum(counted))
    classes = np.arange(len(present))
    seen = passed[true + 1] - passed[np.searchsorted(labels, classes)][labels[true]]
    cuts = np.searchsorted(labels[true], classes[1:])
    curves = np.full((len(RECALLS), len(present)), -1.0)
    for k, part in enumerate(np.split(seen, cuts)):
        if present[k]:
            number = np.arange(1, len(part) + 1)
            precision = number / (part + np.spacing(1))
            best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
            curves[:, k] = best[np.searchsorted(number / present[k], RECALLS)]
    return curves
