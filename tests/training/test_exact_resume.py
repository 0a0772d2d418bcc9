"""A run that is stopped anywhere and resumed equals the uninterrupted one bit for bit: weights, optimiser, averages, curves."""

import itertools
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from exactness import run_differences
from lightning.pytorch.callbacks import Callback
from recipes import plain_recipe

from seg_det import checkpoint
from seg_det.data.imagefolder import read_imagefolder
from seg_det.data.loaders import train_loader
from seg_det.data.plain_transforms import flip_only
from seg_det.data.shapes import read_shapes
from seg_det.errors import Terminated, UserError
from seg_det.losses import label_loss, multibox_loss, segmentation_loss
from seg_det.training import between_steps
from seg_det.training import run as run_module
from seg_det.training.between_steps import BetweenSteps, require_a_batch
from seg_det.training.callbacks import learning_rate
from seg_det.training.run import Training, train_model
from seg_det.training.signals import Signals
from seg_det.training.start import Start, epochs_of, lacks_report, lacks_validation, steps_of
from seg_det.training.trainer import TrainerSettings

BACKBONE = {"_target_": "MobileNetV2", "width": 0.35}
PARTS = {  # of a kind: model and loss; classifier and RASPP have dropout
    "classification": ({"_target_": "Classifier", "backbone": BACKBONE}, label_loss),
    "detection": ({"_target_": "SSDLite", "width": 0.35, "backbone": BACKBONE}, multibox_loss),
    "segmentation": ({"_target_": "RASPP", "channels": 16, "backbone": BACKBONE}, segmentation_loss),
}
EPOCHS, BATCHES = 2, 4  # of 6 images


class Stopped(Exception):
    """As a kill: nothing is saved on the way out."""


class Stops(Callback):
    """Stops a training or sends it a signal: before a batch of an epoch, or after a batch of its validation."""

    def __init__(self, epoch, batch, *, validation=False, number=None):
        self.place = (epoch, batch, validation)
        self.number = number

    def _at(self, trainer, batch, *, validation):
        if (trainer.current_epoch, batch, validation) == self.place:
            if self.number is None:
                raise Stopped
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer, learner, batch, batch_index):
        self._at(trainer, batch_index, validation=False)

    def on_train_epoch_end(self, trainer, learner):
        """After its validation, before its checkpoints."""
        self._at(trainer, BATCHES, validation=False)

    def on_validation_batch_end(self, trainer, learner, outputs, batch, batch_index, *_):
        self._at(trainer, batch_index, validation=True)


@pytest.fixture(scope="module")
def sources(tiny_shapes, tiny_imagefolder):
    """The splits of each kind."""
    shapes = {
        kind: [read_shapes(tiny_shapes, split, kind=kind, train_images=24, val_images=8) for split in ("train", "val")]
        for kind in ("detection", "segmentation")
    }
    return {**shapes, "classification": [read_imagefolder(root=tiny_imagefolder, split=s) for s in ("train", "val")]}


@pytest.fixture(scope="module", autouse=True)
def only_the_training():
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "_report", lambda *_: {})
        yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture(scope="module")
def straight(sources, tmp_path_factory):
    """An uninterrupted run of the classifier."""
    run = tmp_path_factory.mktemp("straight")
    train_model(setup(sources, run, "classification", checkpoint_minutes=None))
    return run


def setup(sources, run, kind, *, stop=None, resume=None, workers=0, recipe=None, **trainer):
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0 if resume is None else 7)  # of the weights, for which a resumed run has no use
    settings = {"max_epochs": EPOCHS, "accelerator": "cpu", "checkpoint_minutes": 0, **trainer}
    return Training(
        kind=kind,
        name=kind,
        run=run,
        config="",
        model=PARTS[kind][0],
        train=sources[kind][0],
        val=sources[kind][1],
        augmentation=flip_only((64, 64), kind=kind),
        input_size=(64, 64),
        batch_size=6,
        num_workers=workers,
        loss=PARTS[kind][1],
        postprocess={},
        recipe=plain_recipe(**{"lr": 0.01, "ema_decay": 0.9, **(recipe or {})}),
        trainer=TrainerSettings(**settings),
        start=Start(),
        callbacks=[learning_rate(), *([stop] if stop else [])],
        seed=3,
        resume=resume and resume / "checkpoints" / "last.ckpt",
    )


