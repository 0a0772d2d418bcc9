"""The image entries of COCO's JSON and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from seg_det.data.coco_entries import DROPPED, MALFORMED, Key, key_of, numbered
from seg_det.data.image_files import most_pixels
from seg_det.data.images import verify_image
from seg_det.data.problems import Problems
from seg_det.data.records import ImageFile
from seg_det.data.spelling import Spellings
from seg_det.errors import UserError
from seg_det.progress import progress_bar


class _Entry(NamedTuple):
    key: Key
    name: str
    height: Any
    width: Any


def read_images(
    entries: list[Any], folder: Path, path: Path, problems: Problems
) -> tuple[list[ImageFile], dict[Key, int]]:
    """The usable images, and by each id of the file its place among them, DROPPED for the others."""
    spellings = Spellings(folder)
    taken: dict[Path, Key] = {}
    files: list[ImageFile] = []
    places: dict[Key, int] = {}
    named = _declared(entries, path, problems)
    ids = numbered([entry.key for entry in named], "image", path, problems)
    rows = zip(named, ids, strict=True)
    for entry, image_id in progress_bar(rows, f"reading {folder}", len(named), unit="image"):
        places[entry.key] = DROPPED
        try:
            image = spellings.find(entry.name)
            _require_untaken(image, entry.key, taken)
            size = _image_size(entry, image, verify=problems.on_bad == "skip")
        except UserError as error:
            problems.add(f"{path}: image id {entry.key}: {error}", lost="image")
        else:
            places[entry.key] = len(files)
            files.append(ImageFile(image, image_id, size))
    spellings.note(str(path), len(named), problems)
    return files, places


def _declared(entries: list[Any], path: Path, problems: Problems) -> list[_Entry]:
    """The entries with an id of their own and a file name."""
    found: dict[Key, _Entry] = {}
    for number, entry in enumerate(entries):
        try:
            key, name = entry["id"], entry["file_name"]
            key = key if type(key) is int else key_of(key)
            if not isinstance(name, str):
                raise TypeError(f"expected a text, got {name!r}")
            read = _Entry(key, name, entry.get("height"), entry.get("width"))
        except MALFORMED:
            problems.add(f"{path}: images[{number}] needs a whole number id and a file_name", lost="image")
            continue
        if found.setdefault(key, read) is not read:
            earlier, later = (Path(one.name).name for one in (found[key], read))
            problems.add(f"{path}: image id {key} is declared twice, as {earlier} and {later}", lost="image")
    return list(found.values())


def _require_untaken(image: Path, key: Key, taken: dict[Path, Key]) -> None:
    if (first := taken.setdefault(image, key)) != key:
        raise UserError(
            f"its file {image} is that of image id {first}, too: merge the annotations of both into one entry"
        )


def _image_size(entry: _Entry, image: Path, *, verify: bool) -> tuple[int, int]:
    """(H, W) as declared, else of the file. ``verify`` finds now what would fail in training, hours later."""
    height, width = entry.height, entry.width
    declared = all(isinstance(side, int) and side > 0 for side in (height, width)) and height * width <= most_pixels()
    if declared and not verify:
        return height, width
    size = verify_image(image)
    if declared and size != (height, width):
        raise UserError(f"{image} has {size[1]}x{size[0]} pixels, but is declared with {width}x{height}")
    return size
