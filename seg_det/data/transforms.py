"""Sequences of steps (:mod:`seg_det.data.steps`) for images with a class, boxes or a mask, and the resizes of evaluation.

The augmentations lie beside it: :mod:`seg_det.data.plain_transforms`, ``detection_transforms``, ``classification_transforms`` and
``segmentation_transforms``.

Each model has one rule of resizing for training, evaluation and exported pipelines, bilinear with half-pixel centres:
detection stretches to the input size (``ModelCard.resize == "stretch"``, ``cv2.INTER_LINEAR``, or "stretch_antialiased"),
classification keeps nearly all of the aspect ratio, and antialiases (:mod:`seg_det.data.resize`), segmentation has the choice
(:mod:`seg_det.data.segmentation_transforms`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from seg_det.data.arguments import height_width
from seg_det.data.mixing import UNMIXED, Mixing
from seg_det.data.steps import Sequenced, Step, centre, sequence, stretch
from seg_det.data.views import Fitted, ImageAndMask, View
from seg_det.ops.placement import CROP_FRACTION


class Transformed(NamedTuple):
    """An image, its boxes, and where in the input each box came from, so that labels and flags can follow."""

    image: np.ndarray  # u8 [H, W, 3], RGB
    boxes: np.ndarray  # f32 [M, 4], xyxy pixels of ``image``, inside it
    kept: np.ndarray  # i64 [M], indices into the boxes that went in


class Seeded:
    """A composition of steps that forgets what it drew for the last sample."""

    kind: ClassVar[str]  # of the task, ModelCard.task
    mixes: ClassVar[frozenset[str]] = frozenset()  # the ways to mix images that it can be given
    resize: str | None = None  # the rule of ModelCard.resize that evaluation must share, if there is one

    def __init__(self, compose: Sequenced, mixing: Mixing = UNMIXED) -> None:
        self.compose = compose
        self.mixing = mixing  # of transformed images with one another, which is the data set's work

    def _seed(self, seed: int | Sequence[int]) -> np.random.Generator:
        """One stream for all transforms: ``Compose.set_random_seed`` gives each its own with the same numbers in it."""
        generator = np.random.default_rng(seed)
        self.compose.set_random_state(generator, random.Random(int(generator.integers(1 << 63))))
        return generator


class ClassificationTransform(Seeded):
    """A sequence of steps for an image alone; each sample is seeded by its caller."""

    kind = "classification"
    mixes = frozenset({"mixup"})

    @classmethod
    def resized(
        cls,
        size: Sequence[int],
        then: Sequence[Step] = (),
        *,
        mixing: Mixing = UNMIXED,
        min_side: float = 1.0,
    ) -> ClassificationTransform:
        """To ``size`` (H, W) as evaluation does, followed by ``then``; ``min_side`` concerns boxes alone."""
        return cls([centre(size, CROP_FRACTION), *then], mixing=mixing)

    def __init__(self, transforms: Sequence[Step], *, mixing: Mixing = UNMIXED) -> None:
        super().__init__(sequence(transforms), mixing)

    def __call__(self, image: np.ndarray, *, seed: int | Sequence[int]) -> np.ndarray:
        """Transform ``image`` (u8 [H, W, 3], RGB), which is not changed; a function of the arguments alone."""
        self._seed(seed)
        return _unshared(self.compose(image=image)["image"], image)


class DetectionTransform(Seeded):
    """A sequence of steps for one image and its boxes; each sample is seeded by its caller.

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
        then: Sequence[Step] = (),
        *,
        mixing: Mixing = UNMIXED,
        min_side: float = 1.0,
    ) -> DetectionTransform:
        """To ``size`` (H, W) as evaluation does, followed by ``then``."""
        return cls([stretch(size), *then], min_side=min_side, mixing=mixing)

    def __init__(
        self,
        transforms: Sequence[Step],
        *,
        min_side: float = 1.0,
        mixing: Mixing = UNMIXED,
    ) -> None:
        super().__init__(sequence(transforms, min_side=min_side), mixing)

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
    """A view of an image and its mask, then a sequence of steps; each sample is seeded by its caller."""

    kind = "segmentation"

    @classmethod
    def resized(
        cls,
        size: Sequence[int],
        then: Sequence[Step] = (),
        *,
        mixing: Mixing = UNMIXED,
        min_side: float = 1.0,
    ) -> SegmentationTransform:
        """To ``size`` (H, W) by stretching, followed by ``then``; masks are never mixed."""
        return cls(Fitted("stretch", height_width(size)), then)

    def __init__(self, view: View, transforms: Sequence[Step] = ()) -> None:
        super().__init__(sequence(transforms))
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


def _unshared(output: np.ndarray, image: np.ndarray) -> np.ndarray:
    # Transforms that had nothing to do hand their input on; a cached image must not share its memory.
    return output.copy() if np.may_share_memory(output, image) else output
