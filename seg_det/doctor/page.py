"""What the doctor writes: a table for the terminal, doctor.json, and a page with the offenders drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_det.data.images import read_rgb
from seg_det.doctor.findings import FAULTS, SEVERITIES, Finding, Found, Scope, Split, to_dict
from seg_det.errors import UserError
from seg_det.files import write_json
from seg_det.report.drawings import STRIP, draw_boxes, shrink
from seg_det.report.page import write_page
from seg_det.report.pictures import Gallery, Picture, Shown, counted, inlined
from seg_det.report.tables import format_table

SHOWN = 12  # pictures of a fault
LISTED = 30  # sentences of a fault on the page
MOST_PICTURES = 120  # of a page
MOST_BYTES = 1_900_000  # of the JPEG files of a page; its text makes it a third longer
VIEW = 320  # pixels of the longer side of a picture
PARENTS = re.compile(
    r"(?<!\S)[^\s]*/(?=[^\s/]+\.\w)"
)  # of files, which would leave no space for what is wrong with them
MOST_FOLDERS = 50  # that are left out of a sentence
EXAMPLE = 100  # letters of a sentence in the terminal's table


def write_results(folder: Path, name: str, scope: Scope, listed: Sequence[Found], *, command: str) -> str:
    """Write doctor.json and doctor.html into ``folder``; returns what to print."""
    content = {
        "name": name,
        "command": command,
        "splits": {split.role: _about(split) for split in scope.splits},
        "counts": totals(listed),
        "found": [to_dict(one) for one in listed],
    }
    write_json(folder / "doctor.json", content)
    _write_page(folder / "doctor.html", name, scope, listed, command)
    return summary(scope, listed, folder)


def _about(split: Any) -> dict[str, Any]:
    return {"name": split.name, "images": len(split.source.records), "classes": len(split.source.categories)}


def totals(listed: Sequence[Found]) -> dict[str, int]:
    """The number of findings by severity."""
    return {severity: sum(one.count for one in listed if one.severity == severity) for severity in SEVERITIES}


def summary(scope: Scope, listed: Sequence[Found], folder: Path) -> str:
    """What the terminal shows: a row for each fault, and where the rest lies."""
    images = ", ".join(f"{_number(split)} of {split.name}" for split in scope.splits)
    folders = _folders(scope)
    rows = [
        {"kind": one.fault, "severity": one.severity, "count": one.count, "example": _short(one, folders)}
        for one in listed
    ]
    lines = ["", format_table(rows), ""] if rows else [""]
    counts = totals(listed)
    said = ", ".join(counted(counts[severity], severity) for severity in SEVERITIES)
    lines += [f"{images}: {said}", f"findings    {folder / 'doctor.json'}", f"page        {folder / 'doctor.html'}"]
    return "\n".join(lines)


def _number(split: Split) -> str:
    count = len(split.source.records)
    return f"{count:,} image{'s' * (count != 1)}"


def _folders(scope: Scope) -> list[str]:
    """The folders of the images and those above them, deepest first; PARENTS finds none with blanks in their names."""
    paths = {folder for split in scope.splits for record in split.source.records for folder in record.path.parents}
    return sorted((str(path) for path in paths if path.name), key=len, reverse=True)[:MOST_FOLDERS]


def _short(one: Found, folders: Sequence[str]) -> str:
    words = str(one.item(0).sentence)
    for folder in folders:
        words = re.sub(rf"(?<![\w/]){re.escape(folder)}/", "", words)
    words = PARENTS.sub("", " ".join(words.split()))
    return words if len(words) <= EXAMPLE else f"{words[: EXAMPLE - 3]}..."


def _write_page(path: Path, name: str, scope: Scope, listed: Sequence[Found], command: str) -> None:
    galleries = dict(_galleries(listed))
    inline = inlined(list(galleries.values()), most_bytes=MOST_BYTES)
    shown = dict(zip(galleries, _within(inline, MOST_BYTES * 4 // 3), strict=True))
    counts = totals(listed)
    write_page(
        path,
        "doctor.html.j2",
        name=name,
        verb="data doctor",
        summary=", ".join(counted(counts[severity], severity) for severity in SEVERITIES),
        tiles=[
            {"label": f"images of {split.name}", "value": f"{len(split.source.records):,}", "note": _classes(split)}
            for split in scope.splits
        ],
        found=[_section(one, shown) for one in listed],
        command=command,
    )


def _classes(split: Any) -> str:
    return counted(len(split.source.categories), "class", "classes")


def _key(one: Found) -> str:
    return f"{one.fault}-{one.severity}"


def _section(one: Found, shown: Mapping[str, Any]) -> dict[str, Any]:
    key = _key(one)
    return {
        "key": key,
        "fault": one.fault,
        "severity": one.severity,
        "count": f"{one.count:,}",
        "about": FAULTS[one.fault].about,
        "sentences": [str(item.sentence) for item in one.items(LISTED)],
        "left_out": max(0, one.count - LISTED),
        "shown": shown.get(key, []),
    }


def _galleries(listed: Sequence[Found]) -> Iterator[tuple[str, Gallery]]:
    """The pictures of each fault that has an image; the gravest faults come first, if there are too many for a page."""
    left = MOST_PICTURES
    for one in listed:
        pictures = [picture for item in one.items(min(SHOWN, left)) if (picture := _picture(item)) is not None]
        left -= len(pictures)
        if pictures:
            yield _key(one), Gallery(one.fault, "", pictures)


def _within(galleries: Sequence[Sequence[Shown]], letters: int) -> list[list[Shown]]:
    """The first pictures, of so many letters together: of noise even the lowest quality of a JPEG is large."""
    kept: list[list[Shown]] = []
    for shown in galleries:
        kept.append([])
        for picture in shown:
            letters -= len(picture.source)
            if letters >= 0:
                kept[-1].append(picture)
    return kept


def _picture(finding: Finding) -> Picture | None:
    """The image of a finding with its boxes, or the two images of a pair; None where none can be shown."""
    if finding.file is None:
        return None
    try:
        image = read_rgb(finding.file)
        pair = None if finding.other == finding.file else finding.other
        other = None if pair is None else read_rgb(pair)
    except UserError:
        return None
    drawn = _drawn(image, finding)
    if other is not None and pair is not None:
        drawn = np.concatenate([_framed(drawn), _framed(other)], axis=1)
        return Picture(finding.file.name, f"and {pair.name}", drawn)
    return Picture(finding.file.name, "", drawn)


def _drawn(image: np.ndarray, finding: Finding) -> np.ndarray:
    """The image in the size of the page, the boxes of the finding marked on it."""
    small = shrink(image, VIEW)
    scale = small.shape[1] / image.shape[1]
    boxes = np.array(finding.boxes, np.float64).reshape(-1, 4)
    boxes = boxes[np.isfinite(boxes).all(axis=1)] * scale
    if not len(boxes):
        return small
    return draw_boxes(small, boxes, np.zeros(len(boxes), int), [""], wrong=np.ones(len(boxes), bool))


def _framed(image: np.ndarray) -> np.ndarray:
    """The image in the middle of a square of VIEW pixels, so that two of any sizes stand beside each other."""
    small = shrink(image, VIEW)
    frame = np.full((VIEW, VIEW, 3), STRIP, np.uint8)
    top, left = (VIEW - small.shape[0]) // 2, (VIEW - small.shape[1]) // 2
    frame[top : top + small.shape[0], left : left + small.shape[1]] = small
    return frame
