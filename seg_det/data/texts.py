"""Text files as people's editors write them: UTF-8 or UTF-16 with their marks, or the code page of Windows."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

from seg_det.errors import UserError

MARKS = {  # the longer first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CODE_PAGE = "cp1252"  # what Windows calls ANSI in Western Europe and the Americas


def read_text(path: Path) -> str:
    """The text of a file. Raises UserError for a file of another encoding and FileNotFoundError for one that is missing.

    A file without a mark is UTF-8 or, if it cannot be that and looks like it, Windows-1252.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    try:
        text = data.decode(encoding) if encoding else _unmarked(data)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is in an encoding that is not known: save it as UTF-8") from error
    if "\0" in text:  # UTF-16 without its mark, or no text
        raise UserError(f"{path} is no text in UTF-8: save it as UTF-8")
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without blanks around them; empty lines stay, so that numbers of lines are true."""
    return [line.strip() for line in read_text(path).splitlines()]


def _unmarked(data: bytes) -> str:
    """UTF-8, else Windows-1252 where that is plausible: single letters, or two within a word, as in Größe.

    The code pages of Asia write each letter as two such bytes, those of Cyrillic and Greek whole words of them.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode(CODE_PAGE)
        if not all(_of_a_word(run) for run in re.finditer(r"[^\x00-\x7f]+", text)):
            raise
        return text


def _of_a_word(run: re.Match[str]) -> bool:
    """Whether letters beyond ASCII stand alone, or two of them between letters of ASCII."""
    letters, (start, end) = run.group(), run.span()
    inside = run.string[:start][-1:].isalpha() and run.string[end:][:1].isalpha()
    return letters.isalpha() and len(letters) <= 1 + inside


def load_json(path: Path) -> Any:
    """The content of a JSON file. Raises UserError with the line where it is none."""
    try:
        return json.loads(read_text(path).lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path}, {where}: not valid JSON ({error.msg}); export the file again") from error
    except (OSError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); export the file again") from error
