"""``split.json`` of a run: which images of a data set without a val part it trained on, and which it validated on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seg_det.data.texts import read_text
from seg_det.errors import UserError
from seg_det.files import write_whole

NAME = "split.json"
PARTS = ("train", "val")
FORMAT = 1
MOST_BYTES = 2**30  # of such a file: five million images


class Place(NamedTuple):
    """Where an image of a data set belongs."""

    part: str  # of PARTS
    group: str  # what it is never torn from


@dataclass(frozen=True)
class Split:
    """The parts of a data set. The names of the images are their paths below the data set's root, with slashes."""

    share: float  # of the groups, that validate
    images: dict[str, Place]

    def names(self, part: str) -> list[str]:
        """The images of a part."""
        return [name for name, place in self.images.items() if place.part == part]


def write_split(path: Path, split: Split) -> Path:
    """Write ``path``: for each part a line for each image, its name and its group."""
    images = {part: {name: split.images[name].group for name in split.names(part)} for part in PARTS}
    content = {"format": FORMAT, "val_share": split.share, **images}
    return write_whole(path, json.dumps(content, indent=1, ensure_ascii=False))


def read_split_file(path: Path) -> Split:
    """What :func:`write_split` wrote. Raises UserError that names the file."""
    if path.is_dir():
        path = path / NAME  # of a run folder
    if not path.is_file():
        raise UserError(f"dataset.split_file={path}: there is no such file; a run that splits its data writes {NAME}.")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"dataset.split_file={path} has more than {MOST_BYTES} bytes, so it is no {NAME} of a run.")
    try:
        content = json.loads(read_text(path))
        return Split(_share(content), {name: place for part in PARTS for name, place in _places(content, part)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"dataset.split_file={path} is no {NAME} of a run ({_reason(error)}): give the file that a run wrote."
        ) from error


def _share(content: dict[str, Any]) -> float:
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {content['format']!r} and not {FORMAT}")
    share = float(content["val_share"])
    if not 0 < share <= 1:
        raise ValueError(f"its val_share is {share}")
    return share


def _places(content: dict[str, Any], part: str) -> list[tuple[str, Place]]:
    found = content[part].items()
    if not all(isinstance(group, str) for _, group in found):
        raise ValueError(f"a group of {part} is no text")
    return [(name, Place(part, group)) for name, group in found]


def _reason(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else (str(error).splitlines() or ["damaged"])[0][:100]
