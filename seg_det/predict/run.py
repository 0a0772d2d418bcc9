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
from typing import Any, cast

import numpy as np
from torch import Tensor

from seg_det.errors import UserError
from seg_det.media.frames import Frame, Input, is_video
from seg_det.predict.failed import Failed
from seg_det.predict.model import Model
from seg_det.predict.outputs import FORMATS, Drawings, DrawnVideo, Output, Rows
from seg_det.predict.result import DetectionResult, Result
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
        common: list[Output[Any]] = [
            Rows(folder),
            *(FORMATS[f](folder, model.card.categories) for f in options.formats),
        ]
        for output in common:
            closing.callback(output.close)
        try:
            for given in inputs:
                frames = progress(islice(given.frames(), options.most), given)
                _Run(model, given, folder, options, summary).over(frames, common)
        except KeyboardInterrupt:
            summary.stopped = True
    summary.seconds = time.perf_counter() - start
    return summary


class _Run:
    """The prediction on one input, with what belongs to that alone: its drawings and its tracks."""

    def __init__(self, model: Model, given: Input, folder: Path, options: Options, summary: Summary):
        self._model, self._given, self._options, self._summary = model, given, options, summary
        self._drawn: DrawnVideo | Drawings | None = None
        if options.draw:
            self._drawn = DrawnVideo(folder, given) if is_video(given) else Drawings(folder)
        self._tracks = TrackWriter(folder, given, options.thresholds) if options.track and is_video(given) else None

    def over(self, frames: Iterator[Frame], common: Sequence[Output[Any]]) -> None:
        """Predict on ``frames`` and write what was found, to the outputs ``common`` too."""
        outputs: list[Output[Any]] = [*common, *([self._drawn] if self._drawn else [])]
        thresholds = self._tracks.thresholds if self._tracks else self._options.thresholds
        batch_size = self._model.batch_size
        try:
            if self._given.live:  # each frame at once, instead of when there are enough for a batch
                self._model.batch_size = 1
            for frame, result in results_of(self._model, frames, thresholds):
                if result is None:
                    self._leave_out(frame)
                    continue
                result = self._wanted(frame, result)
                self._summary.count(result.main_names)
                for output in outputs:
                    output.write(frame, result, self._summary.frames)
        finally:
            self._model.batch_size = batch_size
            self._close()

    def _leave_out(self, frame: Frame) -> None:
        self._summary.problems.append((frame.name, str(frame.error)))
        log.warning("%s is left out: %s", frame.name, frame.error)

    def _wanted(self, frame: Frame, result: Result) -> Result:
        """The result with the chosen classes alone and, where they are tracked, the objects that have a track."""
        if self._options.labels is not None:
            result = result.only(self._options.labels)
        if self._tracks is None:
            return result
        return self._tracks.follow(frame, cast(DetectionResult, result))  # objects alone can be tracked

    def _close(self) -> None:
        notes = self._summary.notes
        if self._drawn is not None:
            self._drawn.close()
            notes += self._drawn.notes()
        if self._tracks is not None:
            self._tracks.close()
            notes.append(f"{len(self._tracks.ids)} objects were followed through {self._given.name}")


def results_of(model: Model, frames: Iterator[Frame], thresholds: Tensor) -> Iterator[tuple[Frame, Result | None]]:
    """Each frame with its result, in order; None, and the frame's ``error``, where there is none."""
    waiting: deque[Frame] = deque()

    def readable() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            if frame.error is None:
                yield frame.image

    for result in model(readable(), score_threshold=thresholds.numpy()):
        while waiting[0].error is not None:
            yield waiting.popleft(), None
        frame = waiting.popleft()
        frame.error = result.error if isinstance(result, Failed) else None
        yield frame, None if isinstance(result, Failed) else result
    yield from ((frame, None) for frame in waiting)


def check_formats(wanted: Sequence[str], model: Model) -> None:
    """Raise UserError for a format that is unknown, or that results of the model cannot have."""
    known = ", ".join(model.task.formats)
    for name in wanted:
        if name not in model.task.formats:
            raise UserError(
                f"format={name} is not one of {known}, which {model.card.task} has beside predictions.json."
            )
