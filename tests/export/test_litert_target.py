"""LiteRT files against eager, in 32, 16 and 8 bits."""

import json

import numpy as np
import pytest
import torch
from export_cells import Batch, assert_lost_as_simulated, assert_same, eager, example, job_for, slow

from seg_det import sidecar
from seg_det.errors import UserError
from seg_det.export import litert
from seg_det.export.litert import LiteRtTarget, non_max_suppression, open_session
from seg_det.postprocess import select_static
from seg_det.predict.exported import is_exported, open_file

CELLS = ("ssdlite_v2", "ssdlite_v3", "lraspp_v3", "deeplabv3_v2")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each file is written once, and each graph converted once for all precisions."""
    files, contents = {}, {}
    convert = litert.converted

    def write(name, pipeline, precision="fp32", **settings):
        key = name, pipeline, precision, *settings.get("keep_float", ())
        if key not in files:
            job, export = job_for(name, pipeline, precision, **settings)
            path = tmp_path_factory.mktemp("litert") / f"{name}.tflite"

            def once(graph, target):
                if (name, pipeline) not in contents:
                    contents[name, pipeline] = convert(graph, target)
                return contents[name, pipeline]

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(litert, "converted", once)
                facts = LiteRtTarget().write(job, path)
            sidecar.write(path, job.card, {**export, **facts}, [path.name])
            files[key] = job, path, facts
        return files[key]

    return write


class Unknown(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x)


def test_an_operator_that_it_has_not():
    graph = litert.Graph(Unknown(), torch.zeros(1, 3, 4, 4), {}, "images", ("logits",))
    with pytest.raises(UserError, match=r"target=litert cannot express the operator aten.*svd"):
        litert.converted(graph, "litert")


@pytest.mark.parametrize("name", ["detector", "segmenter", *slow(*CELLS)])
def test_file_against_eager(written, name):
    job, path, _ = written(name, "normalised")
    image = example("normalised")
    assert_same(eager(job, image), open_session(str(path))(image), job.card.task)


@pytest.mark.parametrize("name", ["classifier", *slow("classifier_v2")])
def test_raw_outputs_against_eager(written, name):
    job, path, facts = written(name, "raw")
    assert facts["tail"] is None
    wanted, found = eager(job, example("raw").repeat(2, 0)), open_session(str(path))(example("raw"))
    assert list(found) == ["logits"] and found["logits"].shape == (1, 3)  # a file takes one image
    np.testing.assert_allclose(found["logits"], wanted["logits"][:1], atol=1e-3, rtol=1e-3)


# Level scores, an IoU of exactly a half, boxes without area, and one that is no candidate.
BOXES = torch.tensor(
    [[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6], [20, 20, 20, 30], [20, 20, 20, 30], [50, 50, 60, 60]]
).float()
SCORES = torch.tensor([[0.9, 0.5], [0.8, 0.9], [0.7, -1], [0.6, -1], [0.6, -1], [-1, -1]])


def test_suppression_against_the_static_one():
    settings = {"iou_threshold": 0.5, "max_detections": 12}
    found = non_max_suppression(BOXES, SCORES, **settings)
    wanted = select_static(BOXES[None], SCORES[None], **settings, considered=1000)
    assert int(found.found) == 6  # of class 0 all but the third box, of class 1 both
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs[0])


class Sorting(torch.nn.Module):
    """What the converter writes and the runtime does not read."""

    def forward(self, x):
        return x.sort(0).values


def test_an_operator_that_the_runtime_has_not():
    graph = litert.Graph(Sorting(), torch.rand(1, 8), {}, "x", ("sorted",))
    with pytest.raises(
        UserError, match=r"target=litert cannot express this model .*STABLEHLO_SORT.*: choose another target"
    ):
        litert.converted(graph, "litert")


class Suppression(torch.nn.Module):
    """Of candidates [1, N, 4 + classes]: boxes and their scores."""

    def forward(self, candidates):
        boxes, scores = candidates[0, :, :4], candidates[0, :, 4:]
        return tuple(non_max_suppression(boxes, scores, iou_threshold=0.5, max_detections=12))


def test_the_operator_suppresses_as_its_torch_form_does(tmp_path):
    candidates = torch.cat([BOXES, SCORES], 1)[None]
    graph = litert.Graph(Suppression(), candidates, {}, "candidates", ("boxes", "scores", "labels", "count"))
    (tmp_path / "x.tflite").write_bytes(litert.converted(graph, "litert"))
    found = open_session(str(tmp_path / "x.tflite"))(candidates.numpy())
    for ours, theirs in zip(found.values(), Suppression()(candidates), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
    assert found["output_3"] == 6


@pytest.mark.parametrize("name", ["detector", "segmenter", *slow("ssdlite_v2", "lraspp_v3")])
def test_8_bits_stay_near(written, name):
    job, path, facts = written(name, "normalised", "int8", calibration=[Batch(seed) for seed in range(8)])
    layers = sum(isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) for layer in job.model.modules())
    about = facts["quantisation"]
    assert (about["layers"], about["float_layers"]) == (layers, 0)
    assert all(scale > 0 and -128 <= zero <= 127 for scale, zero in about["scales"].values())
    image = example("normalised", seed=3)
    wanted, found = eager(job, image), open_session(str(path))(image)
    if name in ("segmenter", "lraspp_v3"):
        # Weights without training: each layer adds its rounding, a fifth of the logits' norm in the end. Chance is a third.
        assert (found["mask"] == wanted["mask"]).mean() > 0.7
        return
    assert found["boxes"].dtype == np.float32
    sure = wanted["scores"][0][:20]
    assert np.abs(found["scores"][0][:20] - sure).max() < 0.05


@pytest.mark.parametrize("name", slow(*CELLS))
def test_8_bits_lose_what_their_simulation_loses(written, name):
    """In the head: weights without training amplify the noise of a whole network's 8 bits to the size of the signal."""
    images = [Batch(seed) for seed in range(8)]
    job, path, _ = written(name, "raw", "int8", calibration=images, keep_float=("backbone",))
    assert_lost_as_simulated(job, open_session(str(path)), images)


