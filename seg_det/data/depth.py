"""Pixels of more than 8 bits, and fractions, to 8 bits.

A file of 16 bits a channel does not say which value is white: many cameras and microscopes write their 10 or 12 bits as they are,
others shift them to the top. Images are read one at a time, so the rule follows from the largest value of each:

- up to 255: the values are 8 bits;
- up to 1023 or 4095: they are 10 or 12 bits, of which the highest 8 are taken;
- else they are 16 bits, of which the highest 8 are taken, as the PNG standard says;
- fractions from 0 to 1 are multiplied by 255; whole numbers that are stored as fractions follow the rules above.

Negative numbers, larger ones and other fractions have no brightness: they are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from PIL import Image

PHOTOMETRIC = 262  # a tag of TIFF: 0 says that 0 is white
DEPTHS = (8, 10, 12, 16)  # bits of a channel


class NoBrightness(ValueError):
    """Values of which nobody knows which is black and which white."""


def depth_of(values: np.ndarray) -> int:
    """How many bits the values use: one of DEPTHS, or 0 for fractions from 0 to 1.

    Raises NoBrightness for values that are neither, with their range.
    """
    lowest, highest = values.min(), values.max()
    whole = values.dtype.kind in "iu"
    if not whole and lowest >= 0 and highest <= 1:
        return 0
    if lowest >= 0 and highest < 2 ** DEPTHS[-1] and (whole or (values == np.floor(values)).all()):
        return next(bits for bits in DEPTHS if highest < 2**bits)
    what = "whole numbers" if whole else "fractions"
    raise NoBrightness(
        f"holds {what} from {lowest:g} to {highest:g}, and which of them is white cannot be known "
        "(whole numbers of 8 to 16 bits and fractions from 0 to 1 are read); save it with 8 bits a channel"
    )


def to_eight_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """u8 of the same shape, for the depth that :func:`depth_of` gives."""
    if not bits:
        return (values * 255).round().astype(np.uint8)
    return (values.astype(np.uint16) >> (bits - DEPTHS[0])).astype(np.uint8)


def tags_of(image: Image.Image) -> Mapping[int, Any]:
    """The tags of an opened TIFF."""
    tags: Mapping[int, Any] = vars(image)["tag_v2"]
    return tags


def is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in the file of an opened image of more than 8 bits; of 8 bits Pillow turns it round itself."""
    return image.format == "TIFF" and tags_of(image).get(PHOTOMETRIC) == 0


def has_wide_colours(image: Image.Image) -> bool:
    """Whether the file of an opened image has 16 bits in each of several channels, of which Pillow keeps the highest 8."""
    tiles = getattr(image, "tile", None)  # of an opened file
    raw = tiles[0][3] if tiles else ""
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    return image.format in ("PNG", "TIFF") and image.mode in ("RGB", "RGBA", "LA") and ";16" in str(raw)


def read_wide_colours(data: bytes) -> np.ndarray | None:
    """All 16 bits of such a file, u16 [H, W, 3], RGB; None where OpenCV does not read it."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] < 3:
        return None
    return pixels[..., 2::-1]
