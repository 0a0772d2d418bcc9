"""The images on which an exported file differs most from its checkpoint, drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seg_det.data.records import Source
from seg_det.kinds.kind import Kind
from seg_det.report.drawings import side_by_side
from seg_det.report.pictures import Gallery, Picture
from seg_det.report.tables import format_number
from seg_det.types import ModelCard

SHOWN = 8


def differing(
    kind: Kind,
    card: ModelCard,
    source: Source,
    predictions: tuple[Mapping[int, Any], Mapping[int, Any]],
    names: tuple[str, str],
) -> tuple[Gallery, ...]:
    """One gallery of at most SHOWN images, the most different first; none without images.

    ``predictions``: of two models called ``names``, by image id, as the kind's metric takes them.
    """
    ours, theirs = predictions
    apart = {i: kind.differences({i: ours[i]}, {i: theirs[i]}) for i in ours}
    # What a kind lists last weighs most: a detection that one of the two does not have.
    ranked = sorted(apart, key=lambda i: ([-value for value in reversed(apart[i].values())], i))
    records = {record.image_id: record for record in source.records}
    pictures = []
    for image_id in ranked[:SHOWN]:
        record = records[image_id]
        left, right = (kind.drawn(found[image_id], record, card) for found in predictions)
        note = ", ".join(f"{name} {format_number(value)}" for name, value in apart[image_id].items())
        pictures.append(Picture(record.path.name, note, side_by_side(left, right, titles=names)))
    rule = "The largest differences between the two first; below each image how far they are apart."
    gallery = Gallery("Where they differ most", rule, pictures, kind.legend(card.categories))
    return (gallery,) if pictures else ()
