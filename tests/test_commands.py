"""The commands as a user types them, on a tiny data set."""

import csv
import getpass
import json
import shlex
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from commands import run, run_in_new_process
from hydra.core.utils import JobReturn
from hydra.types import RunMode
from omegaconf import OmegaConf

from seg_det import checkpoint
from seg_det.commands.sweep import SweepTable
from seg_det.errors import UserError
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.classifier import Classifier

FAST = [
    "backbone.width=0.35",
    "data.size=64",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "dataset.train_images=24",
    "dataset.val_images=8",
]

SMALL = [override for override in FAST if not override.startswith("dataset.")]


@pytest.fixture(scope="module")
def trained(tiny_shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    done = run_in_new_process(folder, "train", "task=ssdlite", "backbone=v2", f"dataset.root={tiny_shapes}", *FAST)
    (found,) = (folder / "runs" / "train" / "ssdlite_v2_shapes").iterdir()
    return folder, found, done


def test_train_says_where_everything_lies(trained):
    folder, found, done = trained
    name = found.relative_to(folder)
    for line in (
        f"run folder  {name}",
        f"report      {name / 'report.html'}",
        f"next        python evaluate.py model={name}",
    ):
        assert line in done.stdout
    assert "ssdlite_v2_shapes on" in done.stdout and "AP50" in done.stdout
    assert "TRAINING FROM SCRATCH" in done.stdout  # the recipe's weights are for width 1.0
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr


def test_run_folder_keeps_its_configuration(trained):
    _, found, _ = trained
    text = (found / "config.yaml").read_text()
    assert "width: 0.35" in text and "${hydra" not in text
    assert sorted(p.name for p in found.iterdir()) == [
        "checkpoints", "config.yaml", "log.txt", "metrics.csv", "metrics.json", "predictions.json", "report.html",
        "tensorboard",
    ]  # fmt: skip


def test_the_report_says_how_to_do_it_again_and_where_it_was_done(trained, tiny_shapes):
    _, found, _ = trained
    metrics = json.loads((found / "metrics.json").read_text())
    words = ["python", "train.py", "task=ssdlite", "backbone=v2", f"dataset.root={tiny_shapes}", *FAST]
    assert metrics["command"] == shlex.join([*words, "dataset=shapes"])  # which the folder was recognised as
    assert metrics["environment"]["torch"] == torch.__version__ and metrics["environment"]["device"] == "cpu"
    assert str(Path.home()) not in json.dumps(metrics["environment"])
    assert getpass.getuser() not in metrics["environment"].values()
    assert sum(part["params"] for part in metrics["cost"].values()) == metrics["model"]["params"]
    assert [fit["split"] for fit in metrics["anchors"]] == ["shapes train", "shapes val"]
    assert len(metrics["precision_recall"]["overall"]["IoU 0.50"]) == 101
    assert "val/AP/circle" in (found / "metrics.csv").read_text().splitlines()[0].split(",")
    page = (found / "report.html").read_text()
    assert page.count("<figure") == 8 and 'id="chooser"' in page and len(page) < 6_000_000


def test_evaluate_alone_takes_the_newest_run(trained):
    folder, found, _ = trained
    done = run_in_new_process(folder, "evaluate")
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    (evaluation,) = (folder / "runs" / "evaluate" / "ssdlite_v2_shapes").iterdir()
    ours, theirs = (json.loads((f / "metrics.json").read_text()) for f in (evaluation, found))
    assert ours["coco"] == theirs["coco"] and ours["verb"] == "evaluate"
    assert str(evaluation.relative_to(folder)) in done.stdout
    assert ours["command"] == f"python evaluate.py model={found.relative_to(folder)}"
    assert [fit["split"] for fit in ours["anchors"]] == ["shapes val"]
    for shown in (*ours["coco"], *ours["per_class"], "AP50_all_point", "AP50_11_point", "difficult_counted"):
        assert shown in done.stdout
    again = run(folder, "evaluate", f"model={found}", "split=train", "postprocess.score_threshold=0.99")
    assert "shapes train" in again.stdout


def test_predictions_carry_the_data_set_s_own_ids(trained):
    _, found, _ = trained
    ids = {row["category_id"] for row in json.loads((found / "predictions.json").read_text())}
    assert ids and ids <= set(range(1, 9))


def test_resume_goes_on_with_the_run_s_own_configuration(trained):
    folder, found, _ = trained
    target = folder / "resumed"
    done = run(folder, "train", f"resume={found}", "trainer.max_epochs=2", f"hydra.run.dir={target}")
    metrics = json.loads((target / "metrics.json").read_text())
    assert metrics["training"]["epochs"] == 2 and metrics["training"]["steps"] == 6
    assert metrics["card"]["model"]["backbone"]["width"] == 0.35
    assert "error" not in done.stderr
    refused = run(folder, "train", f"resume={found}", "backbone=v2", "augmentation=none", check=False)
    assert "A resumed run keeps its own configuration: leave out backbone=v2 augmentation=none." in refused.stderr


def test_resume_asks_for_the_last_checkpoint(trained, tmp_path, monkeypatch):
    asked = []

    def find(reference, *, prefer="best"):
        asked.append((reference, prefer))
        raise UserError("seen enough")

    monkeypatch.setattr(checkpoint, "find", find)
    done = run(tmp_path, "train", f"resume={trained[1]}", check=False)
    assert asked == [(str(trained[1]), "last")] and "error: seen enough" in done.stderr


@pytest.mark.usefixtures("no_connections")
@pytest.mark.parametrize("task", ["lraspp", "raspp", "deeplabv3"])
def test_segmentation_trains_on_one_image_a_step(tiny_shapes, tmp_path, task):
    small = ["data.batch_size=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1"]
    run(tmp_path, "train", f"task={task}", f"dataset.root={tiny_shapes}", *FAST, *small, "hydra.run.dir=run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["training"]["steps"] == 2 and 0 <= metrics["headline"]["mIoU"] <= 1


@pytest.mark.parametrize(("task", "score"), [("ssdlite", "softmax"), ("ssdlite_focal", "sigmoid")])
def test_scores_are_read_as_they_were_trained(tiny_shapes, tmp_path, task, score):
    run(tmp_path, "train", f"dataset.root={tiny_shapes}", *FAST, f"task={task}")
    (found,) = (tmp_path / "runs").rglob("metrics.json")
    assert json.loads(found.read_text())["card"]["postprocess"]["score"] == score


@pytest.fixture(scope="module")
def classified(tiny_imagefolder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    done = run(folder, "train", "task=classifier", "dataset=imagefolder", f"dataset.root={tiny_imagefolder}", *SMALL)
    (found,) = (folder / "runs" / "train" / "classifier_v2_imagefolder").iterdir()
    return folder, found, done


def test_a_classifier_is_trained_and_evaluated(classified):
    folder, found, done = classified
    assert "top1" in done.stdout and f"next        python evaluate.py model={found.relative_to(folder)}" in done.stdout
    metrics = json.loads((found / "metrics.json").read_text())
    assert metrics["card"]["task"] == "classification" and metrics["card"]["resize"] == "centre_crop"
    assert list(metrics["per_class"]) == ["blue", "green", "red"] and 0 <= metrics["accuracy"]["top1"] <= 1
    again = run(folder, "evaluate", f"model={found}")
    (evaluation,) = (folder / "runs" / "evaluate" / "classifier_v2_imagefolder").iterdir()
    assert json.loads((evaluation / "metrics.json").read_text())["accuracy"] == metrics["accuracy"]
    assert "top1" in again.stdout
    refused = run(folder, "evaluate", f"model={found}", "postprocess.iou_threshold=0.5", check=False)
    assert "classifier_v2_imagefolder has no postprocess.iou_threshold: it has none." in refused.stderr


def test_a_classifier_is_a_start_for_a_detector(classified, tiny_shapes, tmp_path):
    _, found, _ = classified
    start = [f"backbone.weights={found}", "trainer.fast_dev_run=true"]
    done = run(tmp_path, "train", f"dataset.root={tiny_shapes}", *FAST, *start, "backbone.scale_head=false")
    assert f"Backbone from {found}" in done.stdout and "left as initialised" not in done.stdout
    narrower = run(tmp_path, "train", f"dataset.root={tiny_shapes}", *FAST, *start)
    assert "left as initialised: head" in narrower.stdout


def test_a_weights_file_of_other_tools_is_evaluated(tiny_imagefolder, tmp_path):
    torch.manual_seed(0)
    model = Classifier(partial(MobileNetV1, width=0.25), num_classes=3)
    torch.save(model.state_dict(), tmp_path / "other.pth")
    data = ["dataset=imagefolder", f"dataset.root={tiny_imagefolder}", "input_size=64", "data.num_workers=0"]
    done = run(tmp_path, "evaluate", "model=other.pth", *data)
    assert "other on colours val, 12 images" in done.stdout and "top1" in done.stdout
    (found,) = tmp_path.rglob("metrics.json")
    card = json.loads(found.read_text())["card"]
    assert card["model"]["backbone"]["width"] == 0.25 and card["input_size"] == [64, 64]
    refused = run(tmp_path, "evaluate", "model=other.pth", check=False)
    assert "error: other.pth was not trained here: say which data with dataset=imagefolder" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["task=classifier"], "shapes train does not hold images with one class each"),
        (["task=classifier", "augmentation=light"], "choose dataset=imagefolder"),
    ],
)
def test_data_of_another_kind(tiny_shapes, tmp_path, arguments, sentence):
    done = run(tmp_path, "train", f"dataset.root={tiny_shapes}", *FAST, *arguments, check=False)
    assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr


