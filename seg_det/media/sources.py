"""What ``source=`` can name: an image, a folder, a pattern, a list, a video, a camera, an address."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from glob import glob, has_magic
from os.path import commonpath
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import requests

from seg_det.data.images import IMAGE_SUFFIXES, decode_rgb, read_rgb
from seg_det.errors import UserError
from seg_det.media.frames import Frame, Input, in_advance
from seg_det.media.videos import Stream, Timing, VideoFile

FORMS = "an image, a folder, a pattern (photos/*.jpg), a list (.txt), a video, the number of a camera, or an address"
# Read too where they lie in a folder; the last ones so that each is reported and not passed over.
PICTURES = (*IMAGE_SUFFIXES, ".jfif", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2", ".dng")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts")
LIVE = ("rtsp", "rtsps", "rtmp", "udp", "tcp", "srt")  # schemes of addresses without an end
MOST_LINES = 10**7  # of a list
MOST_BYTES = 2**30  # of an image at an address


class ImageFiles:
    """Image files in order; ``root`` is the folder that their names are relative to."""

    video = live = False

    def __init__(self, paths: Sequence[Path], root: Path, stems: Stems):
        self.name = str(root)
        self.length = len(paths)
        self._named = [(path, file := _relative(path, root), stems.of(file)) for path in paths]

    def frames(self) -> Iterator[Frame]:
        """See :class:`~seg_det.media.frames.Input`."""
        return in_advance(lambda named: _read(*named), self._named)


class Address:
    """An image at an address, fetched when it is read."""

    video = live = False
    length = 1

    def __init__(self, address: str, stems: Stems, timing: Timing):
        self.name, self._address, self._timing = shown(address), address, timing
        self._file = _file_of(address)
        self._stem = stems.of(self._file)

    def frames(self) -> Iterator[Frame]:
        """See :class:`~seg_det.media.frames.Input`."""
        yield _frame(self._file, self._stem, lambda: decode_rgb(self._fetched(), self.name))

    def _fetched(self) -> bytes:
        try:
            with requests.get(self._address, timeout=self._timing.timeout_s, stream=True) as response:
                response.raise_for_status()
                parts, size = [], 0
                for part in response.iter_content(2**16):
                    parts.append(part)
                    if (size := size + len(part)) > MOST_BYTES:
                        raise UserError(
                            f"{self.name} sends more than {MOST_BYTES} bytes, so no image: check the address."
                        )
                return b"".join(parts)
        except (requests.RequestException, ValueError) as error:  # ValueError: of an address that cannot be one
            response = getattr(error, "response", None)
            reason = f"{response.status_code} {response.reason}" if response is not None else type(error).__name__
            raise UserError(f"{self.name} cannot be fetched ({reason}): check the address and the network.") from error


class Stems:
    """Names for what is written, each once: a.jpg and a.png become a and a_2."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, file: str) -> str:
        """A name for ``file``: without its suffix, below no other folder, not used before whatever the letters' case."""
        parts = [part for part in Path(file).with_suffix("").parts if part not in ("..", "/", "\\")]
        stem = free = "/".join(parts) or "image"
        number = 1
        while free.lower() in self._taken:
            number += 1
            free = f"{stem}_{number}"
        self._taken.add(free.lower())
        return free


def open_source(source: Any, *, timing: Timing | None = None) -> tuple[list[Input], Counter[str]]:
    """The inputs that ``source`` names, and how many files of a folder are of other kinds, by suffix.

    ``source`` is one of :data:`FORMS`, or a list of them. Raises UserError where there is nothing, with the reason.
    """
    timing, stems, others = timing or Timing(), Stems(), Counter()
    given = list(source) if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    inputs: list[Input] = []
    loose: list[Path] = []
    for one in given:
        found = _opened(one, timing, stems, others)
        loose += [found] if isinstance(found, Path) else []
        inputs += [] if isinstance(found, Path) else found
    if loose:
        inputs.insert(0, ImageFiles(loose, _common_folder(loose), stems))
    if not inputs:
        raise UserError(f"source is empty: give {FORMS}.")
    return inputs, others


