"""Where the files of a data set lie that a configuration names: below its root, whatever the working folder is."""

from __future__ import annotations

from pathlib import Path

from seg_det.data.problems import Problems


def below(root: str | Path | None, path: str | Path, problems: Problems | None = None) -> Path:
    """``path`` as it stands if it is absolute or begins with ``root``, else below ``root``.

    One that is only in the working folder is taken from there; where both are, ``problems`` notes which one was taken.
    ``root`` None: a configuration of an earlier version, whose paths count from the working folder.
    """
    path = Path(path)
    if root is None or path.is_absolute() or path.is_relative_to(root):
        return path
    inside = Path(root) / path
    if path == Path() or not path.exists():
        return inside
    if not inside.exists():
        return path
    if problems and not inside.samefile(path):
        problems.note(
            f"{path} is both in {Path(root)} and in the working folder: {inside} was taken; for the other give its whole path"
        )
    return inside
