"""Opens whatever holds a trained model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg_det import checkpoint
from seg_det.errors import UserError
from seg_det.media.names import shown
from seg_det.nn.convolutions import in_format
from seg_det.predict.exported import FilePredictor, is_exported, open_file
from seg_det.predict.lookup import task_of
from seg_det.predict.model import Model
from seg_det.predict.predictor import NetworkPredictor
from seg_det.predict.preprocessing import Size
from seg_det.predict.published import is_published, load_published
from seg_det.predict.tiles import TiledPredictor, Tiles
from seg_det.types import MOST_PIXELS, ModelCard
from seg_det.weights import CATALOGUE


def load(
    reference: str | PathLike[str],
    *,
    device: str | torch.device = "auto",
    batch_size: int = 16,
    classes: Sequence[str] | None = None,
    input_size: int | tuple[int, int] | None = None,
    tiles: Tiles | None = None,
) -> Model:
    """Open a trained model: a run folder, a checkpoint, an exported file of any target, or a published model by name.

    ``device`` "auto" is a GPU if there is one; exported files run on the CPU. ``batch_size`` is how many images of a list
    are computed at once. ``classes`` are those of a published detector to find, by default all that it knows; for weights
    without names they name all. ``input_size`` (one side, or (H, W)) replaces the size in pixels that a network was trained at.
    ``tiles`` makes a detector look at parts of each image too, for small objects.
    Raises UserError for anything else, with what it is instead.

    >>> model = load("best.ckpt")
    >>> result = model("photo.jpg", score_threshold=0)
    >>> result.boxes.shape == (len(result.names), 4)
    True
    >>> [result.size for result in model(["photo.jpg", result.image()])]
    [(48, 64), (48, 64)]
    """
    reference, size, classes = str(reference), _checked_size(input_size), _checked_classes(classes)
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise UserError(f"batch_size must be a whole number from 1, got {batch_size}.")
    if is_exported(reference) and not is_published(reference):
        predictor, device = _of_file(reference, device, classes, size), torch.device("cpu")
    else:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn before they are loaded
            model, card = _network(reference, classes)
        device = chosen_device(device)
        predictor = network_predictor(model, card if size is None else card.replace(input_size=size), device)
    predictor = predictor if tiles is None else TiledPredictor(predictor, tiles, batch_size=int(batch_size))
    return Model(predictor, device=device, batch_size=int(batch_size))


def _of_file(reference: str, device: str | torch.device, classes: list[str] | None, size: Size | None) -> FilePredictor:
    _require_here(reference)
    if classes is not None or size is not None:
        raise UserError(f"classes and input_size are part of the exported {reference}: leave them out.")
    if str(device) not in ("auto", "cpu"):
        raise UserError(f"the exported {reference} runs on the CPU: leave device out, got {device}.")
    return FilePredictor(open_file(Path(reference)))


def _network(reference: str, classes: Sequence[str] | None) -> tuple[nn.Module, ModelCard]:
    if has_no_card(reference):
        return load_published(reference, classes)
    if classes is not None:
        raise UserError(f"the classes of {reference} are in its card: leave classes out.")
    return load_trained(reference)


def _checked_size(given: Any) -> Size | None:
    if given is None:
        return None
    size = (given, given) if isinstance(given, Integral) else tuple(given) if isinstance(given, list | tuple) else ()
    whole = len(size) == 2 and all(isinstance(side, Integral) and not isinstance(side, bool) for side in size)
    if not whole or min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
        raise UserError(
            f"input_size must be a whole number from 1, or (height, width), of at most {MOST_PIXELS} pixels, got {given}."
        )
    return int(size[0]), int(size[1])


def _checked_classes(given: Any) -> list[str] | None:
    if given is None:
        return None
    names = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"classes must be a list of names, got {given!r}.")
    return names


def load_trained(reference: str) -> tuple[nn.Module, ModelCard]:
    """The network of a run folder or a checkpoint, and its card. Raises UserError."""
    _require_known(reference)
    path = checkpoint.find(reference)
    model, card = checkpoint.load(path)
    task_of(card, f"The card of {path}", model)
    return model, card


def network_predictor(model: nn.Module, card: ModelCard, device: torch.device | str = "cpu") -> NetworkPredictor:
    """``model`` ready to predict: evaluation mode, on its device, in the memory format that convolutions like."""
    return in_format(task_of(card).predictor(model, card).eval().to(device), torch.channels_last)


def chosen_device(wanted: str | torch.device) -> torch.device:
    """``wanted``, or where it is "auto" a GPU if there is one, CUDA's or Apple's.

    Raises UserError for a device that is unknown or not here.
    """
    name = _fastest() if wanted == "auto" else wanted
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"device must be auto, cpu, cuda or another of torch's, got {wanted!r}.") from error
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # each backend has its own
        raise UserError(
            f"there is no device {device} here: use device=cpu, or auto for a GPU if there is one."
        ) from error
    return device


def _fastest() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _require_known(reference: str) -> None:
    """Raise UserError for what is neither a run nor a checkpoint, with what it is instead."""
    _require_here(reference)
    path = Path(reference)
    if path.is_dir() and not (path / checkpoint.FOLDER).is_dir():
        raise UserError(
            f"{path} is a folder without {checkpoint.FOLDER}/, so no training run: give a run folder, a checkpoint, an exported "
            "file or a published model's name."
        )
    if not path.exists() and not path.suffix:
        close = difflib.get_close_matches(reference, CATALOGUE, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(
            f"{reference} is no run folder, no file and no published model (python -m seg_det.weights --help lists them){hint}"
        )


def has_no_card(reference: str) -> bool:
    """Whether ``reference`` is weights of others, published ones or a file."""
    return is_published(reference) and not _has_card(reference)


def _has_card(reference: str) -> bool:
    """Whether a file with the suffix of other tools' weights is a checkpoint of ours."""
    path = Path(reference)
    return reference not in CATALOGUE and path.is_file() and checkpoint.card_of(path) is not None


def _require_here(reference: str) -> None:
    """Raise UserError for an address, and for a path that no file can have."""
    if "://" in reference:
        raise UserError(
            f"{shown(reference)} is an address: of those only published weights are fetched; download the file first."
        )
    try:
        Path(reference).exists()
    except (OSError, ValueError) as error:
        raise UserError(f"there is no file {reference[:100]} ({getattr(error, 'strerror', None) or error}).") from error
