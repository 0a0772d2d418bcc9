"""Fine-tuning for 8 bits on tiny data: what it trains, what its checkpoints hold, and how it goes on."""

import csv
from functools import partial

import pytest
import torch
from recipes import plain_recipe
from torch import nn

from seg_det import checkpoint
from seg_det.data.plain_transforms import flip_only
from seg_det.data.shapes import read_shapes
from seg_det.errors import UserError
from seg_det.kinds.lookup import KINDS
from seg_det.losses import multibox_loss, segmentation_loss
from seg_det.training import run as run_module
from seg_det.training.learner import Learner
from seg_det.training.run import Training, train_model
from seg_det.training.start import Start
from seg_det.training.trainer import TrainerSettings

SIZE = (64, 64)
BACKBONE = {"_target_": "MobileNetV3", "width": 0.35}
MODELS = {
    "detection": {"_target_": "SSDLite", "width": 0.35, "backbone": BACKBONE},
    "segmentation": {"_target_": "LRASPP", "channels": 32, "backbone": BACKBONE},
}
LOSSES = {"detection": multibox_loss, "segmentation": partial(segmentation_loss, align_corners=True)}
POSTPROCESS = {"detection": {"score_threshold": 0.01}, "segmentation": {"align_corners": True}}
QUANTISED = {  # with averaged weights and without
    kind: plain_recipe(optimiser="adamw", lr=2e-4, lr_batch=8, ema_decay=decay, quantise=True)
    for kind, decay in (("detection", None), ("segmentation", 0.9))
}


def setup(shapes, run, kind, **changes):
    run.mkdir(parents=True, exist_ok=True)
    sources = [read_shapes(shapes, split, kind=kind, train_images=24, val_images=8) for split in ("train", "val")]
    values = {
        "kind": kind,
        "name": f"{kind}_shapes",
        "run": run,
        "config": "",
        "model": MODELS[kind],
        "train": sources[0],
        "val": sources[1],
        "augmentation": flip_only(SIZE, kind=kind) if kind == "segmentation" else flip_only(SIZE),
        "input_size": SIZE,
        "batch_size": 8,
        "num_workers": 0,
        "loss": LOSSES[kind],
        "postprocess": POSTPROCESS[kind],
        "recipe": plain_recipe(optimiser="adamw", lr=2e-3, lr_batch=8, ema_decay=None),
        "trainer": TrainerSettings(max_epochs=2, accelerator="cpu"),
        "start": Start(),
        "seed": 0,
    }
    return Training(**{**values, **changes})


@pytest.fixture(scope="module", params=list(MODELS))
def runs(request, tiny_shapes, tmp_path_factory):
    """A run in 32 bits, and one that went on from it in simulated 8."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    train_model(setup(tiny_shapes, folder / "float", kind))
    start = Start(model=str(folder / "float" / "checkpoints" / "last.ckpt"))
    train_model(setup(tiny_shapes, folder / "quantised", kind, recipe=QUANTISED[kind], start=start))
    return kind, folder


def validation_loss(run):
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    return [float(row["val/loss"]) for row in rows if row["val/loss"]]


def test_it_goes_on_from_where_the_float_run_ended(runs):
    _, folder = runs
    before = validation_loss(folder / "float")[-1]
    assert all(loss < 1.02 * before for loss in validation_loss(folder / "quantised"))


def test_the_checkpoint_is_an_ordinary_one(runs):
    _, folder = runs
    before, after = (
        checkpoint.load(folder / name / "checkpoints" / "last.ckpt")[0].state_dict() for name in ("float", "quantised")
    )
    assert list(before) == list(after)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    norms = {key for key in before if ".norm." in key}
    assert not changed & norms  # they are folded as they were loaded
    assert "backbone.stem.conv.weight" in changed and len(changed) > 0.9 * sum(
        key.endswith("conv.weight") for key in before
    )
    assert not any(".simulation." in key for key in after)


def test_training_and_validation_see_the_network_in_8_bits(runs, tmp_path):
    kind, folder = runs
    model, card = checkpoint.load(folder / "float" / "checkpoints" / "last.ckpt")
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    predictor = KINDS[kind].task.predictor(model, card)
    with torch.no_grad():
        exact = predictor(images)[0]
        learner = Learner(
            KINDS[kind], predictor, loss=LOSSES[kind], recipe=QUANTISED[kind], batch_size=2, metric=None, run=tmp_path
        ).train()
        learner.on_train_epoch_start()
        trained = learner.predictor(images)[0]
        seen = learner.eval().predictor(images)[0]
    assert torch.equal(trained, seen)  # of the first batch, whose ranges are the only ones
    noise = (seen - exact).square().mean() / exact.var()
    assert 1e-6 < noise < 0.1


def test_every_layer_has_seen_every_step(runs):
    _, folder = runs
    ranges = checkpoint.read(folder / "quantised" / "checkpoints" / "last.ckpt")["ranges"]["state_dict"]
    model, _ = checkpoint.load(folder / "quantised" / "checkpoints" / "last.ckpt")
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(ranges) == 3 * len(layers)
    assert {int(value) for key, value in ranges.items() if key.endswith("batches")} == {6}


class Interrupted(Exception):
    pass


class StopsAtSecondEpoch(Learner):
    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        if self.current_epoch == 1:
            raise Interrupted


def test_a_resumed_run_equals_an_uninterrupted_one(runs, tiny_shapes, tmp_path, monkeypatch):
    kind, folder = runs
    start = Start(model=str(folder / "float" / "checkpoints" / "last.ckpt"))
    monkeypatch.setattr(run_module, "Learner", StopsAtSecondEpoch)
    with pytest.raises(Interrupted):
        train_model(setup(tiny_shapes, tmp_path / "first", kind, recipe=QUANTISED[kind], start=start))
    monkeypatch.undo()
    resume = tmp_path / "first" / "checkpoints" / "last.ckpt"
    train_model(setup(tiny_shapes, tmp_path / "second", kind, recipe=QUANTISED[kind], resume=resume))
    straight, resumed = (
        checkpoint.read(run / "checkpoints" / "last.ckpt") for run in (folder / "quantised", tmp_path / "second")
    )
    parts = ["state_dict"] + ["current_model_state"] * (QUANTISED[kind].ema_decay is not None)
    assert list(straight["ranges"]) == list(resumed["ranges"]) == parts
    for part in parts:
        for one, other in ((straight, resumed), (straight["ranges"], resumed["ranges"])):
            assert one[part].keys() == other[part].keys()
            assert all(torch.equal(value, other[part][key]) for key, value in one[part].items()), part


def test_without_a_trained_model_there_is_nothing_to_fine_tune(tiny_shapes, tmp_path):
    with pytest.raises(UserError, match=r"recipe.quantise fine-tunes a trained model: .* weights="):
        train_model(setup(tiny_shapes, tmp_path, "detection", recipe=QUANTISED["detection"]))


def test_a_float_run_is_not_resumed_in_8_bits(runs, tiny_shapes, tmp_path):
    kind, folder = runs
    resume = folder / "float" / "checkpoints" / "last.ckpt"
    longer = TrainerSettings(max_epochs=3, accelerator="cpu")
    with pytest.raises(UserError, match="recipe.quantise cannot begin in the middle of a run"):
        train_model(setup(tiny_shapes, tmp_path, kind, recipe=QUANTISED[kind], resume=resume, trainer=longer))
