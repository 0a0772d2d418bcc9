"""python export.py as a user runs it, on tiny models of the embedded data set: what it says, writes, proves and refuses."""

import importlib
import importlib.util
import json
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
import torch
from commands import run, run_in_new_process
from export_cells import CELLS, cell

from seg_det import checkpoint
from seg_det.commands.evaluate import _origin
from seg_det.data.shapes import read_shapes
from seg_det.errors import UserError
from seg_det.export.pipeline import completed
from seg_det.kinds.lookup import KINDS
from seg_det.proof import verification
from seg_det.runs import ExportRecord, RunRecord

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]


def invoke(verb, *overrides):
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = hydra.compose(verb, list(overrides))
    return importlib.import_module(f"seg_det.commands.{verb}").main(config)


@pytest.fixture(scope="module")
def work(tiny_shapes, tmp_path_factory):
    """A folder with a checkpoint of a detector and of a segmenter for the embedded data set, and the keys that name it."""
    folder = tmp_path_factory.mktemp("export_command")
    for name in ("ssdlite_v2", "lraspp_v3"):
        source = read_shapes(tiny_shapes, "val", kind=CELLS[name][0], train_images=24, val_images=8)
        model, card = cell(name, width=0.35, categories=source.categories)
        state = {checkpoint.PREFIX + key: value for key, value in model.state_dict().items()}
        torch.save({"state_dict": state, "card": completed(card, "full").to_dict()}, folder / f"{name}.ckpt")
    data = ("dataset=shapes", f"dataset.root={tiny_shapes}", "dataset.train_images=24", "dataset.val_images=8")
    return folder, data


@pytest.fixture
def at_work(work, monkeypatch):
    monkeypatch.chdir(work[0])
    return work


