"""What is wrong with a user's data, said in sentences, and the policy ``dataset.on_bad`` for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg_det.data.records import Lost
from seg_det.errors import UserError

POLICIES = ("error", "skip")
# What can be wrong with a box; its index is the code in CheckedBoxes.faults. Only the last kind is mended by clipping.
FAULTS = (
    "",
    "has a coordinate that is not a finite number",
    "has zero or negative size",
    "lies wholly outside its image",
    "reaches outside its image by more than a pixel",
)
NOT_FINITE, NO_SIZE, OUTSIDE, STICKS_OUT = range(1, 5)
TOLERANCE = 1.0  # pixels: 0-based and 1-based corners are mixed up often and harmlessly


class MissingPart(UserError):
    """A data set has no such part, a val part say; another part can stand in for it. ``reason`` is short."""

    def __init__(self, sentence: str, reason: str | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason or sentence


DOCTOR = "python -m seg_det doctor lists them all"


class Sentence(str):
    """What is wrong with the data, and whether ``on_bad="error"`` would refuse it."""

    __slots__ = ("refused",)
    refused: bool

    def __new__(cls, text: str, *, refused: bool = False) -> Sentence:
        sentence = super().__new__(cls, text)
        sentence.refused = refused
        return sentence


class Problems:
    """The problems of one reading of a data set: collected one by one, then raised or listed as ``on_bad`` says."""

    def __init__(self, on_bad: str) -> None:
        if on_bad not in POLICIES:
            raise UserError(f"dataset.on_bad is {on_bad!r}; it must be error or skip")
        self.on_bad = on_bad
        self._sentences: list[str] = []
        self._unexpected: list[str] = []
        self._lost: Counter[str] = Counter()

    def add(self, sentence: str, *, lost: str = "", expected: bool = False) -> None:
        """Note a problem, for which an "image" or an "object" is left out, as ``lost`` says.

        One that is ``expected`` (known of an official data set) is listed, never raised.
        """
        self._sentences.append(Sentence(sentence, refused=not expected))
        self._lost[lost] += 1
        if not expected:
            self._unexpected.append(sentence)

    def note(self, sentence: str) -> None:
        """Note what is doubtful but can be meant: it is listed, never raised, and nothing is left out for it."""
        self._sentences.append(Sentence(sentence))

    @property
    def lost(self) -> Lost:
        """What was left out so far."""
        return Lost(self._lost["image"], self._lost["object"])

    def settle(self) -> tuple[str, ...]:
        """All sentences. Raises UserError with the first unexpected one if ``on_bad`` is ``error``."""
        if self.on_bad == "error" and self._unexpected:
            count = len(self._unexpected)
            also = f" (the first of {count} problems of this reading; {DOCTOR})" if count > 1 else ""
            remedy = "correct the data, or set dataset.on_bad=skip to leave out what is bad"
            raise UserError(f"{self._unexpected[0]}{also}; {remedy}")
        return tuple(self._sentences)


class CheckedBoxes(NamedTuple):
    """Boxes clipped to their images, and what was wrong with them."""

    boxes: np.ndarray  # f32 [N, 4], xyxy
    faults: np.ndarray  # i64 [N], index into FAULTS; 0 = none
    usable: np.ndarray  # bool [N]


def check_boxes(boxes: np.ndarray, sizes: np.ndarray, *, smallest: float = 0.0) -> CheckedBoxes:
    """Judge xyxy boxes [N, 4] against the (H, W) of their images [N, 2], and clip them.

    A side must be longer than ``smallest`` pixels. What reaches outside by up to a pixel is clipped without a word,
    what reaches further is clipped and marked.
    """
    limits = np.tile(sizes[:, ::-1], 2)  # [N, 4]: W H W H
    overhang = np.concatenate([-boxes, boxes - limits], axis=1)
    clipped = np.clip(boxes, 0, limits).astype(np.float32)
    with np.errstate(invalid="ignore"):  # inf - inf, of boxes that are marked as not finite
        tests = {
            STICKS_OUT: (overhang > TOLERANCE).any(axis=1),
            OUTSIDE: (clipped[:, 2:] <= clipped[:, :2]).any(axis=1),
            NO_SIZE: (boxes[:, 2:] - boxes[:, :2] <= smallest).any(axis=1),
            NOT_FINITE: ~np.isfinite(boxes).all(axis=1),
        }
    faults = np.zeros(len(boxes), np.int64)
    for fault, found in tests.items():  # from the mildest to the gravest, which has the last word
        faults[found] = fault
    return CheckedBoxes(clipped, faults, (faults == 0) | (faults == STICKS_OUT))


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """f64 [N] of xyxy boxes f32 [N, 4], whose sides are good to a thousandth of a pixel: 32 x 32 is 1024 wherever it lies."""
    return (boxes[:, 2:].astype(np.float64) - boxes[:, :2]).round(3).prod(axis=1)


def require(path: Path, what: str, *, part: bool = False) -> None:
    """Raise a UserError that says what there is instead, unless ``path`` exists; a MissingPart if it stands for a ``part``."""
    if not path.exists():
        absent = f"there is no {path}"
        sentence = f"{what} is missing: {absent} ({_surroundings(path)}); see datasets/README.md for the layout"
        raise MissingPart(sentence, absent) if part else UserError(sentence)


def _surroundings(path: Path, most: int = 6) -> str:
    folder = next((p for p in path.parents if p.is_dir()), None)
    if folder is None:
        return "nor any folder above it"
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{folder.absolute()} holds {shown or 'nothing'}"
