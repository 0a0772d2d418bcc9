"""Fixtures that more than one test file needs, and the time that a test may take."""

import os
import socket
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch and numpy are imported: two workers share two cores

import numpy as np
import pytest
import torch
from http_server import FileServer
from PIL import Image

from seg_det.data.shapes import generate_shapes

torch.set_num_threads(1)
# Seconds of CPU time of a test without the mark slow, its fixtures and child processes included.
BUDGET = float(os.environ.get("SEG_DET_TEST_BUDGET", 20))
# The longest files, and the folders of long ones: last, one of them would keep one worker busy alone.
FIRST = (
    "test_fuzz_cards.py",
    "test_web_page.py",
    "test_commands.py",
    "test_readme.py",
    "export",
    "training",
    "proof",
    "kinds",
    "models",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(FIRST)}
    last = len(FIRST)
    items.sort(key=lambda item: min(places.get(name, last) for name in (item.path.name, item.path.parent.name)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None]:
    item.stash[STARTED] = _cpu_seconds()
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Generator[None]:
    outcome = yield
    report, seconds = outcome.get_result(), _cpu_seconds() - item.stash[STARTED]
    # Measuring coverage takes time of its own.
    exempt = item.get_closest_marker("slow") or item.config.getoption("cov_source", None)
    if report.passed and seconds > BUDGET and not exempt:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} took {seconds:.1f} s of CPU time, of {BUDGET:.0f}: shrink it or mark it slow."


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.option.markexpr == "not slow":
        terminalreporter.write_line("Tests marked slow were left out; run them with: pytest -m slow")


STARTED = pytest.StashKey[float]()


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds the real ``data/`` and ``weights/``; tests that want it skip where it is not at hand."""
    folder = os.environ.get("SEG_DET_DATA")
    if not folder:
        pytest.skip("SEG_DET_DATA is unset: it names the folder with the real data/ and weights/")
    if not (Path(folder) / "data").is_dir():
        pytest.fail(f"SEG_DET_DATA={folder} has no data/ folder in it")
    return Path(folder)


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A local HTTP server with nothing on it yet; see http_server.py for what it can be told to do wrong."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FileServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def tiny_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded data set with 24 images to train on and 8 to evaluate."""
    return generate_shapes(tmp_path_factory.mktemp("data") / "shapes", train_images=24, val_images=8)


@pytest.fixture(scope="session")
def tiny_imagefolder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classification data set in ImageNet's layout: noise of three colours, eight images each to train on, four to validate."""
    root = tmp_path_factory.mktemp("data") / "colours"
    noise = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        for split, count in (("train", 8), ("val", 4)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = noise.integers(0, 120, (40 + 3 * i, 60, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    return root


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands on local data connect to nothing but this machine, and report to nobody."""
    tried: list[object] = []
    known = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}

    def watched(name: str) -> Callable[..., object]:
        def connect(self: socket.socket, address: object) -> object:
            if self.family != socket.AF_UNIX and str(address[0]) not in ("127.0.0.1", "::1", "localhost"):
                tried.append(address)
                raise OSError("no network")
            return known[name](self, address)

        return connect

    for name in known:
        monkeypatch.setattr(socket.socket, name, watched(name))
    yield
    assert tried == []
