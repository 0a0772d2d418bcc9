"""What ``source=`` can name: an image, a folder, a pattern, a list, a video, a camera, an address."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np

from seg_det.data.images import read_rgb
from seg_det.errors import UserError
from seg_det.media.addresses import open_address
from seg_det.media.frames import Frame, Input, in_advance, made
from seg_det.media.names import Stems, readable, shown
from seg_det.media.suffixes import PICTURES, VIDEOS
from seg_det.media.videos import Stream, Timing, VideoFile

FORMS = "an image, a folder, a pattern (photos/*.jpg), a list (.txt), a video, the number of a camera, or an address"
MOST_CAMERAS = 1000
MOST_LINES = 10**7  # of a list


class ImageFiles:
    """Image files in order; ``root`` is the folder that their names are relative to. ``lost`` are folders without access."""

    video = live = False

    def __init__(self, paths: Sequence[Path], root: Path, stems: Stems, lost: Sequence[OSError] = ()):
        self.name = str(root)
        self.length = len(paths) + len(lost)
        self._named = [(path, file := _relative(path, root), stems.of(file)) for path in paths]
        self._lost = [(_relative(Path(error.filename), root), error) for error in lost]

    def frames(self) -> Iterator[Frame]:
        """See :class:`~seg_det.media.frames.Input`."""
        for name, error in self._lost:
            yield Frame(name, name, error=UserError(f"the folder {name} cannot be read ({error.strerror})."))
        yield from in_advance(lambda named: made(named[1], named[2], lambda: _pixels(named[0])), self._named)


class _Found:
    """What has been found so far; files of several sources are called by their place below a folder that holds all."""

    def __init__(self, timing: Timing, root: Path | None):
        self.timing, self.root = timing, root
        self.stems = Stems()
        self.inputs: list[Input] = []
        self.others: Counter[str] = Counter()  # files of folders that are no images and no videos, by suffix

    def add(self, paths: Sequence[Path], root: Path, lost: Sequence[OSError] = ()) -> None:
        """The images as one input, each video as one of its own."""
        root = self.root or root
        images = [path for path in paths if path.suffix.lower() not in VIDEOS]
        if images or lost:
            self.inputs.append(ImageFiles(images, root, self.stems, lost))
        for path in paths:
            if path.suffix.lower() in VIDEOS:
                file = _relative(path, root)
                self.inputs.append(VideoFile(path, file, self.stems.of(file, video=True)))

    def add_address(self, address: str) -> None:
        """What is at an address."""
        self.inputs.append(open_address(address, self.timing, self.stems))


def open_source(source: Any, *, timing: Timing | None = None) -> tuple[list[Input], Counter[str]]:
    """The inputs that ``source`` names, and how many files of a folder are of other kinds, by suffix.

    ``source`` is one of :data:`FORMS`, or a list of them. Raises UserError where there is nothing, with the reason.
    """
    given = list(source) if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    if not given or not all(str(one).strip() for one in given):
        raise UserError(f"source is empty: give {FORMS}.")
    found = _Found(timing or Timing(), _common_root(given) if len(given) > 1 else None)
    singles: list[Path] = []
    for one in given:
        path = _add(one, found)
        singles += [path] if path is not None else []
    if singles:
        found.add(singles, _common_folder(singles))
    return found.inputs, found.others


def _add(one: Any, found: _Found) -> Path | None:
    """Add what one source names; a single image or video is returned, so that several become one input."""
    if isinstance(one, int):
        _add_camera(one, found)
        return None
    text = str(one)
    if "://" in text:
        found.add_address(text)
        return None
    path = Path(text).expanduser()
    if _exists(path):
        if path.is_dir():
            _add_folder(path, found)
        elif path.suffix.lower() == ".txt":
            _add_list(path, found)
        else:
            return path
        return None
    if not has_magic(text):
        raise UserError(f"there is no {shown(text)}: source is {FORMS}.")
    if not (paths := _matching(path)):
        raise UserError(f"no file matches source={text}: source is {FORMS}.")
    found.add(paths, _common_folder(paths))
    return None


def _add_camera(number: int, found: _Found) -> None:
    if isinstance(number, bool) or not 0 <= number < MOST_CAMERAS:
        raise UserError(f"the number of a camera must be from 0 to {MOST_CAMERAS - 1}, got {number}.")
    name = f"camera_{number}"
    found.inputs.append(Stream(number, f"camera {number}", found.stems.of(name, video=True), found.timing))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # of a path that no file can have, or below a folder without access
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _add_folder(folder: Path, found: _Found) -> None:
    lost: list[OSError] = []
    paths = sorted(_walked(folder, lost), key=_natural)
    wanted = [path for path in paths if path.suffix.lower() in (*PICTURES, *VIDEOS)]
    passed = Counter(p.suffix.lower() or "no suffix" for p in paths) - Counter(p.suffix.lower() for p in wanted)
    found.others.update(passed)
    if not wanted and not lost:
        there = ", ".join(f"{count} {suffix}" for suffix, count in passed.most_common(5)) or "it is empty"
        raise UserError(f"{folder} holds no image and no video ({there}): source is {FORMS}.")
    found.add(wanted, folder, lost)


def _walked(folder: Path, lost: list[OSError]) -> Iterator[Path]:
    """The files in a folder and below it, without hidden ones; linked folders are followed, each folder is seen once."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=lost.append):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place) / name for name in names if not name.startswith("."))