def newest(folder, verb):
    return max((folder / "runs" / verb).glob("*/*"), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def exported(work):
    """What the command made of each model: its folder and export.json."""
    folder, data = work
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # An untrained detector finds hundreds of objects at nearly one score: no hundred are its best, and the last digit
        # decides who suppresses whom. So all are kept; the tests of the target know suppression.
        every = ["postprocess.max_candidates=300", "postprocess.max_detections=3000", "postprocess.iou_threshold=1.0"]
        every += ["input_size=[96,128]"]  # 258 anchors of 8 classes
        settings = {"ssdlite_v2": every, "lraspp_v3": []}
        for name, more in settings.items():
            invoke("export", f"model={folder / name}.ckpt", *data, "target=onnx", "verification.images=5", *more)
            run = newest(folder, "export")
            found[name] = run, ExportRecord.read(run / "export.json")
    return found


def require_anonymous(folder, *names):
    """Everything in the folder of an export but its configuration and log is free of these names and of places."""
    for path in [path for path in folder.rglob("*") if path.is_file() and path.name not in ("config.yaml", "log.txt")]:
        content = path.read_bytes()
        for name in (*names, "pytest-of-", str(ROOT), str(Path.home())):
            assert name.encode() not in content, (path, name)


@pytest.mark.parametrize("name", ["ssdlite_v2", "lraspp_v3"])
def test_the_file_is_proved_on_images(exported, name):
    run, record = exported[name]
    task, verified = CELLS[name][0], record.verification
    assert (verified.metric, verified.images, verified.tolerance) == (KINDS[task].monitor, 5, 1e-3)
    assert verified.accepted and verified.difference <= 1e-3
    if task == "segmentation":
        assert verified.checkpoint_value > 0 and verified.largest["share of an image's pixels"] < 1e-3
    else:
        assert verified.largest["score"] < 1e-3 and verified.largest["box in pixels"] < 0.1
        assert verified.largest["detections without a partner"] == 0
    stem = f"{name}_fp32"
    assert record.files == (f"{stem}.onnx", f"{stem}.json", f"{stem}_run.py")
    written = {path.name for path in run.iterdir()}
    assert written == {*record.files, "config.yaml", "export.json", "log.txt", "report.html"}
    assert record.megabytes == round((run / f"{stem}.onnx").stat().st_size / 1e6, 2)
    assert len(record.checkpoint.sha256) == 64 and record.versions["onnxruntime"]
    assert verified.file_ms > 0 and verified.checkpoint_ms > 0
    assert record.checkpoint.path == f"{name}.ckpt" and [one.split for one in record.data] == ["shapes val"]
    require_anonymous(run)


@pytest.mark.parametrize("name", ["ssdlite_v2", "lraspp_v3"])
def test_the_report_has_checkpoint_and_file_side_by_side(exported, name):
    run, record = exported[name]
    page = (run / "report.html").read_text()
    verified = record.verification
    assert verified.figures.checkpoint[verified.metric] == verified.checkpoint_value
    assert verified.figures.file[verified.metric] == verified.file_value
    assert "Where they differ most" in page and page.count("<figure") == 5  # of five images
    assert "Accepted: " in page
    for label in verified.largest:
        assert label in unescape(page)


def test_evaluate_gives_the_same_figure(at_work, exported):
    folder, data = at_work
    run, _ = exported["lraspp_v3"]
    figures = []
    for model in (run / "lraspp_v3_fp32.onnx", folder / "lraspp_v3.ckpt"):
        invoke("evaluate", f"model={model}", *data, "data.num_workers=0", "device=cpu")
        figures.append(RunRecord.read(newest(folder, "evaluate") / "metrics.json").headline["mIoU"])
    assert 0 < figures[0] == pytest.approx(figures[1], abs=1e-4)


def test_beyond_the_tolerance_the_file_is_rejected(work):
    folder, data = work
    keys = ["precision=int8", "calibration.images=2", "verification.images=3", "tolerance=1e-9"]
    named = [f"model={folder}/lraspp_v3.ckpt", *data, "target=onnx", *keys]
    done = run(folder, "export", *named, check=False, HOME="/home/jane_doe", LOGNAME="jane_doe")
    written = newest(folder, "export")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "REJECTED: mIoU differs by" in done.stdout and "checkpoint" in done.stdout and "onnx int8" in done.stdout
    assert f"{(written / 'lraspp_v3_int8.rejected').relative_to(folder)} was rejected: its mIoU is" in done.stderr
    page = (written / "report.html").read_text()
    assert "python export.py model=lraspp_v3.ckpt" in page and "Rejected: mIoU differs by" in page
    assert not (written / "lraspp_v3_int8.onnx").exists() and (written / "lraspp_v3_int8.rejected").is_file()
    record = ExportRecord.read(written / "export.json")
    assert record.accepted is False and record.files[0] == "lraspp_v3_int8.rejected"
    assert record.command.startswith("python export.py model=lraspp_v3.ckpt dataset=shapes dataset.root=../")
    assert [(one.split, one.images) for one in record.data] == [("shapes val", 8), ("shapes train", 24)]
    require_anonymous(written, "jane_doe")
    # Floats in the segmenter's last layers are counted in 8 bits unless they are told otherwise.
    assert record.facts["quantisation"]["layers"] > 50 and record.facts["quantisation"]["float_layers"] == 0
    assert all(scale > 0 for scale, _ in record.facts["quantisation"]["scales"].values())


def test_the_checkpoint_of_a_file_is_found_from_any_working_folder(tmp_path, monkeypatch):
    file, checkpoint = tmp_path / "runs/export/a/1/a.onnx", tmp_path / "runs/train/a/1/checkpoints/best.ckpt"
    for path in (file, checkpoint):
        path.parent.mkdir(parents=True)
        path.touch()
    opened = SimpleNamespace(path=file, export={"checkpoint": {"path": "runs/train/a/1/checkpoints/best.ckpt"}})
    for folder in (tmp_path, tmp_path / "runs" / "export", Path("/")):
        monkeypatch.chdir(folder)
        assert _origin(opened, needed=True).absolute() == checkpoint
    checkpoint.unlink()
    assert _origin(opened, needed=False) is None
    with pytest.raises(
        UserError, match="names the checkpoint runs/train/a/1/checkpoints/best.ckpt, which is not here: say"
    ):
        _origin(opened, needed=True)


def test_calibration_images_come_from_the_seed_and_not_from_the_verification(tiny_shapes):
    source = read_shapes(tiny_shapes, "train", train_images=24, val_images=8)
    model, card = cell("ssdlite_v2", width=0.35, categories=source.categories)
    settings = {"target": None, "model": model, "card": card, "checkpoint": {}, "run": Path(), "validation": source}

    def drawn(seed, verified):
        """The numbers of the calibration images."""
        setup = verification.Export(**settings, precision="int8", calibration=source, calibration_images=8, seed=seed)
        batches = verification._calibration(setup, KINDS["detection"], replace(source, records=verified))
        return [int(batch.image_ids[0]) for batch in batches]

    first = drawn(0, ())
    assert len(set(first)) == 8 and first == drawn(0, ()) and first != drawn(1, ())
    verified = source.records[:12]
    assert not {record.image_id for record in verified} & set(drawn(0, verified))
    with pytest.raises(UserError, match="wants calibration.images=8, and shapes train has 4 images besides those"):
        drawn(0, source.records[:20])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["precision=int8", "calibration.images=50"], "wants calibration.images=50, and shapes train has 24 images"),
        (["precision=int8", "keep_float=[tail]", "calibration.images=1"], "keep_float: the model has no part 'tail'; it has"),
        (["precision=fp8"], "target=onnx has precision=fp32, fp16, int8, got 'fp8'"),
        (["pipeline=half"], "target=onnx has pipeline=full, normalised, raw, got 'half'"),
        (["resize=letterbox"], "resize must be one of stretch, stretch_antialiased for detection, got 'letterbox'"),
        (["target.observer=mse"], "target.observer must be one of minmax, percentile, entropy, got 'mse'"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(at_work, overrides, sentence):
    with pytest.raises(Exception) as error:
        invoke("export", "model=ssdlite_v2.ckpt", *at_work[1], "target=onnx", "verification.images=1", *overrides)
    assert sentence in " ".join(str(e) for e in (error.value, error.value.__cause__))


def test_an_exported_file_is_not_exported_again(at_work, exported):
    folder, data = at_work
    file = exported["ssdlite_v2"][0] / "ssdlite_v2_fp32.onnx"
    done = run_in_new_process(folder, "export", f"model={file}", *data, "target=onnx", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "is exported already: give the run or the checkpoint that it came from" in done.stderr


def test_a_missing_extra_names_the_command(at_work, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(UserError, match=r"target=onnx needs onnxscript: pip install -e '\.\[onnx\]'"):
        invoke("export", "model=ssdlite_v2.ckpt", *at_work[1], "target=onnx")


def _altered_card(file):
    content = json.loads(file.with_suffix(".json").read_text())
    content["card"]["postprocess"]["iou_threshold"] *= 0.5
    file.with_suffix(".json").write_text(json.dumps(content))


def _altered_file(file):
    import onnx

    model = onnx.load(file)
    model.doc_string = "touched"
    onnx.save(model, file)


def _no_card(file):
    import onnx

    file.with_suffix(".json").unlink()
    model = onnx.load(file)
    del model.metadata_props[:]
    onnx.save(model, file)


def _card_of_another(file):
    from seg_det import sidecar

    card, export = sidecar._opened(file.with_suffix(".json").read_text(), "it")
    sidecar.write(file, card.replace(name="another"), {k: v for k, v in export.items() if k != "files"}, [file.name])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_altered_card, "was altered after the export"),
        (_altered_file, r"is not the file that .* describes \(its sha256 differs\)"),
        (_no_card, "has no card: .*ssdlite_v2_fp32.json is missing"),
        (_card_of_another, "is not the one inside"),
    ],
)
def test_a_card_that_is_missing_or_altered(at_work, exported, tmp_path, change, sentence):
    for path in exported["ssdlite_v2"][0].glob("ssdlite_v2_fp32.*"):
        shutil.copy(path, tmp_path)
    change(tmp_path / "ssdlite_v2_fp32.onnx")
    with pytest.raises(UserError, match=sentence):
        invoke("evaluate", f"model={tmp_path / 'ssdlite_v2_fp32.onnx'}", *at_work[1])


def test_the_card_inside_is_enough(at_work, exported, tmp_path):
    from seg_det.predict.exported import open_file

    shutil.copy(exported["ssdlite_v2"][0] / "ssdlite_v2_fp32.onnx", tmp_path)
    opened = open_file(tmp_path / "ssdlite_v2_fp32.onnx")
    assert opened.card.name == "ssdlite_v2" and opened.export["pipeline"] == "full"


@pytest.mark.parametrize("key", ["postprocess.score_threshold=0.5", "input_size=64"])
def test_what_is_baked_in_cannot_be_changed(at_work, exported, key):
    run, _ = exported["ssdlite_v2"]
    with pytest.raises(
        UserError, match=f"{key.split('=')[0]} is part of the exported .*: leave it out, or export anew"
    ):
        invoke("evaluate", f"model={run / 'ssdlite_v2_fp32.onnx'}", *at_work[1], key)
