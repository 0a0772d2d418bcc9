"""Cityscapes' folders to records, its 34 ids to the 19 classes that count. Format: https://www.cityscapes-dataset.com"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from seg_det.data.masks import MaskedImage, MaskFile, mask_code, masked_records, segmentation_source
from seg_det.data.pairs import alone, files_below
from seg_det.data.problems import Problems, require
from seg_det.data.records import SegmentationSource
from seg_det.errors import UserError
from seg_det.registry import READERS
from seg_det.types import Category

IDS = range(34)  # of all labels; 255 stands for -1, the licence plate


class CityscapesClass(NamedTuple):
    """A class that is evaluated; its place in the list is its train id."""

    name: str
    id: int
    colour: tuple[int, int, int]


CLASSES = (
    CityscapesClass("road", 7, (128, 64, 128)),
    CityscapesClass("sidewalk", 8, (244, 35, 232)),
    CityscapesClass("building", 11, (70, 70, 70)),
    CityscapesClass("wall", 12, (102, 102, 156)),
    CityscapesClass("fence", 13, (190, 153, 153)),
    CityscapesClass("pole", 17, (153, 153, 153)),
    CityscapesClass("traffic light", 19, (250, 170, 30)),
    CityscapesClass("traffic sign", 20, (220, 220, 0)),
    CityscapesClass("vegetation", 21, (107, 142, 35)),
    CityscapesClass("terrain", 22, (152, 251, 152)),
    CityscapesClass("sky", 23, (70, 130, 180)),
    CityscapesClass("person", 24, (220, 20, 60)),
    CityscapesClass("rider", 25, (255, 0, 0)),
    CityscapesClass("car", 26, (0, 0, 142)),
    CityscapesClass("truck", 27, (0, 0, 70)),
    CityscapesClass("bus", 28, (0, 60, 100)),
    CityscapesClass("train", 31, (0, 80, 100)),
    CityscapesClass("motorcycle", 32, (0, 0, 230)),
    CityscapesClass("bicycle", 33, (119, 11, 32)),
)
IMAGE, MASK = "_leftImg8bit", "_{annotations}_{labels}.png"
SUFFIXES = (".png", ".jpg")  # of images: the official ones are PNG


@READERS.register
def read_cityscapes(
    *, root: str | Path, split: str, annotations: str = "gtFine", on_bad: str = "error"
) -> SegmentationSource:
    """Read one split: leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png.

    An image without labelIds is taken with its labelTrainIds. The 19 classes have their ids of labelIds; all other ids are
    ignored. ``annotations`` names the folder of masks: gtFine or gtCoarse. Image ids are places in the sorted list, from 1.
    Only headers of files are read. What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``).
    Raises UserError.
    """
    problems, root = Problems(on_bad), Path(root)
    images = root / "leftImg8bit" / split
    require(images, "the folder of images")
    require(root / annotations / split, "the folder of masks")
    found = _images(images, problems)
    ids = [category.id for category in CLASSES]
    codes = {
        "labelIds": mask_code(ids, ignored=set(IDS) - set(ids)),
        "labelTrainIds": mask_code(range(len(CLASSES))),
    }
    listed = []
    for number, path in enumerate(found, start=1):
        stem, folder = path.stem.removesuffix(IMAGE), root / annotations / split / path.parent.name
        masks = [
            MaskFile(folder / f"{stem}{MASK.format(annotations=annotations, labels=labels)}", code)
            for labels, code in codes.items()
        ]
        mask = masks[1] if masks[1].path.is_file() and not masks[0].path.is_file() else masks[0]
        listed.append(MaskedImage(path, mask, number))
    name = f"{root.name} {split}"
    categories = [Category(category.id, category.name) for category in CLASSES]
    return segmentation_source(name, masked_records(listed, problems, name), categories, problems)


def _images(folder: Path, problems: Problems) -> list[Path]:
    """The images in the folders of cities, sorted. Raises UserError if there are none."""
    named = {
        stem: paths for stem, paths in files_below(folder, SUFFIXES).items() if stem.endswith(IMAGE) and "/" in stem
    }
    if not named:
        raise UserError(f"{folder} holds no CITY/*{IMAGE}.png; see datasets/README.md for the layout")
    return sorted(path for paths in named.values() for path in alone(paths, problems))
