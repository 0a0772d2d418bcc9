"""Download COCO 2017 (images and annotations) into ``datasets/coco``: ``python datasets/prepare_coco.py``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from seg_det.archives import Archive, Contents, prepare_command

DATASETS = Path("datasets")  # below the working directory, where conf/dataset looks
SITE = "http://images.cocodataset.org"

# The consortium publishes no checksums. These md5s are the ones that independent projects agree on (PaddleDetection,
# MLPerf's reference scripts); every zip member's own CRC and the counts of files are checked besides.
ARCHIVES = (
    Archive(
        url=f"{SITE}/annotations/annotations_trainval2017.zip",
        size=252_907_541,
        md5="f4bbac642086de4f52a3fdda2de5fa2c",
        gives=(Contents("annotations", "instances_*2017.json", 2),),
    ),
    Archive(
        url=f"{SITE}/zips/val2017.zip",
        size=815_585_330,
        md5="442b8da7639aecaf257c1dceb8ba8c80",
        gives=(Contents("val2017", "*.jpg", 5_000),),
    ),
    Archive(
        url=f"{SITE}/zips/train2017.zip",
        size=19_336_861_798,
        md5="cced6f7f71b7629ddf16f17bbcfab6b2",
        gives=(Contents("train2017", "*.jpg", 118_287),),
    ),
)


def main(argv: Sequence[str] | None = None, table: Sequence[Archive] = ARCHIVES) -> int:
    """Complete the tree; returns the exit status."""
    return prepare_command("COCO 2017", table, DATASETS / "coco", DATASETS / "archives", argv)


if __name__ == "__main__":
    sys.exit(main())
