"""Pretrained weights: where published ones come from, what a file holds, and whether it fits a model.

``python -m seg_det.weights FILE`` says what a file (or a published name, or an address) holds.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from seg_det.checkpoint import PREFIX, load_plain
from seg_det.download import download, sha256_of
from seg_det.types import UserError
from seg_det.weight_catalogue import CATALOGUE, WeightsUnavailable, cache_folder, fetch
from seg_det.weight_maps import NAMINGS, SEG_DET, Naming, detect

__all__ = [
    "CATALOGUE",
    "LoadReport",
    "WeightsUnavailable",
    "fetch",
    "load_backbone",
    "load_model",
    "read_tensors",
    "resolve",
]


@dataclass(frozen=True)
class LoadReport:
    """What was loaded; ``unused`` are the keys of the file that the model had no place for."""

    path: Path
    naming: str
    loaded: int
    unused: tuple[str, ...]

    def __str__(self) -> str:
        rest = f"; not needed: {_some(self.unused)}" if self.unused else ""
        return f"{self.loaded} tensors from {self.path} ({self.naming} names){rest}"


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
        f"weights={reference} is no published name ({', '.join(CATALOGUE)}), no file and no http(s) address{hint}"
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
        raise UserError(f"{path} holds values that are no tensors: {_some(strange)}; save the state_dict alone.")
    return {str(key): value for key, value in state.items()}


def load_backbone(backbone: nn.Module, reference: str) -> LoadReport:
    """Fill a backbone from a catalogue name, a path or an address; the naming is recognised by the keys.

    Every tensor of the backbone must come from the file (``num_batches_tracked`` may be missing) in its own shape, or
    nothing is changed. Raises UserError with the missing keys and the differing shapes.
    """
    path = resolve(reference)
    tensors = read_tensors(path)
    naming = NAMINGS[CATALOGUE[reference].mapping] if reference in CATALOGUE else detect(tensors)
    if naming is None:
        raise UserError(
            f"{path} names its tensors in no known way: it has {_some(list(tensors))}; known are {', '.join(NAMINGS)}."
        )
    return _fill(backbone, tensors, naming, path)


def load_model(model: nn.Module, path: Path) -> LoadReport:
    """Fill a whole model from a file in our own naming that has its tensors and no others. Raises UserError."""
    tensors = read_tensors(path)
    if foreign := [key for key in tensors if key not in model.state_dict()]:
        raise UserError(f"{path} does not fit the model, which has no {_some(foreign)}.")
    return _fill(model, tensors, SEG_DET, path)


def _fill(model: nn.Module, tensors: dict[str, Tensor], naming: Naming, path: Path) -> LoadReport:
    own = model.state_dict()
    given = naming.rename(tensors)
    fitting = {key: tensors[given[key]] for key in own if key in given}
    missing = [key for key in own if key not in given and not key.endswith(".num_batches_tracked")]
    differing = [key for key, tensor in fitting.items() if tensor.shape != own[key].shape]
    if missing or differing:
        shapes = [f"{given[key]} {list(fitting[key].shape)} for {key} {list(own[key].shape)}" for key in differing]
        faults = [f"it lacks {_some(missing)}"] if missing else []
        faults += [f"its shapes differ: {_some(shapes)}"] if differing else []
        factor = None if missing else _width_factor([(fitting[key].shape, own[key].shape) for key in differing])
        hint = f"; it is of another width, about {factor:.2g} times the model's" if factor else ""
        raise UserError(f"{path} ({naming.name} names) does not fit the model: {'; '.join(faults)}{hint}.")
    for key, tensor in fitting.items():
        own[key].copy_(tensor)
    used = {given[key] for key in fitting}
    return LoadReport(path, naming.name, len(fitting), tuple(key for key in tensors if key not in used))


def _width_factor(shapes: Sequence[tuple[torch.Size, torch.Size]]) -> float | None:
    """Channels of the file over channels of the model, if that alone explains every pair of shapes (file, model)."""
    channels = [(a, b) for file, model in shapes for a, b in zip(file[:2], model[:2], strict=False) if a != b]
    same_kernels = all(len(file) == len(model) and file[2:] == model[2:] for file, model in shapes)
    one_way = all(a > b for a, b in channels) or all(a < b for a, b in channels)
    if not (channels and same_kernels and one_way):
        return None
    given, wanted = max(channels, key=lambda pair: pair[1])  # rounding to multiples of 8 blurs it the least
    return given / wanted


def _some(items: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


def describe(path: Path) -> str:
    """What a weights file holds, for people: naming, tensors, elements, and the backbone that it fits."""
    tensors = read_tensors(path)
    naming = detect(tensors)
    elements = sum(tensor.numel() for tensor in tensors.values())
    lines = [f"{path}: {len(tensors)} tensors, {elements:,} elements"]
    lines += [f"names: {naming.name if naming else f'unknown, such as {_some(list(tensors))}'}"]
    if naming and naming.fits(tensors):
        lines += [f"fits: {naming.fits(tensors)}"]
    sha256 = sha256_of(path)
    for row in (row for row in CATALOGUE.values() if row.sha256 == sha256):
        fits = ", ".join(f"{key} {value}" for key, value in row.fits.items())
        lines += [f"published as: {row.name} ({fits}), {row.licence}, {row.figure}"]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print what a file, a published name or an address holds; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m seg_det.weights", description="Say what a weights file holds.")
    parser.add_argument("weights", metavar="FILE", help=f"a file, an http(s) address, or one of {', '.join(CATALOGUE)}")
    try:
        print(describe(resolve(parser.parse_args(argv).weights)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
