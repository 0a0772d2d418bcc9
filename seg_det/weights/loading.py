"""Reading a weights file and filling a model from it."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from torch import Tensor, nn

from seg_det.checkpoint import PREFIX, load_plain
from seg_det.download import download, sha256_of
from seg_det.types import UserError
from seg_det.weights.catalogue import CATALOGUE, cache_folder, fetch
from seg_det.weights.fit import LoadReport, arrange, fill, identify, some
from seg_det.weights.maps import NAMINGS, detect
from seg_det.weights.naming import Naming

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CENTRED = (127.5, 127.5, 127.5)
IMAGENET_SIZE = 224


class PublishedClassifier(NamedTuple):
    """A classifier of ImageNet's classes whose weights were not trained here."""

    backbone: dict[str, Any]  # _target_ and settings
    mean: tuple[float, float, float]  # of 0..255 values, RGB
    std: tuple[float, float, float]
    input_size: int  # pixels


def resolve(reference: str) -> Path:
    """The file that a name of the catalogue, a path or an http(s) address means, fetched if need be.

    What came from an address is kept in the cache and not asked for again. Raises UserError.
    """
    if reference in CATALOGUE:
        return fetch(CATALOGUE[reference])
    if (path := Path(reference).expanduser()).exists():
        return path
    address = urlsplit(reference)
    if address.scheme in ("http", "https"):
        mark = hashlib.sha256(reference.encode()).hexdigest()[:12]
        return download(reference, cache_folder() / "weights" / mark / (PurePosixPath(address.path).name or "file"))
    close = difflib.get_close_matches(reference, CATALOGUE, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UserError(
        f"weights={reference} is no published name (python -m seg_det.weights --help lists them), no file and no http(s) "
        f"address{hint}"
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the state dict in a training checkpoint, on the CPU; no code is ever run.

    Raises UserError that names the file and what it is instead.
    """
    return _state_dict(load_plain(path), path)


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    state = content
    if isinstance(content, dict) and isinstance(inner := content.get("state_dict"), dict):
        state = {str(key).removeprefix(PREFIX): value for key, value in inner.items()}
    if not isinstance(state, dict) or not state:
        raise UserError(f"{path} holds a {type(content).__name__}, not named tensors.")
    if strange := [str(key) for key, value in state.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{path} holds values that are no tensors: {some(strange)}; save the state_dict alone.")
    return {str(key): value for key, value in state.items()}


def load_backbone(backbone: nn.Module, reference: str) -> LoadReport:
    """Fill a backbone from a catalogue name, a path or an address; the naming is recognised by the keys.

    Every tensor of the backbone must come from the file, but ``num_batches_tracked`` and what ``backbone.reshaped`` says,
    or nothing is changed. Raises UserError with the missing keys, the differing shapes and what the file seems to be.
    """
    path, tensors, naming = _read(reference)
    return fill(nn.ModuleDict({"backbone": backbone}), tensors, naming, path)


def load_model(model: nn.Module, reference: str | Path) -> LoadReport:
    """Fill a whole model, in ``model.backbone`` and beside it, as :func:`load_backbone` fills a backbone.

    Besides, the file must hold no tensor that only another model has. Raises UserError.
    """
    path, tensors, naming = _read(str(reference))
    ours, own = naming.rename(tensors), model.state_dict()
    heads = [key for key in own if not key.startswith("backbone.")]
    if heads and not any(key in ours for key in heads):
        what = "a classifier" if "classifier.weight" in ours else "a backbone"
        raise UserError(
            f"{path} ({naming.name} names) holds {what} and nothing of the head of this {type(model).__name__}: weights= "
            f"takes a whole model; backbone.weights={reference} takes its backbone alone."
        )
    if foreign := [key for key in ours if key not in own]:
        raise UserError(f"{path} ({naming.name} names) does not fit the model, which has no {some(foreign)}.")
    return fill(model, tensors, naming, path)


def _read(reference: str) -> tuple[Path, dict[str, Tensor], Naming]:
    path = resolve(reference)
    tensors = read_tensors(path)
    naming = NAMINGS[CATALOGUE[reference].mapping] if reference in CATALOGUE else detect(tensors)
    if naming is None:
        raise UserError(
            f"{path} names its tensors in no known way: it has {some(list(tensors))}; known are {', '.join(NAMINGS)}."
        )
    return path, tensors, naming


def published_classifier(reference: str) -> PublishedClassifier:
    """The classifier that a name of the catalogue, a path or an address holds.

    Raises UserError for weights of anything else and for a network that is none of ours.
    """
    path, tensors, naming = _read(reference)
    given = arrange(tensors, naming)
    if "classifier.weight" not in given:
        raise UserError(f"{path} ({naming.name} names) holds no classifier, so there is nothing to evaluate.")
    if row := CATALOGUE.get(reference):
        return PublishedClassifier(dict(row.backbone), row.mean, row.std, row.input_size)
    if (network := identify(given, naming)) is None:
        raise UserError(f"{path} ({naming.name} names) holds none of our networks: {some(list(tensors))}.")
    mean, std = (CENTRED, CENTRED) if naming.centred else (IMAGENET_MEAN, IMAGENET_STD)
    return PublishedClassifier(network.backbone, mean, std, IMAGENET_SIZE)


def describe(path: Path) -> str:
    """What a weights file holds, for people: naming, tensors, elements, the network, and the settings that it fits."""
    tensors = read_tensors(path)
    naming = detect(tensors)
    elements = sum(tensor.numel() for tensor in tensors.values())
    lines = [f"{path}: {len(tensors)} tensors, {elements:,} elements"]
    lines += [f"names: {naming.name if naming else f'unknown, such as {some(list(tensors))}'}"]
    if naming and (network := identify(arrange(tensors, naming), naming)):
        lines += [f"holds: {network.name}", f"fits: {network.overrides}"]
    digest = sha256_of(path)
    lines += [
        f"published as: {row.name}, {row.licence}, {row.figure}" for row in CATALOGUE.values() if row.matches(digest)
    ]
    return "\n".join(lines)
