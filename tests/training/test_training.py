"""A tiny data set through the real training: what is saved, how it goes on, and how it stops."""

import csv
import json
from dataclasses import replace
from functools import partial, wraps
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from recipes import plain_recipe
from weight_files import as_folded_slim_v1, classifier, save

from seg_det import checkpoint
from seg_det.data.plain_transforms import flip_only
from seg_det.data.shapes import read_shapes
from seg_det.errors import UserError
from seg_det.losses import multibox_loss, segmentation_loss
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.origin import portable
from seg_det.runs import RunRecord
from seg_det.training import run as run_module
from seg_det.training import start as start_module
from seg_det.training import trainer
from seg_det.training.callbacks import StepSeeds, learning_rate
from seg_det.training.learner import Learner
from seg_det.training.run import Training, train_model
from seg_det.training.start import Start
from seg_det.training.trainer import TrainerSettings
from seg_det.types import Category, DetectionBatch, ModelCard
from seg_det.weights import WeightsUnavailable
from seg_det.weights.unfold import folded_norms

SIZE = (64, 64)
MODEL = {
    "_target_": "SSDLite",
    "width": 0.35,
    "backbone": {"_target_": "MobileNetV2", "width": 0.35},
}


@pytest.fixture(scope="module")
def sources(tiny_shapes):
    return [read_shapes(tiny_shapes, split, train_images=24, val_images=8) for split in ("train", "val")]


def setup(sources, run, **changes):
    run.mkdir(parents=True, exist_ok=True)
    values = {
        "kind": "detection",
        "name": "ssdlite_v2_shapes",
        "run": run,
        "config": "task: ssdlite",
        "model": MODEL,
        "train": sources[0],
        "val": sources[1],
        "augmentation": flip_only(SIZE),
        "input_size": SIZE,
        "batch_size": 8,
        "num_workers": 0,
        "loss": multibox_loss,
        "postprocess": {"score_threshold": 0.01},
        "recipe": plain_recipe(lr=0.01, warmup_steps=2, ema_decay=0.9),
        "trainer": TrainerSettings(max_epochs=2, accelerator="cpu"),
        "start": Start(),
        "callbacks": [learning_rate()],
        "seed": 0,
    }
    return Training(**{**values, **changes})


