"""The test part of a data set: measured once, when everything has been chosen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from seg_det.data.classes import with_categories
from seg_det.data.records import Source
from seg_det.errors import UserError
from seg_det.evaluation.measure import evaluate
from seg_det.kinds.kind import Kind
from seg_det.predict.predictor import NetworkPredictor

log = logging.getLogger(__name__)


def no_test() -> Source | None:
    """The test part of a data set that has none."""
    return None


def measure_test(
    kind: Kind,
    predictor: NetworkPredictor,
    read: Callable[[], Source | None],
    val: Source,
    *,
    batch_size: int,
    num_workers: int,
    device: torch.device,
) -> dict[str, Any]:
    """``test`` and ``tested`` of metrics.json: the headline figures of the test part, and what it is. Empty without one.

    A test part that cannot be measured, and one that is the validation split, is left out with a warning: the training is done.
    """
    try:
        if (source := read()) is None:
            return {}
        source = with_categories(source, predictor.card.categories, "the training split")
        kind.check(source)
    except UserError as error:
        log.warning("The test part was not measured: %s", error)
        return {}
    if {record.path for record in source.records} == {record.path for record in val.records}:
        log.warning("%s is the validation split too, so it was not measured again as a test part.", source.name)
        return {}
    found = evaluate(kind, predictor, source, batch_size=batch_size, num_workers=num_workers, device=device)
    headline = found.report.headline()
    return {
        "test": {name: headline.get(name) for name in kind.shown},
        "tested": {"split": source.name, "images": len(source.records)},
    }
