"""Training samples made of several images: mosaic and mixup, of samples that are augmented already.

A mosaic reads three images more, any of the data set. Mixup reads none: it takes the next sample of the batch, which is
shuffled, as its paper does ("works equally well, while reducing I/O requirements").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from seg_det.data.arguments import number
from seg_det.data.viewport import centres_inside
from seg_det.errors import UserError
from seg_det.ops.images import sides
from seg_det.types import ClassificationSample, DetectionSample

MOSAIC_SCALE = (0.5, 1.0)  # four images at half size just fill the output
DETECTION_BETA = 1.5  # arXiv 1902.04103, section 3.1
CLASSIFICATION_BETA = 0.2  # arXiv 1710.09412, section 3.1


class Mixing(NamedTuple):
    """How often images are mixed: probabilities of a sample, and of how many last epochs it is left out."""

    mosaic: float = 0.0
    mixup: float = 0.0
    unmixed_epochs: int = 0

    def turns(self, epochs: int, turns: int) -> int:
        """In how many turns (see SourceDataset) images are mixed, of ``epochs`` that hold ``turns`` each."""
        return turns * max(0, epochs - self.unmixed_epochs) if self.mosaic or self.mixup else 0


UNMIXED = Mixing()


def checked_mixing(mosaic: float, mixup: float, unmixed_epochs: int) -> Mixing:
    """The Mixing of these values. Raises UserError for one that is out of its range."""
    if unmixed_epochs < 0:
        raise UserError(f"augmentation: unmixed_epochs is {unmixed_epochs}, but must not be negative")
    return Mixing(number("mosaic", mosaic, 0, 1), number("mixup", mixup, 0, 1), int(unmixed_epochs))


class MosaicLayout(NamedTuple):
    """Four parts of (H, W) each that meet at a point (x, y) of the output: top left, top right, bottom left, bottom right."""

    part: tuple[int, int]
    meeting: tuple[int, int]

    @classmethod
    def draw(cls, rng: np.random.Generator, size: tuple[int, int]) -> MosaicLayout:
        """One that covers an output of ``size`` (H, W) wholly, its parts smaller by a factor of MOSAIC_SCALE."""
        scale = rng.uniform(*MOSAIC_SCALE)
        height, width = (max(round(scale * side), -(-side // 2)) for side in size)
        x = rng.integers(size[1] - width, width, endpoint=True)
        y = rng.integers(size[0] - height, height, endpoint=True)
        return cls((height, width), (int(x), int(y)))

    def corners(self) -> np.ndarray:
        """Where the parts begin, i64 [4, 2], (x, y) of the output; negative where a part reaches beyond it."""
        (height, width), (x, y) = self
        return np.array([[x - width, y - height], [x, y - height], [x - width, y], [x, y]])

    def windows(self, size: tuple[int, int]) -> np.ndarray:
        """What each part fills of an output of ``size`` (H, W): i64 [4, 4], xyxy."""
        corners, end = self.corners(), size[::-1]
        return np.hstack([corners.clip(0, end), (corners + self.part[::-1]).clip(0, end)])


def mosaic(samples: Sequence[DetectionSample], layout: MosaicLayout) -> DetectionSample:
    """Four samples of one size as one of that size; it keeps the first one's id.

    A box stays if its centre shows, as in crops, and a pixel of each of its sides. Source: YOLOv4 (arXiv 2004.10934), section
    3.3, in the form that scales whole images instead of cutting each at its own size.
    """
    size = sides(samples[0].image)
    canvas = np.empty((*size, 3), np.uint8)
    scale = np.tile(np.array(layout.part[::-1]) / size[::-1], 2)
    boxes, kept = [], []
    for sample, corner, window in zip(samples, layout.corners(), layout.windows(size), strict=True):
        part = cv2.resize(sample.image.permute(1, 2, 0).numpy(), layout.part[::-1], interpolation=cv2.INTER_LINEAR)
        rows, columns = (slice(*(window[axis::2] - corner[axis])) for axis in (1, 0))
        canvas[window[1] : window[3], window[0] : window[2]] = part[rows, columns]
        moved = sample.boxes.numpy() * scale + np.tile(corner, 2)
        clipped = moved.clip(np.tile(window[:2], 2), np.tile(window[2:], 2)).astype(np.float32)
        boxes.append(clipped)
        kept.append(centres_inside(window[None], moved)[0] & (clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1))
    keep = torch.from_numpy(np.concatenate(kept))
    return samples[0]._replace(
        image=torch.from_numpy(canvas).permute(2, 0, 1),
        boxes=torch.from_numpy(np.concatenate(boxes))[keep],
        labels=torch.cat([sample.labels for sample in samples])[keep],
        crowd=torch.cat([sample.crowd for sample in samples])[keep],
        difficult=torch.cat([sample.difficult for sample in samples])[keep],
    )


def mix_detections(samples: Sequence[DetectionSample]) -> tuple[list[DetectionSample], list[Tensor]]:
    """Each sample with its share of the next one (the last with the first), and the weights f32 [N] of its objects.

    The objects of both stay, weighted by the share of their image. Source: Bag of Freebies for detection (arXiv 1902.04103),
    section 3.1.
    """
    mixed, weights = [], []
    for sample, other in zip(samples, [*samples[1:], samples[0]], strict=True):
        parts = [sample] if sample.share == 1 else [sample, other]
        shares = [1.0] if sample.share == 1 else [sample.share, 1 - sample.share]
        weights.append(torch.cat([torch.full((len(p.boxes),), s) for p, s in zip(parts, shares, strict=True)]))
        columns: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("boxes", "labels", "crowd", "difficult")
        }
        mixed.append(sample._replace(image=_blend(sample, other), **columns))
    return mixed, weights


def mix_classes(samples: Sequence[ClassificationSample]) -> tuple[list[ClassificationSample], Tensor, Tensor]:
    """Each sample with its share of the next one (the last with the first), the others' classes i64 [B], own shares f32 [B].

    Source: mixup (arXiv 1710.09412), section 2.
    """
    others = [*samples[1:], samples[0]]
    mixed = [a._replace(image=_blend(a, b)) for a, b in zip(samples, others, strict=True)]
    return mixed, torch.tensor([b.label for b in others]), torch.tensor([a.share for a in samples])


def _blend(sample: DetectionSample | ClassificationSample, other: DetectionSample | ClassificationSample) -> Tensor:
    if sample.share == 1:
        return sample.image
    pair = (one.image.permute(1, 2, 0).numpy() for one in (sample, other))
    first, second = pair
    return torch.from_numpy(cv2.addWeighted(first, sample.share, second, 1 - sample.share, 0)).permute(2, 0, 1)
