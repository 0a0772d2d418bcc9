"""Tracks against the truth: MOTA, IDF1, identity switches; and the text format of MOTChallenge for both.

python -m seg_det.metrics.tracking truth.txt tracks.txt
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from seg_det.errors import UserError
from seg_det.files import whole
from seg_det.values import LARGEST, shown

KEEP = 1000.0  # what the pair of the frame before is worth more than any overlap
TINY = float(np.finfo(float).eps)
COLUMNS = "frame, id, left, top, width, height, score, class, visibility"


class MotRow(NamedTuple):
    """A line of MOT's text format: one object in one frame."""

    frame: int  # from 1
    id: int  # from 0
    left: float  # pixels, as the following three
    top: float
    width: float
    height: float
    score: float = 1.0  # in a truth file 0 says that the object is not to be scored
    category: int = -1  # the data set's own id, -1 where it is not known
    visibility: float = -1.0  # visible share of a true object, -1 where it is not known


@dataclass(frozen=True)
class TrackScores:
    """How well tracks agree with the truth; counts are of pairs of an object and a frame, all shares are from 0 to 1.

    Defined as in TrackEval, the code of MOTChallenge: the fields of CLEAR (Bernardin and Stiefelhagen 2008) and of identity
    (Ristani et al. 2016).
    """

    mota: float  # 1 - (misses + false positives + switches) / objects: at most 1, negative where there are many errors
    motp: float  # mean IoU of the matches
    idf1: float  # F1 of the detections that have the right identity, with one track for each true object
    id_precision: float
    id_recall: float
    switches: int  # matches of an object to another track than at its match before
    fragmentations: int  # interruptions of a matched object
    matches: int
    misses: int
    false_positives: int
    objects: int


class _Frame(NamedTuple):
    """One frame of both files: indices of objects i64 [G] and of tracks i64 [T], and their overlap f64 [G, T]."""

    objects: np.ndarray
    tracks: np.ndarray
    iou: np.ndarray


