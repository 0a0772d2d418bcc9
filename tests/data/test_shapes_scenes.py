"""The script that makes large scenes of small shapes: what is pasted where, and what its annotations say."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import loaded_script, run

from seg_det.data.images import read_rgb

EARLIER = Path(__file__).parents[1] / "fixtures" / "earlier"


@pytest.fixture(scope="module")
def script():
    return loaded_script("prepare_shapes_scenes")


@pytest.fixture(scope="module")
def scenes(script, tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    assert script.main(["--root", str(root), "--scenes", "2", "--columns", "2", "--shrink", "1.5"]) == 0
    return root


def test_images_and_boxes_lie_where_they_were_pasted(script, tiny_shapes, tmp_path):
    script.write_scenes(tmp_path, tiny_shapes, scenes=2, columns=2, shrink=2.0)
    content = json.loads((tmp_path / "annotations" / "val.json").read_text())
    source = json.loads((tiny_shapes / "annotations" / "instances_val.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2]
    assert len(content["annotations"]) == len(source["annotations"])  # all eight images are in the two scenes
    scene = read_rgb(tmp_path / "val" / "000002.jpg")
    assert scene.shape == (360, 480, 3)
    part = read_rgb(tiny_shapes / "images" / "val" / source["images"][7]["file_name"])  # the last: below, to the right
    half = cv2.resize(part, (240, 180), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(scene[180:, 240:].astype(int) - half).mean() < 3
    theirs = [row["bbox"] for row in source["annotations"] if row["image_id"] == source["images"][7]["id"]]
    ours = [row["bbox"] for row in content["annotations"] if row["image_id"] == 2][-len(theirs) :]
    np.testing.assert_allclose(ours, [[x / 2 + 240, y / 2 + 180, w / 2, h / 2] for x, y, w, h in theirs], atol=1e-3)
    assert all(row["area"] == pytest.approx(row["bbox"][2] * row["bbox"][3]) for row in content["annotations"])


def test_they_can_be_evaluated(scenes, tmp_path):
    words = [f"model={EARLIER / 'detection'}", "dataset=custom_coco", f"dataset.root={scenes}", "data.num_workers=0"]
    assert "2 images" in run(tmp_path, "evaluate", *words, "tiles.size=[240,320]").stdout


def test_numbers_that_cannot_be(script, capsys, tmp_path):
    assert script.main(["--root", str(tmp_path), "--scenes", "0"]) == 1
    assert "--scenes must be at least 1, got 0." in capsys.readouterr().err
