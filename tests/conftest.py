"""Fixtures that more than one test file needs."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds the real ``data/`` and ``weights/``; tests that want it skip where it is not at hand."""
    folder = os.environ.get("SEG_DET_DATA")
    if not folder:
        pytest.skip("SEG_DET_DATA is unset: it names the folder with the real data/ and weights/")
    if not (Path(folder) / "data").is_dir():
        pytest.fail(f"SEG_DET_DATA={folder} has no data/ folder in it")
    return Path(folder)
