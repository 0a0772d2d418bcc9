"""Fixtures that more than one test file needs."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from http_server import FileServer
from PIL import Image

from seg_det.data.shapes import generate_shapes


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
