"""The program that is written beside a file: short, and it runs where there is nothing but numpy, Pillow and the runtime."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from export_cells import CELLS, cell, job_for, photo, slow
from PIL import Image

from seg_det import sidecar
from seg_det.data.segmentation_transforms import fitted
from seg_det.export import runner
from seg_det.export.coreml import CoreMlTarget
from seg_det.export.executorch import ExecuTorchTarget
from seg_det.export.litert import LiteRtTarget
from seg_det.export.ncnn import NcnnTarget
from seg_det.export.onnx import OnnxTarget
from seg_det.export.openvino import OpenVinoTarget
from seg_det.ops.placement import content_size
from seg_det.postprocess import canvas_patch, label_map
from seg_det.predict.lookup import TASKS

# What a program may import besides numpy and Pillow: its runtime; ExecuTorch's takes tensors of torch, which it installs.
NEEDED = {
    "onnx": {"onnxruntime"},
    "openvino": {"openvino", "sys"},
    "litert": {"ai_edge_litert"},
    "executorch": {"executorch", "torch"},
    "ncnn": {"ncnn"},
    "coreml": {"coremltools"},
}
TARGETS = (OnnxTarget, OpenVinoTarget, LiteRtTarget, ExecuTorchTarget, NcnnTarget, CoreMlTarget)
# Runs a program as if these were not installed.
ALONE = """
import runpy, sys
for name in ("seg_det", "torch", "cv2", "torchvision", "onnx", "lightning", "hydra"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("task", TASKS)
def test_a_program_is_short_and_complete(target, task):
    for pipeline in target.pipelines:
        for resize in TASKS[task].resizes:
            if resize == "whole" and pipeline != "full":
                continue  # such a file has no input of a fixed size
            text = runner.source(
                target, file="m.x", program="m_run.py", task=TASKS[task], pipeline=pipeline, resize=resize
            )
            assert len(text.splitlines()) < 150, (pipeline, resize)
            compile(text, "m_run.py", "exec")
            allowed = {"numpy", "PIL", "argparse", "json", "pathlib", *NEEDED[target.name]}
            assert {name.split(".")[0] for name in re.findall(r"^ *(?:import|from) ([\w.]+)", text, re.M)} <= allowed


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
        program = folder / runner.write(OnnxTarget, job.card, path, pipeline)
        Image.fromarray(photo(480, 640)).save(folder / "photo.png")
        command = [sys.executable, "-c", ALONE, program, folder / "photo.png", "--score", "0.1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert json.loads((folder / "photo_found.json").read_text()) == json.loads(done.stdout)
        assert Image.open(folder / "photo_found.png").size == (640, 480)
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [("detector", "full"), ("detector", "raw"), *slow(("ssdlite_v2", "full"), ("ssdlite_v2", "raw"))],
)
def test_a_detector_s_program_finds_what_evaluation_finds(ran, name, pipeline):
    rows = ran(name, pipeline)
    model, card = cell(name)
    predictor = TASKS["detection"].predictor(model, job_for(name, pipeline)[0].card).eval()
    seen = cv2.resize(photo(480, 640), card.input_size[::-1], interpolation=cv2.INTER_LINEAR)
    images = torch.from_numpy(seen).permute(2, 0, 1)[None]
    with torch.no_grad():
        (wanted,) = predictor.predict(images, [(480, 640)])
    wanted = wanted.select(wanted.scores >= 0.1)
    assert len(rows) == len(wanted.scores) > 5
    boxes, scores = np.array([row["box"] for row in rows]), np.array([row["score"] for row in rows])
    ids = np.array([row["id"] for row in rows])
    # Neighbours whose scores are level may change places: each detection has its own row, wherever.
    apart = np.abs(boxes[:, None] - wanted.boxes.numpy()[None]).max(2)
    apart += 1e6 * (ids[:, None] != np.array([card.categories[i].id for i in wanted.labels.tolist()]))
    row = apart.argmin(0)
    assert sorted(row) == list(range(len(rows))) and apart.min(0).max() < 0.2
    np.testing.assert_allclose(scores[row], wanted.scores, atol=1e-3)
    assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [("segmenter", "full"), ("segmenter", "raw"), *slow(("lraspp_v3", "full"), ("lraspp_v3", "raw"))],
)
def test_a_segmenter_s_program_shows_what_evaluation_shows(ran, name, pipeline):
    content = ran(name, pipeline)
    model, card = cell(name)
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