def shown(source: Any) -> str:
    """``source`` for messages and saved configurations: without the user name and password of an address."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", str(source))


def _opened(one: Any, timing: Timing, stems: Stems, others: Counter[str]) -> list[Input] | Path:
    """The inputs of one source; the path of a single image, so that several become one input."""
    if isinstance(one, int) and not isinstance(one, bool):
        return [Stream(one, f"camera {one}", stems.of(f"camera_{one}"), timing)]
    text = str(one)
    if "://" in text:
        return [_address(text, timing, stems)]
    path = Path(text).expanduser()
    if _exists(path):
        return _folder(path, stems, others) if path.is_dir() else _file(path, stems)
    if has_magic(text):
        return _files(_matching(path), stems, f"no file matches source={text}")
    raise UserError(f"there is no {text}: source is {FORMS}.")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:  # of a path that no file can have
        raise UserError(f"source={str(path)[:100]} cannot be read ({getattr(error, 'strerror', error)}).") from error


def _address(text: str, timing: Timing, stems: Stems) -> Input:
    parts = urlsplit(text)
    suffix = Path(parts.path).suffix.lower()
    if parts.scheme in ("http", "https") and (suffix in PICTURES or not suffix):
        return Address(text, stems, timing)
    if parts.scheme in ("http", "https", *LIVE):
        live = parts.scheme in LIVE or suffix not in VIDEOS
        return Stream(text, shown(text), stems.of(_file_of(text)), timing, live=live)
    known = ", ".join(("http", "https", *LIVE))
    raise UserError(f"addresses of {parts.scheme}:// are not read ({known} are): source is {FORMS}.")


def _file_of(address: str) -> str:
    parts = urlsplit(address)
    name = re.sub(r"[^\w.-]+", "_", unquote(Path(parts.path).name)).strip(".")
    return name or re.sub(r"[^\w-]+", "_", parts.hostname or "stream")


def _file(path: Path, stems: Stems) -> list[Input] | Path:
    if path.suffix.lower() == ".txt":
        return _listed(path, stems)
    if path.suffix.lower() in VIDEOS:
        return [VideoFile(path, path.name, stems.of(path.name))]
    return path


def _folder(folder: Path, stems: Stems, others: Counter[str]) -> list[Input]:
    paths = [p for p in sorted(folder.rglob("*"), key=_natural) if p.is_file() and not _hidden(p, folder)]
    wanted = [path for path in paths if path.suffix.lower() in (*PICTURES, *VIDEOS)]
    passed = Counter(path.suffix.lower() or "no suffix" for path in paths)
    for path in wanted:
        passed[path.suffix.lower()] -= 1
    others.update(+passed)
    there = ", ".join(f"{count} {suffix}" for suffix, count in (+passed).most_common(5)) or "it is empty"
    return _inputs(wanted, folder, stems, f"{folder} holds no image and no video ({there})")


def _matching(pattern: Path) -> list[Path]:
    found = (Path(name) for name in glob(str(pattern), recursive=True))  # noqa: PTH207 (a pattern of the user's, absolute or not)
    return sorted((path for path in found if path.is_file()), key=_natural)


def _files(paths: Sequence[Path], stems: Stems, missing: str) -> list[Input]:
    return _inputs(paths, _common_folder(paths) if paths else Path(), stems, missing)


def _inputs(paths: Sequence[Path], root: Path, stems: Stems, missing: str) -> list[Input]:
    """All images as one input, each video as one of its own. Raises UserError, which says ``missing``, without any."""
    if not paths:
        raise UserError(f"{missing}: source is {FORMS}.")
    images = [path for path in paths if path.suffix.lower() not in VIDEOS]
    videos = [path for path in paths if path.suffix.lower() in VIDEOS]
    inputs: list[Input] = [ImageFiles(images, root, stems)] if images else []
    return inputs + [VideoFile(p, file := _relative(p, root), stems.of(file)) for p in videos]


def _listed(path: Path, stems: Stems) -> list[Input]:
    """The files that a list names, a line each, relative to the list or else to the working folder."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()[:MOST_LINES]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the list {path} cannot be read ({error}): write a path a line, in UTF-8.") from error
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    beside = [path.parent / name for name in names]
    paths = [p if p.exists() or not Path(n).exists() else Path(n) for p, n in zip(beside, names, strict=True)]
    return _files(paths, stems, f"the list {path} names no file")


def _common_folder(paths: Iterable[Path]) -> Path:
    return Path(commonpath([path.absolute().parent for path in paths]))


def _relative(path: Path, root: Path) -> str:
    absolute = path.absolute()
    return absolute.relative_to(root.absolute()).as_posix() if absolute.is_relative_to(root.absolute()) else path.name


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """2.jpg before 10.jpg."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.as_posix()) if part]


def _read(path: Path, file: str, stem: str) -> Frame:
    return _frame(file, stem, lambda: read_rgb(path))


def _frame(file: str, stem: str, read: Callable[[], np.ndarray]) -> Frame:
    try:
        return Frame(file, stem, pixels=read())
    except UserError as error:
        return Frame(file, stem, error=error)
