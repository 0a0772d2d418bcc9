"""Prediction on a whole source: reads, predicts, tracks, writes, counts."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from seg_det.errors import UserError
from seg_det.media.frames import Frame, Input
from seg_det.predict.model import Model
from seg_det.predict.outputs import FORMATS, Drawings, DrawnVideo, Output, Rows
from seg_det.predict.result import Result
from seg_det.predict.tracking import TrackWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What is wanted of a prediction.

    ``thresholds`` f32 [C] is :meth:`Model.thresholds`'s, ``labels`` are the classes that are kept (None: all), ``formats``
    are keys of FORMATS, ``most`` bounds the frames of each input (None: all), ``track`` follows objects through videos.
    """

    thresholds: Tensor
    labels: Sequence[int] | None = None
    formats: Sequence[str] = ()
    draw: bool = True
    most: int | None = None
    track: bool = False


@dataclass
class Summary:
    """What came of it; ``problems`` are (name, reason)."""

    frames: int = 0
    found: dict[str, int] = field(default_factory=dict)  # by class: objects, or images that have it
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False  # by the user

    def count(self, names: Sequence[str]) -> None:
        """Add the classes of a result."""
        self.frames += 1
        for name in names:
            self.found[name] = self.found.get(name, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "images": self.frames,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.frames / self.seconds, 2) if self.seconds else None,
            "found": self.found,
            "problems": [{"file": name, "reason": reason} for name, reason in self.problems],
            "notes": self.notes,
            "stopped": self.stopped,
        }


def predict_source(
    model: Model,
    inputs: Sequence[Input],
    folder: Path,
    options: Options,
    *,
    progress: Callable[[Iterator[Frame], Input], Iterator[Frame]] = lambda frames, given: frames,
) -> Summary:
    """Predict on all ``inputs`` and write into ``folder``; a frame that cannot be read is counted, and the rest goes on.

    Ctrl-C ends it as the end of the source would. ``progress`` wraps the frames of an input. Raises UserError.
    """
    summary, start = Summary(), time.perf_counter()
    with ExitStack() as closing:
        common: list[Output] = [Rows(folder), *(FORMATS[f](folder, model.card.categories) for f in options.formats)]
        for output in common:
            closing.callback(output.close)
        try:
            for given in inputs:
                _predict_input(model, given, folder, options, common, summary, progress)
        except KeyboardInterrupt:
            summary.stopped = True
    summary.seconds = time.perf_counter() - start
    return summary


def _predict_input(
    model: Model,
    given: Input,
    folder: Path,
    options: Options,
    common: Sequence[Output],
    summary: Summary,
    progress: Callable[[Iterator[Frame], Input], Iterator[Frame]],
) -> None:
    outputs: list[Output] = [*common]
    tracks = TrackWriter(folder, given, options.thresholds) if options.track and given.video else None
    with ExitStack() as closing:
        if options.draw:
            outputs.append(DrawnVideo(folder, given) if given.video else Drawings(folder))
            closing.callback(_finish, outputs[-1], summary)
        if tracks is not None:
            closing.callback(_count_tracks, tracks, given, summary)
        if given.live:  # each frame at once, instead of when there are enough for a batch
            closing.callback(setattr, model, "batch_size", model.batch_size)
            model.batch_size = 1
        frames = progress(islice(given.frames(), options.most), given)
        for frame, result in results_of(model, frames, tracks.thresholds if tracks else options.thresholds):
            if result is None:
                summary.problems.append((frame.name, str(frame.error)))
                log.warning("%s is left out: %s", frame.name, frame.error)
                continue
            result = result if options.labels is None else result.only(options.labels)
            result = tracks.follow(frame, result) if tracks else result
            summary.count(result.names)
            for output in outputs:
                output.write(frame, result, summary.frames)


def _count_tracks(tracks: TrackWriter, given: Input, summary: Summary) -> None:
    tracks.close()
    summary.notes.append(f"{len(tracks.ids)} objects were followed through {given.name}")


def _finish(output: Output, summary: Summary) -> None:
    output.close()
    if isinstance(output, DrawnVideo) and output.video is not None:
        summary.notes.append(f"{output.video.path.name} was written as {output.video.codec}")
        if output.video.refitted:
            summary.notes.append(
                f"{output.video.refitted} frames of {output.video.path.name} had another size and were fitted to the first"
            )


def results_of(model: Model, frames: Iterator[Frame], thresholds: Tensor) -> Iterator[tuple[Frame, Result | None]]:
    """Each frame with its result, in order; None, and the frame's ``error``, where there is none."""
    waiting: deque[Frame] = deque()

    def readable() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            if frame.error is None:
                yield frame.pixels

    for result in model(readable(), score_threshold=thresholds.numpy()):
        while waiting[0].error is not None:
            yield waiting.popleft(), None
        frame = waiting.popleft()
        frame.error = None if result.ok else result.error
        yield frame, result if result.ok else None
    yield from ((frame, None) for frame in waiting)


def check_formats(wanted: Sequence[str], model: Model) -> None:
    """Raise UserError for a format that is unknown, or that results of the model cannot have."""
    known = ", ".join(model.task.formats)
    for name in wanted:
        if name not in model.task.formats:
            raise UserError(
                f"format={name} is not one of {known}, which {model.card.task} has beside predictions.json."
            )
