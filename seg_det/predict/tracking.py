"""Results of a video's frames with the numbers of their objects, and the file of all tracks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from seg_det.media.frames import Frame, Video
from seg_det.metrics.tracking import MotRow, mot_line
from seg_det.predict.growing import Growing
from seg_det.predict.result import DetectionResult
from seg_det.predict.tracks import Tracker, TrackerSettings

LEAST_SCORE = 0.1  # of what can go on with a track, as in ByteTrack
# The tracker only asks which scores are high, and that differs by class: it is given 1 or 0.
SURE_OR_NOT = TrackerSettings(high_threshold=0.5, start_threshold=0.5)


class TrackWriter:
    """Follows the objects of one video and writes ``tracks/STEM.txt``, MOT's text format, line by line.

    An object starts a track where it scores at least what ``thresholds``, f32 [C], has for its class, and is then followed
    through frames where it scores less.
    """

    def __init__(self, folder: Path, given: Video, thresholds: Tensor):
        self._folder, self._given = folder / "tracks", given
        self.thresholds = thresholds.clamp(max=LEAST_SCORE)  # of the detections that :meth:`follow` wants
        self._starts = thresholds.numpy()
        self._tracker: Tracker | None = None
        self._file: Growing | None = None
        self.ids: set[int] = set()

    def follow(self, frame: Frame, result: DetectionResult) -> DetectionResult:
        """The objects of the next frame that belong to a track, with its number."""
        if self._tracker is None or self._file is None:  # now the rate of a stream is known
            self._tracker = Tracker(frame_rate=self._given.rate, settings=SURE_OR_NOT)
            self._file = Growing(self._folder / f"{frame.stem}.txt", b"")
        sure = result.scores >= self._starts[result.labels]
        ids = self._tracker.update(result.boxes, sure.astype(np.float32), result.labels)
        found, tracks = result.select(ids >= 0), ids[ids >= 0]
        self.ids.update(tracks.tolist())
        self._file.add("".join(_lines(frame.number or 0, found, tracks)).encode())
        return replace(found, tracks=tracks)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _lines(number: int, found: DetectionResult, tracks: np.ndarray) -> list[str]:
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    rows = np.concatenate([found.boxes[:, :2], sizes, found.scores[:, None]], 1).tolist()
    columns = zip(tracks.tolist(), rows, found.ids.tolist(), strict=True)
    return [
        mot_line(MotRow(number, track, left, top, width, height, score, category))
        for track, (left, top, width, height, score), category in columns
    ]
