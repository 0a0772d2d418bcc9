"""The test part of a data set: measured once, when everything has been chosen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from seg_det.data.classes import with_categories
from seg_det.data.fingerprints import fingerprint
from seg_det.data.records import Source
from seg_det.errors import UserError
from seg_det.evaluation.measure import evaluate
from seg_det.facts import Headline, MeasuredSplit, SplitFingerprint
from seg_det.kinds.kind import Kind
from seg_det.predict.predictor import NetworkPredictor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeasuredTest:
    """The headline figures of the test part, and what it is."""

    headline: Headline
    split: MeasuredSplit
    data: SplitFingerprint


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
) -> MeasuredTest | None:
    """Measure the test part; None without one.

    A test part that cannot be measured, and one that is the validation split, is left out with a warning: the training is done.
    """
    try:
        if (found := read()) is None:
            return None
        source = with_categories(found, predictor.card.categories, "the training split")
        kind.check(source)
    except UserError as error:
        log.warning("The test part was not measured: %s", error)
        return None
    if {record.path for record in source.records} == {record.path for record in val.records}:
        log.warning("%s is the validation split too, so it was not measured again as a test part.", source.name)
        return None
    evaluation = evaluate(kind, predictor, source, batch_size=batch_size, num_workers=num_workers, device=device)
    headline = evaluation.report.headline()
    figures = {name: headline.get(name) for name in kind.shown}
    return MeasuredTest(figures, MeasuredSplit(source.name, len(source.records)), fingerprint(found))
