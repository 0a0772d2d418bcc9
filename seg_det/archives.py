"""Data sets that come as archives: fetch, verify, unpack and count, for the ``datasets/prepare_*.py`` scripts."""

from __future__ import annotations

import argparse
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple
from urllib.parse import urlsplit

from seg_det.download import byte_bar, download, exclusive
from seg_det.errors import UserError


def unpack(archive: Path, into: Path, *, inside: str = "", progress: bool = True) -> Path:
    """Unpack a zip or tar file and merge it into the folder ``into``, once all of it has been read without fault.

    ``inside`` names the folder of the archive whose contents become the contents of ``into``; zip CRCs are verified.
    Raises UserError: a damaged archive, a member that would leave the folder, a link, a full disk.
    """
    staging = into / ".unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        extract = _unzip if zipfile.is_zipfile(archive) else _untar
        extract(archive, staging, progress)
        if not (staging / inside).is_dir():
            raise UserError(f"{archive} has no folder {inside}: it is another archive; delete it and run again")
        _merge(staging / inside, into)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        cause = str(error).partition("\n")[0].rstrip(":")
        raise UserError(f"{archive} is damaged or no zip or tar file ({cause}); delete it and run again") from error
    except OSError as error:
        raise UserError(f"cannot unpack {archive} into {into}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return into


class Contents(NamedTuple):
    """How many files (at least) ``folder`` of a data set holds once an archive has been unpacked."""

    folder: str
    pattern: str
    files: int


@dataclass(frozen=True)
class Archive:
    """One official archive of a data set, and how to know that it arrived and was unpacked whole."""

    url: str
    size: int | None  # bytes; None for one that the server packs anew each time
    md5: str | None
    gives: tuple[Contents, ...]
    inside: str = ""  # the folder of the archive whose contents are unpacked
    into: str = ""  # below the root

    @property
    def filename(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name

    def shortfall(self, root: Path) -> str | None:
        """What ``root`` lacks of this archive, None if nothing."""
        for folder, pattern, count in self.gives:
            found = sum(1 for _ in (root / folder).glob(pattern))
            if found < count:
                return f"{root / folder} holds {found} of {count} files {pattern}"
        return None


def prepare(table: Sequence[Archive], root: Path, archives: Path, *, keep: bool = False, progress: bool = True) -> bool:
    """Complete the tree at ``root``: fetch, verify, unpack and count every archive of the table that it lacks.

    Archives are removed once unpacked, except with ``keep`` and those that lay in ``archives`` before. False if the
    tree was complete already. Raises UserError as ``download`` and ``unpack`` do, and for a tree that stays incomplete.
    """
    if not any(archive.shortfall(root) for archive in table):
        return False
    try:
        root.mkdir(parents=True, exist_ok=True)
        with exclusive(root / ".prepare"):
            for archive in table:
                if archive.shortfall(root):
                    _complete(archive, root, archives, keep, progress)
    except OSError as error:
        raise UserError(f"cannot work in {error.filename or root}: {error.strerror}; name another --root") from error
    return True


def _complete(archive: Archive, root: Path, archives: Path, keep: bool, progress: bool) -> None:
    path = archives / archive.filename
    found_here = path.exists()
    download(archive.url, path, md5=archive.md5, size=archive.size, progress=progress)
    unpack(path, root / archive.into, inside=archive.inside, progress=progress)
    if shortfall := archive.shortfall(root):
        raise UserError(f"{path} was unpacked, but {shortfall}: it is not the archive that the table means")
    if not keep and not found_here:
        path.unlink()


def prepare_command(
    title: str,
    table: Sequence[Archive],
    root: Path,
    archives: Path,
    argv: Sequence[str] | None = None,
    *,
    finish: Callable[[Path], bool] | None = None,
) -> int:
    """Command line of the ``datasets/prepare_*.py`` scripts; returns the exit status (1: a UserError, printed).

    ``finish`` is called on the complete tree, and says whether it had anything to do.
    """
    gigabytes = sum(archive.size or 0 for archive in table) / 1e9
    amount = f" ({gigabytes:.1f} GB)" if gigabytes else ""
    names = [archive.filename for archive in table]
    parser = argparse.ArgumentParser(description=f"Download, verify and unpack {title}{amount}.")
    parser.add_argument("--root", type=Path, default=root, help="where the tree is made (%(default)s)")
    parser.add_argument("--archives", type=Path, default=archives, help="where downloads are kept (%(default)s)")
    parser.add_argument("--keep-archives", action="store_true", help="do not delete an archive once it is unpacked")
    parser.add_argument(
        "--skip", nargs="+", default=[], choices=names, help=f"archives to do without: {', '.join(names)}"
    )
    args = parser.parse_args(argv)
    wanted = [archive for archive in table if archive.filename not in args.skip]
    try:
        worked = prepare(wanted, args.root, args.archives, keep=args.keep_archives)
        worked = (finish is not None and finish(args.root)) or worked
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{title} {'is ready' if worked else 'was complete already, nothing done'}: {args.root}")
    return 0


def _unzip(archive: Path, folder: Path, progress: bool) -> None:
    with zipfile.ZipFile(archive) as members:
        whole = sum(member.file_size for member in members.infolist())
        with byte_bar(f"unpack {archive.name}", whole, progress=progress) as bar:
            for member in members.infolist():
                _refuse_outside(member.filename, archive)
                members.extract(member, folder)  # verifies the member's CRC
                bar.update(member.file_size)


def _untar(archive: Path, folder: Path, progress: bool) -> None:
    with tarfile.open(archive) as members, byte_bar(f"unpack {archive.name}", None, progress=progress) as bar:
        # The filter came with 3.11.4; what it protects from is refused here by name and by kind already.
        members.extraction_filter = getattr(tarfile, "data_filter", None)
        for member in members:
            _refuse_outside(member.name, archive)
            if not (member.isfile() or member.isdir()):
                raise UserError(f"{archive} holds a link or device, {member.name!r}: not unpacked, get another copy")
            members.extract(member, folder, set_attrs=False)
            bar.update(member.size)


def _refuse_outside(name: str, archive: Path) -> None:
    path = PureWindowsPath(name)  # takes both separators and knows drives
    if path.anchor or ".." in path.parts:
        raise UserError(f"{archive} would write outside its folder, to {name!r}: not unpacked, get another copy")


def _merge(source: Path, into: Path) -> None:
    for child in source.iterdir():
        target = into / child.name
        if child.is_dir() and target.is_dir():
            _merge(child, target)
        else:
            child.replace(target)
