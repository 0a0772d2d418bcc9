"""How inputs are called: in results and messages, and in the files that are written of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

LONGEST = 180  # bytes of a part of a name: a suffix and a number may follow
WRITTEN = (
    ".jpg",
    ".png",
    ".txt",
    ".xml",
    ".mp4",
)  # suffixes of files that are written: a folder must not look like one


class Stems:
    """Names for what is written, each once: a.jpg and a.png become a and a_2.

    Frames of a video are written below its name, where no image's may lie.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._folders: set[str] = set()

    def of(self, file: str, *, video: bool = False) -> str:
        """A name for ``file``: without its suffix, below no other folder, not used before whatever the letters' case."""
        *above, last = Path(file).with_suffix("").parts or ("image",)
        folders = [
            _part(part) + "_" * part.lower().endswith(WRITTEN) for part in above if part not in ("..", "/", "\\")
        ]
        stem = free = "/".join([*folders, _part(last) or "image"])
        number = 1
        while self._is_taken(free.lower(), video):
            number += 1
            free = f"{stem}_{number}"
        self._taken.add(free.lower())
        if video:
            self._folders.add(free.lower())
        return free

    def _is_taken(self, name: str, video: bool) -> bool:
        parts = name.split("/")
        inside = any("/".join(parts[:end]) in self._folders for end in range(1, len(parts)))
        # An image in the folder of a video's frames gets a number, which those do not have.
        frame = inside and parts[-1].isdecimal()
        return name in self._taken or frame or (video and any(taken.startswith(f"{name}/") for taken in self._taken))


def _part(name: str) -> str:
    """A part of a path that any disk can hold."""
    text = name.encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")
    return "".join(letter if letter.isprintable() else "_" for letter in text)


def shown(source: object) -> str:
    """``source`` for messages and saved configurations: of an address without user name, password and query."""
    text = readable(str(source))
    if "://" not in text:
        return text
    text = re.sub(r"(?<=://)(?:[^/\s]*|[^/\s:@]*:\S*)@", "***@", text)
    return re.sub(r"\?\S+", "?***", text)


def readable(text: str) -> str:
    """``text`` without what is no UTF-8, as file names may be."""
    return os.fsencode(text).decode("utf-8", "replace")


def file_of(address: str) -> str:
    """The file's name in an address, or the host's."""
    parts = urlsplit(address)
    name = re.sub(r"[^\w.-]+", "_", unquote(Path(parts.path).name)).strip(".")
    return (name or re.sub(r"[^\w-]+", "_", parts.hostname or "stream"))[-LONGEST:]
