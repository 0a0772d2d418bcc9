"""Download Pascal VOC 2007 and 2012 into ``datasets/VOCdevkit``: ``python datasets/prepare_voc.py``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from seg_det.archives import Archive, Contents, prepare_command

HERE = Path(__file__).parent
SITE = "http://host.robots.ox.ac.uk/pascal/VOC"

# The md5s are those of torchvision.datasets.voc. The two archives of 2007 fill the same folders: the counts are those
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
        gives=(Contents("VOC2012/JPEGImages", "*.jpg", 17_125), Contents("VOC2012/Annotations", "*.xml", 11_540)),
    ),
)


def main(argv: Sequence[str] | None = None, table: Sequence[Archive] = ARCHIVES) -> int:
    """Complete the tree; returns the exit status."""
    return prepare_command("Pascal VOC 2007 and 2012", table, HERE / "VOCdevkit", HERE / "archives", argv)


if __name__ == "__main__":
    sys.exit(main())
