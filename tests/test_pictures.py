"""The command that makes the README's pictures, on a tiny run."""

from pathlib import Path

import pictures
import pytest
from PIL import Image

EARLIER = Path(__file__).parent / "fixtures" / "earlier" / "detection"


@pytest.mark.slow
def test_all_three_are_made(tiny_shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "PICTURES", tmp_path)
    sizes = ["dataset.train_images=24", "dataset.val_images=8"]
    monkeypatch.setattr(pictures, "DATA", [*pictures.DATA, *sizes])
    pictures.main(EARLIER, tiny_shapes)
    assert {path.name: Image.open(path).width for path in tmp_path.iterdir()} == {
        "prediction.jpg": 480, "report.jpg": 1200, "page.jpg": 1200,
    }  # fmt: skip


def test_the_readme_shows_them():
    text = (pictures.ROOT / "README.md").read_text()
    for name in ("prediction", "report", "page"):
        assert f"(docs/pictures/{name}.jpg)" in text and (pictures.ROOT / "docs" / "pictures" / f"{name}.jpg").is_file()
