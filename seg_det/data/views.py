"""What part of an image and its mask a sample shows, and how large: crops to learn from, whole images to evaluate on.

A view takes an image (u8 [H, W, 3], RGB), its mask (u8 [H, W]) and a random generator, and gives both anew, of one size.
Masks are resized by the nearest pixel's centre; what lies outside the image is IGNORE in the mask and ``fill`` in the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from seg_det.data.resize import resize_antialiased
from seg_det.data.viewport import place, scaled_crop_window
from seg_det.ops.placement import MULTIPLE, canvas_size, content_size
from seg_det.types import IGNORE

Colour = tuple[float, float, float]
ImageAndMask = tuple[np.ndarray, np.ndarray]


class View(Protocol):
    """A way to look at an image and its mask."""

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of what comes out for an image of ``size``."""
        ...

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> ImageAndMask: ...


@dataclass(frozen=True)
class ScaledCrop:
    """A crop of ``size`` (H, W), anywhere in the image after it was scaled by a factor drawn from ``scale``.

    Only what the crop shows is resized. An image that is smaller than the crop lies anywhere in it.
    Source: Chen et al. (2017), "Rethinking Atrous Convolution for Semantic Image Segmentation", section 4.1.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    fill: Colour

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.size

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> ImageAndMask:
        window = scaled_crop_window(rng, mask.shape, self.size, rng.uniform(*self.scale))
        (left, top, right, bottom), (x1, y1, x2, y2) = place(window, mask.shape, self.size)
        shown = (slice(top, bottom), slice(left, right))
        content = (int(y2 - y1), int(x2 - x1))
        part = _resize(image[shown], content), _resize_mask(mask[shown], content)
        return _on_canvas(*part, (int(y1), int(x1)), self.size, self.fill)


@dataclass(frozen=True)
class Fitted:
    """The image by one of the rules of :mod:`seg_det.ops.placement`, whatever the generator."""

    rule: str
    input_size: tuple[int, int]
    fill: Colour = (0.0, 0.0, 0.0)
    multiple: int = MULTIPLE

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return canvas_size(self.rule, size, self.input_size, multiple=self.multiple)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> ImageAndMask:
        content = content_size(self.rule, mask.shape, self.input_size)
        resized = resize_antialiased(image, content) if self.rule == "letterbox" else _resize(image, content)
        return _on_canvas(resized, _resize_mask(mask, content), (0, 0), self.output_size(mask.shape), self.fill)


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def _resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape == size:
        return mask
    # OpenCV's plain INTER_NEAREST takes the pixel at the corner, half a pixel away from where the image's comes from.
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _on_canvas(
    image: np.ndarray, mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int], fill: Colour
) -> ImageAndMask:
    """Both with their first pixel at ``corner`` (row, column) of a canvas of ``size``."""
    if mask.shape == size:
        return image, mask
    (top, left), (height, width) = corner, mask.shape
    margins = top, size[0] - height - top, left, size[1] - width - left
    colour = np.rint(fill).tolist()
    return (
        cv2.copyMakeBorder(image, *margins, cv2.BORDER_CONSTANT, value=colour),
        cv2.copyMakeBorder(mask, *margins, cv2.BORDER_CONSTANT, value=IGNORE),
    )
