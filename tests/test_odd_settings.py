"""Values that cannot be: each gets one sentence that names its key, before anything is read or written."""

import threading
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from seg_det.commands import running, schemas
from seg_det.commands.error_sentences import running_sentence
from seg_det.commands.schemas import check
from seg_det.errors import UserError
from seg_det.training import trainer
from seg_det.training.optimisation import OPTIMISERS, Recipe
from seg_det.training.trainer import TrainerSettings

CONF = Path(__file__).parent.parent / "conf"
SCHEMAS = {"train": "Training", "evaluate": "Evaluation", "export": "Export", "predict": "Prediction"}


@pytest.fixture(scope="module")
def composed():
    """The configuration of each command, with what Hydra fills in."""
    found = {}
    for name in SCHEMAS:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose(name, ["source=x"] if name == "predict" else [])
        with open_dict(config):
            config.choices = {"task": "ssdlite", "backbone": "v2", "dataset": "shapes"}
        found[name] = config
    yield found
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize("command", SCHEMAS)
def test_the_usual_values_fit(composed, command):
    check(composed[command], getattr(schemas, f"{SCHEMAS[command]}Schema"))


@pytest.mark.parametrize(
    ("command", "key", "value", "sentence"),
    [
        ("train", "seed", "abc", "seed is 'abc', not a whole number."),
        ("train", "seed", None, "seed is None, not a whole number."),
        ("train", "seed", -1, "seed must be a whole number from 0 to 4294967295, got -1."),
        ("train", "data.size", 1.5, "data.size is 1.5, not a whole number or a list."),
        ("train", "data.balance", "abc", "data.balance is 'abc', not a number or null."),
        ("train", "data", 3, "data is 3, not a dictionary."),
        ("train", "task.model", "abc", "task.model is 'abc', not a dictionary."),
        ("train", "task.loss", None, "task.loss is None, not a dictionary."),
        ("train", "weights", True, "weights is True, not a string or null."),
        ("train", "preview", "yes", "preview is 'yes', not true or false."),
        ("evaluate", "tiles.overlap", "x", "tiles.overlap is 'x', not a number."),
        ("evaluate", "device", None, "device is None, not a string."),
        ("export", "calibration.images", "many", "calibration.images is 'many', not a whole number."),
        ("predict", "stream.retries", 0.5, "stream.retries is 0.5, not a whole number."),
    ],
)
def test_types_of_a_configuration(composed, command, key, value, sentence):
    config = composed[command].copy()
    OmegaConf.update(config, key, value, merge=False)
    with pytest.raises(UserError) as error:
        check(config, getattr(schemas, f"{SCHEMAS[command]}Schema"))
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("max_epochs", 0, "trainer.max_epochs must be at least 1, got 0."),
        ("accumulate_grad_batches", 0, "trainer.accumulate_grad_batches must be at least 1, got 0."),
        ("check_val_every_n_epoch", -1, "trainer.check_val_every_n_epoch must be at least 1, got -1."),
        ("early_stopping", 0, "trainer.early_stopping must be at least 1, got 0."),
        (
            "limit_train_batches",
            2.5,
            "trainer.limit_train_batches must be a whole number of batches from 1, or a share above 0",
        ),
        (
            "limit_val_batches",
            0,
            "trainer.limit_val_batches must be a whole number of batches from 1, or a share above 0",
        ),
        ("devices", 0, "trainer.devices must be a number from 1, -1 or auto for all, got 0."),
        (
            "accelerator",
            "cudda",
            "trainer.accelerator must be one of auto, cpu, gpu, cuda, mps, tpu, got 'cudda'; cuda may be",
        ),
        ("precision", "fp16", "trainer.precision must be one of auto, 32-true, 16-mixed, bf16-mixed,"),
    ],
)
def test_where_and_how_long(key, value, sentence):
    with pytest.raises(UserError) as error:
        TrainerSettings(**{key: value})
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(("value", "meant"), [("fp16", "16-mixed"), ("float32", "32-true"), ("bf16-mix", "bf16-mixed")])
def test_the_precision_that_is_meant(value, meant):
    with pytest.raises(UserError, match=f"got '{value}'; {meant} may be meant\\.$"):
        TrainerSettings(precision=value)


@pytest.mark.parametrize(
    ("settings", "reason"), [({"strategy": "foo"}, "invalid strategy name"), ({"accelerator": "tpu"}, "xla")]
)
def test_what_lightning_refuses(tmp_path, settings, reason):
    task = SimpleNamespace(run=tmp_path, kind=SimpleNamespace(monitor="AP"))
    with pytest.raises(
        UserError, match="^trainer.accelerator=.* cannot be used here .*: change one of them.$"
    ) as error:
        trainer._trainer(task, Recipe(), TrainerSettings(**settings), "32-true", None, ([], []), steps=1)
    assert reason in str(error.value)


def test_adamw_without_momentum():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1}]
    assert OPTIMISERS["adamw"](groups, Recipe(momentum=0), 0.1).defaults["betas"] == (0.0, 0.999)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
            "the memory is not enough for these settings",
        ),
        (
            PermissionError(13, "Permission denied", "/data/x.json"),
            "/data/x.json cannot be used (Permission denied): correct",
        ),
        (OSError(28, "No space left on device"), "nothing more can be written (No space left on device): free space"),
        (
            OSError(28, "No space left on device", "/x/metrics.csv"),
            "nothing more can be written at /x/metrics.csv (No space left on device): free space there",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 17) exited unexpectedly"),
            "a process that loads images was ended from outside, mostly for lack of memory: lower data.num_workers",
        ),
        (
            RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. "),
            "a process that loads images was ended from outside",
        ),
        (RuntimeError("a fault"), None),
        (OSError(5, "Input/output error"), None),
    ],
)
def test_errors_of_the_machine(error, sentence):
    said = running_sentence(error)
    assert said is None if sentence is None else said.startswith(sentence)


def test_a_thread_on_a_full_disk_prints_no_traceback(capsys):
    for error, printed in ((OSError(28, "No space left on device"), False), (OSError(5, "a fault"), True)):
        running._thread_failed(threading.ExceptHookArgs((OSError, error, None, threading.current_thread())))
        assert ("a fault" in capsys.readouterr().err) == printed
