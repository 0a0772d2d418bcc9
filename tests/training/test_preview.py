"""train.py preview=true: what the network would see, and nothing trained."""

import numpy as np
import pytest
from commands import run
from PIL import Image

from seg_det.data.images import read_rgb
from seg_det.kinds.lookup import KINDS
from seg_det.report.drawings import STRIP
from seg_det.report.preview import contact_sheet, draw_counts, draw_sizes

SMALL = ["data.size=64", "data.batch_size=4", "data.num_workers=0", "backbone.width=0.25", "backbone.weights=none"]


def previewed(folder, *overrides):
    done = run(folder, "train", "preview=true", *SMALL, *overrides)
    (found,) = (folder / "runs" / "preview").glob("*/*")
    assert not (folder / "runs" / "train").exists() or not list((folder / "runs" / "train").rglob("*.ckpt"))
    assert f"preview     runs/preview/{found.parent.name}/{found.name}/preview.html" in done.stdout
    return found, (found / "preview.html").read_text()


@pytest.mark.parametrize("task", ["ssdlite", "lraspp"])
def test_shapes(task, tiny_shapes, tmp_path):
    data = [f"dataset.root={tiny_shapes}", "dataset.train_images=24", "dataset.val_images=8"]
    found, page = previewed(tmp_path, f"task={task}", "dataset=shapes", *data)
    sheets = sorted(found.glob("batch_*.jpg"))
    assert [path.name for path in sheets] == ["batch_1.jpg", "batch_2.jpg", "batch_3.jpg"]
    size = 4 * 64 + 3 * 2
    assert read_rgb(sheets[0]).shape == (64, size, 3)
    assert "24 images of shapes train, 4 a step, at 64 x 64 pixels" in page
    assert ("Objects and anchors" in page) == (task == "ssdlite")
    assert ("objects by class" if task == "ssdlite" else "pixels by class") in page


def test_images_with_classes(tiny_imagefolder, tmp_path):
    found, page = previewed(
        tmp_path, "task=classifier", "dataset=imagefolder", "augmentation=flip", f"dataset.root={tiny_imagefolder}"
    )
    assert "images by class, from red 8 to blue 8" in page or "images by class, from" in page
    assert len(list(found.glob("batch_*.jpg"))) == 3


def test_batches_of_changing_sizes_are_shown_as_the_network_sees_them(tiny_shapes, tmp_path):
    data = [f"dataset.root={tiny_shapes}", "dataset.train_images=24", "dataset.val_images=8"]
    found, _ = previewed(tmp_path, "dataset=shapes", "data.multi_scale=[32,96]", *data)
    widths = {Image.open(path).size[1] for path in found.glob("batch_*.jpg")}
    assert widths <= {32, 96} and widths


def test_a_contact_sheet():
    images = [np.full((6, 120, 3), value, np.uint8) for value in (1, 2, 3, 4, 5)]
    sheet = contact_sheet(images, columns=2)
    assert sheet.shape == (3 * 6 + 2 * 2, 2 * 120 + 2, 3)
    assert (sheet[:6, :120] == 1).all() and (sheet[8:14, 122:] == 4).all() and (sheet[16:, :120] == 5).all()
    assert (sheet[16:, 122:] == STRIP).all() and (sheet[6:8] == STRIP).all()
    assert contact_sheet(images[:1]).shape == (6, 120, 3)


def test_charts_hold_their_figures():
    svg = draw_counts({"cat": 3, "$x$ <b>": 1200, "dog": 0}, "objects")
    assert "1,200" in svg and "objects by class, from $x$ &lt;b&gt; 1200 to dog 0" in svg
    assert svg.index("1,200") < svg.index(">cat<") or "cat" in svg
    boxes = np.abs(np.random.default_rng(0).normal(40, 10, (20_000, 2))).astype(np.float32) + 1
    svg = draw_sizes(boxes, np.array([[16.0, 16.0], [32.0, 64.0]]), 224)
    assert "objects (20,000)" in svg and len(svg) < 2_000_000
    assert "objects (0)" in draw_sizes(boxes[:0], np.array([[16.0, 16.0]]), 64)  # all vanish at the input's size


def test_every_kind_counts_its_classes():
    assert all(callable(kind.class_counts) and callable(kind.drawn_batch) for kind in KINDS.values())
