"""Files that list the classes of a data set, a line each, in the forms that tools write them.

A name; or a name with its value in the masks and its colour, separated by tabs in any order (``side walk<tab>7<tab>244,35,232``);
CVAT's ``name:r,g,b:parts:actions``; CamVid's ``r g b<tab>name``; ``name,r,g,b``; a number before or behind each name; and tables
whose first line names their columns. Lines that begin with # and a blank are comments.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from seg_det.data.texts import read_text
from seg_det.errors import UserError

FILES = ("labels.txt", "labelmap.txt")  # in the folder of a data set; CVAT writes the second
NAMES = {"name", "names", "class", "classes", "label", "labels", "category", "categories"}
NAMES |= {
    f"{what}{between}name{s}"
    for what in ("class", "label", "category")
    for between in ("", " ", "_")
    for s in ("", "s")
}
VALUES = {"id", "value", "index", "number", "pixel", "trainid", "train_id"}
VALUES |= {
    f"{what}{between}{number}" for what in ("class", "label", "pixel") for between in (" ", "_") for number in VALUES
}
CHANNELS = ({"r", "red"}, {"g", "green"}, {"b", "blue"})
COLOURS = {"color", "colour", "rgb", "color_rgb"}
TOP = 255  # the highest value of a mask of bytes
COMMENT = re.compile(r"#(\s|#|$)")
SEPARATORS = (r"\t", r"[,;|]", r"\s+")  # of the columns of a table
WHOLE = r"\d{1,9}"  # no value or colour has more digits
THREE = rf"{WHOLE} *[,; ] *{WHOLE} *[,; ] *{WHOLE}"
FORMS = (  # of all lines, the first that fits
    re.compile(rf"(?P<name>[^:]+):(?P<colour>{WHOLE},{WHOLE},{WHOLE})?:[^:]*:[^:]*"),
    re.compile(rf"(?P<colour>{THREE})\s*[,;\s]\s*(?P<name>[^\d\s].*)"),
    re.compile(
        rf"(?:(?P<value>{WHOLE})\s*[,;\t]\s*)?(?P<name>[^\t]+?)\s*[,;\t]\s*"
        rf"(?:(?P<behind>{WHOLE})\s*[,;\t]\s*)?(?P<colour>{THREE})"
    ),
    re.compile(rf"(?P<name>[^\t]*[^\d\s]) +(?P<colour>{WHOLE} +{WHOLE} +{WHOLE})"),
)
NUMBERED = (  # likewise, where the numbers are values and not parts of the names
    re.compile(rf"(?P<value>{WHOLE})(?P<between>\s*[:,;=)\t]\s*|\.?\s+)(?P<name>\S[^\t]*)"),
    re.compile(rf"(?P<name>\S[^\t]*?)(?P<between>\s*[:,;=\t]\s*|\s+)(?P<value>{WHOLE})"),
)


class Listed(NamedTuple):
    """A class of a list."""

    name: str
    value: int | None = None  # None: the list gives none
    colour: tuple[int, int, int] | None = None


class _Line(NamedTuple):
    text: str
    where: str  # file and line, for messages


def find_class_list(root: Path) -> Path:
    """The list of a data set's classes: the first of FILES that is there, else the first."""
    return next((path for path in (root / name for name in FILES) if path.exists()), root / FILES[0])


def read_class_list(path: Path, *, known: Collection[str] = ()) -> list[Listed]:
    """The classes of a file in the order of its lines.

    Lines that are all among the names ``known`` are taken as they are. Raises UserError, with the line, for what cannot be
    read, and for what may be read in two ways.
    """
    lines = _lines(path)
    if known and all(line.text in known for line in lines):
        return [Listed(line.text) for line in lines]
    lines = _classes_alone(lines)
    if lines and (columns := _columns(lines[0])):
        return [_of_table(line, *columns) for line in lines[1:]]
    return _of_form(lines) or _numbered(lines) or [_of_columns(line) for line in lines]


def _lines(path: Path) -> list[_Line]:
    numbered = enumerate(read_text(path).splitlines(), start=1)
    return [_Line(text.strip(), f"{path}, line {number}") for number, text in numbered if text.strip()]


def _of_form(lines: Sequence[_Line]) -> list[Listed]:
    """The classes by the first of FORMS that all lines have; none without one."""
    for form in FORMS:
        if matches := _matches(form, lines):
            return [_of_match(match, line) for match, line in zip(matches, lines, strict=True)]
    return []


def class_names(path: Path, *, first: Sequence[int] = (0,), known: Collection[str] = ()) -> list[str]:
    """The names by ascending value; where the list gives values they must count up from one of ``first``.

    Raises UserError as :func:`read_class_list` does, and for other values.
    """
    listed = read_class_list(path, known=known)
    values = [one.value for one in listed]
    if any(value is not None for value in values):
        if all(sorted(values, key=str) != sorted(range(start, start + len(values)), key=str) for start in first):
            shown = ", ".join("none" if value is None else str(value) for value in values[:8])
            wanted = " or ".join(f"{start}..{start + len(values) - 1}" for start in first)
            raise UserError(f"{path} gives its classes the values {shown}; here they must be {wanted}, each once")
        listed.sort(key=lambda one: one.value or 0)  # all have one here
    return [one.name for one in listed]


def _classes_alone(lines: Sequence[_Line]) -> list[_Line]:
    """The lines without comments.

    Raises UserError for a line that may be a comment or a name, and for a first line that looks like a heading.
    """
    lines = [line for line in lines if not COMMENT.match(line.text)]
    for line in lines:
        if line.text.startswith("#"):
            raise UserError(
                f"{line.where}: {line.text!r} may be a comment or a class: write a blank behind the # of a comment, "
                "or begin the name with another letter"
            )
    if len(lines) > 1 and lines[0].text.lower().rstrip(":") in NAMES:
        raise UserError(
            f"{lines[0].where}: {lines[0].text!r} looks like a heading and not like a class: remove the line, or begin it "
            "with # and a blank; a class of that name is given by dataset.categories"
        )
    return lines


