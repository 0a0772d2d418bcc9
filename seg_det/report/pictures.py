"""The pictures of a report: which images are shown, and how they are put into the file without making it large."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from seg_det.metrics.thresholds import AtThreshold
from seg_det.report.drawings import Colour, encode_jpeg, shrink

WORST, BEST = 24, 12  # images in a report
LONGEST = 1600  # pixels of the longer side of an inlined picture
MOST_BYTES = 4_000_000  # of all JPEG files of a report together
QUALITIES = (82, 70, 55, 40)  # the first one with which they fit

Ranked = TypeVar("Ranked")


class Picture(NamedTuple):
    """An image of the split with what was found on it."""

    title: str  # the file's name
    note: str  # what is right or wrong
    image: np.ndarray  # u8 [H, W, 3] RGB


class Gallery(NamedTuple):
    """Pictures under one heading."""

    title: str
    rule: str  # how they were chosen, and what the marks mean
    pictures: Sequence[Picture]
    legend: Sequence[tuple[str, Colour]] = ()
    small: bool = False  # pictures of one image, of which many stand beside each other


@dataclass(frozen=True)
class Details:
    """What a report shows of an evaluation beside its figures."""

    galleries: tuple[Gallery, ...] = ()
    thresholds: Iterable[AtThreshold] = ()  # ascending


class Shown(NamedTuple):
    """A picture in the file."""

    title: str
    note: str
    source: str  # a data URI
    width: int  # pixels
    height: int


def extremes(ranked: Sequence[Ranked]) -> tuple[list[Ranked], list[Ranked]]:
    """The worst and the best of images ranked worst first, each group beginning with its extreme; none is in both."""
    worst = min(WORST, math.ceil(len(ranked) * WORST / (WORST + BEST)))
    best = min(BEST, len(ranked) - worst)
    return list(ranked[:worst]), list(ranked[len(ranked) - best :])[::-1]


def counted(count: int, word: str, plural: str | None = None) -> str:
    """``1 error``, ``2 errors``, ``no errors``."""
    return f"{count or 'no'} {word if count == 1 else plural or word + 's'}"


def worst_and_best(
    worst: Sequence[Picture],
    best: Sequence[Picture],
    *,
    rules: tuple[str, str],
    legend: Sequence[tuple[str, Colour]] = (),
    small: bool = False,
) -> tuple[Gallery, ...]:
    """The two galleries of a report, without the one that would be empty."""
    both = (("worst", worst, rules[0]), ("best", best, rules[1]))
    return tuple(
        Gallery(
            f"The {len(pictures)} {which} images" if len(pictures) > 1 else f"The {which} image",
            rule,
            pictures,
            legend,
            small,
        )
        for which, pictures, rule in both
        if pictures
    )


def inlined(galleries: Sequence[Gallery], *, most_bytes: int | None = None) -> list[list[Shown]]:
    """The pictures of each gallery as JPEG, of a quality at which all together have at most ``most_bytes`` if one does that.

    None: MOST_BYTES.
    """
    images = [[shrink(picture.image, LONGEST) for picture in gallery.pictures] for gallery in galleries]
    files: list[list[bytes]] = []
    for quality in QUALITIES:
        files = [[encode_jpeg(image, quality) for image in row] for row in images]
        if sum(len(data) for row in files for data in row) <= (most_bytes or MOST_BYTES):
            break
    return [
        [_shown(*one) for one in zip(gallery.pictures, row, encoded, strict=True)]
        for gallery, row, encoded in zip(galleries, images, files, strict=True)
    ]


def _shown(picture: Picture, image: np.ndarray, jpeg: bytes) -> Shown:
    height, width = image.shape[:2]
    return Shown(picture.title, picture.note, _data_uri(jpeg), width, height)


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
