"""Where things come from: the commit of the code, and paths as records may name them. Imports no torch."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from seg_det.installed import PACKAGE

PATIENCE = 10  # seconds


@cache
def commit() -> str | None:
    """The commit of the checkout that the code runs from, with "-dirty" behind it where tracked files differ.

    None for an installed package, and where git is missing or does not answer.
    """
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env={**own, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def portable(path: str | Path) -> str:
    """``path`` for a file that is passed on: relative to the working folder, without the names of users.

    The name alone where the way there leads through the root, the folder of the home folders, or a folder that has the
    user's name. What lies below the working folder keeps its names.
    """
    here = Path.cwd()
    place = Path(os.path.normpath(here / path))
    if place.is_relative_to(here):
        return place.relative_to(here).as_posix()
    try:
        shared = Path(os.path.commonpath([here, place]))
    except ValueError:  # on another drive
        shared = Path(place.anchor)
    named = re.compile(rf"(?<![^\W_]){re.escape(_user())}(?![^\W_])")
    outside = shared in (Path(place.anchor), *Path.home().parents)
    if outside or named.search(place.relative_to(shared).as_posix()):
        return named.sub("USER", place.name) or place.anchor
    return Path(os.path.relpath(place, here)).as_posix()


def anonymous(value: Any) -> Any:
    """``value``, a string or lists and dictionaries of them, with paths that name folders of this machine as :func:`portable`."""
    if isinstance(value, dict):
        return {key: anonymous(part) for key, part in value.items()}
    if isinstance(value, list):
        return [anonymous(part) for part in value]
    return portable(Path(value).expanduser()) if isinstance(value, str) and _is_place(value) else value


def _is_place(text: str) -> bool:
    """Whether ``text`` is a path that is absolute or leads through the folders above."""
    return Path(text).is_absolute() or text.startswith("~/") or ".." in Path(text).parts


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # of a system that has no names
        return "\0"  # which no path has
