"""ONNX files against eager, for every cell and pipeline, in 32, 16 and 8 bits."""

import copy
import json

import numpy as np
import onnx
import pytest
import torch
from export_cells import CELLS, Batch, assert_lost_as_simulated, assert_same, eager, example, job_for, lost, slow

from seg_det import sidecar
from seg_det.errors import UserError
from seg_det.export.onnx import OnnxTarget, as_input, open_session
from seg_det.ops.resize_graph import fit
from seg_det.predict.exported import is_exported, open_file

ONE = [
    ("detector", "full"),
    ("segmenter", "full"),
    ("classifier", "normalised"),
    ("detector", "raw"),
    *slow(
        *((name, "full") for name in CELLS),
        *((name, "normalised") for name in ("ssdlite_v2", "lraspp_v3", "classifier_v2")),
        *((name, "raw") for name in ("ssdlite_v3", "deeplabv3_v2")),
    ),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each file is written once, and each graph converted once for all of 32 and 8 bits."""
    files, graphs = {}, {}
    convert = OnnxTarget._convert

    def write(name, pipeline, precision="fp32", target=OnnxTarget(), **settings):  # noqa: B008
        def once(self, graph):
            if (name, pipeline) not in graphs:
                graphs[name, pipeline] = convert(self, graph)
            return copy.deepcopy(graphs[name, pipeline])

        key = name, pipeline, precision, target, settings.get("keep_float")
        if key not in files:
            job, export = job_for(name, pipeline, precision, **settings)
            path = tmp_path_factory.mktemp("onnx") / f"{name}.onnx"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(OnnxTarget, "_convert", once)
                facts = target.write(job, path)
            sidecar.write(path, job.card, {**export, **facts}, [path.name])
            files[key] = job, path, facts
        return files[key]

    return write


@pytest.mark.parametrize(("name", "pipeline"), ONE)
def test_file_against_eager(written, name, pipeline):
    job, path, _ = written(name, pipeline)
    image = example(pipeline)
    assert_same(eager(job, image), open_session(str(path))(image), job.card.task)


@pytest.mark.parametrize("name", ["segmenter", *slow("lraspp_v3")])
def test_one_file_takes_images_of_any_size(written, name):
    job, path, _ = written(name, "full")
    for image in (example("full"), example("full")[:97, :61], example("full")[:40].repeat(2, 1)):
        image = np.ascontiguousarray(image)
        mask = open_session(str(path))(image)["mask"]
        assert mask.shape == image.shape[:2] and mask.dtype == np.uint8
        assert (mask == eager(job, image)["mask"]).mean() > 0.9995


@pytest.mark.parametrize("name", ["detector", *slow("ssdlite_v3")])
def test_raw_takes_batches(written, name):
    _, path, _ = written(name, "raw")
    images = np.concatenate([example("raw"), example("raw", seed=1), example("raw", seed=2)])
    run = open_session(str(path))
    together, alone = run(images), run(images[1:2])
    np.testing.assert_allclose(together["logits"][1:2], alone["logits"], atol=1e-4)


def test_the_card_is_inside_and_beside(written):
    job, path, _ = written("detector", "full")
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


@pytest.mark.parametrize("name", slow("segmenter", "deeplabv3_v2"))
def test_half_precision_stays_near(tmp_path, name):
    job, _ = job_for(name, "full", "fp16")
    OnnxTarget().write(job, tmp_path / "half.onnx")
    full, _ = job_for(name, "full")
    image = example("full")
    mask = open_session(str(tmp_path / "half.onnx"))(image)["mask"]
    assert (mask == eager(full, image)["mask"]).mean() > 0.98


IMAGES = [Batch(seed) for seed in range(8)]
EIGHT = [
    ("detector", "full"),
    *slow(
        ("lraspp_v3", "raw"),
        ("ssdlite_v2", "normalised"),
        ("ssdlite_v3", "raw"),
        ("lraspp_v3", "normalised"),
        ("deeplabv3_v2", "raw"),
    ),
]


@pytest.mark.parametrize("name", slow("ssdlite_v2", "ssdlite_v3", "lraspp_v3", "deeplabv3_v2"))
def test_8_bits_lose_what_their_simulation_loses(written, name):
    """In the head: weights without training amplify the noise of a whole network's 8 bits to the size of the signal."""
    job, path, facts = written(name, "raw", "int8", calibration=IMAGES, keep_float=("backbone",))
    assert_lost_as_simulated(job, open_session(str(path)), IMAGES)
    backbone = sum(isinstance(m, torch.nn.Conv2d) for m in job.model.backbone.modules())
    assert facts["quantisation"]["float_layers"] == backbone


@pytest.mark.parametrize(("name", "pipeline"), EIGHT)
def test_8_bits_are_the_network_s_alone(written, name, pipeline):
    job, path, facts = written(name, pipeline, "int8", calibration=IMAGES)
    graph = onnx.load(path).graph
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in graph.initializer}
    layers = sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in job.model.modules())
    assert (facts["quantisation"]["layers"], facts["quantisation"]["float_layers"]) == (layers, 0)
    matrices = {name for name, values in constants.items() if values.ndim > 1}
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in matrices]
    assert len(weights) == layers
    for node in weights:
        values, steps, zeros = (constants[key] for key in node.input)
        assert values.dtype == np.int8 and steps.shape == (values.shape[0],) and not zeros.any()
    rounding = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    assert len(rounding) == len(facts["quantisation"]["scales"]) >= layers
    assert all(constants[n.input[2]].dtype == np.uint8 for n in rounding)
    # No value is rounded that leads to no layer: those of decoding, of suppression and of the classes of pixels.
    leads = set()
    for node in reversed(graph.node):
        if node.op_type in ("Conv", "Gemm", "MatMul") or leads & set(node.output):
            leads |= set(node.input)
    last = {n.output[0] for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")}
    assert all(n.output[0] in leads or n.input[0] in last for n in rounding)
    # Nor before the first layer: the first rounding is that of the normalised images.
    first = next(i for i, n in enumerate(graph.node) if n.op_type == "Conv")
    assert sum(n.op_type == "QuantizeLinear" for n in graph.node[:first]) == 1


def test_8_bits_of_nothing_are_32(written):
    parts = ("backbone", "main", "gate", "fine_classifier", "deep_classifier")
    job, path, facts = written("lraspp_v3", "raw", "int8", calibration=IMAGES, keep_float=parts)
    assert facts["quantisation"]["layers"] == 0
    assert_same(eager(job, example("raw")), open_session(str(path))(example("raw")), "segmentation")


@pytest.mark.parametrize(
    "settings", [{"observer": "percentile", "percentile": 99.9}, {"observer": "entropy"}, {"activations": "s8"}]
)
def test_observers_and_signed_activations(written, settings):
    target = OnnxTarget(**settings)
    job, path, facts = written("lraspp_v3", "raw", "int8", target, calibration=IMAGES[:2], keep_float=("backbone",))
    wanted = eager(job, example("raw"))
    plain = written("lraspp_v3", "raw", "int8", calibration=IMAGES[:2], keep_float=("backbone",))[2]
    assert facts["quantisation"]["scales"] != plain["quantisation"]["scales"]
    assert lost(wanted, open_session(str(path))(example("raw")))["logits"] < 0.1


@pytest.mark.parametrize("size", [(96, 128), (224, 224)])
def test_calibration_images_are_not_cropped_again(size):
    job, _ = job_for("classifier_v2", "full")
    image = torch.randint(0, 256, (1, 3, *size)).float()
    given = torch.from_numpy(as_input(image, job)).permute(2, 0, 1).float()
    assert torch.equal(fit(given, "centre_crop", size, job.card.mean), image[0])
