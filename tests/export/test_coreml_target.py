"""Core ML packages: what can be known of them where they do not run, and that this is said."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from export_cells import SIZE, job_for, slow
from torch import nn

from seg_det import sidecar
from seg_det.errors import UserError
from seg_det.export.coreml import CoreMlTarget, greedy
from seg_det.ops.nms import nms
from seg_det.predict.exported import is_exported, open_file

coremltools = pytest.importorskip("coremltools")
FLOAT, INT = 65568, 131104  # of Core ML's data types
FILES = [
    ("detector", "raw", "int8", {"logits": (5070, 4), "deltas": (5070, 4)}),
    ("detector", "normalised", "fp32", {"boxes": (100, 4), "scores": (100,), "labels": (100,), "count": ()}),
    ("segmenter", "normalised", "fp16", {"mask": SIZE}),
]
REAL = [
    ("ssdlite_v2", "raw", "fp32", {"logits": (1308, 4), "deltas": (1308, 4)}),
    ("ssdlite_v2", "normalised", "fp32", {"boxes": (100, 4), "scores": (100,), "labels": (100,), "count": ()}),
    ("ssdlite_v3", "raw", "int8", {"logits": (1308, 4), "deltas": (1308, 4)}),
    ("lraspp_v3", "normalised", "fp16", {"mask": SIZE}),
    ("deeplabv3_v2", "normalised", "fp32", {"mask": SIZE}),
]
CPU_ONLY = pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each file is written once."""
    files = {}

    def write(name, pipeline, precision):
        key = (name, pipeline, precision)
        if key not in files:
            job, export = job_for(name, pipeline, precision)
            path = tmp_path_factory.mktemp("coreml") / f"{name}.mlpackage"
            facts = CoreMlTarget().write(job, path)
            sidecar.write(path, job.card, {**export, **facts}, [path.name])
            files[key] = job, path, facts
        return files[key]

    return write


def program(path):
    """The operators of the package: (kind, spec) in order."""
    main = coremltools.models.utils.load_spec(str(path)).mlProgram.functions["main"]
    return [operator for block in main.block_specializations.values() for operator in block.operations]


class Odd(nn.Module):
    """An operator that Core ML has not."""

    def forward(self, images):
        return torch.lgamma(images.mean((2, 3)))


def test_what_cannot_be_written(tmp_path):
    job, _ = job_for("classifier", "raw")
    with pytest.raises(UserError, match=r"target=coreml cannot express .*lgamma"):
        CoreMlTarget().write(replace(job, model=Odd()), tmp_path / "odd.mlpackage")
    with pytest.raises(UserError, match="target.ios must be 16 or later"):
        CoreMlTarget(ios=15).write(job, tmp_path / "old.mlpackage")
    with pytest.raises(UserError, match="has no part 'tail'"):
        CoreMlTarget().write(replace(job, precision="int8", keep_float=("tail",)), tmp_path / "named.mlpackage")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "pipeline", "precision", "outputs"), [*FILES, *slow(*REAL)], ids=lambda value: str(value)[:20]
)
def test_names_shapes_and_types(written, name, pipeline, precision, outputs):
    _, path, _ = written(name, pipeline, precision)
    described = coremltools.models.utils.load_spec(str(path)).description
    (image,) = described.input
    assert image.name == "images" and list(image.type.multiArrayType.shape) == [1, 3, *SIZE]
    assert image.type.multiArrayType.dataType == FLOAT
    found = {
        one.name: (tuple(one.type.multiArrayType.shape), one.type.multiArrayType.dataType) for one in described.output
    }
    assert found == {
        n: ((1, *shape), INT if n in ("mask", "labels", "count") else FLOAT) for n, shape in outputs.items()
    }


@pytest.mark.parametrize(
    ("name", "pipeline", "precision"), [*(file[:3] for file in FILES), *slow(*(file[:3] for file in REAL))], ids=str
)
def test_every_convolution_is_there_in_the_type_of_the_precision(written, name, pipeline, precision):
    job, path, _ = written(name, pipeline, precision)
    operators = program(path)
    layers = [module for module in job.model.modules() if isinstance(module, nn.Conv2d)]
    convolutions = [one for one in operators if one.type == "conv"]
    assert len(convolutions) == len(layers)
    half = {one.outputs[0].type.tensorType.dataType for one in convolutions}
    assert half == {10 if precision != "fp32" else 11}  # FLOAT16, FLOAT32 of the program


def test_the_weights_are_those_of_the_model(written):
    job, path, _ = written("detector", "normalised", "fp32")
    model = coremltools.models.MLModel(str(path), skip_model_load=True)
    stored = coremltools.optimize.coreml.get_weights_metadata(model, weight_threshold=0)
    found = sorted(one.val.tobytes() for one in stored.values() if one.val.ndim == 4)
    own = sorted(m.weight.detach().numpy().tobytes() for m in job.model.modules() if isinstance(m, nn.Conv2d))
    assert found == own


def test_eight_bits_take_a_quarter_of_the_room(written):
    job, path, facts = written("detector", "raw", "int8")
    assert facts["quantisation"]["layers"] == sum(isinstance(m, nn.Conv2d) for m in job.model.modules())
    size = sum(file.stat().st_size for file in path.rglob("weight.bin"))
    whole = 4 * sum(m.weight.numel() for m in job.model.modules() if isinstance(m, nn.Conv2d))
    assert 0.24 < size / whole < 0.32


def test_greedy_is_greedy():
    torch.manual_seed(0)
    corner = torch.rand(60, 2) * 50
    boxes = torch.cat([corner, corner + 5 + torch.rand(60, 2) * 30], 1)
    scores = torch.rand(60, 3).masked_fill(torch.rand(60, 3) < 0.3, -1.0)
    rows, labels = (scores > 0).nonzero(as_tuple=True)
    kept = nms(boxes[rows], scores[rows, labels], labels, 0.4)[:25]
    found = greedy(boxes, scores, iou_threshold=0.4, max_detections=25)
    assert int(found.found) == 25
    torch.testing.assert_close(found.scores, scores[rows[kept], labels[kept]])
    torch.testing.assert_close(found.boxes, boxes[rows[kept]])
    assert found.labels.tolist() == labels[kept].tolist()
    few = greedy(boxes[:4], scores[:4].clamp(max=-1), iou_threshold=0.4, max_detections=25)
    assert int(few.found) == 0 and not few.boxes.any() and not few.scores.any()


def test_the_card_is_inside(written):
    job, path, _ = written("segmenter", "normalised", "fp16")
    assert is_exported(str(path))
    described = sidecar.read(path, CoreMlTarget().embedded(path))
    assert described.card == job.card
    assert json.loads(CoreMlTarget().embedded(path))["card"]["categories"][0] == {"id": 7, "name": "cat"}


@CPU_ONLY
def test_it_says_that_it_does_not_run_here(written):
    _, path, _ = written("segmenter", "normalised", "fp16")
    assert CoreMlTarget().elsewhere() == "Core ML runs on Apple's systems only"
    with pytest.raises(UserError, match="segmenter.mlpackage cannot be run here: Core ML runs on Apple's systems only"):
        open_file(path)


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "x.mlpackage").write_text("no model")
    with pytest.raises(UserError, match="x.mlpackage is no Core ML package"):
        CoreMlTarget().embedded(tmp_path / "x.mlpackage")