def _matching(pattern: Path) -> list[Path]:
    """The files that match, each once however many links lead to it."""
    names = sorted(glob(str(pattern), recursive=True), key=len)  # noqa: PTH207 (a pattern of the user's, absolute or not)
    files = {os.path.realpath(name): Path(name) for name in reversed(names) if _is_file(Path(name))}
    return sorted(files.values(), key=_natural)


def _add_list(path: Path, found: _Found) -> None:
    """The files that a list names, a line each, relative to the list or else to the working folder; and addresses."""
    names = _lines(path)
    beside = [(path.parent / name, Path(name)) for name in names if "://" not in name]
    paths = [here if _is_file(here) or not _is_file(there) else there for here, there in beside]
    if paths:
        found.add(paths, _common_folder(paths))
    for name in names:
        if "://" in name:
            found.add_address(name)


def _lines(path: Path) -> list[str]:
    """Without empty lines and comments. Raises UserError where none is left."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()[:MOST_LINES]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the list {path} cannot be read ({error}): write a path a line, in UTF-8.") from error
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise UserError(f"the list {path} names no file: source is {FORMS}.")
    return names


def _common_root(given: Sequence[Any]) -> Path | None:
    """The folder that holds all local sources."""
    paths = [Path(str(one)).expanduser() for one in given if not isinstance(one, int) and "://" not in str(one)]
    fixed = [Path(*_before_magic(path.parts)) for path in paths]
    places = [path if path.is_dir() else path.parent for path in fixed if _exists(path)]
    return Path(commonpath([place.absolute() for place in places])) if places else None


def _before_magic(parts: Sequence[str]) -> Sequence[str]:
    return parts[: next((place for place, part in enumerate(parts) if has_magic(part)), len(parts))] or (".",)


def _common_folder(paths: Sequence[Path]) -> Path:
    return Path(commonpath([path.absolute().parent for path in paths]))


def _pixels(path: Path) -> np.ndarray:
    try:
        return read_rgb(path)
    except ValueError as error:  # of a name that no file can have
        raise UserError(f"there is no image {str(path)!r} ({error}).") from error


def _relative(path: Path, root: Path) -> str:
    """The name of a file below ``root``, of one elsewhere with the folders between: ../other/a.jpg."""
    return readable(Path(os.path.relpath(path.absolute(), root.absolute())).as_posix())


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """2.jpg before 10.jpg."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.as_posix()) if part]
