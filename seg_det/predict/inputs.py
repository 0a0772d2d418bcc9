"""What can be given as an image, and its pixels: u8 [H, W, 3], RGB, upright."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from seg_det.data.depth import NoBrightness
from seg_det.data.images import pixels_of, read_rgb
from seg_det.errors import UserError

FORMS = "a path, a PIL image, a numpy array u8 [H, W, 3] (RGB) or a torch tensor u8 [3, H, W] or [H, W, 3] (RGB)"


ImageLike = str | PathLike[str] | Image.Image | np.ndarray | Tensor  # one image, as it can be given


class Read(NamedTuple):
    """An image that was read."""

    pixels: np.ndarray  # u8 [H, W, 3], RGB, not shared with the caller
    source: Path | np.ndarray  # the file, or the pixels

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pixels.shape[:2]


def is_several(given: Any) -> bool:
    """Whether ``given`` can be several images: an iterable that is neither a file nor its content."""
    content = isinstance(given, bytes | bytearray | memoryview | Mapping) or hasattr(given, "read")
    return isinstance(given, Iterable) and not content


def is_image(given: Any) -> bool:
    """Whether ``given`` is meant as one image, rather than several."""
    return isinstance(given, str | PathLike | Image.Image | np.ndarray | Tensor)


def read_image(given: Any) -> Read:
    """Read one image. Raises UserError with what is expected instead."""
    if isinstance(given, str | PathLike):
        return _read_file(given)
    pixels = _pixels(given)
    return Read(pixels, pixels)


def _read_file(given: str | PathLike[str]) -> Read:
    try:
        path = Path(os.fsdecode(given))
        return Read(read_rgb(path), path)
    except (TypeError, ValueError) as error:  # of a path that no file can have
        raise UserError(f"there is no image {given!r} ({error}); give the path of a file.") from error


def _pixels(given: Any) -> np.ndarray:
    if isinstance(given, Image.Image):
        return _of_pillow(given)
    if isinstance(given, Tensor):
        return _checked(_of_torch(given))
    if isinstance(given, np.ndarray):
        return _checked(np.asarray(given))
    raise UserError(f"an image must be {FORMS}, got {type(given).__name__}.")


def _of_pillow(image: Image.Image) -> np.ndarray:
    if not (image.width and image.height):
        raise UserError(f"the PIL image has {image.width} x {image.height} pixels: give one with pixels.")
    if image.mode == "F":
        raise UserError("the PIL image holds fractions (mode F), whose range is unknown: convert it to 8 bits first.")
    try:
        return pixels_of(ImageOps.exif_transpose(image))
    except NoBrightness as error:
        raise UserError(f"the PIL image {error}.") from error
    except (ValueError, OSError) as error:
        raise UserError(f"the PIL image is broken ({error}).") from error


def _of_torch(tensor: Tensor) -> np.ndarray:
    if tensor.dtype != torch.uint8:
        raise _not_bytes(tensor.dtype, tensor.is_floating_point())
    try:
        array = tensor.detach().cpu().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:  # of a sparse tensor, or one without memory
        raise UserError(f"the tensor cannot be read as an image ({str(error).splitlines()[0]}).") from error
    channels_first = array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3
    return array.transpose(1, 2, 0) if channels_first else array


def _not_bytes(found: object, fractions: bool) -> UserError:
    scale = " (multiply by 255 where it is 0..1)" if fractions else ""
    return UserError(f"an image array must hold bytes, u8 of 0..255{scale}, got {found}: convert it first.")


def _checked(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        raise _not_bytes(array.dtype, array.dtype.kind == "f")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise UserError(f"an image array must be [H, W, 3], RGB, with pixels, got {list(array.shape)}.")
    if array.shape[2] == 1:
        array = array.repeat(3, axis=2)  # grey
    # Without transparency, and in memory of its own: a camera may use that of the array for its next frame.
    return np.array(array[..., :3], order="C")
