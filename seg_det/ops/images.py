"""Images on the device: from bytes to what a network takes."""

from __future__ import annotations

from torch import Tensor

# Of the colours of ImageNet, RGB, 0..255.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def sides(images: Tensor) -> tuple[int, int]:
    """(H, W) of images [..., H, W]."""
    height, width = images.shape[-2:]
    return height, width


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images - mean) / std per channel: u8 [B, 3, H, W] -> f32; ``mean`` and ``std`` [3] of 0..255 values.

    Runs where the images are, so that they cross to the device as bytes. The memory format is kept.
    """
    return (images.float() - mean[:, None, None]) / std[:, None, None]
