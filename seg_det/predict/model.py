"""A model to be called: images in, results out, whatever it was loaded from."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from seg_det.errors import UserError
from seg_det.predict.failed import Failed
from seg_det.predict.inputs import ImageLike, Read, is_image, is_several, read_image
from seg_det.predict.lookup import task_of
from seg_det.predict.predictor import ImageFault, NotFinite, Predictor
from seg_det.predict.preprocessing import stacked
from seg_det.predict.result import Result
from seg_det.types import ModelCard

log = logging.getLogger(__name__)
USUAL_THRESHOLD = 0.3  # of the score, for cards that hold none of their own
MOST_NAMED = 20  # classes in a message
MOST_PIXELS = 2**26  # of the images of a batch, as they are given: bounds the memory where they are large

Threshold = float | Sequence[float] | np.ndarray | Mapping[str, float] | None


class Model:
    """A trained model with its card. :func:`seg_det.load` makes one.

    Calling it with an image gives a :class:`~seg_det.predict.result.Result` in pixels of that image; with a list, a list of
    them; with any other iterable, an iterator that reads as it goes. ``score_threshold`` (one number, one a class, or some
    by the names of their classes) leaves out what scores less: None takes the thresholds of the card, those of the best F1
    of each class on its validation split (0.3 where it has none), 0 gives every row that evaluation counts.
    """

    def __init__(self, predictor: Predictor, *, device: torch.device, batch_size: int = 16):
        self.predictor = predictor
        self.device = device
        self.batch_size = batch_size
        self.task = task_of(predictor.card)

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return self.predictor.card

    @property
    def names(self) -> list[str]:
        """The classes, in the order of the model's outputs."""
        return [category.name for category in self.card.categories]

    def __repr__(self) -> str:
        height, width = self.card.input_size
        return f"Model({self.card.name}: {self.card.task} of {len(self.names)} classes at {height} x {width}, {self.device})"

    @overload
    def __call__(self, images: ImageLike, *, score_threshold: Threshold = None) -> Result: ...
    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...], *, score_threshold: Threshold = None) -> list[Result]: ...
    @overload
    def __call__(self, images: Iterator[Any], *, score_threshold: Threshold = None) -> Iterator[Result]: ...
    @overload
    def __call__(
        self, images: Any, *, score_threshold: Threshold = None
    ) -> Result | list[Result] | Iterator[Result]: ...

    def __call__(self, images: Any, *, score_threshold: Threshold = None) -> Result | list[Result] | Iterator[Result]:
        """Results for an image, a list or tuple of images, or an iterable of them; see the class.

        An image is a path, a PIL image, a numpy array u8 [H, W, 3] (RGB) or a torch tensor u8 [3, H, W] or [H, W, 3].
        Raises UserError for one that cannot be used; among several it becomes a
        :class:`~seg_det.predict.failed.Failed` result, is logged with its place, and the rest goes on.
        """
        thresholds = self.thresholds(score_threshold)
        if is_image(images) or not is_several(images):
            (result,) = self._results({0: read_image(images)}, thresholds).values()
            if isinstance(result, Failed):
                raise result.error
            return result
        found = self._all(images, thresholds)
        return list(found) if isinstance(images, list | tuple) else found

    def _all(self, images: Iterable[Any], thresholds: Tensor) -> Iterator[Result]:
        numbered, stopped = enumerate(images), None
        while stopped is None:
            read: dict[int, Read | Failed] = {}
            try:
                self._fill(read, numbered)
            except Exception as error:  # of the caller's own iterator: what it gave before is not lost
                stopped = error
            found = self._results({p: image for p, image in read.items() if isinstance(image, Read)}, thresholds)
            yield from (image if isinstance(image, Failed) else found[place] for place, image in read.items())
            if not read:
                break
        if stopped is not None:
            raise stopped

    def _fill(self, read: dict[int, Read | Failed], numbered: Iterator[tuple[int, Any]]) -> None:
        """Read images into ``read`` by their place: a batch of them, fewer where they are large."""
        pixels = 0
        for place, given in islice(numbered, self.batch_size):
            read[place] = image = _try(given, place)
            pixels += image.size[0] * image.size[1] if isinstance(image, Read) else 0
            if pixels > MOST_PIXELS:
                break

    def _results(self, images: Mapping[int, Read], thresholds: Tensor) -> dict[int, Result]:
        """Of images in memory by their place, those with canvases of one size together."""
        groups: dict[tuple[int, int], list[int]] = {}
        for place, image in images.items():
            groups.setdefault(self.predictor.preprocessing.canvas_size(image.size), []).append(place)
        return {
            place: self._result(images[place], found, place, thresholds)
            for places in groups.values()
            for place, found in zip(places, self._predictions([images[p] for p in places]), strict=True)
        }

    def _result(self, image: Read, found: Any, place: int, thresholds: Tensor) -> Result:
        if isinstance(found, NotFinite):
            file = [image.source] if isinstance(image.source, Path) else None
            return _failed(NotFinite([0], [place], file), image.source, place)
        if isinstance(found, ImageFault):
            return _failed(found, image.source, place)
        return self.task.result(self.task.above(found, thresholds), self.card, image.size, image.source)

    @torch.inference_mode()
    def _predictions(self, images: Sequence[Read]) -> list[Any]:
        """What is found on each image; the fault in the place of one that cannot be used."""
        canvases = stacked([self.predictor.preprocessing(image.pixels) for image in images])
        try:
            return self.predictor.predict(canvases.to(self.device), [image.size for image in images])
        except NotFinite as error:
            sound = [image for row, image in enumerate(images) if row not in error.rows]
            others = iter(self._predictions(sound) if sound else [])
            return [error if row in error.rows else next(others) for row in range(len(images))]
        except ImageFault as error:
            return [error] if len(images) == 1 else [self._predictions([image])[0] for image in images]

    def thresholds(self, given: Threshold = None) -> Tensor:
        """The score from which an object of each class is kept, f32 [C]. Raises UserError."""
        own = self.card.score_thresholds or [None] * len(self.names)
        usual = torch.tensor([USUAL_THRESHOLD if value is None else value for value in own])
        if given is None:
            return usual
        if isinstance(given, Mapping):
            for label, name in zip(self.labels(given), given, strict=True):
                usual[label] = _shares(given[name], 1, f"score_threshold of {name}")[0]
            return usual
        return _shares(given, len(self.names), "score_threshold")

    def labels(self, names: Iterable[str]) -> list[int]:
        """The indices of classes by their names. Raises UserError for one that the model does not have."""
        places = {name: label for label, name in enumerate(self.names)}
        for name in names:
            if name not in places:
                close = difflib.get_close_matches(str(name), places, n=1)
                hint = f"; did you mean {close[0]}?" if close else f": it has {_listing(self.names)}."
                raise UserError(f"{self.card.name} has no class {str(name)[:100]!r}{hint}")
        return [places[name] for name in names]


def _shares(given: Any, count: int, what: str) -> Tensor:
    """``count`` numbers from 0 to 1, f32, of as many or of one for all. Raises UserError that begins with ``what``."""
    try:
        values = np.asarray(given)
        known = values.dtype.kind in "iuf" and values.shape in ((), (count,)) and ((values >= 0) & (values <= 1)).all()
    except (TypeError, ValueError, RuntimeError):  # of what is no array of numbers
        known = False
    if not known:
        several = f", or {count} of them" if count > 1 else ""
        shown = " ".join(str(given).split())[:100]
        raise UserError(f"{what} must be a number from 0 to 1{several}, got {shown}.")
    return torch.from_numpy(np.broadcast_to(values, count).astype(np.float32))


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def _try(given: Any, place: int) -> Read | Failed:
    try:
        return read_image(given)
    except UserError as error:
        return _failed(error, given, place)


def _failed(error: UserError, source: Any, place: int) -> Failed:
    log.warning("image %d is left out: %s", place, error)
    return Failed(error, source, place)
