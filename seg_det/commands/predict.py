"""``python predict.py``."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seg_det.commands.folders import newest_run, open_folder
from seg_det.commands.schemas import PredictionSchema, check
from seg_det.commands.settings import batch_size, height_and_width, plain, switch, tiles_of
from seg_det.data.image_files import limit_pixels
from seg_det.errors import UserError
from seg_det.files import write_json
from seg_det.media.frames import Frame, Input
from seg_det.media.names import shown
from seg_det.media.sources import open_source
from seg_det.media.videos import Timing
from seg_det.predict.loading import has_no_card, load
from seg_det.predict.model import Model
from seg_det.predict.run import Options, Summary, check_formats, predict_source
from seg_det.progress import progress_bar
from seg_det.run_log import LOG

log = logging.getLogger(__name__)
INTERRUPTED = 130  # the exit code of what Ctrl-C ended
MOST_NAMED = 8  # classes and suffixes that are named one by one


def main(config: DictConfig) -> None:
    """``python predict.py``: what a trained model finds on images and videos; exits with 1 where some could not be read."""
    check(config, PredictionSchema)
    limit_pixels(config.data.max_pixels)
    # OpenCV's decoder has messages of its own; what they say is said in sentences of ours.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    source = plain(config).get("source")
    timing = Timing(**plain(config.stream)) if config.stream else Timing()
    inputs, others = open_source(source, timing=timing)
    model = _model(config)
    options = _options(config, model)
    folder = open_folder("predict", model.card.name, _without_secrets(config, source))
    LOG.keep(f"predicting on {model.device}")
    _tell_others(others)
    with _silent("seg_det.predict.model"):  # whose warnings number images where a run has their names
        summary = predict_source(model, inputs, folder, options, progress=_progress)
    write_json(folder / "summary.json", summary.to_dict())
    print(summary_text(summary, folder))
    if summary.problems:
        count, reason = len(summary.problems), summary.problems[0][1]
        which = (
            f"{count} images or frames were left out, listed in summary.json; the first" if count > 1 else "left out"
        )
        raise UserError(f"{which}: {reason}")
    if summary.stopped and not any(given.live for given in inputs):  # a camera has no other end
        sys.exit(INTERRUPTED)


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Without the warnings of a logger."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _model(config: DictConfig) -> Model:
    size = None if config.input_size is None else height_and_width(config.input_size, "input_size")
    reference = str(config.model or newest_run())
    # Weights of others may hold no names: then classes says which their outputs are.
    named = _several(config.classes) if has_no_card(reference) else None
    return load(
        reference,
        device=config.device,
        batch_size=batch_size(config.data.batch_size),
        classes=named or None,
        input_size=size,
        tiles=tiles_of(config.tiles),
    )


def _options(config: DictConfig, model: Model) -> Options:
    """What was asked for. Raises UserError for what the model cannot do."""
    threshold, track = plain(config).get("score_threshold"), switch(config.track, "track")
    for key, given in (("score_threshold", threshold is not None), ("track", track)):
        if given and not model.task.suppresses:
            raise UserError(f"{key} is for detectors, and this is a model for {model.card.task}: leave it out.")
    formats = _several(config.format)
    check_formats(formats, model)
    if config.frames is not None and (type(config.frames) is not int or config.frames < 1):
        raise UserError(f"frames must be a whole number from 1, or null for all, got {config.frames}.")
    classes = None if config.classes is None else _several(config.classes)
    if classes == []:
        raise UserError("classes names no class: leave it out for all of them.")
    return Options(
        thresholds=model.thresholds(threshold),
        labels=None if classes is None else model.labels(classes),
        formats=list(dict.fromkeys(formats)),
        draw=switch(config.draw, "draw"),
        most=config.frames,
        track=track,
    )


def _several(value: Any) -> list[str]:
    """A value that may be one or a list, as a list."""
    if value is None:
        return []
    return [str(one) for one in value] if OmegaConf.is_list(value) else [str(value)]


def _without_secrets(config: DictConfig, source: Any) -> DictConfig:
    kept = config.copy()
    kept.source = [shown(one) for one in source] if isinstance(source, list) else shown(source)
    return kept


def _tell_others(others: Counter[str]) -> None:
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(MOST_NAMED))
        log.info("%d files of the folder are neither images nor videos and were passed over: %s", others.total(), kinds)


def _progress(frames: Iterator[Frame], given: Input) -> Iterator[Frame]:
    return iter(progress_bar(frames, f"predicting {Path(given.name).name}", given.length, unit="image"))


def summary_text(summary: Summary, folder: Path) -> str:
    """The last lines: how many, how fast, what was found, where it lies."""
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    lines = ["", f"{summary.frames} images in {summary.seconds:.1f} s, {rate:.1f} images/s with reading and writing"]
    found = sorted(summary.found.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{count} {name}" for name, count in found[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more classes" if len(found) > MOST_NAMED else ""
    if found or not summary.problems:
        lines += [f"found {listed}{more}" if found else "nothing was found"]
    lines += summary.notes
    lines += ["stopped before the end"] if summary.stopped else []
    files = ("predictions.json", "predictions.csv", "labels", "annotations", "masks", "tracks", "drawings")
    return "\n".join([*lines, *(f"{folder / name}" for name in files if (folder / name).exists())])
