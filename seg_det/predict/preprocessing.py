"""From an image of any size to what a network takes, by the card's rule of resizing; exact, and without albumentations.

Bilinear with half-pixel centres. ``stretch`` is OpenCV's INTER_LINEAR of bytes; the antialiased rules resize as Pillow does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from seg_det.data.resize import centre_window, resize_antialiased
from seg_det.ops.placement import CROP_FRACTION, canvas_size, content_size
from seg_det.types import ModelCard

Size = tuple[int, int]  # (H, W)
AS_IT_IS = "as_it_is"  # the image itself, for files that resize by themselves


@dataclass(frozen=True)
class Preprocessing:
    """An image u8 [H, W, 3] RGB on its canvas: called in the processes that read images, so it holds plain values only."""

    rule: str  # ModelCard.resize, or AS_IT_IS
    input_size: Size
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)  # RGB, of what the image leaves of the canvas

    @classmethod
    def of(cls, card: ModelCard, rule: str | None = None) -> Preprocessing:
        """The card's, or with another ``rule``."""
        return cls(rule or card.resize, card.input_size, card.mean)

    @property
    def varies(self) -> bool:
        """Whether the canvas has another size for images of another size."""
        return self.rule in (AS_IT_IS, "whole")

    def canvas_size(self, size: Size) -> Size:
        """(H, W) of the canvas of an image of ``size``."""
        if self.rule == AS_IT_IS:
            return size
        return canvas_size(self.rule, size, self.input_size) if self.rule == "whole" else self.input_size

    def __call__(self, image: np.ndarray) -> Tensor:
        """The canvas u8 [3, h, w]."""
        canvas = RULES[self.rule](image, self)
        return torch.from_numpy(np.ascontiguousarray(canvas)).permute(2, 0, 1)


def stacked(canvases: Sequence[Tensor]) -> Tensor:
    """Canvases u8 [3, h, w] of one size as a batch [B, 3, h, w] in the memory format of the images, channels last."""
    return torch.stack([canvas.permute(1, 2, 0) for canvas in canvases]).permute(0, 3, 1, 2)


def _as_it_is(image: np.ndarray, settings: Preprocessing) -> np.ndarray:
    return image


def _stretch(image: np.ndarray, settings: Preprocessing) -> np.ndarray:
    if image.shape[:2] == settings.input_size:
        return image
    return cv2.resize(image, settings.input_size[::-1], interpolation=cv2.INTER_LINEAR)


def _stretch_antialiased(image: np.ndarray, settings: Preprocessing) -> np.ndarray:
    return resize_antialiased(image, settings.input_size)


def _centre_crop(image: np.ndarray, settings: Preprocessing) -> np.ndarray:
    height, width = settings.input_size
    covered = (height / CROP_FRACTION, width / CROP_FRACTION)
    resized, window = centre_window(image.shape[:2], covered, settings.input_size)
    return resize_antialiased(image, resized)[window]


def _letterbox(image: np.ndarray, settings: Preprocessing) -> np.ndarray:
    resized = resize_antialiased(image, content_size("letterbox", image.shape[:2], settings.input_size))
    return on_canvas(resized, settings.input_size, settings.fill)


def _whole(image: np.ndarray, settings: Preprocessing) -> np.ndarray:
    return on_canvas(image, settings.canvas_size(image.shape[:2]), settings.fill)


def on_canvas(image: np.ndarray, size: Size, fill: Sequence[float]) -> np.ndarray:
    """``image`` at the top left of a canvas of ``size``, the rest in the colour ``fill``."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    margins = (0, size[0] - height, 0, size[1] - width)
    return cv2.copyMakeBorder(image, *margins, cv2.BORDER_CONSTANT, value=np.rint(fill).tolist())


RULES: dict[str, Callable[[np.ndarray, Preprocessing], np.ndarray]] = {
    AS_IT_IS: _as_it_is,
    "stretch": _stretch,
    "stretch_antialiased": _stretch_antialiased,
    "centre_crop": _centre_crop,
    "letterbox": _letterbox,
    "whole": _whole,
}
