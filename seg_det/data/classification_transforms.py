"""Augmentation of images that have one class each."""

from __future__ import annotations

from collections.abc import Sequence

from seg_det.data.arguments import height_width, number_range
from seg_det.data.mixing import checked_mixing
from seg_det.data.steps import InceptionCrop, flips, photometric
from seg_det.data.transforms import ClassificationTransform
from seg_det.registry import AUGMENTATIONS


@AUGMENTATIONS.register
def inception_augmentation(
    size: Sequence[int],
    *,
    area: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    flip_probability: float = 0.5,
    vertical_flip_probability: float = 0.0,
    photometric_probability: float = 1.0,
    brightness: float = 32.0,
    contrast: Sequence[float] = (0.5, 1.5),
    saturation: Sequence[float] = (0.5, 1.5),
    hue: float = 72.0,
    mixup: float = 0.0,
    unmixed_epochs: int = 0,
) -> ClassificationTransform:
    """Inception's training augmentation to ``size`` (H, W): a part of the image, resized; flips; photometric distortion.

    ``area`` is the part's share of the image, ``ratio`` its width over its height; where ten draws do not fit into the
    image, the largest part in its middle is taken. ``brightness`` is in grey levels of 255, ``hue`` in degrees.
    ``mixup`` and ``unmixed_epochs`` are :class:`seg_det.data.mixing.Mixing`'s.

    Raises UserError for a number out of its range and a size of other than two positive numbers.
    Source: Szegedy et al. (2015), section 6; the colours as in the training code of MobileNetV1 and V2 (TF-slim).
    """
    crop = InceptionCrop(
        size=height_width(size), scale=number_range("area", area, 1e-4, 1), ratio=number_range("ratio", ratio, 0.1, 10)
    )
    colours = photometric(photometric_probability, brightness, contrast, saturation, hue)
    mirrored = flips(flip_probability, vertical_flip_probability)
    mixing = checked_mixing(0.0, mixup, unmixed_epochs)
    return ClassificationTransform([crop, *mirrored, *colours], mixing=mixing)