@pytest.mark.slow
def test_8_bits_make_the_file_small(written):
    sizes = {precision: written("ssdlite_v2", "normalised", precision)[1].stat().st_size for precision in ("fp32",)}
    for precision in ("fp16", "int8"):
        settings = {"calibration": [Batch(seed) for seed in range(8)]} if precision == "int8" else {}
        sizes[precision] = written("ssdlite_v2", "normalised", precision, **settings)[1].stat().st_size
    assert sizes["fp16"] < 0.56 * sizes["fp32"] and sizes["int8"] < 0.38 * sizes["fp32"]


def test_parts_kept_in_float(written):
    kept = {"keep_float": ("class_predictors",), "calibration": [Batch(0), Batch(1)]}
    job, _, facts = written("detector", "normalised", "int8", **kept)
    layers = sum(isinstance(m, torch.nn.Conv2d) for m in job.model.get_submodule("class_predictors").modules())
    assert facts["quantisation"]["float_layers"] == layers == 10


def test_half_precision_stays_near(written):
    job, path, facts = written("detector", "normalised", "fp16")
    image = example("normalised")
    wanted, found = eager(job, image), open_session(str(path))(image)
    assert np.abs(found["scores"] - wanted["scores"]).max() < 0.02
    assert "quantisation" not in facts


@pytest.mark.parametrize("name", ["detector", "segmenter", *slow("ssdlite_v2", "lraspp_v3")])
def test_what_the_delegates_take(written, name):
    about = written(name, "normalised")[2]["delegated"]
    assert about["to"] == "XNNPACK" and about["share"] > 0.95 and about["left_by_gpu"] == {}


def test_the_card_is_inside_and_beside(written):
    job, path, facts = written("detector", "normalised")
    assert is_exported(str(path)) and facts["tail"] == "NON_MAX_SUPPRESSION_V4"
    opened = open_file(path)
    assert opened.card == job.card and opened.export["tail"] == "NON_MAX_SUPPRESSION_V4"
    assert json.loads(LiteRtTarget().embedded(path))["card"]["categories"][0] == {"id": 7, "name": "cat"}
    eight = written("detector", "normalised", "int8", calibration=[Batch(seed) for seed in range(8)])[1]
    assert json.loads(LiteRtTarget().embedded(eight))["card"] == job.card.to_dict()


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "x.tflite").write_text("no model of this kind")
    with pytest.raises(UserError, match=r"x.tflite is no LiteRT model"):
        open_file(tmp_path / "x.tflite")


def test_an_observer_that_is_not_known(tmp_path):
    job, _ = job_for("classifier", "raw", "int8")
    with pytest.raises(UserError, match=r"target.observer must be one of minmax, mean_minmax, mse, got 'median'"):
        LiteRtTarget(observer="median").write(job, tmp_path / "x.tflite")
