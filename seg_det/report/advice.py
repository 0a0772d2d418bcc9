"""What would help a trained model most: from its curves and its errors to a sentence and a command.

The limits below are rules of thumb. None of them was fitted to data.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from seg_det.installed import program
from seg_det.report.curves import Series, read_history
from seg_det.runs import RunRecord

MOST = 3  # pieces of advice
RISING = 0.01  # of the headline figure in the last quarter of the run
OVERFITTED = 1.1  # the last loss on the validation split over the smallest one
MISSED_SMALL = 0.1  # AP50 that missed small objects cost
BADLY_PLACED = 0.1  # AP50 that badly placed boxes cost
CONFUSED = 0.1  # AP50 that confused classes cost
WEAK = 0.5  # a class's figure over the mean of the classes
LEARNED = 0.1  # the mean of the classes below which none stands out
LARGER = 1.5  # the next input size over the present one


class Advice(NamedTuple):
    """What was seen, what would help and what it costs; and the command, where it is one."""

    sentence: str
    command: str | None = None


class Seen(NamedTuple):
    """What advice is made of: the record, and the curves by column of metrics.csv."""

    record: RunRecord
    history: Mapping[str, Series]
    run: Path


def advice(record: RunRecord, folder: Path) -> list[Advice]:
    """The most useful first; empty for an evaluation, which has no training that could be changed.

    Raises UserError for a metrics.csv in ``folder`` that cannot be read.
    """
    log = folder / "metrics.csv"
    if record.training is None:
        return []
    seen = Seen(record, read_history(log) if log.is_file() else {}, folder)
    return [found for rule in RULES if (found := rule(seen)) is not None][:MOST]


def _monitored(seen: Seen) -> tuple[str, Series]:
    """The headline figure that the record names first, over the epochs."""
    name = next(iter(seen.record.headline), "")
    return name, seen.history.get(f"val/{name}", ([], []))


def _minutes(seen: Seen, factor: float) -> str:
    training = seen.record.training
    minutes = factor * (training.minutes if training else 0.0)
    return f"about {minutes:.0f} minutes" if minutes >= 1.5 else "about a minute" if minutes >= 0.5 else "seconds"


def _again(seen: Seen, *changes: str) -> str | None:
    """The command of the run with other settings; None for a run that was not started by a command."""
    words = shlex.split(seen.record.command)
    train = shlex.split(program("train"))
    if words[: len(train)] != train:
        return None
    keys = {change.partition("=")[0] for change in changes}
    kept = [word for word in words[len(train) :] if word.lstrip("+").partition("=")[0] not in keys]
    return shlex.join([*train, *kept, *changes])


def still_rising(seen: Seen) -> Advice | None:
    """A run that ended while its figure rose."""
    name, (_, values) = _monitored(seen)
    training = seen.record.training
    cut = len(values) - max(1, len(values) // 4)
    if training is None or cut < 2 or (gain := max(values[cut:]) - max(values[:cut])) < RISING:
        return None
    resumed = [*shlex.split(program("train")), f"resume={seen.run}", f"trainer.max_epochs={2 * training.epochs}"]
    command = _with_twice_the_budget(seen) or shlex.join(resumed)
    sentence = f"{name} still rose by {gain:.3f} in the last quarter of the run: as many epochs again take {_minutes(seen, 1)}."
    return Advice(sentence, command)


def _with_twice_the_budget(seen: Seen) -> str | None:
    """The command of a run with a budget, which resuming would not extend; None for another run."""
    given = [word.partition("=") for word in shlex.split(seen.record.command) if word.startswith("budget.")]
    values = [(key, float(value)) for key, _, value in given if value.replace(".", "", 1).isdigit()]
    return _again(seen, *(f"{key}={2 * value:g}" for key, value in values)) if values else None


def overfitted(seen: Seen) -> Advice | None:
    """A loss on the validation split that rises while that of the training falls."""
    epochs, losses = seen.history.get("val/loss", ([], []))
    if len(losses) < 4 or losses[-1] < OVERFITTED * min(losses):
        return None
    best = losses.index(min(losses))
    return Advice(
        f"The loss on the validation split has risen by {losses[-1] / losses[best] - 1:.0%} since epoch {epochs[best]:.0f}: "
        "more images, stronger augmentation or a shorter run would help."
    )


def _lost(seen: Seen, table: str, error: str) -> float:
    value = seen.record.figures.tables.get(table, {}).get(error)
    return float(value) if isinstance(value, int | float) else 0.0


def small_missed(seen: Seen) -> Advice | None:
    """Small objects that are not found."""
    if (lost := _lost(seen, "AP50_lost_small", "missed")) < MISSED_SMALL:
        return None
    return _larger(seen, f"Small objects that were not found cost {lost:.2f} of AP50")


def badly_placed(seen: Seen) -> Advice | None:
    """Objects that are found with boxes that do not fit."""
    if (lost := _lost(seen, "AP50_lost", "localisation")) < BADLY_PLACED:
        return None
    return _larger(seen, f"Boxes that fit badly cost {lost:.2f} of AP50")


def _larger(seen: Seen, what: str) -> Advice:
    present = seen.record.model.input_size
    sides = [math.ceil(LARGER * side / 32) * 32 for side in present]
    size = str(sides[0]) if len(set(sides)) == 1 else f"[{','.join(map(str, sides))}]"
    cost = _minutes(seen, math.prod(sides) / math.prod(present))
    return Advice(f"{what}: a larger input may help, and takes {cost}.", _again(seen, f"data.size={size}"))


def classes_confused(seen: Seen) -> Advice | None:
    """Classes that are taken for one another."""
    lost, pairs = _lost(seen, "AP50_lost", "classification"), seen.record.figures.tables.get("confused", {})
    if lost < CONFUSED or not pairs:
        return None
    pair = max(pairs, key=lambda name: float(pairs[name] or 0))
    return Advice(
        f"Confused classes cost {lost:.2f} of AP50, most often {pair}: look at their labels, and add images of the rarer one."
    )


def weak_class(seen: Seen) -> Advice | None:
    """The class that lies furthest below the others."""
    figure = next((name for name in ("AP", "IoU", "top1") if _of_classes(seen, name)), None)
    if figure is None or len(values := _of_classes(seen, figure)) < 2:
        return None
    mean, worst = sum(values.values()) / len(values), min(values, key=lambda name: values[name])
    if mean < LEARNED or values[worst] >= WEAK * mean:
        return None
    sentence = (
        f"{worst} has {figure} {values[worst]:.2f}, all classes {mean:.2f} in the mean: more images of it would help."
    )
    if figure == "IoU":  # of masks, which data.balance does not take
        return Advice(sentence)
    return Advice(f"{sentence} Rare classes can be shown more often.", _again(seen, "data.balance=0.1"))


def _of_classes(seen: Seen, figure: str) -> dict[str, float]:
    rows = seen.record.figures.per_class
    return {name: float(value) for name, row in rows.items() if isinstance(value := row.get(figure), int | float)}


# In the order of what they usually bring.
RULES: Sequence[Callable[[Seen], Advice | None]] = (
    still_rising,
    small_missed,
    badly_placed,
    overfitted,
    classes_confused,
    weak_class,
)
