"""Label maps as pictures: in class colours beside the image, and as PNG files of a data set's own numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from seg_det.data.cityscapes import CLASSES
from seg_det.data.voc_seg import voc_colours
from seg_det.errors import UserError
from seg_det.report.drawings import WRONG, Colour, draw_legend, in_a_row, shrink
from seg_det.types import IGNORE, Category

FORMS = ("palette", "ids")
UNLABELLED: Colour = (224, 224, 192)  # VOC's
TINT = 0.6  # opacity of the colours of classes in a report


def beside(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, categories: Sequence[Category], longest: int
) -> np.ndarray:
    """Truth, prediction and errors in a row under their titles, the longer side of each at most ``longest`` pixels.

    image: u8 [H, W, 3] RGB; truth and predicted: u8 [H, W] of class indices. The first two views are the image under the
    colours of the classes, what is not labelled under UNLABELLED; the third marks the pixels that are wrong.
    """
    colours = palette(categories)
    small = shrink(image, longest)
    labels = [_resized(mask, small) for mask in (truth, predicted)]
    grey = np.repeat(small.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8) // 2 + 96
    grey[(labels[0] != labels[1]) & (labels[0] != IGNORE)] = WRONG
    views = [*(_tinted(small, mask, colours) for mask in labels), grey]
    return in_a_row(views, ("ground truth", "prediction", "wrong pixels"))


def coloured(image: np.ndarray, mask: np.ndarray, categories: Sequence[Category], longest: int) -> np.ndarray:
    """The image u8 [H, W, 3] under the colours of its classes, ``mask`` u8 [H, W], shrunk to at most ``longest`` pixels."""
    small = shrink(image, longest)
    return _tinted(small, _resized(mask, small), palette(categories))


def palette(categories: Sequence[Category]) -> np.ndarray:
    """u8 [256, 3] RGB: the colour of each class index, and at IGNORE that of pixels without a label."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(categories)] = mask_colours(categories)
    colours[IGNORE] = UNLABELLED
    return colours


def legend(categories: Sequence[Category], present: Iterable[int]) -> list[tuple[str, Colour]]:
    """Name and colour of the classes with the indices ``present``, IGNORE among them, in the order of the categories."""
    colours = palette(categories)
    names = {**{i: category.name for i, category in enumerate(categories)}, IGNORE: "not labelled"}
    return [(names[i], tuple(colours[i].tolist())) for i in sorted(set(present))]


def _resized(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The mask in the size of ``image``."""
    return np.array(Image.fromarray(mask).resize(image.shape[1::-1], Image.Resampling.NEAREST))


def _tinted(image: np.ndarray, mask: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The image under the colours of its classes, with bright edges; a class whose colour is black leaves it as it is."""
    drawn = cv2.addWeighted(image, 1 - TINT, colours[mask], TINT, 0)
    np.copyto(drawn, image, where=~np.asarray(colours.any(1))[mask][..., None])
    edge = np.zeros(mask.shape, bool)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    drawn[edge] = drawn[edge] // 3 + 170
    return drawn


def overlay(image: np.ndarray, mask: np.ndarray, categories: Sequence[Category]) -> np.ndarray:
    """The image u8 [H, W, 3] under the colours of its classes, with a legend of those that are there.

    ``mask`` u8 [H, W]: indices of ``categories``; the image stays as it is where they are beyond, and where a colour is black.
    """
    colours = palette(categories)
    colours[len(categories) :] = 0
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[: len(categories)]).tolist()
    named = legend(categories, present)
    return draw_legend(_tinted(image, mask, colours), [name for name, _ in named], [colour for _, colour in named])


class MaskWriter:
    """Writes label maps as 8-bit PNGs whose pixels hold the ids of ``categories``, into a folder that it makes.

    ``form`` "palette" gives each class its VOC colour, or to Cityscapes' classes their own; "ids" is plain grey, which the
    server of Cityscapes takes. Pixels of no class, 255, stay 255. ``key`` is what messages call the form.
    Raises UserError for another form and for an id that does not fit into 8 bits.
    """

    def __init__(self, folder: Path, categories: Sequence[Category], form: str, key: str = "save_predictions"):
        if form not in FORMS:
            raise UserError(f"{key} must be one of {', '.join(FORMS)}, got {form!r}.")
        for category in categories:
            if not 0 <= category.id <= 255:
                raise UserError(
                    f"{key} writes class ids of 0 to 255, but {category.name} has {category.id}: leave it out."
                )
        self.folder = folder
        self.form = form
        self._ids = np.full(256, IGNORE, np.uint8)
        self._ids[: len(categories)] = ids = [category.id for category in categories]
        self._palette = np.zeros((256, 3), np.uint8)
        self._palette[ids] = mask_colours(categories)
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
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        return path


def mask_colours(categories: Sequence[Category]) -> np.ndarray:
    """The colours of classes in masks, u8 [C, 3], RGB: Cityscapes' own for its classes, VOC's for others."""
    official = {known.name: known.colour for known in CLASSES}
    if {category.name for category in categories} == set(official):
        return np.array([official[category.name] for category in categories], np.uint8)
    return voc_colours(len(categories))
