"""Mask files to class indices, by the values or the colours that a data set writes; and a sentence for what fits neither."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, overload

import cv2
import numpy as np

from seg_det.data.images import image_size, is_turned, read_stored, verify_image
from seg_det.data.problems import Problems
from seg_det.data.records import SegmentationRecord, SegmentationSource
from seg_det.errors import UserError
from seg_det.progress import progress_bar
from seg_det.types import IGNORE, Category

UNKNOWN = 254  # in lookups: a value that stands for no class and is not ignored
Colour = tuple[int, int, int]  # red, green, blue
LIST_COLOURS = (
    "name the colour of each class in labels.txt and choose dataset=custom_masks, which converts colours to classes as it reads: "
    "a line is road<tab>128,64,128 (datasets/README.md)"
)


@dataclass(frozen=True)
class MaskCode:
    """How the pixels of mask files stand for classes: all files of a split share one."""

    lookup: np.ndarray  # u8 [256] by the value in the file: index of the class, IGNORE or UNKNOWN
    colours: np.ndarray  # i64 [K], 0xRRGGBB, ascending; empty where the data set has no colours
    labels: np.ndarray  # u8 [K] by the colour: index of the class or IGNORE
    remedy: str  # for colour pictures where the data set has no colours

    def remapped(self, table: np.ndarray) -> MaskCode:
        """The same values and colours for the classes ``table[i]`` in place of i."""
        return replace(self, lookup=table[self.lookup], labels=table[self.labels])

    def describe(self) -> str:
        """The values of the classes, and those that are ignored: "there are 21 classes (0..20) and 255"."""
        known = (self.lookup != UNKNOWN) & (self.lookup != IGNORE)
        ignored = _ranges(np.flatnonzero(self.lookup == IGNORE))
        count = len(np.unique(self.lookup[known]))
        there = "there is only one class" if count == 1 else f"there are {count} classes"
        return f"{there} ({_ranges(np.flatnonzero(known))}) and {ignored}"


def mask_code(
    values: Sequence[int],
    *,
    ignored: Iterable[int] = (),
    colours: Sequence[Colour | None] = (),
    void: Sequence[Colour] = (),
    remedy: str = LIST_COLOURS,
) -> MaskCode:
    """The code where class i is written as ``values[i]``, or in the colour ``colours[i]``.

    The values ``ignored``, the colours ``void`` and 255 where it is no class's are not counted. ``remedy`` is
    what to do where masks turn out to be colour pictures and there are no colours. Raises UserError for too many classes, a
    value that no byte holds, and a value or a colour that two classes have.
    """
    return MaskCode(_lookup(values, ignored), *_colour_codes(colours, void), remedy)


def _lookup(values: Sequence[int], ignored: Iterable[int]) -> np.ndarray:
    if len(values) > UNKNOWN:
        raise UserError(f"there are {len(values)} classes, but masks of one byte a pixel tell {UNKNOWN} apart at most")
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[IGNORE] = IGNORE
    for index, value in [*((IGNORE, value) for value in ignored), *enumerate(values)]:
        if not 0 <= value <= 255:
            raise UserError(f"the value {value} of a class does not fit into masks, which hold 0 to 255")
        if index != IGNORE and lookup[value] not in (UNKNOWN, IGNORE):
            raise UserError(f"the value {value} is given to two classes; give each its own")
        lookup[value] = index
    return lookup


def _colour_codes(colours: Sequence[Colour | None], void: Sequence[Colour]) -> tuple[np.ndarray, np.ndarray]:
    """MaskCode's colours, ascending, and their labels."""
    named = [(_packed(c), index) for index, c in enumerate(colours) if c] + [(_packed(c), IGNORE) for c in void]
    named.sort()
    codes = np.array([code for code, _ in named], np.int64)
    if len(np.unique(codes)) < len(codes):
        twice = int(codes[1:][codes[1:] == codes[:-1]][0])
        raise UserError(f"the colour {_unpacked(twice)} is given to two classes; give each its own")
    return codes, np.array([index for _, index in named], np.uint8)


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file of its own."""

    path: Path
    code: MaskCode

    def read(self) -> np.ndarray:
        """u8 [H, W], class indices or IGNORE.

        Raises UserError for a broken file, and for values or colours that the code does not have.
        """
        pixels, greys = read_stored(self.path, colours=len(self.code.colours) > 0)
        if pixels.ndim == 3:
            return self._from_colours(pixels)
        return self._from_values(pixels if greys is None else self._of_greys(pixels, greys))

    def remapped(self, table: np.ndarray) -> MaskFile:
        """The same file read as other classes."""
        return replace(self, code=self.code.remapped(table))

    def identity(self) -> bytes:
        """The name and the size in bytes (-1 once it has gone) of the file, and which values stand for which classes."""
        code, size = self.code, self.path.stat().st_size if self.path.exists() else -1
        return f"{self.path.name} {size} ".encode() + b"".join(
            x.tobytes() for x in (code.lookup, code.colours, code.labels)
        )

    def _from_values(self, pixels: np.ndarray) -> np.ndarray:
        wide = (pixels < 0) | (pixels > 255) if pixels.dtype != np.uint8 else None
        if wide is not None and wide.any():
            self._refuse(f"value {int(pixels[wide][0])}", int((pixels == pixels[wide][0]).sum()))
        labels = cv2.LUT(pixels.astype(np.uint8, copy=False), self.code.lookup)
        unknown = labels == UNKNOWN
        if unknown.any():
            value = int(pixels[unknown].min())
            self._refuse(f"value {value}", int((pixels == value).sum()))
        return labels

    def _of_greys(self, indices: np.ndarray, greys: np.ndarray) -> np.ndarray:
        """The values that a palette file with nothing but greys stands for: its indices, else the greys.

        Raises UserError where both can be meant. As a rule a palette is there to be looked at, but tools that reduce the
        number of colours move the values of a grey mask into it.
        """
        used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
        shown = np.arange(256, dtype=np.uint8)
        shown[: len(greys)] = greys
        by_index, by_grey = self.code.lookup[used], self.code.lookup[shown[used]]
        if (shown[used] == used).all() or (by_grey == UNKNOWN).any():
            return indices
        if (by_index == UNKNOWN).any():
            return shown[indices]
        classes = by_grey[by_grey != IGNORE]
        if len(classes) < len(used) and len(classes) < 2:  # two classes in black and white, to be looked at
            return indices
        other = used[shown[used] != used][0]
        raise UserError(
            f"the mask {self.path} has a palette of greys: its index {other} is shown as {shown[other]}, and both are values of "
            "classes or ignored, so which is meant cannot be known: save it as greyscale, without a palette"
        )

    def _from_colours(self, pixels: np.ndarray) -> np.ndarray:
        packed = _packed(np.moveaxis(pixels.astype(np.int64), -1, 0))
        if not len(self.code.colours):
            if (pixels == pixels[..., :1]).all():  # an index mask that was saved as a picture
                return self._from_values(np.ascontiguousarray(pixels[..., 0]))
            raise UserError(
                f"the mask {self.path} is a colour picture ({len(np.unique(packed))} colours) and not a mask of class values: "
                f"{self.code.remedy}"
            )
        place = np.searchsorted(self.code.colours, packed).clip(max=len(self.code.colours) - 1)
        unknown = self.code.colours[place] != packed
        if unknown.any():
            colour = int(packed[unknown].min())
            raise UserError(
                f"the mask {self.path} holds the colour {_unpacked(colour)} in {int((packed == colour).sum()):,} pixels, which "
                f"is none of the {len(self.code.colours)} colours of the class list: correct the mask, or add the colour"
            )
        return self.code.labels[place]

    def _refuse(self, what: str, pixels: int) -> None:
        raise UserError(
            f"the mask {self.path} holds the {what} in {pixels:,} pixels, but {self.code.describe()}: correct the mask, or "
            "add the class to the class list"
        )


class MaskedImage(NamedTuple):
    """An image of a split and the file of its mask."""

    path: Path
    mask: MaskFile
    image_id: int


def masked_records(images: Sequence[MaskedImage], problems: Problems, what: str) -> tuple[SegmentationRecord, ...]:
    """The images whose masks are there and of the same size, which the files' headers tell; the others are problems.

    Where problems are skipped each file is read, so that none ends the training. ``what`` is for the progress bar.
    """
    records = []
    for image in progress_bar(images, desc=f"reading {what}", unit="image"):
        try:
            size = _common_size(image.path, image.mask.path, verify=problems.on_bad == "skip")
            if problems.on_bad == "skip":
                image.mask.read()
        except UserError as error:
            problems.add(str(error), lost="image")
        else:
            records.append(SegmentationRecord(image.path, image.mask, image.image_id, size))
    return tuple(records)


def segmentation_source(
    name: str, records: Sequence[SegmentationRecord], categories: Sequence[Category], problems: Problems
) -> SegmentationSource:
    """The source, with the problems settled. Raises UserError for them, and where no record is left."""
    sentences = problems.settle()
    if not records:
        raise UserError(f"not one image of {name} can be used" + (f": {sentences[0]}" if sentences else ""))
    return SegmentationSource(name, tuple(records), tuple(categories), sentences, problems.lost)


def require_counted_pixels(source: SegmentationSource, *, every: bool = False) -> None:
    """Read masks until two classes are found, or ``every`` file: a wrong value is better found before an epoch is lost.

    Masks that are drawn from polygons cannot be wrong. Raises UserError if every pixel of all of them is ignored, if all that
    count are of one class (any model would be right everywhere), and as the masks do.
    """
    seen = np.zeros(256, bool)
    files = [record.mask for record in source.records if isinstance(record.mask, MaskFile)] if every else []
    if files:
        with ThreadPoolExecutor() as pool:  # decoding leaves Python free
            for labels in progress_bar(pool.map(MaskFile.read, files), f"checking {source.name}", len(files)):
                _see(labels, seen)
    for record in source.records:
        if _several(seen):
            return
        if not every or not isinstance(record.mask, MaskFile):
            _see(record.mask.read(), seen)
    if not _several(seen):
        raise UserError(_nothing_to_tell(source, seen))


def _see(labels: np.ndarray, seen: np.ndarray) -> None:
    """Mark in ``seen`` the values of a mask; not further ones once there are several classes."""
    if not _several(seen):
        seen |= np.bincount(labels.ravel(), minlength=256) > 0


def _several(seen: np.ndarray) -> bool:
    return seen[:IGNORE].sum() > 1


def _nothing_to_tell(source: SegmentationSource, seen: np.ndarray) -> str:
    """What to say of masks without two classes."""
    masks = f"the {len(source.records)} masks of {source.name}"
    if not seen[:IGNORE].any():
        return f"every pixel of {masks} is ignored, so nothing can be learned or measured: check the value of each class in them"
    name = source.categories[int(np.flatnonzero(seen)[0])].name
    ignored = ", and the others are ignored" if seen[IGNORE] else ""
    remedy = (
        "give the value 255 to a class in the class list if it is one"
        if seen[IGNORE]
        else "add masks with another class"
    )
    return (
        f"every pixel that counts in {masks} is of the class {name!r}{ignored}, so any model would be right everywhere: "
        f"{remedy}, or check which value each class has in them"
    )


def _common_size(image: Path, mask: Path, *, verify: bool) -> tuple[int, int]:
    if not mask.is_file():
        raise UserError(f"the mask of {image} is missing: there is no {mask}")
    size_of = verify_image if verify else image_size
    size, drawn = size_of(image), size_of(mask)
    if size != drawn:
        turned = ", which its EXIF rotation turns" if drawn == size[::-1] and is_turned(image) else ""
        raise UserError(
            f"the mask {mask} has {drawn[1]} x {drawn[0]} pixels, its image {image} has {size[1]} x {size[0]}{turned}"
        )
    return size


@overload
def _packed(colour: Colour) -> int: ...
@overload
def _packed(colour: np.ndarray) -> np.ndarray: ...
def _packed(colour: Colour | np.ndarray) -> int | np.ndarray:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _unpacked(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def _ranges(values: np.ndarray) -> str:
    """[0, 1, 2, 5] -> "0..2, 5"."""
    runs = groupby(enumerate(values.tolist()), key=lambda pair: pair[1] - pair[0])
    ends = [[value for _, value in run] for _, run in runs]
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in ends) or "none"