def compared(sources, folder, kind, stops, *, straight=None, expected=Stopped, **changes):
    """What differs between an uninterrupted run and one that is stopped at each of ``stops`` and resumed."""
    if straight is None:
        train_model(setup(sources, straight := folder / "straight", kind, **{**changes, "checkpoint_minutes": None}))
    resume = None
    for i, stop in enumerate(stops):
        with pytest.raises(expected):
            train_model(setup(sources, folder / str(i), kind, stop=stop, resume=resume, **changes))
        resume = folder / str(i)
    train_model(setup(sources, folder / "end", kind, resume=resume, **{**changes, "checkpoint_minutes": None}))
    return run_differences(straight, folder / "end")


def test_a_kill_in_the_middle_of_an_epoch(sources, straight, tmp_path):
    assert compared(sources, tmp_path, "classification", [Stops(1, 2)], straight=straight) == []
    stopped = tmp_path / "0" / "checkpoints" / "last.ckpt"
    assert checkpoint.read(stopped)["mid_epoch"]["batches"] == 2
    assert epochs_of(stopped) == 1 and steps_of(stopped) == BATCHES + 2


def test_a_kill_between_a_validation_and_its_checkpoint(sources, straight, tmp_path):
    assert compared(sources, tmp_path, "classification", [Stops(0, BATCHES)], straight=straight) == []
    assert lacks_validation(tmp_path / "0" / "checkpoints" / "last.ckpt")


# Pairwise: every two values of two columns meet in a row.
ROWS = [
    # kind, optimiser, ema, precision, workers, accumulated batches, epoch and batch
    ("detection", "sgd", 0.9, "32-true", 0, 1, (0, 1)),
    ("detection", "rmsprop", None, "bf16-mixed", 2, 2, (1, 2)),
    ("detection", "adamw", 0.9, "bf16-mixed", 2, 1, (1, 0)),
    ("detection", "muon", None, "32-true", 0, 2, (0, 3)),
    ("segmentation", "sgd", None, "bf16-mixed", 2, 1, (1, 0)),
    ("segmentation", "rmsprop", 0.9, "32-true", 0, 1, (0, 3)),
    ("segmentation", "adamw", None, "32-true", 0, 2, (1, 2)),
    ("segmentation", "muon", 0.9, "bf16-mixed", 2, 1, (0, 1)),
    ("classification", "sgd", 0.9, "bf16-mixed", 0, 2, (1, 2)),
    ("classification", "rmsprop", None, "32-true", 2, 2, (0, 3)),
    ("classification", "adamw", 0.9, "bf16-mixed", 0, 1, (0, 3)),
    ("classification", "muon", None, "bf16-mixed", 2, 2, (1, 3)),
    ("classification", "sgd", 0.9, "32-true", 2, 1, (1, 3)),
]


def test_the_rows_are_pairwise():
    for one, other in itertools.combinations(range(6), 2):
        values = [{row[column] for row in ROWS} for column in (one, other)]
        assert {(row[one], row[other]) for row in ROWS} == set(itertools.product(*values)), (one, other)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "optimiser", "ema", "precision", "workers", "accumulated", "place"), ROWS)
