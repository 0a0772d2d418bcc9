"""Augmentation of images with boxes."""

from __future__ import annotations

from collections.abc import Sequence

from seg_det.data.arguments import colour, height_width, number
from seg_det.data.mixing import checked_mixing
from seg_det.data.steps import RandomViewport, channel_shuffle, flips, photometric
from seg_det.data.transforms import DetectionTransform
from seg_det.ops.images import IMAGENET_MEAN
from seg_det.registry import AUGMENTATIONS


@AUGMENTATIONS.register
def ssd_augmentation(
    size: Sequence[int],
    *,
    photometric_probability: float = 0.5,
    brightness: float = 32.0,
    contrast: Sequence[float] = (0.5, 1.5),
    saturation: Sequence[float] = (0.5, 1.5),
    hue: float = 18.0,
    channel_shuffle_probability: float = 0.0,
    zoom_out_probability: float = 0.5,
    zoom_out_max: float = 4.0,
    iou_crop: bool = True,
    crop_min_ious: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
    flip_probability: float = 0.5,
    vertical_flip_probability: float = 0.0,
    fill: Sequence[float] = IMAGENET_MEAN,
    mosaic: float = 0.0,
    mixup: float = 0.0,
    unmixed_epochs: int = 0,
) -> DetectionTransform:
    """SSD's training augmentation to ``size`` (H, W): zoom-out, IoU crop, resize, flips, photometric distortion.

    Colours come last, on the few pixels of the output. They act on each pixel by itself, so the order matters only to
    the filled area, which is distorted with the image. ``brightness`` is in grey levels of 255, ``hue`` in degrees.
    ``mosaic``, ``mixup`` and ``unmixed_epochs`` are :class:`seg_det.data.mixing.Mixing`'s.

    Raises UserError for a number out of its range and a size of other than two positive numbers.
    Source: Liu et al. (2016), sections 2.2 and 3.6, and the constants of the code released with it.
    """
    viewport = RandomViewport(
        height_width(size),
        zoom_out_probability=number("zoom_out_probability", zoom_out_probability, 0, 1),
        zoom_out_max=number("zoom_out_max", zoom_out_max, 1, 100),
        crop_min_ious=tuple(number("crop_min_ious", iou, 0, 1) for iou in crop_min_ious) if iou_crop else (),
        fill=colour("fill", fill),
    )
    mixing = checked_mixing(mosaic, mixup, unmixed_epochs)
    colours = photometric(photometric_probability, brightness, contrast, saturation, hue)
    shuffle = channel_shuffle(channel_shuffle_probability)
    mirrored = flips(flip_probability, vertical_flip_probability)
    return DetectionTransform([viewport, *mirrored, *colours, shuffle], mixing=mixing)
