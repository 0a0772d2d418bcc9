"""One class map end to end: a data set's labels brought onto a model's."""

from __future__ import annotations

import numpy as np

from seg_det.data.records import DetectionSource
from seg_det.types import Category, UserError


def with_categories(source: DetectionSource, categories: tuple[Category, ...], owner: str) -> DetectionSource:
    """``source`` with its labels as indices of ``categories``, matched by name; ``owner`` is whose they are.

    The categories of the result stand in that order and keep the source's own ids, which its result files carry.
    Raises UserError if the two do not name the same classes.
    """
    index = {category.name: i for i, category in enumerate(categories)}
    here = {category.name for category in source.categories}
    if here != set(index):
        only = [f"only in the data: {', '.join(sorted(here - set(index))[:5])}"] if here - set(index) else []
        only += [f"only in {owner}: {', '.join(sorted(set(index) - here)[:5])}"] if set(index) - here else []
        raise UserError(
            f"{source.name} has {len(here)} classes, {owner} has {len(index)}, and they are not the same "
            f"({'; '.join(only)}): choose data with the same classes, or train anew on these, with "
            "backbone.weights=CHECKPOINT to start from its backbone."
        )
    if [category.name for category in source.categories] == list(index):
        return source
    order = np.array([index[category.name] for category in source.categories], dtype=np.int64)
    records = tuple(record._replace(labels=order[record.labels]) for record in source.records)
    own_ids = {category.name: category.id for category in source.categories}
    ordered = tuple(Category(own_ids[name], name) for name in index)
    return DetectionSource(source.name, records, ordered, source.problems)