def test_a_network_of_timm_where_timm_is_not_installed(tiny_shapes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    fast = [override for override in FAST if "backbone" not in override]
    arguments = ["backbone=timm", "backbone.name=resnet18", *fast]
    done = run(tmp_path, "train", f"dataset.root={tiny_shapes}", *arguments, check=False)
    assert "error: backbone=timm needs timm: pip install -e '.[timm]'" in done.stderr and "Traceback" not in done.stderr


def test_fast_dev_run_leaves_nothing_behind(tiny_shapes, tmp_path):
    done = run(tmp_path, "train", f"dataset.root={tiny_shapes}", *FAST, "trainer.fast_dev_run=true")
    assert "fast_dev_run: one batch was trained and one evaluated; nothing was saved." in done.stdout
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("words", "status"), [([], "failed"), (["preview=true"], "done"), (["trainer.fast_dev_run=true"], "done")]
)
def test_jobs_that_end_without_figures(tmp_path, words, status):
    """A preview and fast_dev_run have none, and do not fail for that."""
    config = OmegaConf.from_dotlist(["preview=false", "trainer.fast_dev_run=false", *words])
    hydra = OmegaConf.create({"hydra": {"mode": RunMode.MULTIRUN, "runtime": {"output_dir": str(tmp_path / "0")}}})
    table = SweepTable()
    table.on_job_end(config, JobReturn(hydra_cfg=hydra, overrides=words))
    assert [row["status"] for row in table.rows] == [status]


