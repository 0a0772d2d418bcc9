"""Checks of boxes, on all objects of a split at once; no image is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from seg_det.data.objects import share_lost, vanishing
from seg_det.data.records import DetectionRecord, DetectionSource
from seg_det.doctor.findings import ERROR, Finding, Found, Scope, Split, found

SAME_BOX = 0.95  # IoU above which two boxes are about one object
IDENTICAL = 0.999
COVERS = 0.95  # share of the image
SMALLEST, TINY = 1.0, 8.0  # pixels of the input
IN_CROWD = 0.9  # share of an object that lies in a crowd region
MOST_OBJECTS = 100  # detections of an image that COCO's evaluation counts
MOST_NEIGHBOURS = 200  # boxes to the right of one that are compared with it


class Objects(NamedTuple):
    """All objects of a split, a row each."""

    image: np.ndarray  # i64 [N], position of the record
    number: np.ndarray  # i64 [N], position in it
    boxes: np.ndarray  # f64 [N, 4], xyxy pixels
    labels: np.ndarray  # i64 [N]
    crowd: np.ndarray  # bool [N]
    sizes: np.ndarray  # f64 [N, 2], (W, H) of the images


def objects_of(source: DetectionSource) -> Objects:
    """The table of a source."""
    records = source.records
    counts = np.array([len(record.labels) for record in records], np.int64)
    image = np.repeat(np.arange(len(records)), counts)
    number = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
    sizes = np.array([record.size[::-1] for record in records], np.float64).reshape(-1, 2)[image]
    boxes = np.concatenate([record.boxes for record in records]).astype(np.float64)
    labels, crowd = (np.concatenate([getattr(record, name) for record in records]) for name in ("labels", "crowd"))
    return Objects(image, number, boxes, labels, crowd, sizes)


def check_boxes(scope: Scope) -> Iterator[Found]:
    """Boxes that are doubled, cover their image, are tiny at ``scope.size`` or lie in crowds; images with few or many."""
    for split in scope.splits:
        table = objects_of(split.of_boxes)
        yield from _doubled(split, table)
        yield from _sizes(split, table, scope.size)
        yield from _in_crowds(split, table)
        yield from _by_number(split)


def check_vanishing(scope: Scope) -> Iterator[Found]:
    """The share of the training objects that are below a pixel at ``scope.size``; a training says it with the anchors."""
    if (split := scope.of("train")) is None:
        return
    source = split.of_boxes
    if said := vanishing(source.name, source.records, scope.size):
        severity = ERROR if share_lost(source.records, scope.size) == 1 else ""
        yield from found("objects-below-pixel", [Finding(said, split.name)], severity)


def _rows(
    fault: str,
    split: Split,
    table: Objects,
    rows: np.ndarray,
    says: Callable[[int], str],
    pairs: np.ndarray | None = None,
) -> Iterator[Found]:
    """A finding for each of ``rows`` [M] of the table, with the box of ``pairs`` [M] beside its own."""
    names = [category.name for category in split.source.categories]

    def item(position: int) -> Finding:
        row = int(rows[position])
        record: DetectionRecord = split.source.records[table.image[row]]
        boxes = [row] if pairs is None else [row, int(pairs[position])]
        box = ", ".join(f"{value:g}" for value in table.boxes[row].round(1))
        where = (
            f"{record.path} (image id {record.image_id}): object {table.number[row] + 1} ({names[table.labels[row]]}) "
        )
        return Finding(
            f"{where}with the box [x1, y1, x2, y2] = [{box}] {says(position)}",
            split.name,
            record.path,
            record.image_id,
            int(table.number[row]),
            tuple(tuple(table.boxes[each].tolist()) for each in boxes),
        )

    if len(rows):
        yield Found(fault, len(rows), item)


def same_boxes(
    image: np.ndarray, boxes: np.ndarray, least: float = SAME_BOX
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of boxes xyxy [N, 4] of one image [N] with an IoU above ``least``: rows [P], rows [P] and IoU [P].

    Such boxes begin at nearly the same x, so that in that order each is compared with its next neighbours only.
    """
    order = np.lexsort((boxes[:, 0], image))
    image, boxes = image[order], boxes[order]
    widths, areas = boxes[:, 2] - boxes[:, 0], np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    active, found_pairs = np.arange(len(boxes)), []
    for step in range(1, MOST_NEIGHBOURS):
        active = active[active + step < len(boxes)]
        other = active + step
        near = (image[active] == image[other]) & (
            boxes[other, 0] - boxes[active, 0] <= (1 - least) / least * widths[active] + 1e-6
        )
        active, other = active[near], other[near]
        if not len(active):
            break
        overlap = np.minimum(boxes[active, 2:], boxes[other, 2:]) - np.maximum(boxes[active, :2], boxes[other, :2])
        common = overlap.clip(min=0).prod(axis=1)
        iou = common / np.maximum(areas[active] + areas[other] - common, 1e-9)
        found_pairs.append(np.stack([order[active], order[other], iou])[:, iou > least])
    if not found_pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    first, second, iou = np.concatenate(found_pairs, axis=1)
    pair = np.sort(np.stack([first, second]).astype(np.int64), axis=0)
    return pair[0], pair[1], iou