def read_mot(path: Path) -> list[MotRow]:
    """The rows of a file in MOT's text format, in the order of its lines; none if it is empty.

    A line has 7 to 10 numbers with commas between: frame, id, left, top, width, height, score, class, visibility. Of a line
    of ten, which is that of result files, the last three are coordinates of the world and are not used.
    Raises UserError, with file and line: what is not such a line, an id that comes twice in a frame, a file that cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"{path} cannot be read ({reason}): name a text file in MOT's format.") from error
    rows: list[MotRow] = []
    lines: dict[tuple[int, int], int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row = _parsed(line, f"{path}, line {number}")
        earlier = lines.setdefault((row.frame, row.id), number)
        if earlier != number:
            raise UserError(
                f"{path}, line {number}: id {row.id} is in frame {row.frame} already, in line {earlier}; "
                "an object has one line in a frame."
            )
        rows.append(row)
    return rows


def _parsed(line: str, place: str) -> MotRow:
    """The row of a line. Raises UserError that begins with ``place``."""
    words = line.split(",")
    if not 7 <= len(words) <= 10:
        raise UserError(f"{place} has {len(words)} columns, not 7 to 10: write {COLUMNS}, with commas between.")
    numbers: list[Any] = [_number(word, place) for word in words[: 7 if len(words) == 10 else 9]]
    row = MotRow(*numbers)  # of floats, until it is known that some of them are whole
    if fault := _fault(row):
        raise UserError(f"{place}: {fault}; write {COLUMNS}.")
    return row._replace(frame=int(row.frame), id=int(row.id), category=int(row.category))


def _number(word: str, place: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise UserError(f"{place}: {shown(word.strip())} is not a number; write {COLUMNS}.") from None


def _fault(row: MotRow) -> str:
    """What is wrong with the numbers of a row; nothing if it is sound."""
    for name, value in zip(COLUMNS.split(", "), row, strict=True):
        if not math.isfinite(value):
            return f"the {name} is {value}, not a finite number"
    for name, value, least in (("frame", row.frame, 1), ("id", row.id, 0), ("class", row.category, -1)):
        if value != int(value) or not least <= value <= LARGEST:
            return f"the {name} is {value:.17g}, not a whole number from {least} to 2^53"
    if min(row.width, row.height) < 0:
        return f"the box is {row.width:g} x {row.height:g} pixels, which is negative"
    return ""


def write_mot(path: Path, rows: Iterable[MotRow]) -> None:
    """Write rows in MOT's text format, whole or not at all; ``rows`` may be a generator, and none is kept.

    Coordinates keep three decimals and are not shifted: MOTChallenge's own files count pixels from 1.
    Raises UserError for numbers that :func:`read_mot` would refuse, CannotWrite for a disk that cannot be written.
    """
    with whole(Path(path)) as file:
        for row in rows:
            file.write(mot_line(row).encode())


def mot_line(row: MotRow) -> str:
    """The line of a row, its end included. Raises UserError for numbers that are not finite, or cannot be."""
    if fault := _fault(row):
        raise UserError(f"frame {row.frame}, id {row.id} cannot be written as a track: {fault}.")
    numbers = (row.frame, row.id, *row[2:])
    return ",".join(f"{round(float(number), 3):.16g}" for number in numbers) + "\n"


def mot_rows(
    frame: int, boxes: np.ndarray, ids: np.ndarray, scores: np.ndarray, categories: np.ndarray
) -> Iterator[MotRow]:
    """Rows of a frame (from 1) for its boxes [N, 4] xyxy, ids [N], scores [N] and category ids [N]; none where an id is -1."""
    for (left, top, right, bottom), number, score, category in zip(
        np.asarray(boxes, np.float64).tolist(), ids.tolist(), scores.tolist(), categories.tolist(), strict=True
    ):
        if number >= 0:
            yield MotRow(frame, number, left, top, right - left, bottom - top, score, category)


def score_tracks(
    truth: Sequence[MotRow], tracks: Sequence[MotRow], *, iou_threshold: float = 0.5, class_aware: bool = False
) -> TrackScores:
    """MOTA, IDF1 and what they consist of, from the rows of one video.

    An object and a track can match where their IoU reaches ``iou_threshold``, and with ``class_aware`` only if their classes
    are equal. True objects with score 0 are left out, as in MOT17; its distractor classes are not known here.
    Raises UserError without true objects, by whose number MOTA divides.
    """
    if not 0 < iou_threshold <= 1:
        raise UserError(f"the IoU threshold must be greater than 0 and at most 1, got {iou_threshold}.")
    scored = [row for row in truth if row.score != 0]
    if not scored:
        raise UserError(
            "the truth has no object to score: MOTA divides by their number, so give the objects' own file."
        )
    frames = list(_frames(scored, tracks, class_aware))
    matches, overlap, switches, fragmentations = _clear(frames, iou_threshold)
    right = _identified(frames, iou_threshold)
    misses, false = len(scored) - matches, len(tracks) - matches
    return TrackScores(
        mota=1 - (misses + false + switches) / len(scored),
        motp=overlap / max(1, matches),
        idf1=2 * right / (len(scored) + len(tracks)),
        id_precision=right / max(1, len(tracks)),
        id_recall=right / len(scored),
        switches=switches,
        fragmentations=fragmentations,
        matches=matches,
        misses=misses,
        false_positives=false,
        objects=len(scored),
    )


def _frames(truth: Sequence[MotRow], tracks: Sequence[MotRow], class_aware: bool) -> Iterator[_Frame]:
    """The frames that either has rows in, in order."""
    a, b = (np.array(rows, np.float64).reshape(-1, len(MotRow._fields)) for rows in (truth, tracks))
    objects, names = (np.unique(rows[:, 1], return_inverse=True)[1] for rows in (a, b))
    a_order, b_order = (np.argsort(rows[:, 0], kind="stable") for rows in (a, b))
    numbers = np.union1d(a[:, 0], b[:, 0])
    a_parts, b_parts = (
        np.split(order, np.searchsorted(rows[order, 0], numbers[1:])) for rows, order in ((a, a_order), (b, b_order))
    )
    for in_a, in_b in zip(a_parts, b_parts, strict=True):
        overlap = _iou(a[in_a, 2:6], b[in_b, 2:6])
        if class_aware:
            overlap[a[in_a, 7][:, None] != b[in_b, 7]] = 0
        yield _Frame(objects[in_a], names[in_b], overlap)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairwise intersection over union f64 [G, T] of xywh boxes f64 [G, 4] and [T, 4]; 0 for boxes without an area."""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], b[:, :2] + b[:, 2:])
    common = (high - low).clip(0).prod(axis=2)
    union = a[:, 2:].prod(axis=1)[:, None] + b[:, 2:].prod(axis=1) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > TINY)


