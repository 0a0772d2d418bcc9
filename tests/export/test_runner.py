"""The program that is written beside a file: short, and it runs where there is nothing but numpy, Pillow and the runtime."""

import json
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from export_cells import CELLS, cell, job_for, photo
from PIL import Image

from seg_det.data.segmentation_transforms import fitted
from seg_det.export import runner, sidecar
from seg_det.export.base import PIPELINES
from seg_det.export.onnx import OnnxTarget
from seg_det.export.openvino import OpenVinoTarget
from seg_det.ops.placement import content_size
from seg_det.postprocess import canvas_patch, label_map
from seg_det.tasks.run import KINDS

TASKS = ("detection", "segmentation", "classification")
# Runs a program as if these were not installed.
ALONE = """
import runpy, sys
for name in ("seg_det", "torch", "cv2", "torchvision", "onnx", "lightning", "hydra"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("target", [OnnxTarget, OpenVinoTarget])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_program_is_short_and_complete(target, task, pipeline):
    text = runner.source(target, file="m.onnx", program="m_run.py", task=task, pipeline=pipeline)
    assert len(text.splitlines()) < 150
    compile(text, "m_run.py", "exec")
    assert not any(f"{word} {name}" in text for word in ("import", "from") for name in ("seg_det", "torch", "cv2"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The JSON that the program of a cell prints for a photo, and the folder."""
    pytest.importorskip("onnxruntime")

    def run(name, pipeline):
        folder = tmp_path_factory.mktemp("runner")
        job, export = job_for(name, pipeline)
        path = folder / f"{name}.onnx"
        OnnxTarget().write(job, path)
        sidecar.write(path, job.card, export, [path.name])
        program = folder / f"{name}_run.py"
        program.write_text(
            runner.source(OnnxTarget, file=path.name, program=program.name, task=job.card.task, pipeline=pipeline)
        )
        Image.fromarray(photo(480, 640)).save(folder / "photo.png")
        command = [sys.executable, "-c", ALONE, program, folder / "photo.png", "--score", "0.1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert json.loads((folder / "photo_found.json").read_text()) == json.loads(done.stdout)
        assert Image.open(folder / "photo_found.png").size == (640, 480)
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("pipeline", ["full", "raw"])
def test_a_detector_s_program_finds_what_evaluation_finds(ran, pipeline):
    rows = ran("ssdlite_v2", pipeline)
    model, card = cell("ssdlite_v2")
    predictor = KINDS["detection"].predictor(model, job_for("ssdlite_v2", pipeline)[0].card).eval()
    seen = cv2.resize(photo(480, 640), card.input_size[::-1], interpolation=cv2.INTER_LINEAR)
    images = torch.from_numpy(seen).permute(2, 0, 1)[None]
    with torch.no_grad():
        (wanted,) = predictor.predict(images, SimpleNamespace(images=images, sizes=torch.tensor([[480, 640]])))
    wanted = wanted.select(wanted.scores >= 0.1)
    assert len(rows) == len(wanted.scores) > 5
    np.testing.assert_allclose([row["score"] for row in rows], wanted.scores, atol=1e-3)
    np.testing.assert_allclose([row["box"] for row in rows], wanted.boxes, atol=0.2)
    assert [row["id"] for row in rows] == [card.categories[i].id for i in wanted.labels.tolist()]


@pytest.mark.parametrize("pipeline", ["full", "raw"])
def test_a_segmenter_s_program_shows_what_evaluation_shows(ran, pipeline):
    content = ran("lraspp_v3", pipeline)
    model, card = cell("lraspp_v3")
    image = photo(480, 640)
    canvas, _ = fitted("letterbox", card.input_size, fill=card.mean)(image, np.zeros(image.shape[:2], np.uint8), seed=0)
    x = (torch.from_numpy(canvas).permute(2, 0, 1)[None] - torch.tensor(card.mean)[:, None, None]) / torch.tensor(
        card.std
    )[:, None, None]
    with torch.no_grad():
        logits = model(x).logits[0]
    content_sides = content_size("letterbox", (480, 640), card.input_size)
    mask = label_map([canvas_patch(logits, card.input_size, content_sides, (480, 640))], (480, 640))
    assert content["size"] == [480, 640]
    shares = {c.name: float((mask == i).float().mean()) for i, c in enumerate(card.categories) if (mask == i).any()}
    assert len(shares) > 1 and content["shares"] == pytest.approx(shares, abs=1e-3)


def test_every_cell_has_a_program_of_its_task():
    assert {task for task, *_ in CELLS.values()} == set(TASKS)