def test_sweep_records_failures_and_goes_on(tiny_shapes, tmp_path):
    done = run(
        tmp_path,
        "train",
        "-m",
        f"dataset.root={tiny_shapes}",
        *FAST,
        "backbone.width=0.35,-1",
        "data.size=48,64",
        check=False,
    )
    assert done.returncode == 1
    (sweep,) = (tmp_path / "runs" / "train" / "sweep").iterdir()
    rows = list(csv.DictReader((sweep / "sweep.csv").open()))
    assert [(row["backbone.width"], row["data.size"], row["status"]) for row in rows] == [
        ("0.35", "48", "done"), ("0.35", "64", "done"), ("-1", "48", "failed"), ("-1", "64", "failed"),
    ]  # fmt: skip
    assert rows[2]["error"].startswith("backbone.width must lie between 0.0625") and "got -1" in rows[2]["error"]
    assert float(rows[0]["madds"]) < float(rows[1]["madds"]) and float(rows[0]["AP"]) >= 0
    assert sorted(p.name for p in sweep.iterdir() if p.is_dir()) == ["0", "1", "2", "3"]
    assert (sweep / "1" / "metrics.json").is_file() and (sweep / "2" / "error.json").is_file()
    assert "sweep table" in done.stdout and "2 of 4 jobs failed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["dataset=coco", "dataset.root=nowhere"],
            "error: the annotation file is missing: there is no nowhere/annotations",
        ),
        (["dataset=custom_coco"], "error: dataset.root has no value: add dataset.root=... to the command line."),
        (
            ["backbone.widht=1"],
            "error: there is no key backbone.widht: backbone.width or task.model.width may be meant.",
        ),
        (["task.model.taps=[c9]"], "error: MobileNetV2 has no tap c9"),
        (["recipe.optimiser=adam"], "error: recipe.optimiser must be one of sgd, rmsprop, adamw, muon, got 'adam'."),
        (["backbone.weights=torchvision/mobilenet_v9"], "torchvision/mobilenet_v2"),
        (["backbone.weights=missing.pth"], "error: "),
        (["task.loss.classification=hinge"], "error: task.loss.classification must be one of softmax, sigmoid, focal"),
        (["resume=runs/none"], "error: There is no run or checkpoint runs/none"),
        (["weights=runs/none"], "error: weights=runs/none is no published name"),
    ],
)
def test_mistakes_get_one_sentence(tiny_shapes, tmp_path, arguments, sentence):
    shapes = [f"dataset.root={tiny_shapes}", *FAST] if not arguments[0].startswith("dataset=") else []
    done = run(tmp_path, "train", *shapes, *arguments, check=False)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_full_error_on_request(tmp_path):
    done = run(tmp_path, "train", "resume=runs/none", check=False, HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr and "UserError" in done.stderr


def test_a_broken_image_is_named_from_a_worker_too(tiny_shapes, tmp_path):
    import shutil

    root = tmp_path / "shapes"
    shutil.copytree(tiny_shapes, root)
    image = root / "images" / "train" / "000003.jpg"
    image.write_bytes(image.read_bytes()[:2000])
    for workers in (0, 1):
        # A folder named by the second would be that of the other run.
        arguments = [f"dataset.root={root}", *FAST, f"data.num_workers={workers}", f"hydra.run.dir=runs/{workers}"]
        done = run(tmp_path, "train", *arguments, check=False)
        assert done.stderr.strip().splitlines()[-1].startswith("error: ") and str(image) in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    skipped = run(tmp_path, "train", f"dataset.root={root}", *FAST, "dataset.on_bad=skip")
    assert "1 problem in the data" in skipped.stdout
    (found,) = (tmp_path / "runs").rglob("metrics.json")
    problems = json.loads(found.read_text())["problems"]
    assert len(problems) == 1 and "000003.jpg" in problems[0]


def test_evaluate_without_a_run(tmp_path):
    done = run(tmp_path, "evaluate", check=False)
    assert (
        done.stderr.strip()
        == "error: There is no training run below runs/train: run python train.py first, or name a model=."
    )


def test_a_run_is_never_overwritten(trained):
    folder, found, _ = trained
    before = (found / "config.yaml").read_text()
    done = run(folder, "train", *FAST, f"hydra.run.dir={found}", check=False)
    assert "belongs to another run, which would be overwritten" in done.stderr
    assert (found / "config.yaml").read_text() == before


def test_backbone_of_a_run_starts_a_model_of_other_classes(trained, real_data):
    folder, found, _ = trained
    voc = [f"dataset.root={real_data / 'data' / 'raccoon_voc'}", "dataset=custom_voc"]
    fast = [a for a in FAST if not a.startswith("dataset.")]
    target = folder / "raccoon"
    limits = ["trainer.limit_train_batches=2", "trainer.limit_val_batches=1"]
    best = found / "checkpoints" / "best.ckpt"
    run(folder, "train", *voc, *fast, *limits, f"backbone.weights={best}", f"hydra.run.dir={target}")
    assert json.loads((target / "metrics.json").read_text())["training"]["weights"] == str(best)
    refused = run(folder, "train", *voc, *fast, *limits, f"weights={found}", check=False)
    assert "best.ckpt has 8 classes, the data has 1," in refused.stderr
    other = run(folder, "evaluate", f"model={found}", *voc, check=False)
    assert "has 1 classes, the model ssdlite_v2_shapes has 8, and they are not the same" in other.stderr
    assert torch.load(best, weights_only=True)["card"]["name"] == "ssdlite_v2_shapes"


@pytest.mark.slow
def test_two_processes_share_a_run(tiny_shapes, tmp_path):
    two = ["trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=4"]
    fast = [override for override in FAST if "batch_size" not in override]
    done = run_in_new_process(tmp_path, "train", f"dataset.root={tiny_shapes}", *fast, *two)
    (found,) = (tmp_path / "runs").rglob("metrics.json")
    metrics = json.loads(found.read_text())
    assert metrics["training"]["steps"] == 3  # 24 images, 4 for each process and step
    assert done.stdout.count("run folder") == 1 and "Traceback" not in done.stderr
    rows = list(csv.DictReader((found.parent / "metrics.csv").open()))
    best = torch.load(found.parent / "checkpoints" / "best.ckpt", weights_only=True)["card"]["metrics"]
    assert float(next(row["val/AP"] for row in rows if row["val/AP"])) == pytest.approx(metrics["coco"]["AP"], abs=1e-6)
    assert best["AP"] == pytest.approx(metrics["coco"]["AP"], abs=1e-6)
