"""Checkpoints: plain tensors and plain values, with the ModelCard inside; building a model from its card.

:func:`save` writes them whole and with a checksum, :func:`load_plain` refuses those that a checksum does not fit.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from seg_det import checksums
from seg_det.errors import UserError
from seg_det.files import whole
from seg_det.registry import BACKBONES, MODELS, build, configured
from seg_det.types import ModelCard

log = logging.getLogger(__name__)
PICKLES = tuple(bytes((128, protocol)) for protocol in (3, 4, 5))  # how those of newer protocols begin; torch writes 2
PREFIX = "predictor.model."  # of the model's tensors among those of the training task
LONGEST_HEADER = 100_000_000  # bytes, of a safetensors file; by its format
LARGEST_COUNT = 1_000_000  # of classes, channels and every other whole number of a model
MOST_ELEMENTS = 2**29  # of all tensors of a model: 2 GiB in 32 bits
FOLDER = "checkpoints"  # of a run
# Says in the content that a checksum stands behind it: one that was cut off or damaged itself is missed then.
MARK = {"checksum": "sha256"}


class Damaged(UserError):
    """A file that is not what was written."""


def build_model(config: Mapping[str, Any]) -> nn.Module:
    """The model that ``config`` describes: ``_target_`` and its arguments, with the backbone's in ``backbone``.

    Both are names of the registries, with plain values. Raises UserError for anything else.
    """
    settings, given = dict(config), {}
    if "backbone" in settings:
        backbone, values = configured(settings.pop("backbone"), BACKBONES, hidden=("taps", "output_stride"))
        given["backbone"] = partial(backbone, **values)
    return build(settings, MODELS, **given)


def outline(card: ModelCard, what: str) -> nn.Module:
    """The card's model without memory for its tensors: their names and shapes, and its anchors.

    Raises UserError, which begins with ``what``, where the card describes no model, one for another number of classes than it
    names, or one of more than 2**29 elements.
    """
    try:
        require_counts(card.model)
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is nothing to initialise
            model = build_model(card.model)
    except UserError as error:
        raise UserError(f"{what} describes a model that cannot be built: {error}") from error
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # of numbers that no layer can have
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")
        raise UserError(
            f"{what} describes a model that cannot be built ({reason}): get the file again from where it was made."
        ) from error
    elements = sum(tensor.numel() for tensor in model.state_dict().values())
    if elements > MOST_ELEMENTS:
        raise UserError(f"{what} describes a model of {elements:.3g} elements, and {MOST_ELEMENTS:.3g} are the most.")
    if model.num_classes != len(card.categories):
        raise UserError(f"{what} names {len(card.categories)} classes, and its model has {model.num_classes}.")
    return model


def require_counts(config: Mapping[str, Any]) -> None:
    """Raise UserError for a whole number in a model's configuration that is beyond what a model can have."""
    pending: list[Any] = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, int) and abs(value) > LARGEST_COUNT:
            raise UserError(f"its number {value:.3g} is beyond {LARGEST_COUNT}, the most of anything in a model.")
        pending += value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()


def require_fit(model: nn.Module, tensors: Mapping[str, Any], what: str) -> None:
    """Raise UserError, which begins with ``what``, unless ``tensors`` are exactly those of ``model`` by names and shapes."""
    own = model.state_dict()
    strange = [key for key in [*own, *tensors] if not _fits(own.get(key), tensors.get(key))]
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        names = ", ".join(str(key)[:80] for key in strange[:3])
        raise UserError(
            f"{what} and its tensors do not belong together: {names}{more} are missing, of another shape or unknown to the "
            "model; get the file again from where it was made."
        )


def _fits(own: Tensor | None, found: Any) -> bool:
    if own is None or not isinstance(found, Tensor) or found.shape != own.shape:
        return False
    whole = found.layout == torch.strided and found.device.type == "cpu" and not found.is_quantized
    return whole and found.is_floating_point() == own.is_floating_point() and not found.is_complex()


def save(content: dict[str, Any], path: Path) -> None:
    """Write ``content`` to ``path`` whole, with a checksum. Raises CannotWrite, and leaves the earlier file as it was."""
    with whole(path) as file:
        torch.save({**content, **MARK}, file)
        checksums.append(file)


