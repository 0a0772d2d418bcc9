"""The pictures of the README, of a run on the shapes: ``python -m tests.pictures runs/train/ssdlite_v2_shapes/TIME``.

Writes ``docs/pictures/`` anew: a drawn prediction, a part of a report, and the browser page. Wants Chromium and npm.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "export"))  # as pytest does

from browser import Opened, chromium, driver, served  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
IMAGE = "000002.jpg"  # of the validation split
WIDTH = 1200
DATA = ["dataset=shapes"]


def command(folder: Path, name: str, *arguments: object) -> None:
    """Run a command of the project in ``folder``."""
    subprocess.run([sys.executable, str(ROOT / f"{name}.py"), *map(str, arguments)], cwd=folder, check=True)


def prediction(folder: Path, run: Path, image: Path) -> None:
    """The drawing of one image."""
    command(folder, "predict", f"model={run}", f"source={image}")
    (drawn,) = folder.glob(f"runs/predict/*/*/drawings/{image.name}")
    shutil.copyfile(drawn, PICTURES / "prediction.jpg")


def report(browser, folder: Path, run: Path, root: Path) -> None:
    """Classes and curves of an evaluation's report."""
    command(folder, "evaluate", f"model={run}", *DATA, f"dataset.root={root}")
    (page,) = folder.glob("runs/evaluate/*/*/report.html")
    tab = browser.new_page(viewport={"width": WIDTH, "height": 900})
    tab.goto(f"{page.as_uri()}#classes")
    _save(tab.screenshot(), "report.jpg")


def page(browser, folder: Path, run: Path, root: Path, image: Path) -> None:
    """The page with one image dropped onto it."""
    command(folder, "export", f"model={run}", "target=web", *DATA, f"dataset.root={root}")
    (web,) = folder.glob("runs/export/*/*/web")
    with served(web) as address, Opened(browser, address, viewport={"width": WIDTH, "height": 800}) as opened:
        opened.drop([image])
        _save(opened.tab.screenshot(), "page.jpg")


def _save(png: bytes, name: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(png)
        Image.open(file).convert("RGB").save(PICTURES / name, quality=85, optimize=True)


def main(run: Path, root: Path) -> None:
    """Make all three of the detector ``run``, with the data set at ``root``."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    image = root / "images" / "val" / IMAGE
    with tempfile.TemporaryDirectory() as folder, driver() as started, chromium(started) as browser:
        prediction(Path(folder), run, image)
        report(browser, Path(folder), run, root)
        page(browser, Path(folder), run, root, image)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2] if len(sys.argv) > 2 else "datasets/shapes").absolute())
