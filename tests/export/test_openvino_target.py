"""OpenVINO files against eager."""

import json

import numpy as np
import pytest
import torch
from export_cells import CELLS, Batch, assert_lost_as_simulated, assert_same, eager, example, job_for, slow

from seg_det import sidecar
from seg_det.errors import UserError
from seg_det.export.openvino import OpenVinoTarget, open_session
from seg_det.predict.exported import open_file

pytest.importorskip("openvino")
pytest.importorskip("nncf")

SMALL = [("detector", "full"), ("segmenter", "full"), ("classifier", "normalised"), ("detector", "raw")]
FOUR = [(name, "full") for name in CELLS if name != "classifier_v2"]
IMAGES = [Batch(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each file is written once."""
    files = {}

    def write(name, pipeline, precision="fp32"):
        key = name, pipeline, precision
        if key not in files:
            job, export = job_for(name, pipeline, precision)
            path = tmp_path_factory.mktemp("openvino") / f"{name}.xml"
            facts = OpenVinoTarget().write(job, path)
            sidecar.write(path, job.card, {**export, **facts}, [path.name, *facts["files"]])
            files[key] = job, path, facts
        return files[key]

    return write


@pytest.mark.parametrize(
    ("name", "pipeline"), [*SMALL, *slow(*FOUR, ("classifier_v2", "normalised"), ("ssdlite_v2", "raw"))]
)
def test_file_against_eager(written, name, pipeline):
    job, path, facts = written(name, pipeline)
    image = example(pipeline)
    assert_same(eager(job, image), open_session(str(path))(image), job.card.task)
    if name in ("segmenter", "lraspp_v3"):  # any size
        image = np.ascontiguousarray(image[:97, :61])
        mask = open_session(str(path))(image)["mask"]
        assert mask.shape == (97, 61) and mask.dtype == np.uint8
    assert facts["files"] == [f"{name}.bin"]
    assert open_file(path).card == job.card
    assert json.loads(OpenVinoTarget().embedded(path))["card"]["categories"][0] == {"id": 7, "name": "cat"}


@pytest.mark.parametrize(("name", "on_one_pixel"), [("segmenter", 1), *slow(("ssdlite_v2", 5), ("lraspp_v3", 1))])
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


@pytest.mark.parametrize("name", slow("segmenter", "deeplabv3_v2"))
def test_half_precision_halves_the_weights(written, name):
    full, path, _ = written(name, "full")
    _, half, _ = written(name, "full", "fp16")
    sizes = [file.with_suffix(".bin").stat().st_size for file in (half, path)]
    assert sizes[0] < 0.6 * sizes[1]
    image = example("full")
    mask = open_session(str(half))(image)["mask"]
    assert (mask == eager(full, image)["mask"]).mean() > 0.98


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "x.xml").write_text("<html/>")
    with pytest.raises(UserError, match=r"x.xml is no OpenVINO model with its .bin beside it"):
        open_file(tmp_path / "x.xml")


@pytest.mark.parametrize(("key", "value"), [("observer", "mse"), ("preset", "fast"), ("overflow_fix", "always")])
def test_an_unknown_setting(key, value):
    with pytest.raises(UserError, match=rf"target.{key} must be one of .*, got '{value}'"):
        OpenVinoTarget(**{key: value})