def load_plain(path: Path) -> Any:
    """What ``torch.save`` or safetensors wrote to ``path``, on the CPU: tensors and plain values only, no code is ever run.

    Raises UserError that names the file and what it is instead, Damaged where its checksum does not fit; files of other
    tools and of earlier versions have none.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    with path.open("rb") as file:
        head = file.read(256)
        intact = checksums.fits(file)
    if intact is False:
        raise _altered(path)
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{path} is a web page, not weights: delete it and download the file itself.")
    if text.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not the weights themselves: run git lfs pull.")
    content = _load_safetensors(path) if _is_safetensors(path, head) else _load_pickle(path)
    if intact is None and isinstance(content, dict) and MARK.items() <= content.items():
        raise _altered(path)
    return content


def _altered(path: Path) -> Damaged:
    return Damaged(f"{path} is damaged (its checksum does not fit): get it again.")


def _is_safetensors(path: Path, head: bytes) -> bool:
    """By the content, the length of a JSON header before it, so that the name does not matter; else by the name."""
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LONGEST_HEADER:
        return True
    return path.suffix == ".safetensors"


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except Exception as error:
        raise _damaged(path, "safetensors", error) from error


def _load_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it looks like another kind of archive: the error says so
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader raise nearly anything
        if "TorchScript" in str(error):
            raise UserError(f"{path} is a TorchScript program, not weights: save its state_dict() alone.") from error
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"{path} holds a Python object ({found[1]}) besides tensors, and loading it could run code: it was "
                f"refused; where the file can be trusted, save its model.state_dict() alone."
            ) from error
        with path.open("rb") as file:
            if file.read(2) in PICKLES:
                raise UserError(
                    f"{path} is a Python pickle that torch.save did not write, and loading it could run code: it was refused; "
                    f"where the file can be trusted, save its tensors with torch.save."
                ) from error
        raise _damaged(path, "PyTorch", error) from error


def _damaged(path: Path, kind: str, error: Exception) -> Damaged:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    cause = next((line for line in lines if line.startswith("Unsupported")), lines[0]).split(". ")[0].rstrip(".")
    return Damaged(f"{path} is truncated or no {kind} file ({cause[:240]}): get it again.")


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint written by training, tensors on the CPU.

    Raises UserError naming the file; if it is damaged, with the newest sound one of the run.
    """
    try:
        return _read(path)
    except Damaged as error:
        if path.parent.name != FOLDER or (other := _newest_sound(path)) is None:
            raise
        raise Damaged(f"{str(error).rstrip('.')}, or name {other}, which is sound.") from error


def _read(path: Path) -> dict[str, Any]:
    content = load_plain(path)
    if not isinstance(content, dict) or "card" not in content:
        raise UserError(f"{path} carries no model card: it was not written by train.py; backbone.weights= may take it.")
    return content


def card_of(path: Path) -> ModelCard | None:
    """The card that a checkpoint carries, None for one of other tools."""
    content = load_plain(path)
    if not isinstance(content, dict) or "card" not in content:
        return None
    return ModelCard.from_dict(content["card"], f"The card of {path}")


def model_state(content: dict[str, Any]) -> dict[str, Tensor]:
    """The model's own tensors of a checkpoint: the averaged ones, where training averaged."""
    state = content.get("state_dict")
    return {str(key).removeprefix(PREFIX): value for key, value in state.items()} if isinstance(state, dict) else {}


def load(path: Path) -> tuple[nn.Module, ModelCard]:
    """The trained model in evaluation mode, and its card."""
    content, what = read(path), f"The card of {path}"
    card = ModelCard.from_dict(content["card"], what)
    state = model_state(content)
    require_fit(outline(card, what), state, what)
    model = build_model(card.model)
    model.load_state_dict(state)
    return model.eval(), card


def find(reference: str | Path, *, prefer: str = "best") -> Path:
    """The checkpoint that ``reference`` means: itself, or of a run folder the one to ``prefer``, "best" or "last".

    "last" is for going on with a run: if that of a run folder is broken or missing, its newest sound one is taken, with a
    warning. Raises UserError for a broken file that was named itself.
    """
    path = Path(reference)
    if path.is_dir():
        names = sorted(("best.ckpt", "last.ckpt"), key=lambda name: not name.startswith(prefer))
        found = [file for name in names if (file := path / FOLDER / name).is_file()]
        if not found:
            raise UserError(
                f"The run {path} holds no checkpoints/best.ckpt or last.ckpt: it ended before its first evaluation."
            )
        return (prefer == "last" and _instead_of_broken(path / FOLDER / "last.ckpt")) or found[0]
    if not path.is_file():
        raise UserError(
            f"There is no run or checkpoint {path}: give the path of a folder below runs/ or of a .ckpt file."
        )
    if prefer == "last":
        read(path)
    return path


def _instead_of_broken(path: Path) -> Path | None:
    """The newest sound checkpoint beside ``path`` if that one is broken or missing, after a warning; else None."""
    try:
        _read(path)
        return None
    except UserError as error:
        if other := _newest_sound(path):
            log.warning("Resuming from %s, the newest sound checkpoint of the run: %s", other, error)
        return other


def _newest_sound(path: Path) -> Path | None:
    """Of the checkpoints beside ``path``, the one with the most steps behind it that can be read."""
    steps: dict[Path, int] = {}
    for other in sorted(path.parent.glob("*.ckpt")):
        if other != path:
            with suppress(UserError, TypeError, ValueError):
                steps[other] = int(_read(other).get("global_step", -1))
    return max(steps, key=steps.__getitem__, default=None)
