"""Videos that are written: H.264 by the ffmpeg program where there is one, else MPEG-4 by OpenCV."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import IO, cast

import cv2
import numpy as np

from seg_det.errors import UserError

SLOWEST = 0.1  # frames a second that OpenCV writes
ENCODERS = (("libx264", ("-preset", "veryfast", "-crf", "20")), ("libopenh264", ("-b:v", "8M")))  # of H.264, best first


class VideoWriter:
    """An MP4 of frames u8 [H, W, 3] RGB; its size is the first frame's, to which later ones are fitted with borders.

    ``codec`` says which one was taken, ``refitted`` how many frames had another size. Raises UserError where nothing can be
    written. Sides are made even, which H.264 asks for.
    """

    def __init__(self, path: Path, rate: float):
        self.path, self.rate = path, rate
        self.codec = "H.264" if h264() else "MPEG-4 Part 2 (install ffmpeg for H.264, which browsers play)"
        self.refitted = 0
        self._size = self._first = (0, 0)
        self._sink: _Ffmpeg | _OpenCV | None = None

    def write(self, frame: np.ndarray) -> None:
        """Add a frame."""
        if self._sink is None:
            height, width = frame.shape[:2]
            self._first, self._size = (height, width), (height + height % 2, width + width % 2)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = (_Ffmpeg if h264() else _OpenCV)(self.path, self.rate, self._size)
        self.refitted += frame.shape[:2] != self._first
        self._sink.write(fitted(frame, self._size))

    def close(self) -> None:
        """Finish the file. Raises UserError if it could not be written."""
        if self._sink is not None:
            self._sink.close()


def fitted(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``frame`` on a black canvas of ``size`` (H, W): as it is at the top left if it is at most a pixel smaller, else scaled."""
    height, width = frame.shape[:2]
    if (height, width) == size:
        return frame
    if not (0 <= size[0] - height <= 1 and 0 <= size[1] - width <= 1):
        scale = min(size[0] / height, size[1] / width)
        height, width = (max(1, min(s, round(n * scale))) for s, n in zip(size, (height, width), strict=True))
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    margins = (0, size[0] - height, 0, size[1] - width)
    border = cv2.BORDER_REPLICATE if max(margins) <= 1 else cv2.BORDER_CONSTANT
    return cv2.copyMakeBorder(frame, *margins, border)


@cache
def h264() -> tuple[str, ...]:
    """The arguments of ffmpeg for H.264; none where the program or such an encoder is missing."""
    if (program := shutil.which("ffmpeg")) is None:
        return ()
    listed = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, check=False).stdout
    return next(((program, name, *settings) for name, settings in ENCODERS if f" {name} " in listed), ())


class _Ffmpeg:
    def __init__(self, path: Path, rate: float, size: tuple[int, int]):
        program, encoder, *settings = h264()
        given = [
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-s",
            f"{size[1]}x{size[0]}",
            "-r",
            str(_fraction(rate)),
            "-i",
            "-",
        ]
        made = ["-c:v", encoder, *settings, "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-y", f"file:{path}"]
        self._path = path
        self._process = subprocess.Popen(
            [program, "-hide_banner", "-loglevel", "error", *given, *made],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C ends the prediction, which then closes the file
        )
        pipes = (self._process.stdin, self._process.stderr)
        self._frames, self._complaints = (cast(IO[bytes], pipe) for pipe in pipes)  # opened, as PIPE is given for them

    def write(self, frame: np.ndarray) -> None:
        try:
            self._frames.write(np.ascontiguousarray(frame).data)
        except OSError:
            self._fail()

    def close(self) -> None:
        try:
            self._frames.close()
        except OSError:
            self._fail()
        if self._process.wait():
            self._fail()
        self._complaints.close()

    def _fail(self) -> None:
        reason = self._complaints.read().decode(errors="replace").strip().splitlines()
        raise UserError(f"the video {self._path} cannot be written ({reason[-1] if reason else 'ffmpeg stopped'}).")


class _OpenCV:
    def __init__(self, path: Path, rate: float, size: tuple[int, int]):
        self._writer = cv2.VideoWriter(
            str(path.absolute()), cv2.VideoWriter.fourcc(*"mp4v"), max(rate, SLOWEST), size[::-1]
        )
        if not self._writer.isOpened():
            raise UserError(f"the video {path} cannot be written: check the folder and the free space.")

    def write(self, frame: np.ndarray) -> None:
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()


def _fraction(rate: float) -> Fraction:
    """30000/1001 and not 29.97, which drifts."""
    return max(Fraction(1, 1000), Fraction(rate).limit_denominator(100_000))
