"""OpenVINO files against eager."""

import json

import numpy as np
import pytest
from export_cells import CELLS, assert_same, eager, example, job_for

from seg_det.export import sidecar
from seg_det.export.openvino import OpenVinoTarget, open_session
from seg_det.export.runtimes import open_file
from seg_det.types import UserError

pytest.importorskip("openvino")
pytest.importorskip("nncf")

FOUR = [(name, "full") for name in CELLS if name != "classifier_v2"]


@pytest.mark.parametrize(("name", "pipeline"), [*FOUR, ("classifier_v2", "normalised"), ("ssdlite_v2", "raw")])
def test_file_against_eager(tmp_path, name, pipeline):
    job, export = job_for(name, pipeline)
    path = tmp_path / f"{name}.xml"
    facts = OpenVinoTarget().write(job, path)
    image = example(pipeline)
    assert_same(eager(job, image), open_session(str(path))(image), job.card.task)
    assert facts["files"] == [f"{name}.bin"]
    sidecar.write(path, job.card, {**export, **facts}, [path.name, *facts["files"]])
    assert open_file(path).card == job.card
    assert json.loads(OpenVinoTarget().embedded(path))["card"]["categories"][0] == {"id": 7, "name": "cat"}


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


@pytest.mark.parametrize(("key", "value"), [("observer", "mse"), ("preset", "fast")])
def test_an_unknown_setting(tmp_path, key, value):
    job, _ = job_for("lraspp_v3", "raw", "int8")
    with pytest.raises(UserError, match=rf"target.{key} must be one of .*, got '{value}'"):
        OpenVinoTarget(**{key: value}).write(job, tmp_path / "x.xml")


def test_dtype_of_masks(tmp_path):
    job, _ = job_for("lraspp_v3", "full")
    OpenVinoTarget().write(job, tmp_path / "m.xml")
    image = np.ascontiguousarray(example("full")[:97, :61])
    mask = open_session(str(tmp_path / "m.xml"))(image)["mask"]
    assert mask.shape == (97, 61) and mask.dtype == np.uint8
