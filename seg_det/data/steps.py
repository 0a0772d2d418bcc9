"""The steps of augmentations and of evaluation's resizes. The only file that knows albumentations.

Sequences of them, for each kind of task, are in :mod:`seg_det.data.transforms`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np

from seg_det.data.arguments import height_width, number, number_range
from seg_det.data.resize import centre_window, resize_antialiased
from seg_det.data.viewport import (
    Placement,
    centres_inside,
    iou_crop_window,
    place,
    placed_boxes,
    placed_image,
    zoom_out_window,
)

# Read while albumentations is imported, which asks a server for its newest version otherwise.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
from albumentations.core.type_definitions import Targets

Step: TypeAlias = A.BasicTransform | A.BaseCompose
Sequenced: TypeAlias = A.Compose


def sequence(steps: Sequence[Step], *, min_side: float | None = None) -> Sequenced:
    """``steps`` one after the other; with ``min_side`` also for boxes, of which at least so many pixels a side must remain."""
    if min_side is None:
        return A.Compose(list(steps))
    # Clipping after each transform as well costs a third more time, pixel transforms included.
    boxes = A.BboxParams(
        format="pascal_voc",
        clip=True,
        filter_invalid_bboxes=True,
        min_width=min_side,
        min_height=min_side,
        check_each_transform=False,
    )
    return A.Compose(list(steps), bbox_params=boxes)


class RandomViewport(A.DualTransform):
    """SSD's zoom-out, IoU crop and resize in one look at the image.

    Both steps only choose a window in pixels of the image: zoom-out one around it that reaches beyond its borders, the
    crop one inside that. What the window shows is resized once into an output filled with ``fill``. The canvas of up to
    16 times the image's area is never built, and each pixel is interpolated once.
    """

    _targets = (Targets.IMAGE, Targets.BBOXES)

    def __init__(
        self,
        size: tuple[int, int],
        *,
        zoom_out_probability: float,
        zoom_out_max: float,
        crop_min_ious: tuple[float, ...],
        fill: tuple[float, float, float],
    ) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.zoom_out_probability = zoom_out_probability
        self.zoom_out_max = zoom_out_max
        self.crop_min_ious = crop_min_ious
        self.canvas = np.empty((*size, 3), np.uint8)
        self.canvas[:] = np.rint(fill)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """The window, by the names that ``apply`` and ``apply_to_bboxes`` take."""
        height, width = params["shape"][:2]
        window = np.array([0, 0, width, height])
        if self.random_generator.random() < self.zoom_out_probability:
            window = zoom_out_window(self.random_generator, (height, width), self.zoom_out_max)
        if self.crop_min_ious:
            boxes = data["bboxes"][:, :4] * [width, height, width, height]
            window = iou_crop_window(self.random_generator, window, boxes, self.crop_min_ious)
        return {"window": window, "placement": place(window, (height, width), self.size)}

    def apply(self, img: np.ndarray, placement: Placement, **params: Any) -> np.ndarray:
        """The visible part of ``img``, resized into its place on the canvas."""
        return placed_image(img, placement, self.canvas)

    def apply_to_bboxes(
        self, bboxes: np.ndarray, window: np.ndarray, placement: Placement, shape: tuple[int, ...], **params: Any
    ) -> np.ndarray:
        """Boxes (relative to the image, [N, 4 + extra]) with their centre in the window, relative to the output."""
        image_size, output_size = np.tile(shape[1::-1], 2), np.tile(self.size[::-1], 2)
        pixels = bboxes[:, :4] * image_size
        inside = centres_inside(window[None], pixels)[0]
        moved = placed_boxes(pixels[inside], placement)
        return np.hstack([(moved / output_size).clip(0, 1), bboxes[inside, 4:]]).astype(np.float32)


class InceptionCrop(A.RandomResizedCrop):
    """A part of the image, drawn by its area and aspect ratio, with the resize of evaluation."""

    def apply(self, img: np.ndarray, crop_coords: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        """``img`` within the (x1, y1, x2, y2) of ``crop_coords``, resized; at least a pixel of it."""
        x1, y1, x2, y2 = crop_coords
        return resize_antialiased(img[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)], self.size)


class CentreCrop(A.ImageOnlyTransform):
    """Resize until ``covered`` (H, W) is just covered, and keep the ``size`` (H, W) in the middle."""

    def __init__(self, size: tuple[int, int], covered: tuple[float, float]) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.covered = covered

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """The middle of ``img``."""
        resized, window = centre_window(img.shape[:2], self.covered, self.size)
        return resize_antialiased(img, resized)[window]


class AntialiasedResize(A.DualTransform):
    """Resize to ``size`` (H, W), antialiased."""

    _targets = (Targets.IMAGE, Targets.BBOXES)

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(p=1.0)
        self.size = size

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """``img`` in the size."""
        return resize_antialiased(img, self.size)

    def apply_to_bboxes(self, bboxes: np.ndarray, **params: Any) -> np.ndarray:
        """The same boxes: they are shares of the image."""
        return bboxes


def photometric(
    probability: float, brightness: float, contrast: Sequence[float], saturation: Sequence[float], hue: float
) -> list[Step]:
    """Each distortion with ``probability``; contrast comes before or after the other two, evenly often."""
    p = number("photometric_probability", probability, 0, 1)
    levels, turn = number("brightness", brightness, 0, 255) / 255, number("hue", hue, 0, 180) / 360
    least, most = number_range("contrast", contrast, 0, 10)
    lighter = A.RandomBrightnessContrast(brightness_limit=(-levels, levels), contrast_limit=(0, 0), p=p)
    contrasted = A.RandomBrightnessContrast(brightness_limit=(0, 0), contrast_limit=(least - 1, most - 1), p=p)
    same = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "p": p}
    saturated = A.ColorJitter(saturation=number_range("saturation", saturation, 0, 10), hue=(0.0, 0.0), **same)
    turned = A.ColorJitter(saturation=(1.0, 1.0), hue=(-turn, turn), **same)
    orders = [[contrasted, saturated, turned], [saturated, turned, contrasted]]
    return [lighter, A.OneOf([A.Sequential(order, p=1.0) for order in orders], p=1.0)]


def flips(horizontal: float, vertical: float) -> list[Step]:
    """Left and right, top and bottom changing places with these probabilities."""
    return [
        A.HorizontalFlip(p=number("flip_probability", horizontal, 0, 1)),
        A.VerticalFlip(p=number("vertical_flip_probability", vertical, 0, 1)),
    ]


def channel_shuffle(probability: float) -> Step:
    """Red, green and blue changing places."""
    return A.ChannelShuffle(p=number("channel_shuffle_probability", probability, 0, 1))


def centre(size: Sequence[int], fraction: float) -> Step:
    """What covers ``size`` (H, W) / ``fraction`` and keeps ``size`` in the middle."""
    height, width = height_width(size)
    return CentreCrop((height, width), (height / fraction, width / fraction))


def stretch(size: Sequence[int]) -> Step:
    """To ``size`` (H, W), each side by itself."""
    height, width = height_width(size)
    return A.Resize(height=height, width=width, interpolation=cv2.INTER_LINEAR, p=1.0)
