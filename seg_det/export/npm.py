"""onnxruntime-web from npm: fetched once, checked, kept in the cache, and copied into exports, which need no network then."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from seg_det.checksums import sha256_of
from seg_det.download import exclusive
from seg_det.errors import UserError
from seg_det.files import copy_whole
from seg_det.weights.catalogue import cache_folder

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# Of package/dist: for each way to run the scripts and the program that they load; sha256.
FILES: Mapping[str, str] = MappingProxyType(
    {
        "ort.webgpu.bundle.min.mjs": "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
        "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
        "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
        "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    }
)
PATIENCE = 600  # seconds for 33 MB
# One more try where no connection comes about, soon: by default npm takes a minute to say that there is no network.
NPM_OPTIONS = ("--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


class RuntimeUnavailable(UserError):
    """The files could not be had; nothing is wrong with the export besides."""


def copy_runtime(folder: Path) -> list[str]:
    """Copy the files into ``folder``; returns their names. Raises RuntimeUnavailable, and UserError for wrong content."""
    kept = kept_runtime()
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        copy_whole(kept / name, folder / name)
    return list(FILES)


def kept_runtime() -> Path:
    """The folder of the cache that holds the files, fetched where it does not. Raises as :func:`copy_runtime` does."""
    folder = cache_folder() / "npm" / f"{PACKAGE}-{VERSION}"
    if not _held(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / "files"):
            if not _held(folder):
                _fetch(folder)
    return folder


def _held(folder: Path) -> bool:
    return all((folder / name).is_file() and sha256_of(folder / name) == wanted for name, wanted in FILES.items())


def _fetch(folder: Path) -> None:
    """Put the files into ``folder``, none of them before all are checked."""
    with TemporaryDirectory(dir=folder) as temporary:
        archive = _packed(Path(temporary))
        for name in FILES:
            _extract(archive, name, Path(temporary))
        for name in FILES:
            (Path(temporary) / name).replace(folder / name)


def _packed(folder: Path) -> Path:
    """The package as npm gives it."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeUnavailable(f"{PACKAGE} {VERSION} is missing, since npm is not installed")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(folder), *NPM_OPTIONS]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeUnavailable(f"{PACKAGE} {VERSION} is missing, since npm pack failed ({error})") from error
    found = sorted(folder.glob("*.tgz"))
    if done.returncode or not found:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise RuntimeUnavailable(f"{PACKAGE} {VERSION} is missing, since npm pack failed ({lines[0][:160]})")
    return found[0]


def _extract(archive: Path, name: str, folder: Path) -> None:
    """Take one file out of the package and check it. Raises UserError where it is another."""
    try:
        with tarfile.open(archive) as package:
            member = package.extractfile(f"package/dist/{name}")
            if member is None:
                raise KeyError(f"{name} is no file of it")
            with (folder / name).open("wb") as file:
                shutil.copyfileobj(member, file)
    except (tarfile.TarError, EOFError, KeyError, OSError, AttributeError) as error:
        raise UserError(f"npm gave {PACKAGE} {VERSION} without a readable {name} ({error}): try again.") from error
    if (got := sha256_of(folder / name)) != FILES[name]:
        raise UserError(
            f"npm gave another {name} of {PACKAGE} {VERSION} (sha256 {got}, not {FILES[name]}): check which registry npm uses."
        )
