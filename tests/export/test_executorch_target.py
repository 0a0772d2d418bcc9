"""ExecuTorch files against eager, in 32, 16 and 8 bits."""

import importlib
import json
from functools import partial

import numpy as np
import pytest
import torch
from export_cells import Batch, assert_same, eager, example, job_for, slow

from seg_det import sidecar
from seg_det.errors import UserError
from seg_det.export.executorch import ExecuTorchTarget, open_session, suppression
from seg_det.export.pipeline import build_graph
from seg_det.postprocess import select_static
from seg_det.predict.exported import is_exported, open_file

ONE = [
    *slow(
        ("detector", "normalised"),
        ("ssdlite_v2", "normalised"),
        ("ssdlite_v3", "full"),
        ("lraspp_v3", "normalised"),
        ("deeplabv3_v2", "full"),
    ),
]

CALIBRATION = [Batch(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each file is written once."""
    files = {}

    def write(name, pipeline, precision="fp32", keep_float=()):
        key = name, pipeline, precision, keep_float
        if key not in files:
            job, export = job_for(name, pipeline, precision, keep_float=keep_float, calibration=CALIBRATION)
            path = tmp_path_factory.mktemp("executorch") / f"{name}.pte"
            facts = ExecuTorchTarget(largest=640).write(job, path)
            sidecar.write(path, job.card, {**export, **facts}, [path.name])
            files[key] = job, path, facts
        return files[key]

    return write


class Unknown(torch.nn.Module):
    """A network with an operator that no mobile runtime has."""

    def forward(self, x):
        return torch.linalg.svdvals(x)[..., 0]


def test_an_operator_that_it_has_not(tmp_path):
    job, _ = job_for("classifier", "raw")
    job = partial(type(job), card=job.card, pipeline="raw")(model=Unknown())
    with pytest.raises(UserError, match=r"target=executorch cannot express the operator aten\.\S*svd"):
        ExecuTorchTarget().write(job, tmp_path / "x.pte")


def test_the_packages_are_there():
    """They are imported here, which takes as long as writing a small file."""
    ExecuTorchTarget().require()
    assert importlib.import_module("executorch.exir").to_edge_transform_and_lower


@pytest.mark.parametrize(("name", "pipeline"), ONE)
def test_file_against_eager(written, name, pipeline):
    job, path, facts = written(name, pipeline)
    image = example(pipeline)
    assert_same(eager(job, image), open_session(str(path))(image), job.card.task)
    assert facts["delegated"] == {"to": "XNNPACK", "share": 1.0, "left": {}}


@pytest.mark.parametrize("name", slow("segmenter", "deeplabv3_v2"))
def test_a_file_says_the_largest_size_that_it_takes(written, name):
    assert written(name, "full")[2]["largest"] == 640


@pytest.mark.parametrize("name", slow("segmenter", "deeplabv3_v2"))
def test_one_file_takes_images_of_any_size_up_to_the_largest(written, name):
    job, path, _ = written(name, "full")
    run = open_session(str(path))
    for image in (example("full")[:97, :61], example("full")[:40].repeat(2, 1)[:, :640]):
        image = np.ascontiguousarray(image)
        mask = run(image)["mask"]
        assert mask.shape == image.shape[:2] and mask.dtype == np.uint8
        assert (mask == eager(job, image)["mask"]).mean() > 0.9995
    with pytest.raises(ValueError, match=r"an image of \(700, 40, 3\) is larger than"):
        run(np.zeros((700, 40, 3), np.uint8))


def test_suppression_against_the_static_one():
    """Two classes, level scores, an IoU of exactly the threshold, boxes without area, and more rounds than candidates."""
    boxes = torch.tensor(
        [[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6], [20, 20, 20, 30], [20, 20, 20, 30], [50, 50, 60, 60]]
    ).float()
    scores = torch.tensor([[0.9, 0.5], [0.8, 0.9], [0.7, -1], [0.6, -1], [0.6, -1], [-1, -1]])
    settings = {"iou_threshold": 0.5, "max_detections": 14}
    found = suppression(boxes, scores, **settings)
    wanted = select_static(boxes[None], scores[None], **{**settings, "max_detections": 12}, considered=1000)
    assert int(found.found) == 6  # of class 0 all but the third box, of class 1 both
    for ours, theirs in zip(found[:3], wanted[:3], strict=True):
        assert torch.equal(ours[:12], theirs[0])
        assert not ours[12:].any()


@pytest.mark.slow
def test_8_bits_stay_near(written):
    job, path, facts = written("ssdlite_v2", "normalised", "int8")
    layers = sum(isinstance(layer, torch.nn.Conv2d) for layer in job.model.modules())
    about = facts["quantisation"]
    assert (about["layers"], about["float_layers"]) == (layers, 0)
    assert len(about["scales"]) >= layers
    assert facts["delegated"] == {"to": "XNNPACK", "share": 1.0, "left": {}}
    image = example("normalised", seed=3)
    wanted, found = eager(job, image), open_session(str(path))(image)
    assert np.abs(found["scores"][0][:20] - wanted["scores"][0][:20]).max() < 0.05
    assert path.stat().st_size < 0.36 * written("ssdlite_v2", "normalised")[1].stat().st_size


@pytest.mark.parametrize(
    ("name", "pipeline", "kept"), slow(("classifier", "raw", ("classifier",)), ("ssdlite_v2", "normalised", ()))
)
def test_levels_are_not_spent_on_what_relu6_cuts_off(written, name, pipeline, kept):
    job, _, facts = written(name, pipeline, "int8", kept)
    clamped = {name: about for name, about in facts["quantisation"]["scales"].items() if name.startswith("hardtanh")}
    assert len(clamped) == sum(isinstance(layer, torch.nn.ReLU6) for layer in job.model.modules())
    assert all(scale <= 6.001 / 255 and zero == -128 for scale, zero in clamped.values())


@pytest.mark.parametrize(
    ("name", "kept", "left"),
    slow(("classifier", ("classifier",), "backbone"), ("classifier_v2", ("backbone",), None)),
)
def test_parts_kept_in_float(written, name, kept, left):
    job, _, facts = written(name, "raw", "int8", kept)
    layers = sum(isinstance(m, torch.nn.Conv2d) for m in job.model.backbone.modules())
    about = facts["quantisation"]
    assert (about["layers"], about["float_layers"]) == (layers + 1, 1 if left else layers)


def test_a_part_that_is_not_there():
    job, _ = job_for("classifier", "raw", "int8", keep_float=("neck",))
    with pytest.raises(UserError, match="keep_float: the model has no part 'neck'"):
        ExecuTorchTarget().write(job, None)


@pytest.mark.slow
def test_half_precision_stays_near_however_the_image_lies_in_memory(written):
    half, path, facts = written("classifier_v2", "raw", "fp16")
    full, _ = job_for("classifier_v2", "raw")
    assert facts["tail"] is None and facts["delegated"]["share"] == 1.0
    image, run = example("raw"), open_session(str(path))
    found = run(image)["logits"]
    exact = eager(full, image)["logits"]
    with torch.no_grad():
        lost = np.abs(build_graph(half).module(torch.from_numpy(image)).numpy() - exact).max()
    assert np.abs(found - exact).max() < 4 * lost < 0.05  # XNNPACK also sums in 16 bits, which torch does not
    last = np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(run(last)["logits"], found)


def test_the_card_is_inside_and_beside(written):
    job, path, facts = written("detector", "normalised")
    assert is_exported(str(path)) and facts["tail"] == "scan over the best candidates"
    opened = open_file(path)
    assert opened.card == job.card and opened.export["tail"] == facts["tail"]
    assert json.loads(ExecuTorchTarget().embedded(path))["card"]["categories"][0] == {"id": 7, "name": "cat"}


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "x.pte").write_text("no model of this kind" * 100)
    with pytest.raises(UserError, match=r"x.pte is no ExecuTorch program"):
        open_file(tmp_path / "x.pte")


def test_an_observer_that_is_not_known(tmp_path):
    job, _ = job_for("classifier", "raw", "int8")
    with pytest.raises(UserError, match=r"observer must be one of histogram, mean_minmax, minmax, got 'median'"):
        ExecuTorchTarget(observer="median").write(job, tmp_path / "x.pte")
