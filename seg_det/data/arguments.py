"""Arguments of augmentations, checked: a sentence that names the one that cannot be right."""

from __future__ import annotations

from collections.abc import Sequence

from seg_det.errors import UserError


def height_width(size: Sequence[int]) -> tuple[int, int]:
    """``size`` as a pair of whole numbers; a UserError where it is not two numbers from 1."""
    if len(size) != 2 or min(size) < 1:
        raise UserError(f"size is {list(size)}, but the input size is [height, width] in pixels, both at least 1")
    return int(size[0]), int(size[1])


def number(name: str, value: float, low: float, high: float) -> float:
    """``value`` as a float; a UserError that names the argument where it does not lie between the limits."""
    if not low <= value <= high:
        raise UserError(f"augmentation: {name} is {value}, but must lie between {low} and {high}")
    return float(value)


def number_range(name: str, values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """``values`` as a pair of floats, the smaller first; a UserError that names the argument where they are no such."""
    if len(values) != 2 or values[0] > values[1]:
        raise UserError(f"augmentation: {name} is {list(values)}, but takes two numbers, the smaller first")
    return number(name, values[0], low, high), number(name, values[1], low, high)


def colour(name: str, levels: Sequence[float]) -> tuple[float, float, float]:
    """``levels`` as three floats of 0..255; a UserError that names the argument where they are no such."""
    if len(levels) != 3:
        raise UserError(
            f"augmentation: {name} is {list(levels)}, but a colour takes three numbers: red, green and blue"
        )
    red, green, blue = (number(name, level, 0, 255) for level in levels)
    return red, green, blue