def test_every_pair_of_settings(sources, tmp_path, kind, optimiser, ema, precision, workers, accumulated, place):
    recipe = {"optimiser": optimiser, "ema_decay": ema, "lr": 0.002}
    settings = {"precision": precision, "accumulate_grad_batches": accumulated, "workers": workers}
    assert compared(sources, tmp_path, kind, [Stops(*place)], recipe=recipe, **settings) == []


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGTERM, Terminated),
        pytest.param(signal.SIGUSR1, Terminated, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, KeyboardInterrupt, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_between_two_steps_and_in_a_validation(sources, straight, tmp_path, number, error):
    stops = [Stops(0, 2, number=number), Stops(1, 0, validation=True, number=number)]
    changes = {"straight": straight, "expected": error, "checkpoint_minutes": None}
    found = compared(sources, tmp_path, "classification", stops, **changes)
    assert found == [] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    batches = [checkpoint.read(tmp_path / name / "checkpoints" / "last.ckpt")["mid_epoch"]["batches"] for name in "01"]
    assert batches == [3, BATCHES]  # the step that the signal met was finished


def test_the_second_signal_ends_at_once(capfd):
    signals = Signals()
    signals.install()
    try:
        for first, second, error in (("SIGINT", "SIGINT", KeyboardInterrupt), ("SIGINT", "SIGTERM", Terminated)):
            signals.asked = None
            signal.raise_signal(signal.Signals[first])
            assert signals.asked == signal.Signals[first]
            with pytest.raises(error):
                signal.raise_signal(signal.Signals[second])
    finally:
        signals.restore()
    assert capfd.readouterr().err.count("press Ctrl-C again to stop at once") == 2


def test_checkpoints_come_every_few_minutes(sources, tmp_path, monkeypatch):
    clock, saved = iter(range(0, 10**6, 20)), []  # seconds: 20 between two looks
    monkeypatch.setattr(between_steps, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(BetweenSteps, "_save", lambda _, trainer, batches: saved.append(batches))
    train_model(setup(sources, tmp_path / "run", "classification", max_epochs=1, checkpoint_minutes=1))
    assert saved == [2, 3, BATCHES, BATCHES, BATCHES]
    saved.clear()
    train_model(setup(sources, tmp_path / "none", "classification", max_epochs=1, checkpoint_minutes=None))
    assert saved == []


@pytest.mark.parametrize("minutes", [-1, 1e9, float("nan")])
def test_minutes_out_of_their_range(minutes):
    with pytest.raises(UserError, match="trainer.checkpoint_minutes must be from 0"):
        TrainerSettings(checkpoint_minutes=minutes)


def test_an_epoch_of_other_batches_begins_anew(sources, tmp_path, caplog):
    with pytest.raises(Stopped):
        train_model(setup(sources, tmp_path / "first", "classification", stop=Stops(1, 2)))
    later = {"resume": tmp_path / "first", "checkpoint_minutes": None}
    other = setup(sources, tmp_path / "second", "classification", **later)
    train_model(replace(other, batch_size=8))
    assert "Epoch 1 begins anew" in caplog.text
    last = tmp_path / "second" / "checkpoints" / "last.ckpt"
    assert epochs_of(last) == EPOCHS and steps_of(last) == BATCHES + 2 + 3


def test_a_run_that_ended_early_lacks_but_its_report(sources, tmp_path):
    stopping = {"max_epochs": 9, "early_stopping": 1, "checkpoint_minutes": None}
    run = setup(sources, tmp_path / "run", "classification", recipe={"lr": 1e-9}, **stopping)
    assert train_model(run) == {}
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert 2 <= epochs_of(last) < 9 and lacks_report(last, 9)
    (tmp_path / "run" / "report.html").touch()
    assert not lacks_report(last, 9)


def test_fewer_images_than_a_batch_in_each_process(sources):
    train = sources["classification"][0]
    loader = train_loader(train, flip_only((64, 64), kind="classification"), batch_size=13, num_workers=0, seed=0)
    require_a_batch(loader, 1)
    with pytest.raises(
        UserError, match="24 training images are fewer than a batch of 13 in each of 2 .* to 12 or less"
    ):
        require_a_batch(loader, 2)