def _clear(frames: Sequence[_Frame], threshold: float) -> tuple[int, float, int, int]:
    """Matches, the sum of their IoU, identity switches and fragmentations.

    Frame by frame, pairs of the frame before are kept where they still overlap enough, then IoU decides. As in TrackEval, a
    frame without any object or without any track interrupts nothing.
    """
    count = 1 + max((int(frame.objects.max()) for frame in frames if len(frame.objects)), default=-1)
    last, before = (
        np.full(count, -1),
        np.full(count, -1),
    )  # the track of each object: at its last match, in the frame before
    pieces = np.zeros(count, np.int64)
    matches, overlap, switches = 0, 0.0, 0
    for objects, tracks, iou in frames:
        if not len(objects) or not len(tracks):
            continue
        worth = np.where(iou >= threshold - TINY, iou + KEEP * (tracks == before[objects][:, None]), 0)
        rows, columns = linear_sum_assignment(worth, maximize=True)
        real = worth[rows, columns] > TINY
        rows, columns = rows[real], columns[real]
        matched, found = objects[rows], tracks[columns]
        switches += int(((last[matched] >= 0) & (last[matched] != found)).sum())
        pieces[matched] += before[matched] < 0
        last[matched] = found
        before[:] = -1
        before[matched] = found
        matches += len(rows)
        overlap += float(iou[rows, columns].sum())
    return matches, overlap, switches, int((pieces - 1).clip(0).sum())


def _identified(frames: Sequence[_Frame], threshold: float) -> int:
    """How many pairs match if each true object may have one track in the whole video: the most that is possible."""
    pairs = [
        np.stack([f.objects[rows], f.tracks[columns]])
        for f in frames
        for rows, columns in [np.nonzero(f.iou >= threshold)]
    ]
    objects, tracks = np.concatenate(pairs, axis=1)
    if not len(objects):
        return 0
    counts = np.zeros((objects.max() + 1, tracks.max() + 1))
    np.add.at(counts, (objects, tracks), 1)
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())


def main(argv: Sequence[str] | None = None) -> int:
    """Print the scores of two files; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m seg_det.metrics.tracking", description="Score tracks in MOT's format."
    )
    parser.add_argument("truth", type=Path, help=f"the true objects: {COLUMNS}")
    parser.add_argument("tracks", type=Path, help="what a tracker found, in the same format")
    parser.add_argument("--iou", type=float, default=0.5, help="least overlap of a match (%(default)s)")
    parser.add_argument("--class-aware", action="store_true", help="match only objects and tracks of the same class")
    args = parser.parse_args(argv)
    try:
        truth, tracks = read_mot(args.truth), read_mot(args.tracks)
        scores = score_tracks(truth, tracks, iou_threshold=args.iou, class_aware=args.class_aware)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, value in vars(scores).items():
        print(f"{name.replace('_', ' '):16} {value:{'.4f' if isinstance(value, float) else ''}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
