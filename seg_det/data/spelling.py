"""Files below a folder by names spelled otherwise: with backslashes, in other case, as URLs, as paths of another machine."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from seg_det.data.problems import Problems
from seg_det.errors import UserError

MOST_LISTED = 5  # names of a folder in a message


class _Listing(NamedTuple):
    folder: Path
    names: frozenset[str]


class Spellings:
    """The files below ``folder``, each folder listed once; ``respelled`` counts those that were found by another spelling.

    With ``suffixes`` names may lack one of these, as in the lists of Pascal VOC.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str] = ()) -> None:
        self.folder = folder
        self.respelled = 0
        self._suffixes = tuple(suffixes)
        self._first = ("", "")
        self._listings: dict[str, _Listing] = {}
        self._by_name: dict[str, list[str]] | None = None
        self._by_stem: dict[str, list[str]] = {}
        self._here: dict[str, list[str]] | None = None

    def find(self, name: str) -> Path:
        """The file that ``name`` means, a path below the folder or an absolute one.

        Raises UserError, which says what there is, where no file or several could be meant.
        """
        place, _, base = name.rpartition("/")
        listing = self._listings.get(place) or self._listed(place)
        if base in listing.names:
            return listing.folder / base
        found = self._respelled(name)
        self._first = self._first if self.respelled else (name, found)
        self.respelled += 1
        return self.folder / found

    def find_stem(self, name: str) -> Path:
        """The file that ``name``, with or without its suffix, means in a sub-folder or by another spelling. Raises as above."""
        place, _, base = name.rpartition("/")
        listing = self._listings.get(place) or self._listed(place)
        exact = [base + suffix for suffix in self._suffixes if base + suffix in listing.names]
        return listing.folder / exact[0] if len(exact) == 1 else self.find(name)

    def find_here(self, name: str) -> Path | None:
        """The file that ``name`` means in the folder itself, in other case or of composed letters; None where there is none."""
        if name in self.names():
            return self.folder / name
        if self._here is None:
            self._here = defaultdict(list)
            for other in sorted(self.names()):
                self._here[_folded(other)].append(other)
        if len(found := self._here.get(_folded(name), [])) != 1:
            return None
        self._first = self._first if self.respelled else (name, found[0])
        self.respelled += 1
        return self.folder / found[0]

    def names(self) -> frozenset[str]:
        """What the folder itself holds."""
        return (self._listings.get("") or self._listed("")).names

    def note(self, where: str, total: int, problems: Problems) -> None:
        """Say once how many names were found by another spelling; ``where`` are the names, of ``total`` files."""
        if self.respelled:
            written, found = self._first
            problems.note(
                f"{where}: {self.respelled} of {total} files are spelled otherwise on the disk and were found by name (the "
                f"first: {written!r} is {self.folder / found})"
            )

    def _listed(self, place: str) -> _Listing:
        folder = self.folder / place
        names = frozenset(item.name for item in os.scandir(folder)) if folder.is_dir() else frozenset()
        self._listings[place] = _Listing(folder, names)
        return self._listings[place]

    def _respelled(self, name: str) -> str:
        """The path below the folder of the one file whose path ends as ``name`` does, or the other way round."""
        self._index()
        for written in dict.fromkeys((name, unquote(name))):
            parts = _parts(written)
            candidates = self._candidates(parts)
            ranks = [_common_tail(parts, _parts(path)) for path in candidates]
            best = [path for path, rank in zip(candidates, ranks, strict=True) if rank and rank == max(ranks)]
            if len(best) == 1:
                return best[0]
            if best:
                raise UserError(f"there is no image {self.folder / name}, and {' or '.join(best[:2])} could be meant")
        raise UserError(f"there is no image {self.folder / name} ({self._what_is_there(name)})")

    def _candidates(self, parts: list[str]) -> list[str]:
        if not parts:
            return []
        exact = (self._by_name or {}).get(parts[-1], [])
        if exact or not self._suffixes:
            return exact
        return [path for path in self._by_stem.get(parts[-1], []) if path.lower().endswith(self._suffixes)]

    def _index(self) -> None:
        if self._by_name is not None:
            return
        self._by_name, self._by_stem = defaultdict(list), defaultdict(list)
        for folder, _, names in os.walk(self.folder):
            below = "" if (below := os.path.relpath(folder, self.folder)) == "." else below + "/"
            for name in names:
                if not name.startswith("."):
                    self._by_name[_folded(name)].append(below + name)
                    self._by_stem[_folded(Path(name).stem)].append(below + name)

    def _what_is_there(self, name: str) -> str:
        base = (_parts(name) or [""])[-1]
        near = (self._by_name or {}).get(base) or self._by_stem.get(Path(base).stem)
        if near:
            return f"but {', '.join(sorted(near)[:2])}"
        names = sorted(self.names())
        more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
        return f"{self.folder} holds {', '.join(names[:MOST_LISTED]) or 'nothing'}{more}"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _parts(written: str) -> list[str]:
    return [part for part in _folded(written).replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _common_tail(written: list[str], found: list[str]) -> int:
    """How many folders before the names are the same where one path is the end of the other, from 1; 0 where none is."""
    count = min(len(written), len(found))
    before = slice(-count, -1)  # the names themselves are known to match
    return count if written[before] == found[before] else 0
