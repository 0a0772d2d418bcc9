"""Object identities through a video: a Kalman filter for each track, and association with the detections of a frame by score.

After ByteTrack (Zhang et al. 2022, https://arxiv.org/abs/2110.06864), with the decisions of ``ByteTrackTracker`` of the package
``trackers`` 2.6.1, whose ids this file reproduces. Both depart from the paper in these points: the filter follows the four sides
of a box with noise that does not depend on its size, low scores are also associated with lost and unconfirmed tracks, and there
is no score below which a detection is ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import linear_sum_assignment

from seg_det.errors import UserError

STEP = np.array([[1.0, 1.0], [0.0, 1.0]])  # (side, speed) one frame later
NOMINAL_RATE = 30.0  # frames a second that TrackerSettings.lost_frames refers to


@dataclass(frozen=True)
class TrackerSettings:
    """How a :class:`Tracker` decides. The defaults are those of the package ``trackers``. Raises UserError.

    Scores and IoU are from 0 to 1, noise is a variance in square pixels. ``class_aware`` is false by default, as in that
    package and in ByteTrack's own code: where a detector wavers between two similar classes, the object keeps its id. Set it
    where objects of different classes overlap much, such as a rider and a bicycle.
    """

    high_threshold: float = 0.6  # detections from this score on are associated first
    start_threshold: float = 0.7  # those of them that are still free start a track from this score on
    iou_threshold: float = 0.1  # least overlap of a detection with the predicted box of a track
    confirm_frames: int = 2  # consecutive frames after which a track gets an id
    lost_frames: int = 30  # frames for which a track without a detection is kept, at 30 frames a second
    class_aware: bool = False  # associate detections only with tracks of the same class
    measurement_noise: float = 0.1  # of a detected side
    process_noise: float = 0.01  # added in each frame, of a side and of its speed

    def __post_init__(self) -> None:
        for key in ("high_threshold", "start_threshold", "iou_threshold"):
            self._require(key, 0 <= getattr(self, key) <= 1, "from 0 to 1")
        for key, least in (("confirm_frames", 1), ("lost_frames", 0)):
            value = getattr(self, key)
            self._require(key, isinstance(value, int) and value >= least, f"a whole number from {least}")
        for key in ("measurement_noise", "process_noise"):
            self._require(key, 0 < getattr(self, key) < math.inf, "a positive number")

    def _require(self, key: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise UserError(f"the tracker's {key} must be {wanted}, got {getattr(self, key)}.")


@dataclass
class _Tracks:
    """All tracks as arrays with a row each, in the order in which they started.

    The four sides of a box are filtered independently and with equal noise, so the 8 x 8 covariance of a track consists of four
    equal blocks, of which ``covariance`` is one.
    """

    motion: np.ndarray  # f64 [T, 2, 4]: the sides x1, y1, x2, y2 in pixels, and their speeds in pixels a frame
    covariance: np.ndarray  # f64 [T, 2, 2], of a side and its speed
    ids: np.ndarray  # i64 [T], -1 until confirmed
    labels: np.ndarray  # i64 [T], of the first detection: with class_aware of all of them, otherwise unused
    hits: np.ndarray  # i64 [T], consecutive frames with a detection
    missed: np.ndarray  # i64 [T], frames since the last detection

    @classmethod
    def starting(cls, boxes: np.ndarray, labels: np.ndarray) -> _Tracks:
        """New tracks at rest, from boxes f64 [N, 4]."""
        count = len(boxes)
        motion = np.stack([boxes, np.zeros_like(boxes)], axis=1)
        ones = np.ones(count, np.int64)
        return cls(motion, np.tile(np.eye(2), (count, 1, 1)), -ones, labels, ones, 0 * ones)

    def where(self, kept: np.ndarray) -> _Tracks:
        """The tracks of a mask bool [T]."""
        return _Tracks(*(getattr(self, field.name)[kept] for field in fields(self)))

    def with_new(self, new: _Tracks) -> _Tracks:
        """These tracks and then ``new``."""
        names = [field.name for field in fields(self)]
        return _Tracks(*(np.concatenate([getattr(self, name), getattr(new, name)]) for name in names))

    def predict(self, noise: float) -> None:
        """Move on by one frame at constant velocity."""
        self.motion = STEP @ self.motion
        self.covariance = STEP @ self.covariance @ STEP.T + noise * np.eye(2)
        self.hits[self.missed > 0] = 0
        self.missed += 1

    def correct(self, rows: np.ndarray, boxes: np.ndarray, noise: float) -> None:
        """Kalman update of the tracks ``rows`` i64 [M] with the boxes f64 [M, 4] that were found."""
        covariance = self.covariance[rows]
        gain = covariance[:, :, 0] / (covariance[:, :1, 0] + noise)  # [M, 2]
        self.motion[rows] += gain[:, :, None] * (boxes - self.motion[rows, 0])[:, None]
        self.covariance[rows] = covariance - gain[:, :, None] * covariance[:, :1]
        self.hits[rows] += 1
        self.missed[rows] = 0


class Tracker:
    """Gives the detections of a video's frames, one frame after the other, the ids of the objects they belong to.

    Hand it all detections above a low score such as 0.1: those below ``high_threshold`` continue a track, and start none.
    Memory is bounded by the detections of the last second or so (``lost_frames``). One tracker is for one video.

    >>> import numpy as np
    >>> tracker = Tracker(frame_rate=25.0)
    >>> for x in (10, 12, 14):
    ...     tracker.update(np.float32([[x, 10, x + 40, 50]]), np.float32([0.9]), np.array([0])).tolist()
    [-1]
    [1]
    [1]
    """

    def __init__(self, *, frame_rate: float = NOMINAL_RATE, settings: TrackerSettings | None = None) -> None:
        """``frame_rate`` in frames a second: raises UserError if it is no positive number."""
        if not 0 < frame_rate < math.inf:
            raise UserError(f"the tracker's frame_rate must be a positive number, got {frame_rate}; say the video's.")
        self.settings = settings or TrackerSettings()
        self.frames = 0  # that have been seen
        self._longest_gap = math.ceil(frame_rate / NOMINAL_RATE * self.settings.lost_frames)
        self._next_id = 1
        self._tracks = _Tracks.starting(np.empty((0, 4)), np.empty(0, np.int64))

    def __len__(self) -> int:
        """The number of tracks that are kept: shown, lost and unconfirmed ones."""
        return len(self._tracks.ids)

    def update(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Track ids i64 [N], from 1 in the order of confirmation, of the next frame's detections; -1 for one without a track.

        ``boxes`` f32 [N, 4] xyxy pixels, ``scores`` f32 [N], ``labels`` i64 [N]. To be called for frames without detections
        too. Raises UserError, and then leaves the tracks as they were, for arrays of unequal lengths and numbers not finite.
        """
        boxes, scores, labels = _checked(self.frames + 1, boxes, scores, labels)
        self.frames += 1
        settings, tracks = self.settings, self._tracks
        tracks.predict(settings.process_noise)
        high = scores >= settings.high_threshold
        ids = np.full(len(boxes), -1, np.int64)
        free, waiting = np.ones(len(boxes), bool), np.arange(len(tracks.ids))
        for stage in (np.flatnonzero(high), np.flatnonzero(~high)):
            rows, columns = self._associate(waiting, boxes[stage], labels[stage])
            found, matched = stage[columns], waiting[rows]
            tracks.correct(matched, boxes[found], settings.measurement_noise)
            ids[found] = self._confirmed(matched)
            free[found] = False
            waiting = np.delete(waiting, rows)
        # In float64, as in the package: the float32 of 0.7 is less than 0.7.
        starting = free & high & (scores.astype(np.float64) >= settings.start_threshold)
        self._tracks = tracks.where(self._alive()).with_new(_Tracks.starting(boxes[starting], labels[starting]))
        return ids

    def _associate(self, rows: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices into ``rows`` (of tracks) and ``boxes`` of the pairs of the greatest total IoU that overlap enough."""
        overlap = _iou(self._tracks.motion[rows, 0], boxes)
        if self.settings.class_aware:
            overlap[self._tracks.labels[rows][:, None] != labels] = -1
        chosen, columns = linear_sum_assignment(overlap, maximize=True)
        enough = overlap[chosen, columns] >= self.settings.iou_threshold
        return chosen[enough], columns[enough]

    def _confirmed(self, rows: np.ndarray) -> np.ndarray:
        """Ids of the tracks ``rows``, which have just been detected; those that are new and certain get theirs now."""
        tracks = self._tracks
        new = rows[(tracks.ids[rows] < 0) & (tracks.hits[rows] >= self.settings.confirm_frames)]
        tracks.ids[new] = self._next_id + np.arange(len(new))
        self._next_id += len(new)
        ids: np.ndarray = tracks.ids[rows]
        return ids

    def _alive(self) -> np.ndarray:
        """Which tracks are kept: bool [T]. An unconfirmed one ends with the first frame that it is missed in."""
        tracks = self._tracks
        certain = (tracks.ids >= 0) | (tracks.hits >= self.settings.confirm_frames)
        alive: np.ndarray = (tracks.missed <= self._longest_gap) & (certain | (tracks.missed == 0))
        return alive


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairwise intersection over union f32 [N, M] of boxes f64 [N, 4] and [M, 4]; 0 where a union has no area.

    The package rounds to float32 too, which decides between pairs that overlap equally.
    """
    common = np.ones((len(a), len(b)))
    for low, high in ((0, 2), (1, 3)):
        side = np.minimum(a[:, None, high], b[:, high]) - np.maximum(a[:, None, low], b[:, low])
        common *= side.clip(0)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1)[:, None] + (b[:, 2:] - b[:, :2]).prod(axis=1) - common
    shares = np.zeros(common.shape, np.float32)
    np.divide(common, union, out=shares, where=union > 0)
    return shares


def _checked(
    frame: int, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The detections of frame ``frame``: boxes f64 [N, 4], scores f32 [N], labels i64 [N]. Raises UserError."""
    boxes, scores, labels = np.asarray(boxes, np.float64), np.asarray(scores, np.float32), np.asarray(labels)
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    count = len(scores) if scores.ndim == 1 else -1
    if boxes.shape != (count, 4) or labels.shape != (count,):
        raise UserError(
            f"frame {frame}: the tracker wants boxes [N, 4], scores [N] and labels [N] of one length, "
            f"got {list(boxes.shape)}, {list(scores.shape)} and {list(labels.shape)}."
        )
    broken = ~(np.isfinite(boxes).all(axis=1) & np.isfinite(scores))
    if broken.any():
        raise UserError(
            f"frame {frame}: detection {np.flatnonzero(broken)[0]} has a coordinate or a score that is not a finite number; "
            "look for a diverged training or an overflow in half precision."
        )
    return boxes, scores, labels.astype(np.int64)