def _columns(line: _Line) -> tuple[str, dict[str, int]] | None:
    """The separator of a table and where its columns stand, if the line is the heading of one."""
    for separator in SEPARATORS:
        cells = [_bare(cell).lower() for cell in re.split(separator, line.text)]
        places = {kind: place for place, cell in enumerate(cells) if (kind := _kind(cell))}
        if len(cells) > 1 and len(places) == len(cells) and "name" in places:
            return separator, places
    return None


def _kind(heading: str) -> str:
    if heading in NAMES:
        return "name"
    if heading in VALUES:
        return "value"
    if heading in COLOURS:
        return "colour"
    return next(("rgb"[place] for place, words in enumerate(CHANNELS) if heading in words), "")


def _of_table(line: _Line, separator: str, places: dict[str, int]) -> Listed:
    cells = [_bare(cell) for cell in re.split(separator, line.text)]
    if len(cells) != len(places):
        raise UserError(
            f"{line.where}: {line.text!r} has {len(cells)} columns, and the heading {len(places)}; correct the line"
        )
    text = cells[places["colour"]] if "colour" in places else " ".join(cells[places[c]] for c in "rgb" if c in places)
    value = cells[places["value"]] if "value" in places else ""
    if value and not re.fullmatch(WHOLE, value):
        raise UserError(f"{line.where}: {value[:40]!r} is not the number of a class; correct the line")
    return Listed(cells[places["name"]], int(value) if value else None, _colour(text, line) if text else None)


def _bare(cell: str) -> str:
    return cell.strip().strip("\"'")


def _matches(form: re.Pattern[str], lines: Sequence[_Line]) -> list[re.Match[str]]:
    """The matches of all lines; none if one of them does not match."""
    matches = [match for line in lines if (match := form.fullmatch(line.text))]
    return matches if len(matches) == len(lines) else []


def _of_match(match: re.Match[str], line: _Line) -> Listed:
    groups = match.groupdict()
    value = groups.get("value") or groups.get("behind")
    return Listed(match["name"].strip(), int(value) if value else None, _colour(match["colour"], line))


def _colour(text: str | None, line: _Line) -> tuple[int, int, int] | None:
    numbers = [int(digits[:9]) for digits in re.findall(r"\d+", text or "")]
    if not text:
        return None
    if len(numbers) != 3 or max(numbers) > TOP:
        raise UserError(f"{line.where}: {text!r} is not a colour (128,64,0); correct the line")
    return numbers[0], numbers[1], numbers[2]


def _numbered(lines: Sequence[_Line]) -> list[Listed]:
    """Classes whose lines have a number before or behind the name; none if the numbers are parts of the names.

    They are values where they differ, the names without them too, and one is 0 or something else than a blank stands between.
    Raises UserError where there is no 0.
    """
    for form in NUMBERED:
        matches = [match for line in lines if (match := form.fullmatch(line.text))]
        if not _may_be_values(matches):
            continue
        if len(matches) < len(lines):
            _refuse_mixed(lines, form)
        elif any(match["value"].strip("0") == "" for match in matches) or all(_is_marked(match) for match in matches):
            return [Listed(match["name"].strip(), int(match["value"])) for match in matches]
        else:
            raise _two_ways(lines[0], matches[0])
    return []


def _may_be_values(matches: Sequence[re.Match[str]]) -> bool:
    values, names = {int(match["value"]) for match in matches}, {match["name"].strip() for match in matches}
    return len(matches) > 1 and len(values) == len(names) == len(matches) and max(values) <= TOP


def _is_marked(match: re.Match[str]) -> bool:
    """Whether something else than a blank stands between name and number."""
    return bool(match["between"].strip(" ."))


def _refuse_mixed(lines: Sequence[_Line], form: re.Pattern[str]) -> None:
    """Raises UserError where only some lines have numbers that, with the places of the others, are values in another order."""
    matches = [form.fullmatch(line.text) for line in lines]
    values = [int(match["value"]) if match else place for place, match in enumerate(matches)]
    order = list(range(len(lines)))
    blanks = [(line, match) for line, match in zip(lines, matches, strict=True) if match and not _is_marked(match)]
    if blanks and values != order and sorted(values) == order:
        raise _two_ways(*blanks[0])


def _two_ways(line: _Line, match: re.Match[str]) -> UserError:
    name, value = match["name"].strip(), match["value"]
    return UserError(
        f"{line.where}: the {value} of {line.text!r} may be the value of the class or a part of its name: write "
        f"{name}<tab>{value} for a value, or give the names by dataset.categories"
    )


def _of_columns(line: _Line) -> Listed:
    """A name, then a value and a colour in either order, separated by tabs."""
    name, *columns = (column.strip() for column in line.text.split("\t"))
    value = colour = None
    for column in columns:
        if re.fullmatch(WHOLE, column):
            value = int(column)
        elif (
            re.fullmatch(rf"{WHOLE}[ ,]+{WHOLE}[ ,]+{WHOLE}", column)
            and max(map(int, re.findall(r"\d+", column))) <= TOP
        ):
            colour = _colour(column, line)
        elif column:
            raise UserError(
                f"{line.where}: {column[:40]!r} is neither a value (7) nor a colour (128,64,0); separate them by tabs"
            )
    return Listed(name, value, colour)
