"""What the verbs do before they read anything: numbers that cannot be meant are refused, a run gets a folder of its own."""

import pytest
from omegaconf import ListConfig, OmegaConf

from seg_det.commands import folders, settings
from seg_det.errors import UserError


def test_numbers_that_are_meant():
    assert settings.workers(0) == 0 and settings.workers(3) == 3 and 0 <= settings.workers("auto") <= 8
    assert settings.batch_size(4) == 4
    assert (
        settings.per_channel(ListConfig([0, 1.5, 2]), "mean") == (0, 1.5, 2)
        and settings.per_channel(None, "std") is None
    )


@pytest.mark.parametrize("wanted", [-1, "many", 1.5])
def test_workers(wanted):
    with pytest.raises(UserError, match=f"data.num_workers must be auto or a number from 0, got {wanted}"):
        settings.workers(wanted)


@pytest.mark.parametrize("wanted", [0, "x", 2.5])
def test_batch_size(wanted):
    with pytest.raises(UserError, match=f"data.batch_size must be a number from 1, got {wanted}"):
        settings.batch_size(wanted)


@pytest.mark.parametrize(
    ("values", "key", "sentence"),
    [
        ([1, 2], "mean", r"data.mean takes three numbers, of red, green and blue, got \[1, 2\]"),
        ([1, 0, 1], "std", r"data.std takes three numbers above 0, of red, green and blue, got \[1, 0, 1\]"),
    ],
)
def test_three(values, key, sentence):
    with pytest.raises(UserError, match=sentence):
        settings.per_channel(ListConfig(values), key)


def test_a_run_in_the_same_second_gets_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(2):
        folder = folders.new_folder("evaluate", "model")
        folders.claim(folder, OmegaConf.create({"seed": len(names)}))
        names.append(folder.name)
    assert names[0] < names[1]
    with pytest.raises(UserError, match="belongs to another run, which would be overwritten"):
        folders.claim(folder, OmegaConf.create())
