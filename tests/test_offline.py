"""Commands on local data need no network and report to nobody."""

import socket

import pytest
from commands import run
from PIL import Image

from seg_det.predict import loading

TINY = ("data.size=64", "backbone.width=0.25", "backbone.weights=none", "data.num_workers=0", "trainer.max_epochs=1")
DATA = ("dataset.train_images=8", "dataset.val_images=4", "data.batch_size=4")


@pytest.fixture
def attempts(monkeypatch):
    """The addresses that the process tried to connect to; every attempt fails."""
    tried = []

    def refuse(self, address, *_):
        if self.family == socket.AF_UNIX:
            raise ConnectionRefusedError
        tried.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: refuse(socket.socket(), address))
    return tried


def test_training_measuring_exporting_and_predicting_connect_to_nothing(tmp_path, attempts):
    run(tmp_path, "train", *TINY, *DATA)
    run(tmp_path, "evaluate", "data.num_workers=0")
    run(tmp_path, "export", "target=onnx", "verification.images=2", "data.num_workers=0")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    run(tmp_path, "predict", f"source={tmp_path / 'a.png'}")
    assert attempts == []


def test_auto_takes_the_gpu_that_there_is(monkeypatch):
    monkeypatch.setattr(loading.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(loading.torch.backends.mps, "is_available", lambda: True)
    assert loading._fastest() == "mps"
    monkeypatch.setattr(loading.torch.cuda, "is_available", lambda: True)
    assert loading._fastest() == "cuda"
