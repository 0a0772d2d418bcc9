"""``python -m seg_det.anchors`` as a user types it, and the training that its last line names."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from commands import run, run_in_new_process
from omegaconf import OmegaConf

pytestmark = pytest.mark.usefixtures("no_connections")

SMALL = [
    "backbone.width=0.35",
    "data.size=[72,104]",
    "data.batch_size=12",
    "data.num_workers=0",
    "dataset.train_images=24",
]
SMALL += ["dataset.val_images=8", "trainer.max_epochs=1", "trainer.accelerator=cpu", "backbone.weights=none"]


def test_anchors_are_fitted_and_trained_with(tiny_shapes, tmp_path):
    """At a size that is neither square nor a multiple of 32."""
    arguments = [f"dataset.root={tiny_shapes}", *SMALL]
    done = run_in_new_process(tmp_path, "seg_det.anchors", *arguments, "fit.rounds=3", "task.model.min_scale=0.15")
    rows = {words[0]: words[1:] for line in done.stdout.splitlines() if len(words := line.split()) == 6}
    assert {"all", "small", "medium"} <= set(rows)
    assert float(rows["all"][3]) >= float(rows["all"][1])  # recall, fitted and present
    file = Path(re.search(r"^anchors +(.*)$", done.stdout, re.M)[1])
    assert file.parent.parent == Path("runs/anchors/ssdlite_v2_shapes")
    assert [path.name for path in (tmp_path / file).parent.iterdir()] == ["anchors.yaml"]
    command = shlex.split(re.search(r"^next +(.*)$", done.stdout, re.M)[1])
    assert command == [
        "python",
        "train.py",
        *arguments,
        "task.model.min_scale=0.15",
        "dataset=shapes",  # which the folder was recognised as
        f"task.model.anchor_shapes={file}",
    ]

    trained = run(tmp_path, "train", *command[2:])
    shapes = OmegaConf.load(tmp_path / file).task.model.anchor_shapes
    (folder,) = (tmp_path / "runs" / "train" / "ssdlite_v2_shapes").iterdir()
    assert OmegaConf.load(folder / "config.yaml").task.model.anchor_shapes == shapes  # the run needs the file no more
    card = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["card"]
    assert card["model"]["anchor_shapes"] == shapes and card["input_size"] == [72, 104]
    assert "objects of shapes train match no anchor by an IoU of 0.5 at 72 x 104" in trained.stdout
    evaluated = run(tmp_path, "evaluate", f"model={folder}", "input_size=[56,136]", "data.num_workers=0")
    assert "AP50" in evaluated.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["task=lraspp"], "error: task=lraspp has no anchors: choose a detector, such as task=ssdlite or task=ssd."),
        (["fit.iou=1.5"], "error: fit.iou must lie between 0 and 1, got 1.5."),
        (["fit.rounds=0"], "error: fit.rounds must be a whole number from 1, got 0."),
        (["fit.round=3"], "there is no key fit.round: fit.rounds may be meant."),
        (["task.model.anchor_shapes=none.yaml"], "error: task.model.anchor_shapes=none.yaml: there is no such file"),
        (["data.size=[72]"], "error: data.size must be a number or [height, width] in pixels, got [72]."),
    ],
)
def test_mistakes_get_one_sentence(tiny_shapes, tmp_path, arguments, sentence):
    sizes = [] if arguments[0].startswith("data.size") else ["data.size=64"]
    counts = ["dataset.train_images=24", "dataset.val_images=8"]
    words = [f"dataset.root={tiny_shapes}", *counts, *sizes, *arguments]
    done = run(tmp_path, "seg_det.anchors", *words, check=False)
    assert done.returncode != 0 and sentence in done.stderr and "Traceback" not in done.stderr
