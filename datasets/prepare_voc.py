"""Download Pascal VOC 2007 and 2012 into ``datasets/VOCdevkit``: ``python datasets/prepare_voc.py``.

The Semantic Boundaries Dataset (SBD, Hariharan et al. 2011) comes along: masks for images of VOC that have none of their own.
From it come VOC2012/SegmentationClassAug and the usual list train_aug: all images with a mask of either, less VOC's val.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from tqdm import tqdm

from seg_det.archives import Archive, Contents, prepare_command
from seg_det.data.voc_seg import voc_colours
from seg_det.errors import UserError
from seg_det.files import write_whole

DATASETS = Path("datasets")  # below the working directory, where conf/dataset looks
SITE = "http://host.robots.ox.ac.uk/pascal/VOC"
# What scipy raises, each for some kind of broken file.
BROKEN = (MatReadError, OSError, ValueError, LookupError, TypeError, NotImplementedError, zlib.error)
SBD = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"

# The md5s are those of torchvision.datasets. The two archives of 2007 fill the same folders: the counts are those
# after each of them, in this order. Of 2012, at least the 11,540 images of ImageSets/Main are annotated.
ARCHIVES = (
    Archive(
        url=f"{SITE}/voc2007/VOCtrainval_06-Nov-2007.tar",
        size=460_032_000,
        md5="c52e279531787c972589f7e41ab4ae64",
        inside="VOCdevkit",
        gives=(Contents("VOC2007/JPEGImages", "*.jpg", 5_011), Contents("VOC2007/Annotations", "*.xml", 5_011)),
    ),
    Archive(
        url=f"{SITE}/voc2007/VOCtest_06-Nov-2007.tar",
        size=451_020_800,
        md5="b6e924de25625d8de591ea690078ad9f",
        inside="VOCdevkit",
        gives=(Contents("VOC2007/JPEGImages", "*.jpg", 9_963), Contents("VOC2007/Annotations", "*.xml", 9_963)),
    ),
    Archive(
        url=f"{SITE}/voc2012/VOCtrainval_11-May-2012.tar",
        size=1_999_639_040,
        md5="6cd6e144f989b92b3379bac3b3de84fd",
        inside="VOCdevkit",
        gives=(
            Contents("VOC2012/JPEGImages", "*.jpg", 17_125),
            Contents("VOC2012/Annotations", "*.xml", 11_540),
            Contents("VOC2012/SegmentationClass", "*.png", 2_913),
        ),
    ),
    Archive(
        url=SBD,
        size=1_419_539_633,
        md5="82b4d87ceb2ed10f6038a1cba92111cb",
        inside="benchmark_RELEASE/dataset",
        into="SBD",
        gives=(Contents("SBD/cls", "*.mat", 11_355),),
    ),
)


def main(argv: Sequence[str] | None = None, table: Sequence[Archive] = ARCHIVES) -> int:
    """Complete the tree; returns the exit status."""
    title = "Pascal VOC 2007 and 2012 with SBD"
    return prepare_command(title, table, DATASETS / "VOCdevkit", DATASETS / "archives", argv, finish=add_boundaries)


def add_boundaries(root: Path) -> bool:
    """Masks of SBD as palette PNGs beside VOC 2012's own, and the list train_aug; False if there is nothing to do.

    VOC's own masks are drawn finer and have a rim of 255: where there is one, no other is made.
    Raises UserError naming a file of SBD that cannot be read.
    """
    voc, lists = root / "VOC2012", root / "VOC2012" / "ImageSets" / "Segmentation"
    boundaries = sorted((root / "SBD" / "cls").glob("*.mat"))
    if not boundaries or (lists / "train_aug.txt").exists():
        return False
    own, excluded = (_names(lists / f"{part}.txt") for part in ("train", "val"))
    added = [path for path in boundaries if path.stem not in own | excluded]
    (voc / "SegmentationClassAug").mkdir(exist_ok=True)
    for path in tqdm(added, desc="converting SBD", unit="mask", delay=2):
        _convert(path, voc / "SegmentationClassAug" / f"{path.stem}.png")
    write_whole(lists / "train_aug.txt", "".join(f"{name}\n" for name in sorted(own | {path.stem for path in added})))
    return True


def _names(path: Path) -> set[str]:
    if not path.is_file():
        raise UserError(f"there is no {path}: fetch VOC 2012 again, after deleting its folder")
    return set(path.read_text(encoding="utf-8").split())


def _convert(source: Path, target: Path) -> None:
    """SBD's class indices, which are VOC's, from Matlab to a palette PNG."""
    try:
        labels = loadmat(source)["GTcls"]["Segmentation"][0, 0]
    except BROKEN as error:
        raise UserError(f"{source} is damaged ({error}); delete its folder and run again") from error
    image = Image.fromarray(np.asarray(labels, np.uint8))
    image.putpalette(voc_colours(256).ravel().tolist())
    image.save(target)


if __name__ == "__main__":
    sys.exit(main())
