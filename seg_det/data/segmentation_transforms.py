"""Augmentation of images with masks, and the views that their evaluation uses; see :mod:`seg_det.ops.placement`."""

from __future__ import annotations

from collections.abc import Sequence

from seg_det.data.arguments import colour, height_width, number_range
from seg_det.data.steps import flips, photometric
from seg_det.data.transforms import SegmentationTransform
from seg_det.data.views import Fitted, ScaledCrop
from seg_det.errors import UserError
from seg_det.ops.images import IMAGENET_MEAN
from seg_det.ops.placement import MULTIPLE, RULES
from seg_det.registry import AUGMENTATIONS


@AUGMENTATIONS.register
def segmentation_augmentation(
    size: Sequence[int],
    *,
    scale: Sequence[float] = (0.5, 2.0),
    flip_probability: float = 0.5,
    vertical_flip_probability: float = 0.0,
    photometric_probability: float = 0.5,
    brightness: float = 32.0,
    contrast: Sequence[float] = (0.5, 1.5),
    saturation: Sequence[float] = (0.5, 1.5),
    hue: float = 18.0,
    fill: Sequence[float] = IMAGENET_MEAN,
) -> SegmentationTransform:
    """DeepLab's training augmentation to crops of ``size`` (H, W): random scale, crop, flips, photometric distortion.

    ``scale`` is a factor on both sides of the image; where the crop reaches beyond the image it is filled with ``fill`` and
    ignored in the mask. ``brightness`` is in grey levels of 255, ``hue`` in degrees.

    Raises UserError for a number out of its range and a size of other than two positive numbers.
    Source: Chen et al. (2017), section 4.1; the colours as in :func:`seg_det.data.detection_transforms.ssd_augmentation`.
    """
    view = ScaledCrop(height_width(size), number_range("scale", scale, 0.05, 20), colour("fill", fill))
    colours = photometric(photometric_probability, brightness, contrast, saturation, hue)
    return SegmentationTransform(view, [*flips(flip_probability, vertical_flip_probability), *colours])


def fitted(
    rule: str, size: Sequence[int], *, fill: Sequence[float] = IMAGENET_MEAN, multiple: int = MULTIPLE
) -> SegmentationTransform:
    """The image by a ``rule`` of :mod:`seg_det.ops.placement` and nothing else: evaluation, whatever the seed.

    ``size`` (H, W) is the input size of the network, ``multiple`` what the sides of a whole image's canvas are multiples of.
    Letterboxed images are resized as Pillow's bilinear filter does it. Raises UserError for an unknown rule and a bad size.
    """
    if rule not in RULES:
        raise UserError(f"the rule of resizing is {rule!r}, but must be one of {', '.join(RULES)}")
    return SegmentationTransform(Fitted(rule, height_width(size), colour("fill", fill), multiple))
