"""Reading a weights file and filling a model from it."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from torch import Tensor, nn

from seg_det.checkpoint import PREFIX, load_plain
from seg_det.checksums import sha256_of
from seg_det.download import download
from seg_det.errors import UserError
from seg_det.weights.catalogue import CATALOGUE, PublishedWeights, cache_folder, fetch
from seg_det.weights.fit import BOXES, LoadReport, Outputs, arrange, fill, identify, some
from seg_det.weights.maps import NAMINGS, detect
from seg_det.weights.naming import Naming

CENTRED = (127.5, 127.5, 127.5)


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
    for name in ("state_dict", "model"):  # of Lightning and of torchvision's reference scripts
        if isinstance(content, dict) and isinstance(inner := content.get(name), dict):
            state = {str(key).removeprefix(PREFIX): value for key, value in inner.items()}
    if not isinstance(state, dict) or not state:
        raise UserError(f"{path} holds a {type(content).__name__}, not named tensors.")
    if strange := [str(key) for key, value in state.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{path} holds values that are no tensors: {some(strange)}; save the state_dict alone.")
    return {str(key).removeprefix("module."): value for key, value in state.items()}  # of torch's DataParallel


def load_backbone(backbone: nn.Module, reference: str) -> LoadReport:
    """Fill a backbone from a catalogue name, a path or an address; the naming is recognised by the keys.

    Every tensor of the backbone must come from the file, but ``num_batches_tracked`` and what ``backbone.reshaped`` says,
    or nothing is changed. Raises UserError with the missing keys, the differing shapes and what the file seems to be.
    """
    path, tensors, naming = read(reference)
    return fill(nn.ModuleDict({"backbone": backbone}), tensors, naming, path)


def load_model(model: nn.Module, reference: str | Path, classes: Sequence[str] | None = None) -> LoadReport:
    """Fill a whole model, in ``model.backbone`` and beside it, as :func:`load_backbone` fills a backbone.

    Besides, the file must hold no tensor that only another model has. ``classes`` are the model's: from a published detector
    whose classes have names here, or one with its naming and number of classes, it takes the outputs of those. Raises
    UserError.
    """
    path, tensors, naming = read(str(reference))
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
    row = published_as(str(reference), path)
    warnings: tuple[str, ...] = ()
    if row is None and classes and hasattr(model, "class_predictors"):
        theirs = classes_of(arrange(tensors, naming))
        if theirs != model.num_classes and (row := saved_anew(naming, theirs, classes)):
            warnings = (
                f"{path} is taken for {row.name} saved anew, by its {theirs} classes: its outputs mean the same",
            )
        else:
            _require_outputs(model, theirs, path)
    chosen = None
    if classes and not getattr(model, "merges", False):  # else the model itself chooses among all outputs
        chosen = outputs_of(row, classes)
    report = fill(model, tensors, naming, path, chosen)
    return replace(report, warnings=(*report.warnings, *warnings))


def saved_anew(naming: Naming, outputs: int, classes: Sequence[str]) -> PublishedWeights | None:
    """The published detector that finds ``classes`` among others, has this naming and finds as many; None without any."""
    alike = [r for r in CATALOGUE.values() if r.categories and (r.mapping, r.num_classes) == (naming.name, outputs + 1)]
    return next(
        (row for row in alike if {category.name for category in row.categories or ()}.issuperset(classes)), None
    )


def _require_outputs(detector: nn.Module, theirs: int, path: Path) -> None:
    if theirs not in (0, detector.num_classes):
        raise UserError(
            f"{path} finds {theirs} classes and the data has {detector.num_classes}: weights= takes a detector of the same "
            f"classes; backbone.weights={path} takes its backbone alone."
        )


def published_as(reference: str, path: Path) -> PublishedWeights | None:
    """The row of the catalogue that a name means or that a file is."""
    if reference in CATALOGUE:
        return CATALOGUE[reference]
    digest = sha256_of(path)
    return next((row for row in CATALOGUE.values() if row.matches(digest)), None)


def outputs_of(row: PublishedWeights | None, classes: Sequence[str]) -> Outputs | None:
    if row is None or row.categories is None:
        return None
    place = {category.name: category.id for category in row.categories}
    if unknown := [name for name in classes if name not in place]:
        raise UserError(
            f"{row.name} was not trained to find {some(unknown)}, so its class predictors are of no use: "
            f"backbone.weights={row.name} takes its backbone alone."
        )
    return Outputs(row.num_classes, (0, *(place[name] for name in classes)))


def read(reference: str) -> tuple[Path, dict[str, Tensor], Naming]:
    path = resolve(reference)
    tensors = read_tensors(path)
    naming = NAMINGS[CATALOGUE[reference].mapping] if reference in CATALOGUE else detect(tensors)
    if naming is None:
        raise UserError(
            f"{path} names its tensors in no known way: it has {some(list(tensors))}; known are {', '.join(NAMINGS)}."
        )
    return path, tensors, naming


def normalisation(reference: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation of 0..255 values that weights were trained with, None where nothing tells."""
    path, _, naming = read(reference)
    if row := published_as(reference, path):
        return row.mean, row.std
    return (CENTRED, CENTRED) if naming.centred else None


def classes_of(given: Mapping[str, Tensor]) -> int:
    """The classes of a whole model's tensors, without the background of a detector; 0 where there is no head of ours."""
    scores, sides = (given.get(f"{kind}_predictors.0.project.bias") for kind in ("class", "box"))
    if scores is not None and sides is not None:
        return len(scores) * len(BOXES) // len(sides) - 1
    last = next((given[key] for key in ("deep_classifier.weight", "classifier.weight") if key in given), ())
    return len(last)


def describe(path: Path) -> str:
    """What a weights file holds, for people: naming, tensors, elements, the network, and the settings that it fits."""
    tensors = read_tensors(path)
    naming = detect(tensors)
    elements = sum(tensor.numel() for tensor in tensors.values())
    lines = [f"{path}: {len(tensors)} tensors, {elements:,} elements"]
    lines += [f"names: {naming.name if naming else f'unknown, such as {some(list(tensors))}'}"]
    if naming and (network := identify(arrange(tensors, naming), naming)):
        task = f"task={naming.preset.task} " if naming.preset else ""
        lines += [f"holds: {network.name}", f"fits: {task}{network.overrides}"]
    digest = sha256_of(path)
    lines += [
        f"published as: {row.name}, {row.licence}, {row.figure}" for row in CATALOGUE.values() if row.matches(digest)
    ]
    return "\n".join(lines)
