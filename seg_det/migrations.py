"""Files of earlier versions: a step from each format to the next.

Cards of checkpoints and exported files, and the ``config.yaml``, ``metrics.json`` and ``export.json`` of runs, carry a
``format`` number; those without one are of format 1. Raise :data:`FORMAT` when a reader would misunderstand or refuse what it
wrote before, and add a step here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from seg_det.errors import UserError

FORMAT = 2
KEY = "format"
Step = Callable[[dict[str, Any]], dict[str, Any]]


def _card_1_to_2(card: dict[str, Any]) -> dict[str, Any]:
    """Format 2 has thresholds of the score, which earlier cards do not know."""
    return {"score_thresholds": [], **card}


def _config_1_to_2(config: dict[str, Any]) -> dict[str, Any]:
    """Format 2 always has a limit of the pixels of an image; null is the default."""
    data = config.get("data")
    return {**config, "data": {"max_pixels": None, **data}} if isinstance(data, dict) else config


def _run_1_to_2(record: dict[str, Any]) -> dict[str, Any]:
    """Format 2 says the seed of a training at the top level too."""
    training = record.get("training")
    return {"seed": training.get("seed") if isinstance(training, dict) else None, **record}


def _export_1_to_2(record: dict[str, Any]) -> dict[str, Any]:
    """Format 2 has all headline figures of a verified file, where the first versions had the one that is compared."""
    if record.get("accepted") is None or "figures" in record:
        return record
    values = {name: record.get(f"{name}_value") for name in ("checkpoint", "file")}
    return {**record, "figures": {name: {str(record.get("metric")): value} for name, value in values.items()}}


CARD_STEPS: Mapping[int, Step] = {1: _card_1_to_2}
CONFIG_STEPS: Mapping[int, Step] = {1: _config_1_to_2}
RUN_STEPS: Mapping[int, Step] = {1: _run_1_to_2}
EXPORT_STEPS: Mapping[int, Step] = {1: _export_1_to_2}


def marked(content: dict[str, Any]) -> dict[str, Any]:
    """``content`` with the present format number, ready to be written."""
    return {**content, KEY: FORMAT}


def upgraded(content: Mapping[str, Any], steps: Mapping[int, Step], what: str) -> dict[str, Any]:
    """``content`` of any format up to the present one as a reader of today expects it, without its number.

    Raises UserError, which begins with ``what``, for a number of a later version and for anything else in its place.
    """
    plain = dict(content)
    found = plain.pop(KEY, 1)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise UserError(f"{what} has the format {str(found)[:40]!r}, which is no format number: get the file again.")
    if found > FORMAT:
        raise UserError(
            f"{what} was written by a later version of seg_det (format {found}, this one reads up to {FORMAT}): install that one."
        )
    for number in range(found, FORMAT):
        plain = steps[number](plain)
    return plain