def _doubled(split: Split, table: Objects) -> Iterator[Found]:
    first, second, iou = same_boxes(table.image, table.boxes)
    objects = ~(table.crowd[first] | table.crowd[second])
    same = table.labels[first] == table.labels[second]
    names = [category.name for category in split.source.categories]
    for fault, wanted in (
        ("box-identical", same & (iou > IDENTICAL)),
        ("box-doubled", same & (iou <= IDENTICAL)),
        ("box-of-two-classes", ~same),
    ):
        rows = np.flatnonzero(wanted & objects)
        one, two, overlap = first[rows], second[rows], iou[rows]

        def says(position: int, one: np.ndarray = one, overlap: np.ndarray = overlap) -> str:
            other = f"object {table.number[one[position]] + 1} ({names[table.labels[one[position]]]})"
            return f"is the same as {other} (IoU {overlap[position]:.3f}): delete one of them"

        yield from _rows(fault, split, table, two, says, one)


def _sizes(split: Split, table: Objects, size: tuple[int, int]) -> Iterator[Found]:
    sides = table.boxes[:, 2:] - table.boxes[:, :2]
    covering = sides.prod(axis=1) > COVERS * table.sizes.prod(axis=1)
    at_input = sides / np.maximum(table.sizes, 1) * np.array(size[::-1], np.float64)
    below = (at_input < SMALLEST).any(axis=1) & ~table.crowd
    tiny = (at_input.max(axis=1, initial=0) < TINY) & ~below & ~table.crowd
    input_size = f"at the input size {size[1]} x {size[0]}"

    def small(rows: np.ndarray) -> Callable[[int], str]:
        return lambda n: f"has {at_input[rows[n]][0]:.1f} x {at_input[rows[n]][1]:.1f} pixels {input_size}"

    rows = np.flatnonzero(covering)
    yield from _rows("box-covers-image", split, table, rows, lambda n: "covers more than 95 % of the image")
    for fault, chosen in (("box-below-pixel", below), ("box-tiny", tiny)):
        rows = np.flatnonzero(chosen)
        yield from _rows(fault, split, table, rows, small(rows))


def _in_crowds(split: Split, table: Objects) -> Iterator[Found]:
    """Objects that lie in a crowd region of their class; crowds are few."""
    rows, regions = [], []
    starts = np.searchsorted(table.image, np.arange(len(split.source.records) + 1))
    for region in np.flatnonzero(table.crowd):
        own = np.arange(*starts[table.image[region] : table.image[region] + 2])
        own = own[(table.labels[own] == table.labels[region]) & ~table.crowd[own]]
        overlap = np.minimum(table.boxes[own, 2:], table.boxes[region, 2:]) - np.maximum(
            table.boxes[own, :2], table.boxes[region, :2]
        )
        areas = (table.boxes[own, 2:] - table.boxes[own, :2]).prod(axis=1)
        inside = own[overlap.clip(min=0).prod(axis=1) >= IN_CROWD * areas]
        rows += inside.tolist()
        regions += [int(region)] * len(inside)
    within = np.array(rows, np.int64), np.array(regions, np.int64)
    yield from _rows("box-in-crowd", split, table, within[0], lambda n: "lies in a crowd region", within[1])


def _of_images(fault: str, split: Split, rows: np.ndarray, says: Callable[[DetectionRecord], str]) -> Iterator[Found]:
    """A finding for each of the images with the positions ``rows``."""

    def item(position: int) -> Finding:
        record = split.source.records[rows[position]]
        where = f"{record.path} (image id {record.image_id})"
        return Finding(f"{where} has {says(record)}", split.name, record.path, record.image_id)

    if len(rows):
        yield Found(fault, len(rows), item)


def _by_number(split: Split) -> Iterator[Found]:
    """Images with more objects than are counted, and images without any."""
    counts = np.array([len(record.labels) for record in split.of_boxes.records])
    crowded, empty = np.flatnonzero(counts > MOST_OBJECTS), np.flatnonzero(counts == 0)
    share = f"no object, as {len(empty):,} of {len(counts):,} images of {split.name} ({len(empty) / len(counts):.1%})"
    yield from _of_images("image-crowded", split, crowded, lambda record: f"{len(record.labels)} objects")
    yield from _of_images("images-without-objects", split, empty, lambda record: share)
