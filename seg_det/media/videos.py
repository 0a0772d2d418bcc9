"""Videos, cameras and streams by OpenCV, frame by frame."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from seg_det.errors import UserError
from seg_det.media.frames import Frame

log = logging.getLogger(__name__)
USUAL_RATE = 30.0  # frames a second of what does not say
MOST_LOST = 100  # frames in a row that cannot be decoded before a file is taken to have ended
FASTEST = 1000.0  # a higher rate is no rate: some files give that of their clock
CODECS = "re-encode it as H.264 (ffmpeg -i FILE -c:v libx264 new.mp4)"


@dataclass(frozen=True)
class Timing:
    """How long a stream is waited for: seconds for an answer or a frame, and how often it is tried again after that."""

    timeout_s: float = 10.0
    retries: int = 3

    def __post_init__(self) -> None:
        for key, value, least in (("timeout_s", self.timeout_s, 0.001), ("retries", self.retries, 0)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 10**6:
                raise UserError(f"stream.{key} must be a number from {least:g}, got {value}.")


class VideoFile:
    """A video, in a file or at an address; what cannot be decoded of it becomes frames with a reason."""

    video, live = True, False

    def __init__(self, target: Path | str, file: str, stem: str, timing: Timing | None = None):
        self.name = file
        self._target, self._stem, self._timing = target, stem, timing
        capture = self._open()
        opened = capture.isOpened()
        self.rate = _rate(capture)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        self.length = int(count) if 0 < count < 2**31 else None
        self._error = None if opened else _unreadable(target, file)

    def _open(self) -> cv2.VideoCapture:
        if isinstance(self._target, Path):
            return open_capture(str(self._target.absolute())) if _is_utf8(self._target) else cv2.VideoCapture()
        return open_capture(self._target, self._timing)

    def frames(self) -> Iterator[Frame]:
        """See :class:`~seg_det.media.frames.Input`."""
        if self._error is not None:
            yield Frame(self.name, self._stem, error=self._error)
            return
        number = 0
        for lost, pixels in _decoded(self._open(), most_lost=MOST_LOST):
            if lost:
                error = UserError(
                    f"{lost} frames of the video {self.name} after frame {number} cannot be decoded: {CODECS}"
                )
                yield Frame(self.name, self._stem, number=number + 1, error=error)
            number += lost + 1
            yield Frame(self.name, self._stem, number=number, pixels=pixels)
        # Containers round their count, and guess it where frames come at changing intervals.
        if not number or (self.length and number < self.length - max(2, self.length // 20)):
            after = f"after frame {number} of {self.length}" if number else "before its first frame"
            error = UserError(f"the video {self.name} breaks off {after}: fetch it again, or {CODECS}")
            yield Frame(self.name, self._stem, number=number + 1, error=error)


class Stream:
    """A camera (a number) or an address; it is opened again where it stops, and ends with a reason where that does not help."""

    video = live = True
    length = None

    def __init__(self, target: int | str, name: str, stem: str, timing: Timing):
        self.name, self.rate = name, USUAL_RATE
        self._target, self._stem, self._timing = target, stem, timing

    def frames(self) -> Iterator[Frame]:
        """See :class:`~seg_det.media.frames.Input`."""
        number = failures = 0
        most = self._timing.retries if isinstance(self._target, str) else 0
        while failures <= most:
            before = number
            for _, pixels in self._received():
                number += 1
                yield Frame(self.name, self._stem, number=number, pixels=pixels)
            failures = 1 if number - before > self.rate else failures + 1  # a second of frames is a working connection
            if failures <= most:
                what = f"stopped after frame {number}" if number > before else "gives no frame"
                log.warning("%s %s; opening it again (%d of %d)", self.name, what, failures, most)
                time.sleep(min(1.0, self._timing.timeout_s))
        error = UserError(f"{self.name} {'gives no more frames' if number else 'cannot be opened'}: {self._remedy()}")
        yield Frame(self.name, self._stem, number=number + 1 if number else None, error=error)

    def _received(self) -> Iterator[tuple[int, np.ndarray]]:
        capture = open_capture(self._target, self._timing if isinstance(self._target, str) else None)
        self.rate = _rate(capture)
        return _decoded(capture)

    def _remedy(self) -> str:
        if isinstance(self._target, int):
            return "is it connected, free, and are you allowed to use it? Numbers of cameras start at 0."
        waited = f"{1 + self._timing.retries} tries of {self._timing.timeout_s:g} s"
        return (
            f"check the address and that it can be reached ({waited}; stream.timeout_s and stream.retries change that)."
        )


def open_capture(target: int | str, timing: Timing | None = None) -> cv2.VideoCapture:
    """Opened or not; OpenCV's own messages are off meanwhile, since what they say is said in a sentence of ours."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if timing is None:
            return cv2.VideoCapture(target)
        wait = int(1000 * timing.timeout_s)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, wait, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait]
        return cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits)
    finally:
        cv2.utils.logging.setLogLevel(before)


def _decoded(capture: cv2.VideoCapture, most_lost: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Frames u8 [H, W, 3] RGB, upright as the file says, each with the number of those before it that could not be decoded.

    More than ``most_lost`` of these in a row are the end.
    """
    lost = 0
    try:
        while capture.isOpened() and lost <= most_lost:
            there, frame = capture.read()
            if there:
                yield lost, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame)
            lost = 0 if there else lost + 1
    finally:
        capture.release()


def _is_utf8(path: Path) -> bool:
    """Whether the name is text: OpenCV crashes at others."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _rate(capture: cv2.VideoCapture) -> float:
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0 < rate <= FASTEST else USUAL_RATE


def _unreadable(target: Path | str, name: str) -> UserError:
    if isinstance(target, str):
        return UserError(f"the video {name} cannot be opened: check the address and that it can be reached.")
    if not _is_utf8(target):
        return UserError(f"the name of the video {name} is not UTF-8: rename it.")
    try:
        size = target.stat().st_size
        target.open("rb").close()
    except OSError as error:
        return UserError(f"the video {name} cannot be read ({error.strerror}): check the path and who may read it.")
    if not size:
        return UserError(f"the video {name} is empty (0 bytes): fetch it again.")
    return UserError(f"the video {name} is broken, or of a kind that OpenCV cannot decode: {CODECS}")
