"""The records of runs and exports: what is written is read again, also of earlier versions, and wrong content is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from records import EXPORT, RUN, TRAINING, export_record, run_record

from seg_det import origin
from seg_det.errors import UserError
from seg_det.facts import Attempt, LeftOut, SplitFingerprint, TrainingFacts
from seg_det.migrations import EXPORT_STEPS, FORMAT, RUN_STEPS
from seg_det.origin import anonymous, commit, portable
from seg_det.runs import ExportRecord, RunRecord

EARLIER = Path(__file__).parent / "fixtures" / "earlier"
KINDS = [path.name for path in sorted(EARLIER.iterdir())]


def again(record):
    """The record by way of its JSON."""
    return type(record).from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))


def test_a_run_comes_back_with_all_of_its_types():
    record = run_record(
        {
            "training": {"epochs": 3},
            "coco": {"AP": 0.5, "ARl": None},
            "images": 8,
            "per_class": {"cat": {"AP": 0.5}},
            "confusion": [[1, 2], [3, 4]],
            "left_out": {"pets val": {"images": 1, "objects": 2}},
            "data": [{"split": "pets val", "images": 8, "annotations": "a", "image_list": "b"}],
        }
    )
    assert record.training == TrainingFacts(**{**TRAINING, "epochs": 3}) and record.model.input_size == (224, 224)
    assert record.figures.tables == {"coco": {"AP": 0.5, "ARl": None}} and record.figures.others == {"images": 8}
    assert record.left_out == {"pets val": LeftOut(1, 2)}
    assert record.data == (SplitFingerprint("pets val", 8, "a", "b"),)
    assert again(record) == record and record.to_dict()["format"] == FORMAT
    assert record.to_dict()["confusion"] == [[1, 2], [3, 4]] and "tested" not in record.to_dict()


def test_an_export_comes_back_with_all_of_its_types():
    record = export_record({"opset": 20, "search": [{"keep_float": [], "value": 0.5, "accepted": False}]})
    assert record.accepted is False and record.verification.figures.file["APs"] == 0.25
    assert record.facts == {"opset": 20} and record.search == (Attempt((), 0.5, False),)
    assert again(record) == record and record.to_dict()["opset"] == 20
    without = export_record({"accepted": None, "not_verified": "it needs macOS"}, without=("metric",))
    assert without.verification is None and without.to_dict()["not_verified"] == "it needs macOS"


@pytest.mark.parametrize("kind", KINDS)
def test_records_of_earlier_versions(kind):
    for cls, name, new in (
        (RunRecord, "metrics.json", {"seed": 0}),
        (ExportRecord, "export.json", {"notes": []}),
    ):
        plain = json.loads((EARLIER / kind / name).read_text())
        record = cls.read(EARLIER / kind / name)
        found = record.to_dict()
        assert {key: found[key] for key in plain if key != "card"} == {k: v for k, v in plain.items() if k != "card"}
        assert found.items() >= new.items() and again(record) == record
    assert found["figures"]["file"] == {plain["metric"]: plain["file_value"]}  # of an export of then the only one


def test_every_format_has_its_step():
    assert set(RUN_STEPS) == set(EXPORT_STEPS) == set(range(1, FORMAT))


@pytest.mark.parametrize(
    ("cls", "changes", "sentence"),
    [
        (RunRecord, {"model": {"params": "many"}}, "cannot be read: model lacks madds, input_size"),
        (RunRecord, {"model": {**RUN["model"], "params": "many"}}, "model.params is 'many', not a whole number"),
        (RunRecord, {"evaluation": {**RUN["evaluation"], "fps": 3}}, "evaluation has no 'fps': it has split, images"),
        (RunRecord, {"per_class": {"cat": 0.5}}, "per_class.cat is 0.5, not a dictionary"),
        (RunRecord, {"confusion": {"cat": {"dog": 0.5}}}, "confusion is {'cat': {'dog': 0.5}}, not"),
        (RunRecord, {"name": None}, "name is None, not a string"),
        (RunRecord, {"card": {**RUN["card"], "std": [0, 1, 1]}}, "card.std is [0, 1, 1], not three numbers above 0"),
        (RunRecord, {"format": FORMAT + 1}, "was written by a later version of seg_det"),
        (ExportRecord, {"megabytes": None}, "megabytes is None, not a number"),
        (ExportRecord, {"accepted": 1}, "accepted is 1, not true or false"),
        (ExportRecord, {"checkpoint": {"path": "a"}}, "checkpoint lacks sha256, megabytes"),
    ],
)
def test_wrong_content_is_one_sentence_with_the_file_and_the_key(tmp_path, cls, changes, sentence):
    file = tmp_path / "x.json"
    file.write_text(json.dumps({**(RUN if cls is RunRecord else EXPORT), **changes}))
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        cls.read(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "it is no JSON"), ('{"a": NaN}', "NaN is no number"), ("[1]", "it is [1], not"), ("{}", "lacks verb, name")],
)
def test_what_is_no_record(tmp_path, text, sentence):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(sentence)):
        RunRecord.read(tmp_path / "metrics.json")


def test_records_are_read_without_torch():
    program = "import sys, seg_det.runs; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_paths_that_are_passed_on_name_no_folder_of_the_machine(tmp_path, monkeypatch):
    home = tmp_path / "home" / "jane"
    work = home / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "jane")
    assert portable(work / "runs" / "a" / "best.ckpt") == portable("runs/a/best.ckpt") == "runs/a/best.ckpt"
    assert portable(home / "janet" / "coco") == "../janet/coco"
    for outside in ("/data/coco", home.parent / "bob" / "coco", "../../bob/coco", home / "old" / "of-jane" / "coco"):
        assert portable(outside) == "coco"
    assert portable("/data/jane") == "USER"
    told = {"a": [str(work / "x"), 3, "torchvision/x", "https://x.org/a"], "b": "~/coco", "c": "a/../b"}
    assert anonymous(told) == {"a": ["x", 3, "torchvision/x", "https://x.org/a"], "b": "../coco", "c": "b"}


def test_the_commit_is_that_of_a_checkout_alone(tmp_path, monkeypatch):
    package = tmp_path / "checkout" / "seg_det"
    package.mkdir(parents=True)
    monkeypatch.setattr(origin, "PACKAGE", package)
    look = commit.__wrapped__
    assert look() is None  # installed: no checkout around it
    git = ["git", "-C", str(package.parent), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    (package / "a.py").write_text("a = 1\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    found = look()
    assert re.fullmatch("[0-9a-f]{40}", found)
    (package / "a.py").write_text("a = 2\n")
    assert look() == f"{found}-dirty"
    monkeypatch.setenv("PATH", "")
    assert look() is None  # without git
