"""What augmentations are made of, and the resizes that evaluation uses. The only file that knows albumentations.

The augmentations lie beside it: :mod:`seg_det.data.plain_transforms`, ``detection_transforms``, ``classification_transforms`` and
``segmentation_transforms``.

Each model has one rule of resizing for training, evaluation and exported pipelines, bilinear with half-pixel centres:
detection stretches to the input size (``ModelCard.resize == "stretch"``, ``cv2.INTER_LINEAR``, or "stretch_antialiased"),
classification keeps nearly all of the aspect ratio, and antialiases (:mod:`seg_det.data.resize`), segmentation has the choice
(:mod:`seg_det.data.segmentation_transforms`).
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from seg_det.data.arguments import height_width, number, number_range
from seg_det.data.mixing import UNMIXED, Mixing
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
from seg_det.data.views import Fitted, ImageAndMask, View
from seg_det.ops.placement import CROP_FRACTION

# Read while albumentations is imported, which asks a server for its newest version otherwise.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
from albumentations.core.type_definitions import Targets


class Transformed(NamedTuple):
    """An image, its boxes, and where in the input each box came from, so that labels and flags can follow."""

    image: np.ndarray  # u8 [H, W, 3], RGB
    boxes: np.ndarray  # f32 [M, 4], xyxy pixels of ``image``, inside it
    kept: np.ndarray  # i64 [M], indices into the boxes that went in


class Seeded:
    """A composition of albumentations transforms that forgets what it drew for the last sample."""

    kind: ClassVar[str]  # of the task, ModelCard.task
    mixes: ClassVar[frozenset[str]] = frozenset()  # the ways to mix images that it can be given
    resize: str | None = None  # the rule of ModelCard.resize that evaluation must share, if there is one

    def __init__(self, compose: A.Compose, mixing: Mixing = UNMIXED) -> None:
        self.compose = compose
        self.mixing = mixing  # of transformed images with one another, which is the data set's work

    def _seed(self, seed: int | Sequence[int]) -> np.random.Generator:
        """One stream for all transforms: ``Compose.set_random_seed`` gives each its own with the same numbers in it."""
        generator = np.random.default_rng(seed)
        self.compose.set_random_state(generator, random.Random(int(generator.integers(1 << 63))))
        return generator


class ClassificationTransform(Seeded):
    """A sequence of albumentations transforms for an image alone; each sample is seeded by its caller."""

    kind = "classification"
    mixes = frozenset({"mixup"})

    @classmethod
    def resized(
        cls,
        size: Sequence[int],
        then: Sequence[A.BasicTransform] = (),
        *,
        mixing: Mixing = UNMIXED,
        min_side: float = 1.0,
    ) -> ClassificationTransform:
        """To ``size`` (H, W) as evaluation does, followed by ``then``; ``min_side`` concerns boxes alone."""
        return cls([centre(size, CROP_FRACTION), *then], mixing=mixing)

    def __init__(self, transforms: Sequence[A.BasicTransform | A.BaseCompose], *, mixing: Mixing = UNMIXED) -> None:
        super().__init__(A.Compose(list(transforms)), mixing)

    def __call__(self, image: np.ndarray, *, seed: int | Sequence[int]) -> np.ndarray:
        """Transform ``image`` (u8 [H, W, 3], RGB), which is not changed; a function of the arguments alone."""
        self._seed(seed)
        return _unshared(self.compose(image=image)["image"], image)


class DetectionTransform(Seeded):
    """A sequence of albumentations transforms for one image and its boxes; each sample is seeded by its caller.

    Boxes of which less than ``min_side`` pixels of width or height remain are dropped, and so are boxes without area.
    They are clipped once before and once after the sequence: a transform that can push a box out of the image has to
    clip it by itself if a later one could bring it back.
    """

    kind = "detection"
    mixes = frozenset({"mosaic", "mixup"})

    @classmethod
    def resized(
        cls,
        size: Sequence[int],
        then: Sequence[A.BasicTransform] = (),
        *,
        mixing: Mixing = UNMIXED,
        min_side: float = 1.0,
    ) -> DetectionTransform:
        """To ``size`` (H, W) as evaluation does, followed by ``then``."""
        return cls([_resize(size), *then], min_side=min_side, mixing=mixing)

    def __init__(
        self,
        transforms: Sequence[A.BasicTransform | A.BaseCompose],
        *,
        min_side: float = 1.0,
        mixing: Mixing = UNMIXED,
    ) -> None:
        # Clipping after each transform as well costs a third more time, pixel transforms included.
        boxes = A.BboxParams(
            format="pascal_voc",
            clip=True,
            filter_invalid_bboxes=True,
            min_width=min_side,
            min_height=min_side,
            check_each_transform=False,
        )
        super().__init__(A.Compose(list(transforms), bbox_params=boxes), mixing)

    def __call__(self, image: np.ndarray, boxes: np.ndarray, *, seed: int | Sequence[int]) -> Transformed:
        """Transform ``image`` (u8 [H, W, 3], RGB) and ``boxes`` (f32 [N, 4], xyxy pixels); neither is changed.

        The result is a function of the arguments alone: the same ``seed`` (non-negative) gives the same bytes in any
        process and after any other calls.
        """
        self._seed(seed)
        numbered = np.column_stack([boxes, np.arange(len(boxes))]).astype(np.float32)
        result = self.compose(image=image, bboxes=numbered)
        output, rows = result["image"], result["bboxes"]
        height, width = output.shape[:2]
        clipped = rows[:, :4].clip(0, [width, height, width, height]).astype(np.float32)
        solid = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)  # a sliver can collapse as its coordinates are rounded
        kept = rows[:, 4:].ravel().astype(np.int64)  # albumentations returns [0, 4] where no box remains
        return Transformed(_unshared(output, image), clipped[solid], kept[solid])


class SegmentationTransform(Seeded):
    """A view of an image and its mask, then a sequence of albumentations transforms; each sample is seeded by its caller."""

    kind = "segmentation"

    @classmethod
    def resized(
        cls,
        size: Sequence[int],
        then: Sequence[A.BasicTransform] = (),
        *,
        mixing: Mixing = UNMIXED,
        min_side: float = 1.0,
    ) -> SegmentationTransform:
        """To ``size`` (H, W) by stretching, followed by ``then``; masks are never mixed."""
        return cls(Fitted("stretch", height_width(size)), then)

    def __init__(self, view: View, transforms: Sequence[A.BasicTransform | A.BaseCompose] = ()) -> None:
        super().__init__(A.Compose(list(transforms)))
        self.view = view
        self.resize = view.rule if isinstance(view, Fitted) else None

    def __call__(self, image: np.ndarray, mask: np.ndarray, *, seed: int | Sequence[int]) -> ImageAndMask:
        """Transform ``image`` (u8 [H, W, 3], RGB) and ``mask`` (u8 [H, W]); neither is changed.

        The result is a function of the arguments alone, as DetectionTransform's is.
        """
        generator = self._seed(seed)
        shown, labels = self.view(image, mask, generator)
        result = self.compose(image=shown, mask=labels)
        return _unshared(result["image"], image), _unshared(result["mask"], mask)


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


def _unshared(output: np.ndarray, image: np.ndarray) -> np.ndarray:
    # Transforms that had nothing to do hand their input on; a cached image must not share its memory.
    return output.copy() if np.may_share_memory(output, image) else output


def photometric(
    probability: float, brightness: float, contrast: Sequence[float], saturation: Sequence[float], hue: float
) -> list[A.BasicTransform | A.BaseCompose]:
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


def flips(horizontal: float, vertical: float) -> list[A.BasicTransform]:
    """Left and right, top and bottom changing places with these probabilities."""
    return [
        A.HorizontalFlip(p=number("flip_probability", horizontal, 0, 1)),
        A.VerticalFlip(p=number("vertical_flip_probability", vertical, 0, 1)),
    ]


def channel_shuffle(probability: float) -> A.BasicTransform:
    """Red, green and blue changing places."""
    return A.ChannelShuffle(p=number("channel_shuffle_probability", probability, 0, 1))


def centre(size: Sequence[int], fraction: float) -> A.BasicTransform:
    """What covers ``size`` (H, W) / ``fraction`` and keeps ``size`` in the middle."""
    height, width = height_width(size)
    return CentreCrop((height, width), (height / fraction, width / fraction))


def _resize(size: Sequence[int]) -> A.BasicTransform:
    height, width = height_width(size)
    return A.Resize(height=height, width=width, interpolation=cv2.INTER_LINEAR, p=1.0)
