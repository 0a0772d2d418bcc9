"""Segmentation: from a network's raw output to the class of every pixel of the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.ops.crops import crops
from seg_det.ops.images import normalise, sides
from seg_det.ops.placement import content_size
from seg_det.postprocess import OUTPUTS, Patch, canvas_patch, label_map
from seg_det.predict import standalone
from seg_det.predict.graphs import SegmentationGraph
from seg_det.predict.predictor import NetworkPredictor, require_finite
from seg_det.predict.preprocessing import Preprocessing, Size
from seg_det.predict.result import SegmentationResult
from seg_det.predict.task import Outputs, Task
from seg_det.registry import filled
from seg_det.types import Category, DenseSegmentation, ModelCard

MOST_SCALES, LARGEST_SCALE, LARGEST_OVERLAP = 32, 8, 0.9  # of the views of one image: bounds their number


@dataclass(frozen=True)
class Reading:
    """How label maps are read off a network: the card's ``postprocess``. Raises UserError for what cannot be done."""

    output: str = "logits"  # or "labels", see postprocess.label_map
    align_corners: bool = False
    flip: bool = False  # also look at the mirrored image
    scales: Sequence[float] = (1.0,)  # look at the image at each of these
    overlap: float | None = None  # windows of the input size over the image as it is, sharing this part with the next

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise UserError(f"postprocess.output must be one of {', '.join(OUTPUTS)}, got {self.output!r}.")
        if not self.scales or min(self.scales) <= 0:
            raise UserError(f"postprocess.scales must be one or more numbers above 0, got {list(self.scales)}.")
        if len(self.scales) > MOST_SCALES or max(self.scales) > LARGEST_SCALE:
            raise UserError(f"postprocess.scales must be at most {MOST_SCALES} numbers up to {LARGEST_SCALE}.")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UserError(f"postprocess.overlap must be at least 0 and below 1, or null, got {self.overlap}.")
        if self.overlap is not None and self.overlap > LARGEST_OVERLAP:
            raise UserError(f"postprocess.overlap must be at most {LARGEST_OVERLAP}, got {self.overlap}.")
        if self.output == "labels" and not self.once:
            raise UserError("postprocess.output=labels cannot average: leave out flip, scales and overlap.")

    @property
    def once(self) -> bool:
        """Whether the network sees an image a single time."""
        return not self.flip and list(self.scales) == [1.0] and self.overlap is None

    @classmethod
    def of(cls, card: ModelCard) -> Reading:
        """The card's. Raises UserError for keys that segmentation does not have."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(card.postprocess) - set(known)):
            raise UserError(f"segmentation has no postprocess.{unknown[0]}: choose from {', '.join(known)}.")
        return filled(cls, card.postprocess, "postprocess")


class Segmenter(NetworkPredictor):
    """A segmenter; its predictions are label maps u8 [H, W] of the images' sizes.

    With more than one view of an image (mirrored, at other scales, in windows) the probabilities of all are averaged.
    """

    def __init__(self, model: nn.Module, card: ModelCard):
        super().__init__(model, card)
        self.reading = Reading.of(card)
        self.preprocessing = Preprocessing.of(card, None if self.reading.overlap is None else "whole")

    def forward(self, images: Tensor) -> DenseSegmentation:
        """Raw output for canvases u8 [B, 3, h, w]. Raises UserError for a batch in training that has nothing to normalise by."""
        try:
            raw: DenseSegmentation = super().forward(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            height, width = images.shape[-2:]
            raise UserError(
                f"a batch of {len(images)} image of {width} x {height} pixels leaves one value a channel on the deepest map, "
                "which its norms cannot train on: raise data.size above the output stride of the network, or data.batch_size to 2"
            ) from error
        return raw

    def decode(self, raw: DenseSegmentation, canvas: Size, sizes: Sequence[Size]) -> list[Tensor]:
        """Label maps from one view of each image."""
        require_finite([raw.logits])
        return [
            self._label_map([canvas_patch(logits, canvas, self._content(size), size)], size)
            for logits, size in zip(raw.logits, sizes, strict=True)
        ]

    def predict(self, images: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
        """Label maps from as many views of each image as the card asks for."""
        if self.reading.once:
            return super().predict(images, sizes)
        patches = self._patches(normalise(images, self.mean, self.std), sizes)
        return [self._label_map(views, size) for views, size in zip(patches, sizes, strict=True)]

    def _label_map(self, patches: Sequence[Patch], size: Size) -> Tensor:
        return label_map(patches, size, output=self.reading.output, align_corners=self.reading.align_corners)

    def _patches(self, images: Tensor, sizes: Sequence[Size]) -> list[list[Patch]]:
        contents = [self._content(size) for size in sizes]
        window = None if self.reading.overlap is None else self.card.input_size
        patches: list[list[Patch]] = [[] for _ in sizes]
        for scale in self.reading.scales:
            parts = list(crops(images, contents, scale=scale, window=window, overlap=self.reading.overlap or 0.0))
            for start in range(0, len(parts), len(sizes)):
                some = parts[start : start + len(sizes)]
                for logits in self._views(torch.stack([part.pixels for part in some])):
                    for part, seen in zip(some, logits, strict=True):
                        box = _in_file(part.box, contents[part.image], sizes[part.image])
                        patches[part.image].append(Patch(seen, box, sides(part.pixels)))
        largest = [torch.stack([view.logits.abs().amax() for view in views]).amax() for views in patches]
        require_finite([torch.stack(largest)[:, None]])
        return patches

    def _views(self, images: Tensor) -> Iterator[Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        yield self.model(images).logits
        if self.reading.flip:
            yield self.model(images.flip(-1)).logits.flip(-1)

    def _content(self, size: Size) -> Size:
        return content_size(self.preprocessing.rule, size, self.card.input_size)


def _in_file(box: tuple[float, float, float, float], content: Size, size: Size) -> tuple[float, float, float, float]:
    """A box in pixels of ``content``, an image of ``size`` after its resize, in pixels of that image."""
    y, x = size[0] / content[0], size[1] / content[1]
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _result(mask: Tensor, card: ModelCard, size: Size, source: Path | np.ndarray) -> SegmentationResult:
    return SegmentationResult(card.categories, size, source, mask.cpu().numpy())


def _read(outputs: Outputs, card: ModelCard, size: Size, in_image: bool) -> Tensor:
    mask = torch.from_numpy(outputs["mask"].astype(np.uint8))
    if in_image:
        return mask
    content = content_size(card.resize, size, card.input_size)
    for dim, (length, part) in enumerate(zip(size, content, strict=True)):
        places = (torch.arange(length, dtype=torch.float64) + 0.5) * part / length
        mask = mask.index_select(dim, places.long())
    return mask


def _require_exportable(card: ModelCard) -> None:
    views = card.postprocess
    if views.get("flip") or list(views.get("scales", (1.0,))) != [1.0] or views.get("overlap") is not None:
        raise UserError(
            f"{card.name} looks at each image more than once: export with postprocess.flip=false, "
            "postprocess.scales=[1.0] and postprocess.overlap=null."
        )


def _colours(categories: Sequence[Category]) -> np.ndarray:
    from seg_det.report.masks import mask_colours

    return mask_colours(categories)


SEGMENTATION = Task(
    name="segmentation",
    output=DenseSegmentation,
    resizes=("whole", "letterbox", "stretch"),
    predictor=Segmenter,
    result=_result,
    formats=("png",),
    outputs=("mask",),
    raw_outputs=("logits",),
    raw=lambda outputs: DenseSegmentation(outputs["logits"]),
    read=_read,
    graph=SegmentationGraph,
    defaults={"output": "logits", "align_corners": False},
    require_exportable=_require_exportable,
    colours=_colours,
    exact_when_normalised=False,  # its masks have the input's size, and the nearest pixel of the image takes theirs
    programs={
        "full": standalone.segmentation_full,
        "normalised": standalone.segmentation_normalised,
        "raw": standalone.segmentation_raw,
    },
    show=standalone.show_segmentation,
)
