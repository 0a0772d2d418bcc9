"""Small objects in large images: the detector looks at parts of the image at their full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from seg_det.errors import UserError
from seg_det.ops.crops import window_starts
from seg_det.ops.nms import greedy_keep, rivals
from seg_det.predict.lookup import task_of
from seg_det.predict.predictor import ImageFault, NotFinite, Predictor
from seg_det.predict.preprocessing import AS_IT_IS, Preprocessing, Size, stacked
from seg_det.types import Detections

MERGES = {"nms": False, "smaller": True}  # what the overlap of two boxes is a share of: their union, or the smaller box
MOST_MERGED = 8192  # boxes of a class, best first, that are compared with one another: bounds the memory
MOST_TILES = 10_000  # of an image
LARGEST_OVERLAP = 0.9
Part = tuple[int, int, int, int]  # xyxy pixels of the image
NEAR = 0.02  # of a tile's side: a box that comes so close to a border within the image is taken for a part of an object


@dataclass(frozen=True)
class Tiles:
    """How an image is cut into parts, and how what is found on them becomes one result.

    ``size`` is (H, W) of a tile in pixels of the image, which the model's own preprocessing brings to its input; neighbours
    share at least ``overlap`` of a tile. With ``whole`` the model also sees the image as a whole, for objects that no tile
    holds. ``merge`` says when of two boxes of a class, of different parts, the lower-scoring one goes: "nms" where their IoU
    exceeds ``threshold``, "smaller" where the intersection exceeds that share of the smaller box, as it does for the part of an
    object that a tile has cut off. A box that a border of its tile seems to cut goes before any other, whatever its score.
    Raises UserError for what cannot be.
    """

    size: Size
    overlap: float = 0.2
    merge: str = "smaller"
    threshold: float = 0.5
    whole: bool = True

    def __post_init__(self) -> None:
        sides = isinstance(self.size, Sequence) and len(self.size) == 2 and all(_is_side(side) for side in self.size)
        if not sides:
            raise UserError(f"tiles.size must be [height, width] in pixels, got {self.size}.")
        for key, value, most in (("overlap", self.overlap, LARGEST_OVERLAP), ("threshold", self.threshold, 1)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise UserError(f"tiles.{key} must be from 0 to {most:g}, got {value}.")
        if not isinstance(self.whole, bool):
            raise UserError(f"tiles.whole must be true or false, got {self.whole}.")
        if self.merge not in MERGES:
            raise UserError(f"tiles.merge must be {' or '.join(MERGES)}, got {self.merge!r}.")

    def boxes(self, size: Size) -> list[Part]:
        """The tiles of an image of ``size`` (H, W), xyxy pixels. Raises ImageFault for too many."""
        tops, lefts = (
            window_starts(s, t, self.overlap) for s, t in zip(size, self.size, strict=True)
        )  # of rows and columns
        if len(tops) * len(lefts) > MOST_TILES:
            raise ImageFault(f"an image of {size[1]} x {size[0]} has more than {MOST_TILES} tiles: raise tiles.size.")
        height, width = (min(s, t) for s, t in zip(size, self.size, strict=True))
        return [(left, top, left + width, top + height) for top, left in product(tops, lefts)]


class TiledPredictor:
    """A detector's predictor that looks at tiles; ``batch_size`` of them at a time.

    Raises UserError for a model of another task.
    """

    one_by_one = True  # images; their tiles come in batches

    def __init__(self, predictor: Predictor, tiles: Tiles, *, batch_size: int = 16):
        if not task_of(predictor.card).suppresses:
            raise UserError(
                f"tiles are for detectors, and {predictor.card.name} is a model for {predictor.card.task}: leave them out "
                "(segmentation has postprocess.overlap)."
            )
        self.card = predictor.card
        self.preprocessing = Preprocessing.of(predictor.card, AS_IT_IS)
        self.tiles = tiles
        self._inner = predictor
        self._batch_size = 1 if predictor.one_by_one else batch_size

    def predict(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        """See :class:`~seg_det.predict.predictor.Predictor`; ``images`` are as they were given."""
        found = []
        for row, (image, size) in enumerate(zip(images, sizes, strict=True)):
            try:
                found.append(self._found_on(image.permute(1, 2, 0).cpu().numpy(), size, images.device))
            except NotFinite as error:
                raise NotFinite([row]) from error
        return found

    def _found_on(self, image: np.ndarray, size: Size, device: torch.device) -> Detections:
        parts = self.tiles.boxes(size)
        if self.tiles.whole and len(parts) > 1:
            parts.append((0, 0, size[1], size[0]))
        found: list[Detections] = []
        for start in range(0, len(parts), self._batch_size):
            found += self._found_in(image, parts[start : start + self._batch_size], device)
        cut = [_cut(one.boxes, part, size) for one, part in zip(found, parts, strict=True)]
        return _merged(found, self.tiles, cut)

    def _found_in(self, image: np.ndarray, parts: Sequence[Part], device: torch.device) -> list[Detections]:
        """What is found in parts of an image, in pixels of it."""
        pixels = [image[top:bottom, left:right] for left, top, right, bottom in parts]
        canvases = stacked([self._inner.preprocessing(part) for part in pixels]).to(device)
        found = self._inner.predict(canvases, [part.shape[:2] for part in pixels])
        shifts = [one.boxes.new_tensor(part[:2] * 2) for one, part in zip(found, parts, strict=True)]
        return [one._replace(boxes=one.boxes + shift) for one, shift in zip(found, shifts, strict=True)]


def _cut(boxes: Tensor, part: Part, size: Size) -> Tensor:
    """Which boxes f32 [N, 4] of a part come near a border of it that is none of the image: bool [N]."""
    left, top, right, bottom = part
    near_x, near_y = NEAR * (right - left), NEAR * (bottom - top)
    never = boxes.new_zeros(len(boxes), dtype=torch.bool)
    return (
        (boxes[:, 0] <= left + near_x if left > 0 else never)
        | (boxes[:, 1] <= top + near_y if top > 0 else never)
        | (boxes[:, 2] >= right - near_x if right < size[1] else never)
        | (boxes[:, 3] >= bottom - near_y if bottom < size[0] else never)
    )


def _merged(parts: Sequence[Detections], tiles: Tiles, cut: Sequence[Tensor]) -> Detections:
    """The detections of all parts, best first, each class by itself without those that repeat one of another part.

    ``cut`` bool [N] of each part marks those that give way to all others.
    """
    part = torch.cat([one.labels.new_full((len(one.labels),), i) for i, one in enumerate(parts)])
    found, cuts = Detections(*(torch.cat(field) for field in zip(*parts, strict=True))), torch.cat(list(cut))
    order = (found.scores - 2 * cuts).sort(descending=True, stable=True).indices  # scores are from 0 to 1
    found, part = found.select(order), part[order]
    kept = [_of_one_class(found, part, label, tiles) for label in found.labels.unique().tolist()]
    found = found.select(torch.cat(kept).sort().values) if kept else found
    return found.select(found.scores.sort(descending=True, stable=True).indices)


def _of_one_class(found: Detections, part: Tensor, label: int, tiles: Tiles) -> Tensor:
    """The places of the detections of a class that stay."""
    places = (found.labels == label).nonzero().flatten()[:MOST_MERGED]
    chosen = found.select(places)
    over = rivals(chosen.boxes, chosen.labels, tiles.threshold, of_smaller=MERGES[tiles.merge])
    over &= part[places, None] != part[places]
    return places[greedy_keep(over.tril(-1), torch.ones_like(places, dtype=torch.bool))]


def _is_side(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and side >= 16
