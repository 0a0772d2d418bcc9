"""Opens whatever holds a trained model."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from seg_det import checkpoint
from seg_det.errors import UserError
from seg_det.predict.exported import FilePredictor, is_exported, open_file
from seg_det.predict.lookup import task_of
from seg_det.predict.model import Model
from seg_det.predict.predictor import NetworkPredictor
from seg_det.predict.published import is_published, load_published
from seg_det.types import ModelCard
from seg_det.weights import CATALOGUE


def load(
    reference: str | PathLike[str],
    *,
    device: str | torch.device = "auto",
    batch_size: int = 16,
    classes: Sequence[str] | None = None,
    input_size: int | tuple[int, int] | None = None,
) -> Model:
    """Open a trained model: a run folder, a checkpoint, an exported file of any target, or a published model by name.

    ``device`` "auto" is a GPU if there is one; exported files run on the CPU. ``batch_size`` is how many images of a list
    are computed at once. ``classes`` are those of a published detector to find, by default all that it knows; for weights
    without names they name all. ``input_size`` (one side, or (H, W)) replaces the size in pixels that a network was trained at.
    Raises UserError for anything else, with what it is instead.

    >>> model = load("best.ckpt")
    >>> result = model("photo.jpg", score_threshold=0)
    >>> result.boxes.shape == (len(result.names), 4)
    True
    >>> [result.size for result in model(["photo.jpg", result.image()])]
    [(48, 64), (48, 64)]
    """
    reference = str(reference)
    if batch_size < 1:
        raise UserError(f"batch_size must be a number from 1, got {batch_size}.")
    if is_exported(reference) and not is_published(reference):
        if classes is not None or input_size is not None:
            raise UserError(f"classes and input_size are part of the exported {reference}: leave them out.")
        predictor = FilePredictor(open_file(Path(reference)))
        return Model(predictor, device=torch.device("cpu"), batch_size=batch_size)
    if is_published(reference):
        model, card = load_published(reference, classes)
    elif classes is None:
        model, card = load_trained(reference)
    else:
        raise UserError(f"the classes of {reference} are in its card: leave classes out.")
    if input_size is not None:
        card = card.replace(input_size=(input_size, input_size) if isinstance(input_size, int) else tuple(input_size))
    device = chosen_device(device)
    return Model(network_predictor(model, card, device), device=device, batch_size=batch_size)


def load_trained(reference: str) -> tuple[nn.Module, ModelCard]:
    """The network of a run folder or a checkpoint, and its card. Raises UserError."""
    _require_known(reference)
    path = checkpoint.find(reference)
    model, card = checkpoint.load(path)
    task_of(card, f"The card of {path}", model)
    return model, card


def network_predictor(model: nn.Module, card: ModelCard, device: torch.device | str = "cpu") -> NetworkPredictor:
    """``model`` ready to predict: evaluation mode, on its device, in the memory format that convolutions like."""
    return task_of(card).predictor(model, card).eval().to(device, memory_format=torch.channels_last)


def chosen_device(wanted: str | torch.device) -> torch.device:
    """``wanted``, or where it is "auto" the GPU if there is one. Raises UserError for an unknown one."""
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(automatic if wanted == "auto" else wanted)
    except RuntimeError as error:
        raise UserError(f"device must be auto, cpu, cuda or another of torch's, got {wanted!r}.") from error


def _require_known(reference: str) -> None:
    """Raise UserError for what is neither a run nor a checkpoint, with what it is instead."""
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
