"""ONNX files against eager, for every cell and pipeline."""

import json

import numpy as np
import pytest
from export_cells import CELLS, assert_same, eager, example, job_for

from seg_det.export import sidecar
from seg_det.export.onnx import OnnxTarget, open_session
from seg_det.export.runtimes import is_exported, open_file
from seg_det.types import UserError

ONE = [
    *((name, "full") for name in CELLS),
    *((name, "normalised") for name in ("ssdlite_v2", "lraspp_v3", "classifier_v2")),
    *((name, "raw") for name in ("ssdlite_v3", "deeplabv3_v2")),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each file is written once."""
    files = {}

    def write(name, pipeline):
        if (name, pipeline) not in files:
            job, export = job_for(name, pipeline)
            path = tmp_path_factory.mktemp("onnx") / f"{name}.onnx"
            facts = OnnxTarget().write(job, path)
            sidecar.write(path, job.card, {**export, **facts}, [path.name])
            files[name, pipeline] = job, path
        return files[name, pipeline]

    return write


@pytest.mark.parametrize(("name", "pipeline"), ONE)
def test_file_against_eager(written, name, pipeline):
    job, path = written(name, pipeline)
    image = example(pipeline)
    assert_same(eager(job, image), open_session(str(path))(image), job.card.task)


def test_one_file_takes_images_of_any_size(written):
    job, path = written("lraspp_v3", "full")
    for image in (example("full"), example("full")[:97, :61], example("full")[:40].repeat(2, 1)):
        image = np.ascontiguousarray(image)
        mask = open_session(str(path))(image)["mask"]
        assert mask.shape == image.shape[:2] and mask.dtype == np.uint8
        assert (mask == eager(job, image)["mask"]).mean() > 0.9995


def test_raw_takes_batches(written):
    _, path = written("ssdlite_v3", "raw")
    images = np.concatenate([example("raw"), example("raw", seed=1), example("raw", seed=2)])
    run = open_session(str(path))
    together, alone = run(images), run(images[1:2])
    np.testing.assert_allclose(together["logits"][1:2], alone["logits"], atol=1e-4)


def test_the_card_is_inside_and_beside(written):
    job, path = written("ssdlite_v2", "full")
    assert is_exported(str(path))
    opened = open_file(path)
    assert opened.card == job.card and opened.export["tail"] == "NonMaxSuppression"
    assert json.loads(OnnxTarget().embedded(path))["card"]["categories"][0] == {"id": 7, "name": "cat"}


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "x.onnx").write_text("no model")
    with pytest.raises(UserError, match=r"x.onnx is no ONNX model"):
        open_file(tmp_path / "x.onnx")
    with pytest.raises(UserError, match="There is no exported file"):
        open_file(tmp_path / "y.onnx")


def test_half_precision_stays_near(tmp_path):
    job, _ = job_for("deeplabv3_v2", "full", "fp16")
    OnnxTarget().write(job, tmp_path / "half.onnx")
    full, _ = job_for("deeplabv3_v2", "full")
    image = example("full")
    mask = open_session(str(tmp_path / "half.onnx"))(image)["mask"]
    assert (mask == eager(full, image)["mask"]).mean() > 0.98
