"""A run folder, a checkpoint and an exported file of somebody else: nothing that they name is run, and one sentence says so."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from hostile import MARKER, MODELS, card, invoke, sealed, state, training_config, write_run

from seg_det import checkpoint, sidecar
from seg_det.checksums import sha256_of
from seg_det.commands.error_sentences import running_sentence
from seg_det.commands.saved_config import config_of, dataset_of
from seg_det.data.shapes import read_shapes
from seg_det.errors import UserError
from seg_det.predict.lookup import task_of
from seg_det.registry import READERS, build
from seg_det.training.loggers import continue_history, csv_logger
from seg_det.types import ModelCard

TOUCH = ["touch", MARKER]
WRITE = f"open({MARKER!r}, 'w')"
ATTACKS = {
    "a command": ({"_target_": "distutils.spawn.spawn", "cmd": TOUCH}, "'distutils.spawn.spawn' is no reader"),
    "pip": ({"_target_": "pip._internal.cli.main.main", "args": ["--log", MARKER, "help"]}, "main.main' is no reader"),
    "a file of ours": (
        {"_target_": "seg_det.report.tables.write_whole", "path": {"_target_": "pathlib.Path", "_args_": [MARKER]}, "text": ""},
        "'seg_det.report.tables.write_whole' is no reader",
    ),
    "a data set of ours": (
        {"_target_": "seg_det.data.shapes.generate_shapes", "root": MARKER, "train_images": 1, "val_images": 1},
        "'seg_det.data.shapes.generate_shapes' is no reader",
    ),
    "a shell, later": ({"_target_": "os.system", "_partial_": True, "command": f"touch {MARKER}"}, "'os.system' is no reader"),
    "an expression": ({"_target_": "builtins.eval", "_args_": [WRITE]}, "'builtins.eval' is no reader"),
    "a nested path": (
        {"_target_": "read_shapes", "split": "val", "root": {"_target_": "pathlib.Path.touch", "_args_": [MARKER]}},
        r"read_shapes's argument root holds _target_ \('pathlib.Path.touch'\)",
    ),
    "a nested command": (
        {"_target_": "read_voc", "split": "val", "root": ".", "categories": [{"_target_": "os.system", "command": "true"}]},
        r"read_voc's argument categories holds _target_ \('os.system'\)",
    ),
    "positions": ({"_target_": "read_shapes", "_args_": [MARKER, "val"]}, "read_shapes takes no argument _args_"),
    "recursion": ({"_target_": "read_shapes", "_recursive_": True}, "read_shapes takes no argument _recursive_"),
    "the environment": ({"_target_": "${oc.env:SEG_DET_TEST_TARGET}", "cmd": TOUCH}, "'distutils.spawn.spawn' is no reader"),
    "two references": ({"_target_": "${dataset.a}.${dataset.b}", "cmd": TOUCH}, "'distutils.spawn' is no reader"),
    "no name": ({"_target_": ["os", "system"]}, r"\['os', 'system'\] is no reader"),
    "nothing": ("touch", "names no dataset with its splits train and val"),
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEG_DET_TEST_TARGET", "distutils.spawn.spawn")
    return tmp_path


def assert_refused(sentence, message, folder):
    assert (
        sentence is not None and sentence.startswith("error: ") and "\n" not in sentence and "Traceback" not in sentence
    )
    with pytest.raises(UserError, match=message):
        raise UserError(sentence)
    assert not (folder / MARKER).exists()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("verb", ["evaluate", "export"])
def test_the_data_set_of_a_run_folder_runs_nothing(here, verb, attack):
    section, message = ATTACKS[attack]
    write_run(here / "run", {"dataset": {"a": "distutils", "b": "spawn", "train": section, "val": section}})
    assert_refused(invoke(verb, f"model={here / 'run'}"), message, here)


RESUMED = {
    "dataset": ({"train": ATTACKS["a command"][0], "val": ATTACKS["a command"][0]}, "spawn' is no reader"),
    "augmentation": (ATTACKS["a command"][0], "spawn' is no augmentation"),
    "augmentation of a reader": ({"_target_": "read_shapes"}, "'read_shapes' is no augmentation"),
    "loss": (ATTACKS["a shell, later"][0], "'os.system' is no loss"),
    "model": (ATTACKS["a file of ours"][0], "write_whole' is no model"),
    "backbone": (ATTACKS["an expression"][0], "'builtins.eval' is no backbone"),
    "logger": ({"csv": ATTACKS["a command"][0]}, "spawn' is no logger"),
    "callbacks": ({"timer": ATTACKS["a shell, later"][0]}, "'os.system' is no callback"),
}


@pytest.mark.parametrize("section", RESUMED)
def test_resuming_a_run_folder_runs_nothing(here, tiny_shapes, section):
    attack, message = RESUMED[section]
    config, key = training_config(tiny_shapes), section.split()[0]
    (config["task"] if key in ("loss", "model") else config)[key] = copy.deepcopy(attack)
    write_run(here / "run", config)
    assert_refused(invoke("train", f"resume={here / 'run'}", "trainer.max_epochs=3"), message, here)


def test_the_anchors_of_a_foreign_configuration_run_nothing(here, tiny_shapes):
    for overrides, message in (
        (
            ["dataset.train._target_=distutils.spawn.spawn", f"dataset.train.cmd=[touch,{MARKER}]"],
            "spawn' is no reader",
        ),
        (["task.model._target_=distutils.spawn.spawn"], "spawn' is no model"),
        (["backbone._target_=os.system"], "'os.system' is no backbone"),
    ):
        data = [f"dataset.root={tiny_shapes}", "dataset.train_images=24", "dataset.val_images=8"]
        assert_refused(invoke("anchors", *data, *overrides), message, here)
    (here / "anchors.yaml").write_text(f"task: !!python/object/apply:os.system ['touch {MARKER}']")
    sentence = invoke("anchors", *data, "task.model.anchor_shapes=anchors.yaml")
    assert_refused(sentence, "anchors.yaml: the file does not hold a list", here)


def test_the_target_of_an_export_is_one_of_ours(here):
    assert_refused(invoke("export", "target._target_=os.system"), "'os.system' is no export target", here)


# Configurations of run folders that are none


@pytest.mark.timeout(60)  # some of these grow without end in a reader without bounds
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.yaml is no configuration of a run"),
        ("- 1\n- 2", "config.yaml is no configuration of a run .it does not hold a mapping."),
        ("hello", "config.yaml names no dataset with its splits"),
        ("dataset: {train: {}}", "config.yaml names no dataset with its splits"),
        ("dataset: {train: 5, val: [1]}", "config.yaml names no dataset with its splits"),
        (f"dataset: !!python/object/apply:os.system ['touch {MARKER}']", "config.yaml is no configuration of a run"),
        ("a: &a [1]\nb: *a", "config.yaml is no configuration of a run .it uses the alias 'a', which no run writes"),
        ("a: " + "[" * 40 + "]" * 40, "config.yaml is no configuration of a run .it has more than 16 levels"),
        ("a: " + "[" * 5000, "config.yaml is no configuration of a run"),
        ("".join(f"b{i}: ${{b{i + 1}}}${{b{i + 1}}}\n" for i in range(30)), "joins more than 16 references"),
        ("".join(f"b{i}: {{x: '${{b{i + 1}}}', y: '${{b{i + 1}}}'}}\n" for i in range(30)), "which has references of its own"),
        ("a: " + "x" * 2**21, "has more than 1048576 bytes"),
        ("a: " + "x" * 5000, "which is too long"),
        ("\x00", "config.yaml is no configuration of a run"),
        ("dataset: ${dataset}", "config.yaml"),
    ],
)  # fmt: skip
def test_a_configuration_that_is_none(here, text, message):
    write_run(here / "run", text)
    with pytest.raises(UserError, match=message):
        dataset_of(here / "run" / "checkpoints" / "best.ckpt")
    assert not (here / MARKER).exists()
    (here / "run" / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"config\.yaml is no configuration of a run"):
        config_of(here / "run" / "checkpoints" / "best.ckpt")


LOSS = {"_target_": "label_loss", "_partial_": True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": {"task": "../../../up", "backbone": "v1", "dataset": "x"}}, "cannot name a folder of runs"),
        ({"choices": {"task": "ssdlite"}}, "config.yaml is no configuration of a training run: config.choices lacks backbone"),
        ({"task": "ssdlite"}, "config.task is 'ssdlite', not a dictionary"),
        ({"task": {"kind": "x", "model": {}, "loss": LOSS, "postprocess": {}}}, "is for the task 'x', which is not known"),
        ({"dataset": {"train": 5, "val": "x"}}, "dataset.train must be a section with _target_, a reader, and its arg"),
        ({"recipe": {"lr": "fast"}}, "recipe.lr is 'fast', not a number"),
        ({"recipe": {"lr": 0.1, "unknown": 1}}, "recipe has no 'unknown': it has optimiser"),
        ({"trainer": {"max_epochs": "many"}}, "trainer.max_epochs is 'many', not a whole number"),
        ({"seed": "x"}, "config.seed is 'x', not a whole number"),
        ({"data": {"size": "big", "batch_size": 1, "num_workers": 0}}, "config.data.size is 'big', not a whole number or a list"),
    ],
)  # fmt: skip
def test_resuming_with_sections_of_another_form(here, tiny_shapes, changes, message):
    write_run(here / "run", training_config(tiny_shapes, **changes))
    assert_refused(invoke("train", f"resume={here / 'run'}"), message, here)
    assert not (here.parent / "up").exists()


# Data that a saved configuration would have written


@pytest.mark.parametrize("verb", ["evaluate", "export", "train"])
def test_a_saved_configuration_generates_no_data_elsewhere(here, tmp_path_factory, verb):
    away = tmp_path_factory.mktemp("away") / "shapes"
    write_run(here / "run", training_config(away))
    key = "resume" if verb == "train" else "model"
    sentence = invoke(verb, f"{key}={here / 'run'}", *(["trainer.max_epochs=3"] if verb == "train" else []))
    message = (
        f"shapes data set {away} is missing, and a saved configuration generates none outside .* dataset.root={away}"
    )
    assert_refused(sentence, message, here)
    assert not away.exists() and not list(away.parent.iterdir())


def test_what_the_user_names_is_generated(here, tmp_path_factory):
    small = {"split": "val", "train_images": 1, "val_images": 1}
    away = tmp_path_factory.mktemp("away")
    assert len(read_shapes(here / "data" / "shapes", **small, within=[here]).records) == 1
    assert len(read_shapes(away / "shapes", **small, within=[here, away / "shapes"]).records) == 1
    away.joinpath("empty").mkdir()
    (here / "link").symlink_to(away / "linked")
    for root in (away / "empty", here / "link", here / ".." / "up", Path("/proc/shapes")):
        with pytest.raises(UserError, match="is missing, and a saved configuration generates none outside"):
            read_shapes(root, **small, within=[here])
    with pytest.raises(UserError, match="read_shapes is given within by the program"):
        build({"_target_": "read_shapes", "root": "x", "split": "val", "within": ["/"]}, READERS, within=[here])
    with pytest.raises(UserError, match="has at most 1000000 images a split"):
        read_shapes(here / "more", "val", train_images=10**7)


# Cards


def load(folder, changes, tensors=None):
    """A checkpoint whose card has ``changes``, loaded."""
    plain = {**card(), **changes}
    torch.save({"state_dict": state() if tensors is None else tensors, "card": plain}, folder / "x.ckpt")
    model, found = checkpoint.load(folder / "x.ckpt")
    return task_of(found, "The card of x.ckpt", model).predictor(model, found)


def model_with(**changes):
    return {"model": {**MODELS["detection"], **changes}}


FOREIGN_CARDS = {
    "a foreign model": ({"model": {"_target_": "os.system", "command": f"touch {MARKER}"}}, "'os.system' is no model"),
    "a foreign backbone": (model_with(backbone={"_target_": "subprocess.run", "args": TOUCH}), "'subprocess.run' is no backbone"),
    "a reader": (model_with(_target_="seg_det.data.shapes.read_shapes"), "'seg_det.data.shapes.read_shapes' is no model"),
    "a nested target": (model_with(taps=[{"_target_": "os.system"}]), r"argument taps holds _target_ \('os.system'\)"),
    "no backbone": ({"model": {"_target_": "SSDLite", "num_classes": 8}}, "SSDLite lacks the argument backbone"),
    "a backbone that is text": (model_with(backbone="v2"), "The configuration of a backbone must be a dictionary"),
    "taps of the backbone": (model_with(backbone={**MODELS["detection"]["backbone"], "taps": ["c5"]}), "takes no argument taps"),
    "a wrong type": (model_with(bn_eps="small"), "SSDLite's argument bn_eps is 'small', not a number"),
    "no classes": (model_with(num_classes=-1), "task.model.class_outputs must name -1 of the outputs 1 to -1"),
    "other classes": ({"categories": []}, "names 0 classes, and its model has 8"),
    "another width": (model_with(backbone={"_target_": "MobileNetV1", "width": 0.5}), "and its tensors do not belong together"),
    "an unknown task": ({"task": "telepathy"}, "is for the task 'telepathy', which is not known here: detection"),
    "another task": ({"task": "segmentation"}, "is for segmentation, and its model SSDLite gives DenseDetections"),
    "an unknown resize": ({"resize": "__import__('os')"}, "resizes by .*, and detection has stretch"),
    "an unknown setting": ({"postprocess": {"softness": 1}}, "postprocess takes no argument softness"),
    "a setting of a wrong type": ({"postprocess": {"max_detections": "all"}}, "postprocess.max_detections is 'all', not a whole"),
    "an unknown key": ({"hook": "os.system"}, "card has no 'hook': it has task, name, model"),
    "a name with a path": ({"name": "../../up"}, "card.name is '../../up', not a name that a folder can have"),
    "a name with code": ({"name": 'x"\nimport os\n"'}, "card.name is .*, not a name that a folder can have"),
    "three sides": ({"input_size": [1, 2, 3]}, "card.input_size holds 3 values, not 2"),
    "no side": ({"input_size": [0, 64]}, r"card.input_size is \[0, 64\], not"),
    "a mean that is none": ({"mean": [float("nan")] * 3}, "card.mean is nan, not a finite number"),
    "no deviation": ({"std": [1, 0, 1]}, r"card.std is \[1, 0, 1\], not three numbers above 0"),
    "another order of colours": ({"colour_order": "BGR"}, "card.colour_order is 'BGR', not 'RGB'"),
    "categories that are text": ({"categories": ["cat"]}, r"card.categories\[0\] is 'cat', not a dictionary"),
    "categories without names": ({"categories": [{"id": 1}]}, r"card.categories\[0\] lacks name"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN_CARDS)
def test_cards_that_are_not_ours(here, case):
    changes, message = FOREIGN_CARDS[case]
    with pytest.raises(UserError, match=message) as refused:
        load(here, changes)
    assert "x.ckpt" in str(refused.value) or str(refused.value).startswith("postprocess")
    assert "\n" not in str(refused.value) and not (here / MARKER).exists()


HUGE = {
    "classes": model_with(num_classes=10**12),
    "outputs": model_with(outputs=10**12),
    "width": model_with(width=1e9),
    "width beyond numbers": model_with(width=1e308),
    "channels": {"model": {**MODELS["segmentation"], "channels": 10**6}},
    "rates": {"model": {**MODELS["segmentation"], "_target_": "DeepLabv3", "rates": [1] * 100_000}},
    "anchors": model_with(anchor_shapes=[[[0.5, 1.0]]] * 100_000),
    "anchors of a map": model_with(anchor_shapes=[[[0.5, 1.0]] * 30_000] * 6),
    "values": model_with(scales=[0.5] * 1_000_000),
    "taps": model_with(taps=["c3"] * 10_000),
    "input": {"input_size": [100_000, 100_000]},
    "scales": {"task": "segmentation", "model": MODELS["segmentation"], "postprocess": {"scales": [1e9]}},
}


@pytest.mark.timeout(60)  # building such a model would take longer, or all memory
@pytest.mark.parametrize("case", HUGE)
def test_absurd_sizes_end_at_once(here, case):
    with pytest.raises(UserError) as refused:
        load(here, HUGE[case])
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1000


@pytest.mark.parametrize("change", ["lost", "more", "shape", "text", "complex", "none"])
def test_tensors_that_are_not_the_card_s(here, change):
    tensors = state()
    key = next(iter(tensors))
    changed = {"shape": tensors[key][:1], "text": "weights", "complex": tensors[key].to(torch.complex64)}
    if change == "lost":
        del tensors[key]
    else:
        tensors["other" if change == "more" else key] = changed.get(change, torch.zeros(1))
    with pytest.raises(UserError, match=r"The card of .*x\.ckpt and its tensors do not belong together: "):
        load(here, {}, {} if change == "none" else tensors)


def dotted(model):
    """``model`` as earlier versions wrote it."""
    named = {**model, "_target_": f"seg_det.models.elsewhere.{model['_target_']}"}
    named["backbone"] = {**model["backbone"], "_target_": f"seg_det.models.backbones.{model['backbone']['_target_']}"}
    return named


def test_files_of_earlier_versions_load(here, tiny_shapes):
    assert load(here, {"model": dotted(MODELS["detection"])}).model.num_classes == 8
    config = training_config(tiny_shapes)
    config["dataset"]["val"]["_target_"] = "seg_det.data.shapes.read_shapes"
    run = write_run(here / "run", config, plain_card={**card(), "model": dotted(MODELS["detection"])})
    assert invoke("evaluate", f"model={run}", "data.num_workers=0", "device=cpu") is None
    assert list((here / "runs" / "evaluate" / "small_detection").glob("*/metrics.json"))


# Exported files


@pytest.fixture
def exported(here, monkeypatch):
    """A file with a sidecar, opened as ONNX would be; returns what writes the sidecar."""
    from seg_det.export.onnx import OnnxTarget

    (here / "m.onnx").write_bytes(b"a graph")
    monkeypatch.setattr(OnnxTarget, "embedded", lambda self, path: None)
    monkeypatch.setattr(OnnxTarget, "session", staticmethod(lambda path: lambda image: {}))
    about = {"target": "onnx", "pipeline": "raw", "precision": "fp32", "outputs": ["logits", "deltas"]}
    about["checkpoint"] = {"path": str(here / "run" / "checkpoints" / "best.ckpt"), "sha256": "0" * 64}

    def write(card_changes=(), export_changes=()):
        files = {"m.onnx": sha256_of(here / "m.onnx")}
        content = {
            "card": {**card(), **dict(card_changes)},
            "export": {**about, "files": files, **dict(export_changes)},
        }
        (here / "m.json").write_text(sealed(content))

    return write


def test_the_run_that_a_sidecar_names_runs_nothing(here, exported):
    pytest.importorskip("onnxruntime")
    exported()
    for section, message in ATTACKS.values():
        write_run(here / "run", {"dataset": {"a": "distutils", "b": "spawn", "train": section, "val": section}})
        assert_refused(invoke("evaluate", f"model={here / 'm.onnx'}"), message, here)


SIDECARS = {
    "a foreign model": ({"model": {"_target_": "os.system", "command": f"touch {MARKER}"}}, {}, "'os.system' is no model"),
    "another task": ({"task": "segmentation"}, {}, "is for segmentation, and its model SSDLite gives"),
    "an unknown task": ({"task": "x"}, {}, "is for the task 'x', which is not known here"),
    "absurd classes": (model_with(num_classes=10**12), {}, "m.onnx describes a model that cannot be built"),
    "files elsewhere": ({}, {"files": {"../../etc/passwd": "0" * 64, "m.onnx": "0" * 64}}, "which is no file in the same folder"),
    "other files": ({}, {"files": {"n.onnx": "0" * 64}}, "m.json does not describe m.onnx"),
    "files that are a list": ({}, {"files": ["m.onnx"]}, "export.files is .*, not a dictionary"),
    "a sum that is none": ({}, {"files": {"m.onnx": "x"}}, "export.files has 'x' for m.onnx, which is no sha256"),
    "an unknown pipeline": ({}, {"pipeline": "os.system"}, "export.pipeline is 'os.system', not one of full, normalised, raw"),
    "a checkpoint that is text": ({}, {"checkpoint": "x"}, "export.checkpoint is 'x', not a dictionary"),
    "no checkpoint": ({}, {"checkpoint": {}}, "m.onnx names no checkpoint: say which data with dataset="),
    "a sum that is a number": ({}, {"files": {"m.onnx": 5}}, "export.files has '5' for m.onnx, which is no sha256"),
    "a path that is none": ({}, {"checkpoint": {"path": 5}}, "m.onnx names no checkpoint: say which data with dataset="),
    "anchors": ({}, {"anchors": [[1, 2, 3]]}, "export.anchors holds rows that are not four numbers"),
    "an unknown key of the card": ({"hook": 1}, {}, "m.json cannot be used: card has no 'hook'"),
}  # fmt: skip


@pytest.mark.parametrize("case", SIDECARS)
def test_sidecars_that_are_not_ours(here, exported, case):
    pytest.importorskip("onnxruntime")
    card_changes, export_changes, message = SIDECARS[case]
    exported(card_changes, export_changes)
    sentence = invoke("evaluate", f"model={here / 'm.onnx'}")
    assert_refused(sentence, message, here)
    assert "m.onnx" in sentence or "m.json" in sentence


def test_a_sidecar_that_is_no_json(here, exported):
    pytest.importorskip("onnxruntime")
    for text in (
        "",
        "[]",
        "5",
        "[" * 100_000,
        '{"card": {}}',
        '{"checksum": 1' + "0" * 5000 + "}",
        sealed({"card": 1, "export": 2}),
    ):
        (here / "m.json").write_text(text)
        assert_refused(invoke("evaluate", f"model={here / 'm.onnx'}"), "m.json", here)
    exported()
    content = json.loads((here / "m.json").read_text())
    content["card"]["name"] = "another"
    (here / "m.json").write_text(json.dumps(content))
    assert_refused(invoke("evaluate", f"model={here / 'm.onnx'}"), "was altered after the export", here)


def test_a_sidecar_of_an_earlier_version_is_read(exported, here):
    exported({"model": dotted(MODELS["detection"])})
    found = sidecar.read(here / "m.onnx", None)
    assert checkpoint.outline(found.card, "m").num_classes == 8


def test_a_card_and_the_card_inside_must_say_the_same(exported, here):
    exported()
    inside = sealed({"card": card(), "export": {"pipeline": "full"}})
    with pytest.raises(UserError, match="is not the one inside"):
        sidecar.read(here / "m.onnx", inside)
    assert (
        sidecar.read(here / "m.onnx", sealed({"card": card(), "export": {"pipeline": "raw"}})).card.task == "detection"
    )


def test_a_sentence_is_one_line_whatever_a_file_holds():
    assert running_sentence(UserError("no class\n'a\x1b[2J\x07b' here")) == r"no class 'a\x1b[2J\x07b' here"


def test_curves_that_are_none_are_left_out(here):
    contents = [b"", b"a,b\n1,2\n", b"step\nx\n", b"step\n\0\n", b"step,loss\n1,2,3\n", b"\xff\xfe"]
    for place, content in enumerate(contents):
        (here / "old.csv").write_bytes(content)
        logger = csv_logger(run=here / str(place), name="run")
        continue_history([logger], here / "old.csv", 5)
        logger.log_metrics({"loss": 1.0}, step=5)
        logger.save()
        assert (here / str(place) / "metrics.csv").read_text().splitlines()[-1].startswith("1.0,5")


def test_the_security_policy_names_tests_that_exist():
    root = Path(__file__).parent.parent
    text = (root / "SECURITY.md").read_text()
    files = {word.partition("::")[0] for word in re.findall(r"`((?:\w+/)*test_\w+\.py(?:::\w+)?)`", text)}
    sources = {path: path.read_text() for path in (root / "tests").rglob("test_*.py")}
    named = {file: [path for path in sources if path.as_posix().endswith(f"/{file}")] for file in files}
    assert files and all(len(found) == 1 for found in named.values()), named
    names = set(re.findall(r"`(?:\S+::)?(test_\w+)`", text))
    assert names and [name for name in sorted(names) if f"def {name}(" not in "".join(sources.values())] == []


def test_the_program_of_an_export_holds_no_code_of_a_card(here):
    for name in ('x"""\nimport os', "x/../y", ".hidden", "", "a\tb"):
        with pytest.raises(UserError, match="card.name is .*, not a name that a folder can have"):
            ModelCard.from_dict({**card(), "name": name})
    assert ModelCard.from_dict({**card(), "name": "it's a net (2)"}).name == "it's a net (2)"
