"""Files in folders by name, and which mask belongs to which image."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from seg_det.data.images import IMAGE_SUFFIXES
from seg_det.data.problems import Problems
from seg_det.errors import UserError

Files = Mapping[str, Sequence[Path]]  # by their path below a folder, without suffix: "city/t3"
UNREAD = (
    ".tif",
    ".tiff",
    ".gif",
    ".jfif",
    ".heic",
    ".heif",
    ".avif",
    ".jp2",
    ".ppm",
    ".pgm",
)  # suffixes of other images
TRIED = 50  # images whose masks' names are compared
COMMON = 0.5  # share of the images that an ending must fit


def files_below(
    folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES, problems: Problems | None = None
) -> dict[str, list[Path]]:
    """The files with one of ``suffixes`` in a folder and below it, by their path in it without suffix.

    Several of one name come in the order of ``suffixes``. Hidden files and folders are passed over; other images too, which
    ``problems`` note.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    unread = []
    for path, name in _walk(folder, ""):
        stem, dot, suffix = name.rpartition(".")
        if dot + suffix.lower() in suffixes:
            found[stem].append(Path(path))
        elif dot + suffix.lower() in UNREAD:
            unread.append(name)
    for paths in found.values():
        if len(paths) > 1:
            paths.sort(key=lambda path: (suffixes.index(path.suffix.lower()), path.name))
    if unread and problems is not None:
        problems.note(
            f"{folder}: {len(unread)} images are passed over for their suffix, as {min(unread)} "
            f"(read are {', '.join(suffixes)}): convert them"
        )
    return dict(found)


def _walk(folder: Path | str, above: str) -> Iterator[tuple[str, str]]:
    """(path, path below the folder) of each file."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, f"{above}{entry.name}/")
            else:
                yield entry.path, above + entry.name


def single(paths: Sequence[Path]) -> Path:
    """The only file of a name. Raises UserError with both where there are two, which may be different pictures."""
    if len(paths) > 1:
        raise UserError(same_name(paths[0], paths[1]))
    return paths[0]


def same_name(path: Path, other: Path) -> str:
    """What to say of two images with one name."""
    return (
        f"{path} has the name of {other.name} beside it, so which of the two the annotation is about cannot be known: "
        "remove one, or rename it with its annotation"
    )


def alone(paths: Sequence[Path], problems: Problems) -> Sequence[Path]:
    """The only image of a name; of several, none, which are problems."""
    if len(paths) == 1:
        return paths
    for path in paths:
        problems.add(same_name(path, next(other for other in paths if other != path)), lost="image")
    return ()


def mask_name(stem: str, image: Path, ending: str | None) -> str:
    """The name that the mask of an image has: with ``ending`` added, or for None the suffix of the image (t1.jpg.png)."""
    return stem + (image.suffix if ending is None else ending)


def find_ending(images: Files, masks: Collection[str]) -> str | None:
    """What is added to the names of the images in those of the masks: "" if nothing fits, None if it is the image's own suffix.

    Nothing is looked for where any image has a mask of its own name. Raises UserError where several endings fit.
    """
    if not images or not masks or any(stem in masks for stem in images):
        return ""
    if _share(images, masks, None) >= COMMON:
        return None
    shares = {ending: _share(images, masks, ending) for ending in _endings(images, masks)}
    best = max(shares.values(), default=0.0)
    fitting = sorted(ending for ending, share in shares.items() if share == best >= COMMON)
    if len(fitting) > 1:
        raise UserError(
            f"the masks have the names of their images with {' and with '.join(map(repr, fitting))} added, several for each: "
            f"say which with dataset.mask_ending={fitting[0]}"
        )
    return fitting[0] if fitting else ""


def _endings(images: Files, masks: Collection[str]) -> list[str]:
    """What some masks have behind the names of a few images, the most frequent first."""
    tried: Counter[str] = Counter()
    for stem in list(images)[:TRIED]:
        tried.update(name[len(stem) :] for name in masks if name.startswith(stem))
    return [ending for ending, _ in tried.most_common(TRIED)]


def _share(images: Files, masks: Collection[str], ending: str | None) -> float:
    """Of the images, how many have a mask with that ending."""
    return sum(mask_name(stem, paths[0], ending) in masks for stem, paths in images.items()) / len(images)
