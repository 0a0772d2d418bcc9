"""The test part: read where there is one, measured once at the end, never chosen by."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from commands import run
from PIL import Image

from seg_det.commands.labelled_data import read_source, read_test
from seg_det.data.recognise import BOXES, recognise
from seg_det.errors import UserError
from seg_det.training.tested import measure_test, no_test

TINY = ("data.size=64", "backbone.width=0.25", "backbone.weights=none", "data.num_workers=0", "trainer.max_epochs=1")


def exported(root, *parts, box=(8, 8, 24, 24)):
    """Parts as Roboflow exports them, of two images each."""
    for part in parts:
        (root / part).mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(np.full((48, 48, 3), 90, np.uint8)).save(root / part / f"{part}_{name}.png")
        content = {
            "images": [{"id": i, "file_name": f"{part}_{name}.png"} for i, name in enumerate("ab", 1)],
            "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": box} for i in (1, 2)],
            "categories": [{"id": 1, "name": "bolt"}],
        }
        (root / part / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def test_a_training_ends_with_the_figures_of_the_test_part(tmp_path):
    exported(tmp_path / "data", "train", "valid", "test")
    assert any("test/_annotations.coco.json" in one for one in recognise(tmp_path / "data", BOXES).settings)
    done = run(tmp_path, "train", "dataset.root=data", *TINY, "data.batch_size=2")
    line = next(line for line in done.stdout.splitlines() if line.startswith("test "))
    assert line.endswith(" on data test, 2 images")
    (folder,) = (tmp_path / "runs" / "train" / "ssdlite_v2_custom_coco").iterdir()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (
        metrics["tested"] == {"split": "data test", "images": 2} and "Test part" in (folder / "report.html").read_text()
    )
    run(tmp_path, "evaluate", "split=test")
    (measured,) = (tmp_path / "runs" / "evaluate" / "ssdlite_v2_custom_coco").iterdir()
    assert json.loads((measured / "metrics.json").read_text())["headline"] == metrics["test"]


def kind(check=lambda source: None):
    return SimpleNamespace(check=check)


def source(*names):
    return SimpleNamespace(name="some test", records=[SimpleNamespace(path=name) for name in names], categories=())


def measured(read, val=("a",), **given):
    predictor = SimpleNamespace(card=SimpleNamespace(categories=()))
    return measure_test(kind(**given), predictor, read, source(*val), batch_size=1, num_workers=0, device="cpu")


def refuse(*_):
    raise UserError("its list is empty")


def test_what_cannot_be_measured_is_said_and_costs_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        assert measured(no_test) is None and not caplog.records
        assert measured(refuse) is measured(lambda: source("b"), check=refuse) is None
        assert [one.getMessage() for one in caplog.records] == ["The test part was not measured: its list is empty"] * 2
        assert measured(lambda: source("a")) is None
    assert "some test is the validation split too" in caplog.text


def test_data_without_a_test_part(tmp_path):
    from omegaconf import OmegaConf

    exported(tmp_path, "train")
    section = {"_target_": "read_coco", "images": str(tmp_path / "x"), "annotations": str(tmp_path / "x.json")}
    dataset = OmegaConf.create({"name": "some", "train": section, "val": section})
    assert read_test(dataset) is None
    with pytest.raises(UserError, match="some has no section for a test part: measure split=val"):
        read_source(dataset, "test")
    dataset.test = section
    assert read_test(dataset) is None
    with pytest.raises(
        UserError, match=r"There is no test part: the annotation file is missing: there is no .*x\.json"
    ):
        read_source(dataset, "test")
