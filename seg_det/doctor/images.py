"""Checks of the image files and of how their pictures look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg_det.doctor.findings import ERROR, FAULTS, NOTE, WARNING, Finding, Found, Scope, Split, found
from seg_det.doctor.looks import Look
from seg_det.doctor.sentences import fault_of

Looks = Mapping[Path, Look]
EXTREME_ASPECT = 5.0  # longer side by shorter side
TINY_SIDE = 32  # pixels
UNUSUAL = 10.0  # times the median side, or a part of it
DARK, BRIGHT = 0.32, 0.9  # brightness, 0..1
ONE_COLOUR = 3.0  # standard deviation of the colours, 0..255
BLURRY = 15.0  # largest second derivative, 0..255; sound photos have at least 36, blood cells under a microscope 22
FEW_TONES = 3.0  # bits of the histogram of tones
GREY = 6.0  # largest difference of the channels; JPEG rounds them
FEW = 0.2  # share of greyscale images below which they stand out
NATURE = 0.1  # share of images above which what they have in common is meant


class Rule(NamedTuple):
    """A fault that one look tells: whether it is there, and what to say."""

    fault: str
    applies: Callable[[Look], bool]
    says: Callable[[Look], str]


RULES = (
    Rule(
        "image-suffix-wrong",
        lambda look: not look.suffix_fits,
        lambda look: f"{look.path} is {look.format} inside: rename it so that other programs read it too",
    ),
    Rule(
        "image-extreme-aspect",
        lambda look: max(look.size) > EXTREME_ASPECT * min(look.size),
        lambda look: f"{look.path} has {_pixels(look)}: crop it or cut it into parts",
    ),
    Rule("image-tiny", lambda look: min(look.size) < TINY_SIDE, lambda look: f"{look.path} has only {_pixels(look)}"),
    Rule(
        "image-one-colour",
        lambda look: look.spread < ONE_COLOUR,
        lambda look: f"{look.path} has one colour (standard deviation {look.spread:.1f} of 255)",
    ),
    Rule(
        "image-dark",
        lambda look: look.spread >= ONE_COLOUR and look.dark < DARK,
        lambda look: f"{look.path} is dark: 99 % of its pixels have a brightness of at most {look.dark:.2f} of 1",
    ),
    Rule(
        "image-bright",
        lambda look: look.spread >= ONE_COLOUR and look.bright > BRIGHT,
        lambda look: f"{look.path} is bright: 99 % of its pixels have a brightness of at least {look.bright:.2f} of 1",
    ),
    Rule(
        "image-blurry",
        lambda look: look.spread >= ONE_COLOUR and look.dark >= DARK and look.sharpness < BLURRY,
        lambda look: f"{look.path} is blurry: its sharpest edge has a second derivative of {look.sharpness:.0f} of 255",
    ),
    Rule(
        "image-low-information",
        lambda look: look.spread >= ONE_COLOUR and look.entropy < FEW_TONES,
        lambda look: f"{look.path} has few tones ({look.entropy:.1f} bits of 8)",
    ),
)


def _pixels(look: Look) -> str:
    return f"{look.size[1]} x {look.size[0]} pixels"


def check_images(scope: Scope, looks: Looks) -> Iterator[Found]:
    """Files that cannot be decoded whole, and images that look unlike what a camera should give."""
    for split in scope.splits:
        records = {record.path: record for record in split.source.records}
        seen = [looks[path] for path in records if path in looks]
        sound = [look for look in seen if not look.fault]
        yield from _broken(split, seen)
        for rule in RULES:
            yield from _by_rule(rule, split, sound)
        yield from _unusual_sizes(split, sound)
        yield from _greyscale(split, sound)


def _broken(split: Split, looks: list[Look]) -> Iterator[Found]:
    """Files that cannot be decoded, and those that can with errors inside."""
    ids = _ids(split)
    groups: dict[str, list[Finding]] = defaultdict(list)
    for look in looks:
        if said := look.fault or look.damage:
            fault = fault_of(look.fault, "image-unreadable") if look.fault else "image-damaged"
            groups[fault].append(Finding(said, split.name, look.path, ids[look.path]))
    for fault, findings in groups.items():
        yield from found(fault, findings, ERROR)


def _ids(split: Split) -> dict[Path, int]:
    return {record.path: record.image_id for record in split.source.records}


def _found(fault: str, split: Split, looks: list[Look], says: Callable[[Look], str], of: int) -> Iterator[Found]:
    """What many images have in common is the nature of the data, and no more than a note."""
    ids = _ids(split) if looks else {}
    usual = len(looks) > max(1, NATURE * of) and FAULTS[fault].severity == WARNING
    findings = [Finding(says(look), split.name, look.path, ids[look.path]) for look in looks]
    yield from found(fault, findings, NOTE if usual else "")


def _by_rule(rule: Rule, split: Split, looks: list[Look]) -> Iterator[Found]:
    yield from _found(rule.fault, split, [look for look in looks if rule.applies(look)], rule.says, len(looks))


def _unusual_sizes(split: Split, looks: list[Look]) -> Iterator[Found]:
    if not looks:
        return
    sides = np.sqrt([look.size[0] * look.size[1] for look in looks])
    typical = float(np.median(sides))
    odd = (sides > UNUSUAL * typical) | (sides < typical / UNUSUAL)
    listed = [looks[place] for place in np.flatnonzero(odd)]
    says = f"where the typical image has about {typical:.0f} x {typical:.0f}"
    yield from _found("image-size-unusual", split, listed, lambda look: f"{look.path} has {_pixels(look)}, {says}", 0)


def _greyscale(split: Split, looks: list[Look]) -> Iterator[Found]:
    grey = [look for look in looks if look.colour <= GREY and look.spread >= ONE_COLOUR]
    if len(grey) <= FEW * len(looks):
        yield from _found("image-greyscale", split, grey, lambda look: f"{look.path} is greyscale", 0)
