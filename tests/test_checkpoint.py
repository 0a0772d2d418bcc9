import pickle
from pathlib import Path

import pytest
import torch

from seg_det import checkpoint
from seg_det.errors import UserError
from seg_det.types import Category, ModelCard

BACKBONE = {"_target_": "MobileNetV2", "width": 0.35}
MODEL = {"_target_": "SSDLite", "num_classes": 2, "width": 0.35, "backbone": BACKBONE}
CARD = ModelCard(
    task="detection",
    name="m",
    model=MODEL,
    postprocess={"score": "softmax"},
    categories=(Category(1, "a"), Category(5, "b")),
    input_size=(64, 96),
    mean=(1.0, 2.0, 3.0),
    std=(4.0, 5.0, 6.0),
)


def test_card_survives_its_plain_form():
    plain = CARD.to_dict()
    assert plain["categories"] == [{"id": 1, "name": "a"}, {"id": 5, "name": "b"}]
    assert ModelCard.from_dict(plain) == CARD


def test_build_save_load(tmp_path):
    model = checkpoint.build_model(MODEL)
    state = {checkpoint.PREFIX + key: value for key, value in model.state_dict().items()}
    path = tmp_path / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    torch.save({"state_dict": state, "card": CARD.to_dict()}, path)
    loaded, card = checkpoint.load(checkpoint.find(tmp_path))
    assert card == CARD and not loaded.training
    images = torch.rand(1, 3, 64, 96)
    for a, b in zip(model.eval()(images), loaded(images), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"_target_": "os.system", "command": "true"},
            "'os.system' is no model of seg_det, and nothing else is run: _target_ must be one of Classifier",
        ),
        (
            {**MODEL, "backbone": {"_target_": "subprocess.run"}},
            "'subprocess.run' is no backbone of seg_det, and nothing else is run: _target_ must be one of Incep",
        ),
        ({**MODEL, "widht": 1}, "SSDLite takes no argument widht; it takes backbone, num_classes, width, taps"),
        (
            {**MODEL, "backbone": {**BACKBONE, "depth": 1}},
            "MobileNetV2 takes no argument depth; it takes width, scale_head",
        ),
        (
            {"_target_": "seg_det.models.yolo.YOLO"},
            "'seg_det.models.yolo.YOLO' is no model of seg_det, and nothing else is run",
        ),
    ],
)
def test_only_this_package_s_models_are_built(config, message):
    with pytest.raises(UserError, match=message):
        checkpoint.build_model(config)


def test_which_checkpoint_of_a_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert checkpoint.find(tmp_path).name == "last.ckpt"
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    assert checkpoint.find(tmp_path).name == "best.ckpt"
    assert checkpoint.find(tmp_path, prefer="last").name == "last.ckpt"


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(UserError, match="There is no run or checkpoint .*nothing"):
        checkpoint.find(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no checkpoints/best.ckpt or last.ckpt"):
        checkpoint.find(tmp_path)
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"half a file")
    with pytest.raises(UserError, match="x.ckpt is truncated or no PyTorch file"):
        checkpoint.read(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match="x.ckpt carries no model card"):
        checkpoint.read(path)


class Attack:
    def __reduce__(self):
        return (exec, ("raise SystemExit('this code must never run')",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save({"card": Attack()}, path)
    with pytest.raises(UserError, match="loading it could run code: it was refused"):
        checkpoint.read(path)
    path.write_bytes(pickle.dumps({"card": Attack()}, protocol=2))
    with pytest.raises(UserError, match="could run code: it was refused|is truncated or no PyTorch file"):
        checkpoint.read(path)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil-was-run"),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch, protocol, recwarn):
    monkeypatch.chdir(tmp_path)
    Path("evil.pth").write_bytes(pickle.dumps({"a": Evil()}, protocol=protocol))
    with pytest.raises(
        UserError, match=r"evil\.pth (holds|is) a Python (object|pickle).* could run code: it was refused"
    ):
        checkpoint.load_plain(Path("evil.pth"))
    assert not Path("evil-was-run").exists() and not recwarn


def test_a_torchscript_program_is_named(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), str(tmp_path / "script.pt"))
    with pytest.raises(UserError, match=r"script\.pt is a TorchScript program, not weights"):
        checkpoint.load_plain(tmp_path / "script.pt")
