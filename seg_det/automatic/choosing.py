"""How rules become settings: each looks at the data, the machine and the settings so far, and chooses a key's value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from seg_det.automatic.statistics import Statistics


class Choice(NamedTuple):
    """A key of the configuration, the value that it was given, and one clause that says why."""

    key: str
    value: Any
    reason: str


class Situation(NamedTuple):
    """What a rule looks at.

    data: of the training split; get: the present value of a key, set by the user or by an earlier rule, None for a key that is
    not there; is_set: whether the user set it, or there is no such key; boxes: all objects at an input size (H, W), f32
    [N, 4]; model: builds the network of the present settings; budget: the steps of the whole run for which there is a budget,
    of the present network, None without one.
    """

    data: Statistics
    get: Callable[[str], Any]
    is_set: Callable[[str], bool]
    boxes: Callable[[tuple[int, int]], Any]
    model: Callable[[], nn.Module]
    budget: Callable[[], int | None]


@dataclass(frozen=True)
class Rule:
    """A key, and the function that chooses its value with a reason, or None where the present value is kept."""

    key: str
    choose: Callable[[Situation], tuple[Any, str] | None]


def choose(rules: Iterable[Rule], situation: Situation, put: Callable[[str, Any], None]) -> list[Choice]:
    """What the rules choose, in their order; ``put`` sets each key, so that the next rule sees it."""
    found = []
    for rule in rules:
        if situation.is_set(rule.key):
            continue
        chosen = rule.choose(situation)
        if chosen is None or chosen[0] == situation.get(rule.key):
            continue
        put(rule.key, chosen[0])
        found.append(Choice(rule.key, *chosen))
    return found
