"""Pascal VOC's segmentation folders to records. Format: development kit of VOC2012, http://host.robots.ox.ac.uk/pascal/VOC/"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from seg_det.data.class_lists import class_names, find_class_list
from seg_det.data.images import IMAGE_SUFFIXES
from seg_det.data.masks import (
    LIST_COLOURS,
    MaskCode,
    MaskedImage,
    MaskFile,
    mask_code,
    masked_records,
    segmentation_source,
)
from seg_det.data.pairs import Files, files_below, single
from seg_det.data.problems import Problems, require
from seg_det.data.records import SegmentationSource
from seg_det.data.voc import image_ids, read_split
from seg_det.errors import UserError
from seg_det.registry import READERS
from seg_det.types import IGNORE, Category

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@READERS.register
def read_voc_seg(
    *,
    root: str | Path,
    split: str,
    masks: Sequence[str] = ("SegmentationClass", "SegmentationClassAug"),
    categories: Sequence[str] | None = None,
    colours: bool = False,
    on_bad: str = "error",
) -> SegmentationSource:
    """Read one split in VOC format: JPEGImages/, ImageSets/Segmentation/SPLIT.txt and masks, indices in palette PNGs.

    A mask lies in the first of the folders ``masks`` that has it; its rim of 255 is ignored. With ``colours`` masks may also
    be pictures in the colours of VOC's palette, which are converted as they are read. Class names come from
    ``categories``, else from root/labels.txt or CVAT's labelmap.txt, else they are VOC's 21 with the background; ids are the
    indices. Only headers of files are read. What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``).
    Raises UserError.
    """
    problems, root = Problems(on_bad), Path(root)
    require(root, "the VOC folder")
    require(root / "JPEGImages", "the VOC folder")
    require(root / masks[0], "the folder of masks")
    stems = read_split(root / "ImageSets" / "Segmentation" / f"{split}.txt", problems)
    names = _class_names(root, categories)
    name = f"{root.name} {split}"
    listed = _masked_images(root, stems, masks, _code(len(names), colours), problems)
    return segmentation_source(
        name,
        masked_records(listed, problems, name),
        [Category(index, category) for index, category in enumerate(names)],
        problems,
    )


def voc_colours(count: int) -> np.ndarray:
    """VOC's palette, u8 [count, 3] RGB: the bits of an index are dealt to red, green and blue, the highest first."""
    index = np.arange(count)[:, None, None]
    bits = index >> (3 * np.arange(8)[:, None] + np.arange(3)) & 1
    return (bits << (7 - np.arange(8)[:, None])).sum(axis=1).astype(np.uint8)


def _class_names(root: Path, categories: Sequence[str] | None) -> list[str]:
    labels = find_class_list(root)
    if categories is not None:
        source, names = "dataset.categories", [str(name).strip() for name in categories]
    elif labels.exists():
        source, names = str(labels), class_names(labels)
    else:
        return list(CLASSES)
    if len(names) < 2:
        raise UserError(
            f"{source} names {len(names)} classes, but masks need two or more: write the background first, then the others"
        )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{source} lists the class {twice!r} twice; list it once")
    return names


def _code(num_classes: int, colours: bool) -> MaskCode:
    if not colours:
        remedy = f"if its colours are those of VOC's palette, set dataset.colours=true, which converts them; else {LIST_COLOURS}"
        return mask_code(range(num_classes), remedy=remedy)
    palette = [(red, green, blue) for red, green, blue in voc_colours(256).tolist()]
    return mask_code(range(num_classes), colours=palette[:num_classes], void=[palette[IGNORE]])


def _masked_images(
    root: Path, stems: Sequence[str], folders: Sequence[str], code: MaskCode, problems: Problems
) -> list[MaskedImage]:
    images, ids = files_below(root / "JPEGImages"), image_ids(stems)
    there = {folder: files_below(root / folder, (".png",)) for folder in folders if (root / folder).is_dir()}
    listed = []
    for stem in stems:
        try:
            image, mask = _pair(stem, root, images, there)
            listed.append(MaskedImage(image, MaskFile(mask, code), ids[stem]))
        except UserError as error:
            problems.add(str(error), lost="image")
    return listed


def _pair(stem: str, root: Path, images: Files, masks: Mapping[str, Files]) -> tuple[Path, Path]:
    """The image and the mask of a name in the split. Raises UserError where one is missing or not the only one."""
    if stem not in images:
        known = ", ".join(IMAGE_SUFFIXES)
        raise UserError(f"the split lists {stem}, but {root / 'JPEGImages'} holds no {stem} with {known}")
    image = single(images[stem])
    found = [files[stem] for files in masks.values() if stem in files]
    if not found:
        raise UserError(f"the mask of {image} is missing: there is no {stem}.png in {' or '.join(masks)}")
    return image, single(found[0])
