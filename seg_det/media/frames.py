"""What every source gives: frames, one after the other, an unreadable one with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeGuard, TypeVar

import numpy as np

from seg_det.errors import UserError

Given = TypeVar("Given")
Made = TypeVar("Made")


class Frame:
    """An image, or a frame of a video.

    ``file`` names its file relative to the source, ``stem`` names what is written of it (unique within a run, without a
    suffix), ``number`` counts the frames of a video from 1 and is None for an image. ``error`` takes the place of
    ``pixels`` (u8 [H, W, 3] RGB) where it could not be read.
    """

    __slots__ = ("error", "file", "number", "pixels", "stem")

    def __init__(
        self,
        file: str,
        stem: str,
        *,
        number: int | None = None,
        pixels: np.ndarray | None = None,
        error: UserError | None = None,
    ):
        self.file, self.stem, self.number, self.pixels, self.error = file, stem, number, pixels, error

    @property
    def name(self) -> str:
        """For messages: the file, and which frame of it."""
        return self.file if self.number is None else f"{self.file}, frame {self.number}"

    @property
    def image(self) -> np.ndarray:
        """The pixels u8 [H, W, 3] RGB of a frame that was read. Raises its error, as a UserError, for another one."""
        if self.pixels is None:
            raise self.error or UserError(f"{self.name} was not read.")
        return self.pixels


class Input(Protocol):
    """A part of a source: all its images, or one video."""

    @property
    def name(self) -> str: ...
    @property
    def video(self) -> bool: ...  # whether its frames follow one another in time
    @property
    def live(self) -> bool: ...  # whether it goes on until it is stopped
    @property
    def length(self) -> int | None: ...  # how many frames there are, as far as is known

    def frames(self) -> Iterator[Frame]:
        """Read once, in order. What goes wrong after the first frame becomes a Frame with an error."""
        ...


class Video(Input, Protocol):
    """An input that is a video."""

    rate: float  # frames a second; of a stream known once it has been opened


def is_video(given: Input) -> TypeGuard[Video]:
    """Whether an input is a video."""
    return given.video


def in_advance(
    make: Callable[[Given], Made], items: Iterable[Given], *, workers: int = 2, ahead: int = 4
) -> Iterator[Made]:
    """``make`` of each item in order, computed by threads at most ``ahead`` items before they are asked for."""
    waiting = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        pending = [pool.submit(make, item) for item in islice(waiting, ahead)]
        try:
            while pending:
                made = pending.pop(0).result()
                pending += [pool.submit(make, item) for item in islice(waiting, 1)]
                yield made
        finally:
            for future in pending:
                future.cancel()


def made(file: str, stem: str, read: Callable[[], np.ndarray]) -> Frame:
    """The frame of an image that ``read`` gives, or the reason why it cannot."""
    try:
        return Frame(file, stem, pixels=read())
    except UserError as error:
        return Frame(file, stem, error=error)
