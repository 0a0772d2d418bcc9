"""What is built for installation is what the tree has, and works without it."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import seg_det

ROOT = Path(__file__).parent.parent
NO_SOURCE = {"__pycache__", "build", "dist", "runs", "outputs"}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the content of the wheel, as an installation has it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("seg_det", "conf", "datasets"):
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=_only_sources)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree" / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", "./tree"]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "site")
    return folder / "site"


def _only_sources(folder: str, names: list[str]) -> set[str]:
    """What is not to be copied; data sets may lie in datasets/."""
    left_out = {name for name in names if name in NO_SOURCE or name.endswith(".pyc")}
    return left_out | {
        name for name in names if Path(folder) == ROOT / "datasets" and not name.endswith((".py", ".md"))
    }


def _files(folder: Path, *patterns: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.rglob(pattern)}


def _started(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-m", "seg_det", *words], cwd=folder, capture_output=True, text=True, env=environment
    )


def test_the_wheel_has_what_the_tree_has(site):
    own = {f"seg_det/{path.relative_to(ROOT / 'seg_det').as_posix()}" for path in _sources(ROOT / "seg_det")}
    conf = {f"seg_det/conf/{name}" for name in _files(ROOT / "conf", "*.yaml")}
    scripts = {f"seg_det/datasets/{path.name}" for path in (ROOT / "datasets").glob("*.py")}
    wanted = own | conf | scripts | {"seg_det/datasets/README.md"}
    built = {path.relative_to(site).as_posix() for path in _sources(site / "seg_det")}
    assert built == wanted


def _sources(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not set(path.parts) & NO_SOURCE]


def test_an_installation_has_its_configuration_and_the_names_of_its_commands(site, tmp_path):
    done = _started(site, tmp_path, "train", "--help")
    assert "mixnet_s" in done.stdout and done.stdout.startswith("usage: seg-det train [KEY=VALUE ...]")
    assert not list(tmp_path.iterdir())


def test_an_installation_prepares_data_sets_below_the_working_folder(site, tmp_path):
    done = _started(site, tmp_path, "prepare", "shapes_video", "--videos=1", "--frames=2", "--objects=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "datasets" / "shapes_video" / "000.mp4").is_file()


def test_the_version_is_said_once_and_cited():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == seg_det.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]