@pytest.fixture(scope="module")
def finished(sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    torch.manual_seed(0)
    return folder, train_model(setup(sources, folder))


def test_run_folder(finished):
    folder, record = finished
    for name in (
        "metrics.json",
        "metrics.csv",
        "predictions.json",
        "report.html",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    ):
        assert (folder / name).is_file(), name
    assert json.loads((folder / "metrics.json").read_text()) == record.to_dict()
    assert RunRecord.read(folder / "metrics.json") == record
    assert record.training.steps == 6 and record.training.epochs == 2
    assert record.seed == record.training.seed
    assert set(record.figures.tables["coco"]) >= {"AP", "AP50", "ARl"}
    assert [(one.split, one.images) for one in record.data] == [("shapes train", 24), ("shapes val", 8)]
    header = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/classification", "train/localisation", "val/AP", "val/loss", "lr/pg1"} <= set(header)


def test_checkpoint_holds_plain_values_and_the_card(finished):
    folder, _ = finished
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    card = ModelCard.from_dict(content["card"])
    assert card.categories[0].name == "circle" and card.categories[0].id == 1
    assert card.input_size == SIZE and card.resize == "stretch" and card.training_data["images"] == 24
    assert card.to_dict() == content["card"]
    assert json.loads(json.dumps(content["card"])) == content["card"]
    assert set(card.metrics) >= {"AP", "AP50"}


def test_the_card_holds_the_thresholds_of_the_best_f1(finished):
    folder, record = finished
    card = checkpoint.card_of(folder / "checkpoints" / "best.ckpt")
    wanted = [record.figures.per_class[category.name]["best_threshold"] for category in card.categories]
    assert len(card.score_thresholds) == 8 and any(wanted)
    assert list(card.score_thresholds) == [
        value if value is None else pytest.approx(value, abs=1e-4) for value in wanted
    ]


def test_loaded_model_is_the_averaged_one(finished):
    folder, _ = finished
    model, _ = checkpoint.load(folder / "checkpoints" / "last.ckpt")
    content = checkpoint.read(folder / "checkpoints" / "last.ckpt")
    averaged, current = content["state_dict"], content["current_model_state"]
    name = "backbone.stem.conv.weight"
    assert torch.equal(model.state_dict()[name], averaged[checkpoint.PREFIX + name])
    assert not torch.equal(averaged[checkpoint.PREFIX + name], current[checkpoint.PREFIX + name])


def test_weights_of_a_whole_model(finished, sources, tmp_path):
    folder, _ = finished
    start = Start(model=str(folder))
    record = train_model(
        setup(sources, tmp_path, start=start, trainer=TrainerSettings(max_epochs=1, accelerator="cpu"))
    )
    assert record.training.weights == str(folder / "checkpoints" / "best.ckpt")
    assert record.card.training_data["start"] == portable(record.training.weights)  # a card is passed on


class Interrupted(Exception):
    pass


class StopsAtSecondEpoch(Learner):
    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            raise Interrupted


def test_resumed_run_equals_an_uninterrupted_one(finished, sources, tmp_path, monkeypatch):
    folder, _ = finished
    monkeypatch.setattr(run_module, "Learner", StopsAtSecondEpoch)
    torch.manual_seed(0)
    with pytest.raises(Interrupted):
        train_model(setup(sources, tmp_path / "first"))
    monkeypatch.undo()
    resume = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert checkpoint.read(resume)["epoch"] == 0
    begun, numbers, step = [], [], Learner.training_step
    monkeypatch.setattr(Learner, "training_step", lambda *args: (numbers.append(torch.get_rng_state()), step(*args))[1])
    monkeypatch.setattr(Learner, "on_fit_start", lambda learner: begun.extend(learner.run.rglob("*.c*")), raising=False)
    torch.manual_seed(7)  # must not matter
    train_model(setup(sources, tmp_path / "second", resume=resume))
    seed = int(np.random.SeedSequence([0, 1, 0]).generate_state(1)[0])  # of the second epoch, for dropout
    assert torch.equal(numbers[0], torch.Generator().manual_seed(seed).get_state())
    # What another resume needs is there before the first step.
    assert {path.name for path in begun} == {"metrics.csv", "best.ckpt", "last.ckpt"}
    straight, resumed = (checkpoint.read(f / "checkpoints" / "last.ckpt") for f in (folder, tmp_path / "second"))
    for part in ("state_dict", "current_model_state"):
        assert straight[part].keys() == resumed[part].keys()
        assert all(torch.equal(value, resumed[part][key]) for key, value in straight[part].items()), part
    assert (tmp_path / "second" / "checkpoints" / "best.ckpt").is_file()
    steps = [[row["step"] for row in csv.DictReader((f / "metrics.csv").open())] for f in (folder, tmp_path / "second")]
    assert steps[0] == steps[1]  # the curves of both parts
    assert straight["global_step"] == resumed["global_step"] == 6


def test_each_epoch_and_process_has_its_own_seed():
    drawn = []
    for epoch, rank in ((0, 0), (1, 0), (0, 1), (0, 0)):
        StepSeeds(3).on_train_batch_start(SimpleNamespace(current_epoch=epoch, global_rank=rank), None, None, 0)
        drawn.append(torch.rand(1).item())
    assert len(set(drawn)) == 3 and drawn[0] == drawn[3]


def test_same_seed_same_weights(finished, sources, tmp_path):
    folder, _ = finished
    torch.manual_seed(0)
    train_model(setup(sources, tmp_path))
    one, two = (checkpoint.read(f / "checkpoints" / "last.ckpt")["state_dict"] for f in (folder, tmp_path))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_nan_stops_and_names_the_images(sources, tmp_path):
    def broken(raw, batch: DetectionBatch, anchors):
        losses = multibox_loss(raw, batch, anchors)
        return losses._replace(classification=losses.classification * float("nan"))

    with pytest.raises(
        UserError, match=r"The loss became .*nan.* at step 0; the ids of the batch's images are in .*lower recipe.lr"
    ):
        train_model(setup(sources, tmp_path, loss=broken))
    saved = json.loads((tmp_path / "nan_batch.json").read_text())
    known = {record.image_id for record in sources[0].records}
    assert len(saved["image_ids"]) == 8 and set(saved["image_ids"]) <= known


def test_options_of_the_trainer(sources, tmp_path):
    settings = TrainerSettings(
        max_epochs=3, accelerator="cpu", precision="bf16-mixed", accumulate_grad_batches=3, early_stopping=1
    )
    loss = partial(multibox_loss, classification="focal")
    postprocess = {"score": "sigmoid", "score_threshold": 0.999}  # no detections, so AP stays 0
    recipe = plain_recipe(optimiser="adamw", lr=1e-9, ema_decay=None, clip_norm=1.0)
    record = train_model(setup(sources, tmp_path, trainer=settings, loss=loss, postprocess=postprocess, recipe=recipe))
    assert record.training.epochs == 2  # the second evaluation was no better, and the last
    assert record.training.steps == 2
    assert "current_model_state" not in checkpoint.read(tmp_path / "checkpoints" / "last.ckpt")


def test_automatic_precision_is_what_the_processor_has(monkeypatch):
    for known, precision in (
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({}, "32-true"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", partial(dict, known), raising=False)
        assert trainer._native_precision("cpu") == precision


@pytest.mark.parametrize(
    ("kind", "precision", "together"),
    [
        ("segmentation", "bf16-mixed", True),
        ("detection", "bf16-mixed", False),  # its smallest maps are what oneDNN goes wrong on
        ("detection", "32-true", True),
    ],
)
def test_bfloat16_and_channels_last_come_together_in_segmenters_alone(
    sources, tiny_shapes, tmp_path, monkeypatch, kind, precision, together
):
    formats, fit = [], L.Trainer.fit

    def watched(trainer, task, *arguments, **options):
        stem = task.predictor.model.backbone.stem.conv.weight
        formats.append(stem.is_contiguous(memory_format=torch.channels_last))
        fit(trainer, task, *arguments, **options)

    monkeypatch.setattr(L.Trainer, "fit", watched)
    changes = {}
    if kind == "segmentation":
        masks = [read_shapes(tiny_shapes, part, kind=kind, train_images=24, val_images=8) for part in ("train", "val")]
        model = {"_target_": "LRASPP", "output_stride": 8, "backbone": MODEL["backbone"]}
        augmentation = flip_only(SIZE, kind=kind)
        changes = {
            "kind": kind,
            "train": masks[0],
            "val": masks[1],
            "model": model,
            "loss": segmentation_loss,
            "postprocess": {},
            "augmentation": augmentation,
        }
    settings = TrainerSettings(max_epochs=1, accelerator="cpu", precision=precision)
    record = train_model(setup(sources, tmp_path, trainer=settings, **changes))
    assert formats == [together] and record.training.steps == 3


def test_classes_of_the_splits_differ(sources, tmp_path):
    categories = (*sources[1].categories[:-1], Category(8, "spiral"))
    with pytest.raises(
        UserError, match=r"has 8 classes, the training split .* has 8, and they are not the same .*spiral"
    ):
        train_model(setup([sources[0], replace(sources[1], categories=categories)], tmp_path))


def test_class_count_of_the_start_weights(finished, sources, tmp_path):
    fewer = [
        replace(s, categories=s.categories[:7], records=tuple(r for r in s.records if (r.labels < 7).all()))
        for s in sources
    ]
    with pytest.raises(
        UserError, match=r"best.ckpt has 8 classes, the data has 7, and they differ .*backbone.weights="
    ):
        train_model(setup(fewer, tmp_path, start=Start(model=str(finished[0]))))


def test_order_of_the_start_weights_classes(finished, sources, tmp_path):
    turned = [replace(s, categories=s.categories[::-1]) for s in sources]
    with pytest.raises(UserError, match=r"has 8 classes, the data has 8, and they differ \(circle against crescent\)"):
        train_model(setup(turned, tmp_path, start=Start(model=str(finished[0]))))


def test_what_would_fail_later_is_said_first(finished, sources, tmp_path):
    records = tuple(r for r in sources[1].records if not len(r.boxes))
    empty = replace(
        sources[1], records=records or (sources[1].records[0]._replace(crowd=sources[1].records[0].crowd | True),)
    )
    with pytest.raises(
        UserError, match="val has no object in any" if records else "of shapes val are marked as crowds"
    ):
        train_model(setup([sources[0], empty], tmp_path))
    with pytest.raises(UserError, match="set data.batch_size to 2 or more"):
        train_model(setup(sources, tmp_path, batch_size=1))
    with pytest.raises(UserError, match="last.ckpt has 2 epochs behind it, all that trainer.max_epochs asks for"):
        train_model(setup(sources, tmp_path, resume=finished[0] / "checkpoints" / "last.ckpt"))
    with pytest.raises(UserError, match="trainer.max_epochs must be at least 1, got -1"):
        TrainerSettings(max_epochs=-1)


def test_recipe_weights_that_do_not_fit_are_said_loudly(sources, tmp_path, caplog):
    start = Start(recipe="torchvision/mobilenet_v2")
    settings = TrainerSettings(max_epochs=1, accelerator="cpu", fast_dev_run=True)
    assert train_model(setup(sources, tmp_path, start=start, trainer=settings)) is None
    assert "TRAINING FROM SCRATCH" in caplog.text and "width 1.0" in caplog.text
    assert not (tmp_path / "checkpoints").exists()


def test_recipe_weights_without_any_source_are_said_loudly(sources, tmp_path, caplog, monkeypatch):
    def unavailable(backbone, reference):
        raise WeightsUnavailable("No source had them: put the file into the cache.")

    monkeypatch.setattr(start_module, "load_backbone", unavailable)
    model = {**MODEL, "width": 1.0, "backbone": {**MODEL["backbone"], "width": 1.0}}
    settings = TrainerSettings(max_epochs=1, accelerator="cpu", fast_dev_run=True)
    recipe = plain_recipe(freeze_until="c2")
    given = {"model": model, "trainer": settings, "recipe": recipe}
    train_model(setup(sources, tmp_path, start=Start(recipe="torchvision/mobilenet_v2"), **given))
    assert "TRAINING FROM SCRATCH: No source had them" in caplog.text
    assert "recipe.freeze_until is left out" in caplog.text
    with pytest.raises(WeightsUnavailable, match="put the file into the cache"):
        train_model(setup(sources, tmp_path, start=Start(backbone="torchvision/mobilenet_v2"), **given))


def test_frozen_stages_keep_their_weights(finished, sources, tmp_path):
    start = Start(backbone=str(finished[0] / "checkpoints" / "best.ckpt"))
    recipe = plain_recipe(lr=0.01, freeze_until="c2", ema_decay=None)
    settings = TrainerSettings(max_epochs=1, accelerator="cpu")
    train_model(setup(sources, tmp_path, start=start, recipe=recipe, trainer=settings))
    before, _ = checkpoint.load(finished[0] / "checkpoints" / "best.ckpt")
    after, _ = checkpoint.load(tmp_path / "checkpoints" / "last.ckpt")
    ours, theirs = dict(before.backbone.named_parameters()), dict(after.backbone.named_parameters())
    frozen = [key for key in ours if key.startswith(("stem.", "blocks.0.", "blocks.1.", "blocks.2."))]
    assert frozen and all(torch.equal(ours[key], theirs[key]) for key in frozen)
    assert not any(torch.equal(ours[key], theirs[key]) for key in ours if key not in frozen)
    assert not torch.equal(before.backbone.stem.norm.running_mean, after.backbone.stem.norm.running_mean)


def test_norms_of_frozen_stages_stay_with_them(finished, sources, tmp_path):
    start = Start(backbone=str(finished[0] / "checkpoints" / "best.ckpt"))
    recipe = plain_recipe(lr=0.01, freeze_until="c2", frozen_norms="stages", ema_decay=None)
    settings = TrainerSettings(max_epochs=1, accelerator="cpu")
    train_model(setup(sources, tmp_path, start=start, recipe=recipe, trainer=settings))
    before, _ = checkpoint.load(finished[0] / "checkpoints" / "best.ckpt")
    after, _ = checkpoint.load(tmp_path / "checkpoints" / "last.ckpt")
    ours, theirs = before.backbone.state_dict(), after.backbone.state_dict()
    frozen = [key for key in ours if key.startswith(("stem.", "blocks.0.", "blocks.1.", "blocks.2."))]
    assert frozen and all(torch.equal(ours[key], theirs[key]) for key in frozen)
    assert not any(torch.equal(ours[key], theirs[key]) for key in ours if key not in frozen and "running" in key)


def test_frozen_norms_stay_as_they_were_loaded(finished, sources, tmp_path):
    start = Start(backbone=str(finished[0] / "checkpoints" / "best.ckpt"))
    recipe = plain_recipe(lr=0.01, frozen_norms="all", ema_decay=None)
    train_model(setup(sources, tmp_path, start=start, recipe=recipe))
    before, _ = checkpoint.load(finished[0] / "checkpoints" / "best.ckpt")
    after, _ = checkpoint.load(tmp_path / "checkpoints" / "last.ckpt")
    ours, theirs = before.backbone.state_dict(), after.backbone.state_dict()
    norms = [key for key in ours if ".norm." in key]
    assert norms and all(torch.equal(ours[key], theirs[key]) for key in norms)
    assert not torch.equal(ours["stem.conv.weight"], theirs["stem.conv.weight"])
    assert not torch.equal(before.extras[0].reduce.norm.weight, after.extras[0].reduce.norm.weight)


def test_folded_norms_take_statistics_of_the_training_images(sources, tmp_path, caplog):
    path = save(as_folded_slim_v1(classifier(MobileNetV1, 11, width=0.25)), tmp_path / "tf.pth")
    backbone = {"_target_": "MobileNetV1", "width": 0.25}
    given = {"model": {**MODEL, "backbone": backbone}, "start": Start(backbone=str(path))}
    with caplog.at_level("INFO"):
        train_model(setup(sources, tmp_path / "run", recipe=plain_recipe(lr=1e-9, ema_decay=None), **given))
    assert "27 folded batch norms took the statistics of training images" in caplog.text
    model, _ = checkpoint.load(checkpoint.find(tmp_path / "run"))
    assert folded_norms(model) == []
    weight = model.backbone.blocks[0].pointwise.norm.weight
    assert not torch.allclose(
        weight, torch.ones_like(weight), atol=0.05
    )  # of an identity, it says how wide the channels are
    caplog.clear()
    kept = plain_recipe(lr=1e-9, ema_decay=None, frozen_norms="all")
    with caplog.at_level("INFO"):
        train_model(setup(sources, tmp_path / "kept", recipe=kept, **given))
    assert "folded batch norms took" not in caplog.text
    assert len(folded_norms(checkpoint.load(checkpoint.find(tmp_path / "kept"))[0])) == 27


def test_training_at_changing_sizes(sources, tmp_path):
    seen = []

    @wraps(multibox_loss)
    def loss(raw, batch, anchors):
        seen.append((tuple(batch.images.shape[2:]), raw.deltas.shape[1] == len(anchors)))
        return multibox_loss(raw, batch, anchors)

    sizes = ((32, 64), (64, 64), (96, 96))
    record = train_model(setup(sources, tmp_path / "run", training_sizes=sizes, loss=loss))
    assert all(fits for _, fits in seen)
    assert {size for size, _ in seen} == set(sizes)
    assert sum(size == SIZE for size, _ in seen) < len(seen) / 2 + 2  # validation and a third of the steps
    assert record.model.input_size == SIZE


def test_no_more_processes_than_cores_on_the_cpu(sources, tmp_path):
    settings = TrainerSettings(max_epochs=1, accelerator="cpu", devices=9999, strategy="ddp")
    with pytest.raises(UserError, match="trainer.devices asks for 9999 processes on the CPU, which has .* cores: set"):
        train_model(setup(sources, tmp_path, trainer=settings))
