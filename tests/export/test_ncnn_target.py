"""ncnn files against eager, for every cell."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from export_cells import CELLS, SIZE, SMALLEST, assert_same, eager, example, job_for, slow
from torch import nn

from seg_det import sidecar
from seg_det.errors import UserError
from seg_det.export.ncnn import NcnnTarget, open_session
from seg_det.predict import standalone
from seg_det.predict.exported import is_exported, open_file


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each file is written once."""
    files = {}

    def write(name, precision="fp32"):
        if (name, precision) not in files:
            job, export = job_for(name, "raw", precision)
            path = tmp_path_factory.mktemp("ncnn") / f"{name}.param"
            facts = NcnnTarget().write(job, path)
            sidecar.write(path, job.card, {**export, **facts}, [path.name, *facts["files"]])
            files[name, precision] = job, path
        return files[name, precision]

    return write


def through_the_runner(job, export, outputs):
    """What the runner's numpy makes of raw outputs, in the form of a graph's with pipeline=normalised."""
    about = {"card": job.card.to_dict(), "export": export}
    if job.card.task == "segmentation":
        return {"mask": standalone.segmentation_raw(about, outputs, SIZE)[None]}
    boxes, scores, labels = standalone.detection_raw(about, outputs, SIZE)
    empty = job.card.postprocess["max_detections"] - len(scores)
    return {
        "boxes": np.pad(boxes, [(0, empty), (0, 0)])[None],
        "scores": np.pad(scores, (0, empty))[None],
        "labels": np.pad(labels, (0, empty))[None],
        "count": np.array([len(scores)]),
    }


@pytest.mark.parametrize("name", [*SMALLEST, *slow(*CELLS)])
def test_file_against_eager(written, name):
    job, path = written(name)
    image = example("raw")
    # Logits span 25 here and the sums' order is the processor's; the runner's scores below are held to 1e-3.
    assert_same(eager(job, image), open_session(str(path))(image), job.card.task, tolerance=2e-3)


@pytest.mark.parametrize("name", ["detector", "segmenter", *slow(*(name for name in CELLS if name != "classifier_v2"))])
def test_predictions_of_the_runner_against_eager(written, name):
    job, path = written(name)
    image = example("raw")
    found = through_the_runner(job, open_file(path).export, open_session(str(path))(image))
    assert_same(eager(replace(job, pipeline="normalised"), image), found, job.card.task)


def test_batches_go_image_after_image(written):
    _, path = written("segmenter")
    images = np.concatenate([example("raw"), example("raw", seed=1)])
    run = open_session(str(path))
    together = run(images)["logits"]
    assert together.shape[0] == 2 and not np.array_equal(together[0], together[1])
    np.testing.assert_array_equal(together[1:], run(images[1:])["logits"])


def test_the_card_is_inside_and_beside(written):
    job, path = written("detector")
    assert is_exported(str(path))
    opened = open_file(path)
    assert opened.card == job.card and opened.export["tail"].startswith("numpy in the runner")
    assert set(opened.export["files"]) == {"detector.param", "detector.bin"}
    assert json.loads(NcnnTarget().embedded(path))["card"]["categories"][0] == {"id": 7, "name": "cat"}


@pytest.mark.parametrize("name", ["segmenter", *slow("deeplabv3_v2")])
def test_halves_take_half_the_room_and_stay_near(written, name):
    _, path = written(name)
    _, half = written(name, "fp16")
    sizes = [file.with_suffix(".bin").stat().st_size for file in (half, path)]
    assert 0.49 < sizes[0] / sizes[1] < 0.52
    image = example("raw")
    wanted, found = (open_session(str(file))(image)["logits"] for file in (path, half))
    assert (wanted.argmax(1) == found.argmax(1)).mean() > 0.97 and not np.array_equal(wanted, found)


def test_nothing_is_left_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job, _ = job_for("classifier", "raw")
    (tmp_path / "out").mkdir()
    NcnnTarget().write(job, tmp_path / "out" / "c.param")
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")) == [
        "out",
        "out/c.bin",
        "out/c.param",
    ]


class Odd(nn.Module):
    """An operator that ncnn has not, in a part of a name."""

    def __init__(self):
        super().__init__()
        self.twist = Twist()

    def forward(self, images):
        return self.twist(images)


class Twist(nn.Module):
    def forward(self, x):
        return torch.lgamma(x.mean((2, 3)))


def test_an_operator_that_ncnn_has_not(tmp_path):
    job, _ = job_for("classifier", "raw")
    with pytest.raises(UserError, match=r"target=ncnn cannot express the operator aten.lgamma, from \S*twist,"):
        NcnnTarget().write(replace(job, model=Odd()), tmp_path / "odd.param")
    assert not list(tmp_path.iterdir())


def test_a_file_of_something_else(written, tmp_path):
    (tmp_path / "x.param").write_text("no model")
    with pytest.raises(UserError, match=r"x.param is no ncnn model: export it again"):
        open_file(tmp_path / "x.param")
    _, path = written("segmenter")
    (tmp_path / "alone.param").write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"alone.param cannot be opened as ncnn"):
        open_file(tmp_path / "alone.param")
