"""Files that an earlier version wrote keep working, and networks stay what they were; see fixtures/README.md."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from PIL import Image

from seg_det import checkpoint
from seg_det.training.callbacks import StepSeeds

pytestmark = pytest.mark.usefixtures("no_connections")
FIXTURES = Path(__file__).parent / "fixtures"
KINDS = ("detection", "segmentation", "classification")
NETWORKS = json.loads((FIXTURES / "networks.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_shapes):
    """A working folder with the data of the runs where their configurations say."""
    folder = tmp_path_factory.mktemp("earlier")
    (folder / "data").mkdir()
    (folder / "data" / "shapes").symlink_to(tiny_shapes)
    noise = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        for split, count in (("train", 8), ("val", 4)):
            (folder / "data" / "colours" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = noise.integers(0, 120, (40 + 3 * i, 60, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(folder / "data" / "colours" / split / name / f"{i}.png")
    shutil.copytree(FIXTURES / "earlier", folder / "fixture")  # the name that the exported files have for it
    return folder


def only(paths):
    (path,) = paths
    return path


def evaluated(folder, reference, *overrides):
    """The run folder of evaluate.py."""
    before = set((folder / "runs").glob("evaluate/*/*"))
    run(folder, "evaluate", f"model={reference}", "data.batch_size=4", "data.num_workers=0", "device=cpu", *overrides)
    return only(set((folder / "runs").glob("evaluate/*/*")) - before)


def read(path):
    return json.loads(path.read_text())


def require_same_rows(found, wanted):
    """The same predictions but for the last bits of another processor's arithmetic."""
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert ours[key] == (value if isinstance(value, str) else pytest.approx(value, abs=2e-3, rel=1e-5)), key


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_evaluates_as_before(folder, kind):
    options = ["save_predictions=ids"] if kind == "segmentation" else []
    found = evaluated(folder, f"fixture/{kind}", *options)
    require_same_rows(read(found / "predictions.json"), read(FIXTURES / "earlier" / kind / "predictions.json"))
    wanted = read(FIXTURES / "earlier" / kind / "evaluated.json")["headline"]
    assert read(found / "metrics.json")["headline"] == pytest.approx(wanted, abs=1e-4)
    for mask in (FIXTURES / "earlier" / kind / "masks").glob("*.png"):
        same = np.asarray(Image.open(mask)) == np.asarray(Image.open(found / "predictions" / mask.name))
        assert same.mean() > 0.9999


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_file_evaluates_as_before(folder, kind):
    file = only((folder / "fixture" / kind).glob("*.onnx"))
    record = read(file.parent / "export.json")
    found = read(evaluated(folder, file.relative_to(folder)) / "metrics.json")
    assert found["headline"][record["metric"]] == pytest.approx(record["file_value"], abs=1e-4)


@pytest.mark.parametrize("kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_a_run_exports_as_before(folder, kind):
    run(folder, "export", f"model=fixture/{kind}", "target=onnx")
    name = only((FIXTURES / "earlier" / kind).glob("*.onnx")).name.removesuffix("_fp32.onnx")
    found = read(only((folder / "runs" / "export" / name).glob("*/export.json")))
    wanted = read(FIXTURES / "earlier" / kind / "export.json")
    assert found["accepted"] and found["checkpoint_value"] == pytest.approx(wanted["checkpoint_value"], abs=1e-4)
    for key in ("outputs", "input", "precision", "pipeline", "metric", "images", "split"):
        assert found[key] == wanted[key]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_resumes_as_before(folder, kind, monkeypatch):
    """With the random numbers of then, which dropout went on to draw; they are seeded by epoch now."""
    monkeypatch.setattr(StepSeeds, "on_train_batch_start", lambda *_: None)
    run(folder, "train", f"resume=fixture/{kind}", "trainer.max_epochs=21", "trainer.check_val_every_n_epoch=1")
    task = read(FIXTURES / "earlier" / kind / "metrics.json")["name"]
    rows = only((folder / "runs" / "train" / task).glob("*/metrics.csv")).read_text().splitlines()
    names, last = rows[0].split(","), {}
    for row in (dict(zip(names, row.split(","), strict=True)) for row in rows[1:]):
        if row["step"] == "62":
            last |= {key: float(value) for key, value in row.items() if value}
    wanted = read(FIXTURES / "earlier" / kind / "resumed.json")
    for key in wanted:
        exact = key in ("step", "epoch") or key.startswith("lr")
        assert last[key] == pytest.approx(wanted[key], rel=1e-6 if exact else 5e-3, abs=1e-3), key


@pytest.mark.parametrize("cell", NETWORKS)
def test_a_network_is_what_it_was(cell):
    wanted = NETWORKS[cell]
    torch.manual_seed(0)
    model = checkpoint.build_model(wanted["config"]).eval()
    state = model.state_dict()
    text = "\n".join(f"{name} {list(tensor.shape)}" for name, tensor in state.items())
    assert hashlib.sha256(text.encode()).hexdigest() == wanted["names"]
    assert sum(part.numel() for part in model.parameters()) == wanted["parameters"]
    values = [tensor.double() for tensor in state.values()]
    assert sum(float(value.abs().sum()) for value in values) == pytest.approx(wanted["absolute"], rel=1e-9)
    assert sum(float(value.sum()) for value in values) == pytest.approx(wanted["sum"], rel=1e-7)
    with torch.inference_mode():
        raw = model(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    parts = [raw] if isinstance(raw, torch.Tensor) else [part for part in raw if isinstance(part, torch.Tensor)]
    for part, facts in zip(parts, wanted["raw"], strict=True):
        assert list(part.shape) == facts["shape"]
        assert part.flatten()[:4].tolist() == pytest.approx(facts["first"], rel=1e-3, abs=1e-6)
        assert float(part.double().std()) == pytest.approx(facts["deviation"], rel=1e-4)
