"""Download Cityscapes with your own login into ``datasets/cityscapes``: ``python datasets/prepare_cityscapes.py``.

The owners hand the data to registered users only: https://www.cityscapes-dataset.com/register. The login and the download are
left to the downloader of their package (``pip install cityscapesscripts``), which asks for name and password.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from seg_det.archives import Archive, Contents, unpack
from seg_det.errors import UserError

DATASETS = Path("datasets")  # below the working directory, where conf/dataset looks
DOWNLOADER = "csDownload"

# The downloader knows them by these names, and compares the checksums that the server gives.
ARCHIVES = (
    Archive(
        url="gtFine_trainvaltest.zip",
        size=None,
        md5=None,
        gives=(
            Contents("gtFine/train", "*/*_gtFine_labelIds.png", 2_975),
            Contents("gtFine/val", "*/*_gtFine_labelIds.png", 500),
        ),
    ),
    Archive(
        url="leftImg8bit_trainvaltest.zip",
        size=None,
        md5=None,
        gives=(
            Contents("leftImg8bit/train", "*/*_leftImg8bit.png", 2_975),
            Contents("leftImg8bit/val", "*/*_leftImg8bit.png", 500),
        ),
    ),
)


def main(argv: Sequence[str] | None = None, table: Sequence[Archive] = ARCHIVES) -> int:
    """Complete the tree; returns the exit status."""
    parser = argparse.ArgumentParser(description="Download Cityscapes with your own login and unpack it (11.8 GB).")
    parser.add_argument(
        "--root", type=Path, default=DATASETS / "cityscapes", help="where the tree is made (%(default)s)"
    )
    parser.add_argument(
        "--archives",
        type=Path,
        default=DATASETS / "archives",
        help="where downloads are kept, or were put (%(default)s)",
    )
    parser.add_argument("--keep-archives", action="store_true", help="do not delete an archive once it is unpacked")
    args = parser.parse_args(argv)
    lacking = [archive for archive in table if archive.shortfall(args.root)]
    try:
        for archive in lacking:
            _complete(archive, args.root, args.archives, keep=args.keep_archives)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Cityscapes {'is ready' if lacking else 'was complete already, nothing done'}: {args.root}")
    return 0


def _complete(archive: Archive, root: Path, archives: Path, *, keep: bool) -> None:
    path = archives / archive.filename
    found_here = path.exists()
    if not found_here:
        _fetch(path)
    unpack(path, root)
    if shortfall := archive.shortfall(root):
        raise UserError(f"{path} was unpacked, but {shortfall}: delete it and run again")
    if not keep and not found_here:
        path.unlink()


def _fetch(path: Path) -> None:
    """Bring ``path`` by the owners' downloader; half a file stays under another name."""
    if shutil.which(DOWNLOADER) is None:
        raise UserError(
            f"Cityscapes is downloaded with your own login by {DOWNLOADER}, which is not installed: pip install "
            f"cityscapesscripts, or fetch {path.name} in a browser and put it at {path}"
        )
    part = path.parent / "cityscapes.part"
    part.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if (part / path.name).exists() else []
    command = [DOWNLOADER, *resume, "--destination_path", str(part), path.name]
    if subprocess.run(command).returncode:
        raise UserError(
            f"{DOWNLOADER} did not bring {path.name}: run again to go on, delete {part} to begin anew, or put the file at {path}"
        )
    (part / path.name).replace(path)
    part.rmdir()


if __name__ == "__main__":
    sys.exit(main())
