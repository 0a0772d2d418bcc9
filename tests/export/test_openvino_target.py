"""OpenVINO files against eager."""

import json

import numpy as np
import pytest
import torch
from export_cells import CELLS, Batch, assert_lost_as_simulated, assert_same, eager, example, job_for

from seg_det.export import sidecar
from seg_det.export.openvino import OpenVinoTarget, open_session
from seg_det.export.runtimes import open_file
from seg_det.types import UserError

pytest.importorskip("openvino")
pytest.importorskip("nncf")

FOUR = [(name, "full") for name in CELLS if name != "classifier_v2"]
IMAGES = [Batch(seed) for seed in range(8)]


@pytest.mark.parametrize(("name", "pipeline"), [*FOUR, ("classifier_v2", "normalised"), ("ssdlite_v2", "raw")])
def test_file_against_eager(tmp_path, name, pipeline):
    job, export = job_for(name, pipeline)
    path = tmp_path / f"{name}.xml"
    facts = OpenVinoTarget().write(job, path)
    image = example(pipeline)
    assert_same(eager(job, image), open_session(str(path))(image), job.card.task)
    if name == "lraspp_v3":  # any size
        image = np.ascontiguousarray(image[:97, :61])
        mask = open_session(str(path))(image)["mask"]
        assert mask.shape == (97, 61) and mask.dtype == np.uint8
    assert facts["files"] == [f"{name}.bin"]
    sidecar.write(path, job.card, {**export, **facts}, [path.name, *facts["files"]])
    assert open_file(path).card == job.card
    assert json.loads(OpenVinoTarget().embedded(path))["card"]["categories"][0] == {"id": 7, "name": "cat"}


@pytest.mark.parametrize(("name", "on_one_pixel"), [("ssdlite_v2", 5), ("lraspp_v3", 1)])
def test_8_bits_lose_what_their_simulation_loses(tmp_path, name, on_one_pixel):
    """In the head, as with ONNX; nothing else is rounded. A map of the detector and the segmenter's gate have one pixel."""
    job, _ = job_for(name, "raw", "int8", calibration=IMAGES, keep_float=("backbone",))
    facts = OpenVinoTarget().write(job, tmp_path / "x.xml")["quantisation"]
    assert_lost_as_simulated(job, open_session(str(tmp_path / "x.xml")), IMAGES)
    convolutions = [layer for layer in job.model.modules() if isinstance(layer, torch.nn.Conv2d)]
    backbone = [layer for layer in job.model.backbone.modules() if isinstance(layer, torch.nn.Conv2d)]
    kept = len(backbone) + on_one_pixel
    assert (facts["layers"], facts["float_layers"]) == (len(convolutions) - kept, kept)
    assert all(scale > 0 and 0 <= zero <= 255 for scale, zero in facts["scales"].values())


def test_half_precision_halves_the_weights(tmp_path):
    sizes = {}
    for precision in ("fp32", "fp16"):
        job, _ = job_for("deeplabv3_v2", "full", precision)
        OpenVinoTarget().write(job, tmp_path / f"{precision}.xml")
        sizes[precision] = (tmp_path / f"{precision}.bin").stat().st_size
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    image = example("full")
    mask = open_session(str(tmp_path / "fp16.xml"))(image)["mask"]
    full, _ = job_for("deeplabv3_v2", "full")
    assert (mask == eager(full, image)["mask"]).mean() > 0.98


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "x.xml").write_text("<html/>")
    with pytest.raises(UserError, match=r"x.xml is no OpenVINO model with its .bin beside it"):
        open_file(tmp_path / "x.xml")


@pytest.mark.parametrize(("key", "value"), [("observer", "mse"), ("preset", "fast"), ("overflow_fix", "always")])
def test_an_unknown_setting(key, value):
    with pytest.raises(UserError, match=rf"target.{key} must be one of .*, got '{value}'"):
        OpenVinoTarget(**{key: value})
