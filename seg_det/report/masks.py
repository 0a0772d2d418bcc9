"""Label maps as pictures: in class colours beside the image, and as PNG files of a data set's own numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from seg_det.data.cityscapes import CLASSES
from seg_det.data.voc_seg import voc_colours
from seg_det.errors import UserError
from seg_det.report.drawings import STRIP, draw_legend, shrink
from seg_det.types import Category

FORMS = ("palette", "ids")


def beside(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, longest: int) -> np.ndarray:
    """Image, truth and prediction in a row, the longer side of each at most ``longest`` pixels: u8 [h, 3 w + gaps, 3].

    image: u8 [H, W, 3] RGB; truth and predicted: u8 [H, W] of class indices, drawn in VOC's colours, 255 as its border.
    """
    colours = voc_colours(256)
    views = [shrink(view, longest) for view in (image, colours[truth], colours[predicted])]
    height, width = views[0].shape[:2]
    gap = np.full((height, max(4, width // 80), 3), STRIP, np.uint8)
    return np.concatenate([views[0], gap, views[1], gap, views[2]], axis=1)


def overlay(image: np.ndarray, mask: np.ndarray, categories: Sequence[Category]) -> np.ndarray:
    """The image u8 [H, W, 3] under the colours of its classes, ``mask`` u8 [H, W], with a legend of those that are there."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(categories)] = mask_colours(categories)
    blended = (image // 2 + palette[mask] // 2).astype(np.uint8)
    present = np.unique(mask).tolist()
    return draw_legend(blended, [categories[i].name for i in present], [tuple(palette[i].tolist()) for i in present])


class MaskWriter:
    """Writes label maps as 8-bit PNGs whose pixels hold the ids of ``categories``, into a folder that it makes.

    ``form`` "palette" gives each class its VOC colour, or to Cityscapes' classes their own; "ids" is plain grey, which the
    server of Cityscapes takes. Raises UserError for another form and for an id that does not fit into 8 bits.
    """

    def __init__(self, folder: Path, categories: Sequence[Category], form: str):
        if form not in FORMS:
            raise UserError(f"save_predictions must be one of {', '.join(FORMS)}, got {form!r}.")
        for category in categories:
            if not 0 <= category.id <= 255:
                raise UserError(
                    f"save_predictions writes class ids of 0 to 255, but {category.name} has {category.id}: leave it out."
                )
        self.folder = folder
        self.form = form
        self._ids = np.array([category.id for category in categories], np.uint8)
        self._palette = np.zeros((256, 3), np.uint8)
        self._palette[self._ids] = mask_colours(categories)
        self._written: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, labels: np.ndarray) -> Path:
        """Write class indices u8 [H, W] to ``<name>.png``; a second one of that name gets a number. Returns the file."""
        free, number = name, 1
        while free in self._written:
            number += 1
            free = f"{name}_{number}"
        self._written.add(free)
        picture = Image.fromarray(self._ids[labels])
        if self.form == "palette":
            picture.putpalette(self._palette.tobytes())
        path = self.folder / f"{free}.png"
        picture.save(path)
        return path


def mask_colours(categories: Sequence[Category]) -> np.ndarray:
    """The colours of classes in masks, u8 [C, 3], RGB: Cityscapes' own for its classes, VOC's for others."""
    official = {known.name: known.colour for known in CLASSES}
    if {category.name for category in categories} == set(official):
        return np.array([official[category.name] for category in categories], np.uint8)
    return voc_colours(len(categories))
