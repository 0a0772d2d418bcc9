"""Which annotation tool wrote a file, told by its beginning; opens no image, and imports none of the readers."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from seg_det.data.recognise_single import SPLIT

HEAD = 2**18  # bytes of a file that are looked at
SUFFIXES = (".json", ".xml", ".csv")
MOST_FOLDERS, MOST_FILES = 200, 20  # looked at in search of a file: folders, and files in each
SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # of folders and files
READ = "the files of labelme, Label Studio, VIA, CreateML and CVAT"


class Sign(NamedTuple):
    """What the beginning of a file has to hold: a first character, and matches of all patterns."""

    dataset: str  # the choice of conf/dataset
    tool: str  # its name in messages
    suffix: str
    first: str  # one of these characters, after blanks
    patterns: tuple[str, ...]


SIGNS = (
    Sign("via", "VIA", ".json", "{", (r'"_via_img_metadata"\s*:',)),
    Sign("via", "VIA", ".json", "{", (r'"regions"\s*:', r'"(shape_attributes|file_attributes)"\s*:')),
    Sign("via", "VIA", ".json", "{", (r'"fid_list"\s*:|"vid_list"\s*:', r'"fname"\s*:|"metadata"\s*:')),
    Sign("via", "VIA", ".csv", "#f", (r"^#?\s*filename,.*region_shape_attributes",)),
    Sign("labelme", "labelme", ".json", "{", (r'"shapes"\s*:\s*\[', r'"(imagePath|version|flags|shape_type)"\s*:')),
    Sign("labelme", "labelme", ".json", "{", (r'"imageData"\s*:\s*["n]',)),  # before the shapes, in first versions
    Sign("label_studio", "Label Studio", ".json", "[", (r'"(original_width|total_annotations|file_upload)"\s*:',)),
    Sign("label_studio", "Label Studio", ".json", "[", (r'"(annotations|completions)"\s*:', r'"result"\s*:')),
    Sign("label_studio", "Label Studio", ".json", "[", (r'"rle"\s*:\s*\[', r'"format"\s*:\s*"rle"')),
    Sign("createml", "CreateML", ".json", "[", (r'"coordinates"\s*:\s*\{',)),
    Sign("createml", "CreateML", ".json", "[", (r'"(image|imagefilename|imageURL)"\s*:', r'"annotations?"\s*:')),
    Sign("cvat", "CVAT", ".xml", "<", (r"<annotations>", r"<(image|track|meta)\b")),
)


def tool_of(path: Path) -> Sign | None:
    """The sign of the tool that wrote ``path``; None for any other file, and for one that cannot be read."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        return None
    try:
        with path.open("rb") as opened:
            head = opened.read(HEAD)
    except OSError:
        return None
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = head.decode("utf-16" if wide else "utf-8", "replace").lstrip("\ufeff \t\r\n")
    return next((sign for sign in SIGNS if sign.suffix == suffix and _fits(sign, text)), None)


def _fits(sign: Sign, text: str) -> bool:
    return text[:1] in tuple(sign.first) and all(re.search(pattern, text) for pattern in sign.patterns)


def split_of(path: Path, root: Path, *, by_name: bool = True) -> str | None:
    """The split that a folder between ``root`` and the file, or with ``by_name`` a word of the file's name, names."""
    folders = [part.lower() for part in path.relative_to(root).parts[:-1]]
    words = re.split(r"[^a-z]+", path.stem.lower()) if by_name else []
    for found in (folders, words):
        if split := next((split for split, names in SPLITS.items() if set(names) & set(found)), None):
            return split
    return None


def first_files(root: Path) -> Iterator[tuple[Path, Sign]]:
    """A file of a tool in each folder at and below ``root`` that has one, or in the same folder one of each split."""
    for count, (folder, folders, names) in enumerate(os.walk(root, followlinks=True)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if count >= MOST_FOLDERS:
            return
        candidates = [name for name in sorted(names) if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        splits = set()
        for name in candidates[:MOST_FILES]:
            path = Path(folder) / name
            if (sign := tool_of(path)) is not None and (split := split_of(path, root)) not in splits:
                splits.add(split)
                yield path, sign


class Found(NamedTuple):
    """Files of one tool below a folder."""

    sign: Sign
    first: Path
    splits: frozenset[str]  # that folders, files' names or subsets name


def find_tool(root: Path) -> Found | None:
    """The tool whose files a folder holds, or that wrote the file ``root``; of several tools the one whose file comes first."""
    found = [(root, sign)] if root.is_file() and (sign := tool_of(root)) else list(first_files(root))
    if not found:
        return None
    first, sign = found[0]
    paths = [path for path, other in found if other.dataset == sign.dataset]
    by_name = sign.dataset != "labelme"  # whose files have the names of images
    splits = {split for path in paths if (split := split_of(path, root, by_name=by_name))} if root.is_dir() else set()
    if not splits and sign.dataset == "cvat":
        splits = subsets_of(first)
    return Found(sign, first, frozenset(splits))


def split_settings(splits: frozenset[str]) -> tuple[str, ...]:
    """What the configuration needs for these splits: where there is no val part, a share of the others takes its place."""
    if {"train", "val"} <= splits:
        return ()
    return (SPLIT,) if "train" in splits else ("dataset.train_split=null", SPLIT)


def subsets_of(path: Path) -> set[str]:
    """The splits that the images of a CVAT file name as their subset."""
    with path.open("rb") as opened:
        named = set(re.findall(rb'<image\b[^>]*\bsubset="([^"]*)"', opened.read()))
    words = {name.decode("utf-8", "replace").lower() for name in named}
    return {split for split, names in SPLITS.items() if words & set(names)}
