"""What can be given as an image, and its pixels: u8 [H, W, 3], RGB, upright."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from seg_det.data.images import pixels_of, read_rgb
from seg_det.errors import UserError

FORMS = "a path, a PIL image, a numpy array u8 [H, W, 3] (RGB) or a torch tensor u8 [3, H, W] or [H, W, 3] (RGB)"


class Read(NamedTuple):
    """An image that was read."""

    pixels: np.ndarray  # u8 [H, W, 3], RGB
    source: Path | np.ndarray  # the file, or the pixels

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pixels.shape[:2]


def is_image(given: Any) -> bool:
    """Whether ``given`` is meant as one image, rather than several."""
    return isinstance(given, str | PathLike | Image.Image | np.ndarray | Tensor)


def read_image(given: Any) -> Read:
    """Read one image. Raises UserError with what is expected instead."""
    if isinstance(given, str | PathLike):
        path = Path(given)
        return Read(read_rgb(path), path)
    if isinstance(given, Image.Image):
        if not (given.width and given.height):
            raise UserError(f"the PIL image has {given.width} x {given.height} pixels: give one with pixels.")
        if given.mode == "F":
            raise UserError(
                "the PIL image holds fractions (mode F), whose range is unknown: convert it to 8 bits first."
            )
        try:
            pixels = pixels_of(ImageOps.exif_transpose(given))
        except (ValueError, OSError) as error:
            raise UserError(f"the PIL image is broken ({error}).") from error
        return Read(pixels, pixels)
    if isinstance(given, Tensor):
        given = _array(given)
    if isinstance(given, np.ndarray):
        pixels = _checked(given)
        return Read(pixels, pixels)
    raise UserError(f"an image must be {FORMS}, got {type(given).__name__}.")


def _array(tensor: Tensor) -> np.ndarray:
    array = tensor.detach().cpu().numpy()
    channels_first = array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3
    return array.transpose(1, 2, 0) if channels_first else array


def _checked(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        scale = " (multiply by 255 where it is 0..1)" if array.dtype.kind == "f" else ""
        raise UserError(f"an image array must hold bytes, u8 of 0..255{scale}, got {array.dtype}: convert it first.")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise UserError(f"an image array must be [H, W, 3], RGB, with pixels, got {list(array.shape)}.")
    if array.shape[2] == 1:
        array = array.repeat(3, axis=2)  # grey
    return np.ascontiguousarray(array[..., :3])  # without transparency
