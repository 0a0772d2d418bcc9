"""Augmentations of all kinds of tasks that do no more than resize, crop the middle and flip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seg_det.data.arguments import height_width, number
from seg_det.data.mixing import checked_mixing
from seg_det.data.steps import AntialiasedResize, centre, flips
from seg_det.data.transforms import ClassificationTransform, DetectionTransform, Seeded, SegmentationTransform
from seg_det.errors import UserError
from seg_det.ops.placement import CROP_FRACTION
from seg_det.registry import AUGMENTATIONS


@AUGMENTATIONS.register
def centre_crop(size: Sequence[int], *, crop_fraction: float = CROP_FRACTION) -> ClassificationTransform:
    """The middle of the image in ``size`` (H, W): evaluation, whatever the seed.

    The image is resized until it just covers size / ``crop_fraction``, which is 256 x 256 for 224 x 224, then cropped.
    Raises UserError for a bad size or fraction. Source: the evaluation of MobileNetV1 to V3 (TF-slim).
    """
    return ClassificationTransform([centre(size, number("crop_fraction", crop_fraction, 0.1, 1))])


@AUGMENTATIONS.register
def flip_only(
    size: Sequence[int],
    *,
    flip_probability: float = 0.5,
    vertical_flip_probability: float = 0.0,
    mosaic: float = 0.0,
    mixup: float = 0.0,
    unmixed_epochs: int = 0,
    kind: str = "detection",
) -> DetectionTransform | ClassificationTransform | SegmentationTransform:
    """Bring to ``size`` (H, W) as evaluation does, and flip at random; ``kind`` is that of the task.

    ``mosaic`` (with boxes alone), ``mixup`` (with boxes or classes), ``unmixed_epochs``: :class:`seg_det.data.mixing.Mixing`'s.
    Raises UserError for a bad size or probability, and for mixing what cannot be mixed.
    """
    transform = _transform_of(kind)
    for name, wanted in (("mosaic", mosaic), ("mixup", mixup)):
        if wanted and name not in transform.mixes:
            raise UserError(f"augmentation: {name} is not for {kind}: set it to 0")
    mirrored = flips(flip_probability, vertical_flip_probability)
    return transform.resized(size, mirrored, mixing=checked_mixing(mosaic, mixup, unmixed_epochs))


@AUGMENTATIONS.register
def resize_only(
    size: Sequence[int], *, kind: str = "detection"
) -> DetectionTransform | ClassificationTransform | SegmentationTransform:
    """Bring to ``size`` (H, W) as evaluation does, and nothing else, whatever the seed; ``kind`` is that of the task.

    No box with an area is dropped.
    """
    return _transform_of(kind).resized(size, min_side=0.0)


@AUGMENTATIONS.register
def resize_antialiased_only(size: Sequence[int]) -> DetectionTransform:
    """:func:`resize_only` with boxes, antialiased where it shrinks, as detectors of other tools may have been measured."""
    return DetectionTransform([AntialiasedResize(height_width(size))], min_side=0.0)


def _transform_of(kind: str) -> type[DetectionTransform | ClassificationTransform | SegmentationTransform]:
    """The class of the transforms for a kind of task. Raises UserError for an unknown one."""
    known: dict[str, Any] = {transform.kind: transform for transform in Seeded.__subclasses__()}
    if kind not in known:
        raise UserError(f"augmentation.kind must be one of {', '.join(known)}, got {kind!r}.")
    return known[kind]
