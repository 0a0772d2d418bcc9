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
    """A video file; one that breaks off ends with a frame that says so."""

    video, live = True, False

    def __init__(self, path: Path, file: str, stem: str):
        self.name = file
        self._path, self._stem = path, stem
        capture = _open(str(path.absolute()))
        opened = capture.isOpened()
        self.rate = _rate(capture)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        self.length = int(count) if 0 < count < 2**31 else None
        self._error = None if opened else _unreadable(path)

    def frames(self) -> Iterator[Frame]:
        """See :class:`~seg_det.media.frames.Input`."""
        if self._error is not None:
            yield Frame(self.name, self._stem, error=self._error)
            return
        number = 0
        for pixels in _decoded(_open(str(self._path.absolute()))):
            number += 1
            yield Frame(self.name, self._stem, number=number, pixels=pixels)
        # Containers round their count; a whole second that is missing was not rounded away.
        if not number or (self.length and number < self.length - max(1, round(self.rate))):
            after = f"after frame {number} of {self.length}" if number else "before its first frame"
            error = UserError(f"the video {self._path} breaks off {after}: fetch it again, or {CODECS}")
            yield Frame(self.name, self._stem, number=number + 1, error=error)


class Stream:
    """A camera (a number) or an address; it is opened again where it stops, and ends with a reason where that does not help."""

    video = True
    length = None

    def __init__(self, target: int | str, name: str, stem: str, timing: Timing, *, live: bool = True):
        self.name, self.live, self.rate = name, live, USUAL_RATE
        self._target, self._stem, self._timing = target, stem, timing

    def frames(self) -> Iterator[Frame]:
        """See :class:`~seg_det.media.frames.Input`."""
        number = failures = 0
        while True:
            for pixels in self._received():
                number, failures = number + 1, 0
                yield Frame(self.name, self._stem, number=number, pixels=pixels)
            if number and not self.live:
                return
            failures += 1
            if failures > (self._timing.retries if isinstance(self._target, str) else 0):
                break
            log.warning("%s gives no frame; trying again (%d of %d)", self.name, failures, self._timing.retries)
            time.sleep(min(1.0, self._timing.timeout_s))
        error = UserError(f"{self.name} {'gives no more frames' if number else 'cannot be opened'}: {self._remedy()}")
        yield Frame(self.name, self._stem, number=number + 1 if number else None, error=error)

    def _received(self) -> Iterator[np.ndarray]:
        wait = int(1000 * self._timing.timeout_s)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, wait, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait]
        capture = _open(self._target, limits if isinstance(self._target, str) else None)
        self.rate = _rate(capture)
        return _decoded(capture)

    def _remedy(self) -> str:
        if isinstance(self._target, int):
            return "is it connected, free, and are you allowed to use it? Numbers of cameras start at 0."
        waited = f"{1 + self._timing.retries} tries of {self._timing.timeout_s:g} s"
        return (
            f"check the address and that it can be reached ({waited}; stream.timeout_s and stream.retries change that)."
        )


def _open(target: int | str, limits: list[int] | None = None) -> cv2.VideoCapture:
    """Opened or not; OpenCV's own messages are off meanwhile, since what they say is said in a sentence of ours."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits) if limits else cv2.VideoCapture(target)
    finally:
        cv2.utils.logging.setLogLevel(before)


def _decoded(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """Frames u8 [H, W, 3] RGB, turned upright as the file says, until there is none."""
    try:
        while capture.isOpened():
            there, frame = capture.read()
            if not there:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame)
    finally:
        capture.release()


def _rate(capture: cv2.VideoCapture) -> float:
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0 < rate <= FASTEST else USUAL_RATE


def _unreadable(path: Path) -> UserError:
    try:
        size = path.stat().st_size
    except OSError as error:
        return UserError(f"the video {path} cannot be read ({error.strerror}): check the path and who may read it.")
    if not size:
        return UserError(f"the video {path} is empty (0 bytes): fetch it again.")
    return UserError(f"the video {path} is broken, or of a kind that OpenCV cannot decode: {CODECS}")
