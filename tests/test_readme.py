"""Every command of the README runs, as it stands there, on small data and for one epoch."""

import re
import shlex
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from commands import run
from PIL import Image

from seg_det.data.shapes import CLASSES
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.classifier import Classifier

ROOT = Path(__file__).parent.parent
RUN = "runs/train/ssdlite_v2_shapes/2026-01-31_12-00-00"
EXPORT = "2026-01-31_12-30-00"
SMALL = ["trainer.max_epochs=1", "backbone.width=0.35", "data.size=64", "data.num_workers=0", "data.batch_size=8"]
SHAPES = ["dataset.train_images=24", "dataset.val_images=8"]


def commands(text):
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = commands((ROOT / "README.md").read_text())


def test_the_first_two_lines_and_the_ci():
    assert COMMANDS[0] == "pip install -c constraints.txt -e . && python train.py"
    assert COMMANDS[1] == "pip install -c constraints.txt -e '.[dev]' && pytest"
    assert COMMANDS[1] in (ROOT / ".ci" / "run").read_text()


def small(command):
    """The same command with all that makes it large made small."""
    words = shlex.split(command.split("&&")[-1].strip())
    if words[1] == "train.py" and "--help" not in words:
        named = {word.split("=")[0] for word in words}
        shapes = SHAPES if not named & {"resume", "dataset", "dataset.root"} else []
        limits = [word for word in SMALL if word.split("=")[0] not in named]
        words += [] if "resume" in named else limits + shapes
        epochs = 2 if "resume" in named else 1
        words = [f"trainer.max_epochs={epochs}" if word.startswith("trainer.max_epochs") else word for word in words]
        words = [
            re.sub(r"^data\.size=(\d+),(\d+)$", "data.size=48,64", re.sub(r"^data\.size=\d+$", "data.size=64", w))
            for w in words
        ]
    if "precision=int8" in words:
        words.append("calibration.images=4")
    return words


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_shapes, tiny_imagefolder):
    """A folder as a user would have it: the program's files, the data sets that the README speaks of, one finished run."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("train.py", "evaluate.py", "predict.py", "export.py", "conf"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "datasets").mkdir()
    for script in (ROOT / "datasets").glob("*.py"):
        (folder / "datasets" / script.name).symlink_to(script)
    (folder / "datasets" / "shapes").symlink_to(tiny_shapes)
    coco = folder / "datasets" / "coco"
    (coco / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (coco / f"{split}2017").symlink_to(tiny_shapes / "images" / split)
        (coco / "annotations" / f"instances_{split}2017.json").symlink_to(
            tiny_shapes / "annotations" / f"instances_{split}.json"
        )
    for name in ("parts", "VOC2012"):
        own_data(folder / name, tiny_shapes)
    (folder / "photos").symlink_to(tiny_imagefolder)
    (folder / "pictures").symlink_to(tiny_shapes / "images" / "val")
    video(folder / "clip.mp4")
    own_yolo(folder / "boards", tiny_shapes)
    own_masks(folder / "masks")
    torch.save(Classifier(partial(MobileNetV1, width=0.25), num_classes=3).state_dict(), folder / "weights.pth")
    call(folder, [*small("python train.py"), f"hydra.run.dir={RUN}"])
    call(folder, ["python", "export.py", f"model={RUN}"])
    (exported,) = (folder / "runs" / "export" / "ssdlite_v2_shapes").iterdir()
    exported.rename(exported.with_name(EXPORT))
    return folder


def video(path):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (96, 64))
    for number in range(4):
        writer.write(np.full((64, 96, 3), 40 * number, np.uint8))
    writer.release()


def own_data(root, shapes):
    """The same images in the form of custom_coco and of custom_voc at once."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main", "annotations"):
        (root / part).mkdir(parents=True)
    (root / "labels.txt").write_text("\n".join(CLASSES))
    for split in ("train", "val"):
        (root / split).symlink_to(shapes / "images" / split)
        (root / "annotations" / f"{split}.json").symlink_to(shapes / "annotations" / f"instances_{split}.json")
        names = []
        for image in sorted((shapes / "images" / split).iterdir())[:8]:
            name = f"{split}_{image.stem}"
            names.append(name)
            (root / "JPEGImages" / f"{name}.jpg").symlink_to(image)
            box = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>90</xmax><ymax>80</ymax></bndbox>"
            (root / "Annotations" / f"{name}.xml").write_text(
                f"<annotation><object><name>{CLASSES[0]}</name>{box}</object></annotation>"
            )
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))


def own_yolo(root, shapes):
    """Eight images for each part with a box in YOLO's format."""
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (root / part / split).mkdir(parents=True)
        for image in sorted((shapes / "images" / split).iterdir())[:8]:
            (root / "images" / split / image.name).symlink_to(image)
            (root / "labels" / split / image.name).with_suffix(".txt").write_text("0 0.5 0.5 0.3 0.4\n")
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: [{CLASSES[0]}]\n")


def own_masks(root):
    """Eight images and masks of two classes to train on, four to validate."""
    noise = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for i in range(count):
            mask = np.zeros((60, 80), np.uint8)
            mask[10 + i : 40, 20:60] = 1
            image = noise.integers(0, 100, (60, 80, 3), dtype=np.uint8) + 100 * mask[..., None]
            Image.fromarray(image.astype(np.uint8)).save(root / split / "images" / f"{i}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{i}.png")
    (root / "labels.txt").write_text("ground\nthing\n")


def call(folder, words, check=True):
    """Run a command line of the README in ``folder``, where its /data lies too."""
    words = [str(folder / w.removeprefix("/data/")) if w.startswith("/data/") else w for w in words]
    program, *words = [w.replace("=/data/", f"={folder}/") for w in words[1:]]
    command = words.pop(0) if program == "-m" else program.removesuffix(".py")
    return run(folder, command, *words, check=check)


RUNNABLE = [c for c in COMMANDS[2:] if "prepare_" not in c and "seg_det.weights" not in c]


@pytest.mark.parametrize("command", RUNNABLE)
def test_command(desk, command):
    assert command.startswith("python ")
    call(desk, small(command))


def test_python(desk, tmp_path, monkeypatch):
    """The lines of Python run in the folder of the commands, with a photo in it."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (desk / "photo.jpg").write_bytes(next((desk / "datasets" / "shapes").rglob("*.jpg")).read_bytes())
    monkeypatch.chdir(desk)
    exec(compile(block, "README.md", "exec"), names := {})
    result = names["result"]
    assert Image.open(desk / "out.png").size == result.size[::-1]
    assert len(result.boxes) == len(result.scores) == len(result.names) == len(result.ids)


@pytest.mark.parametrize("command", [c for c in COMMANDS if "prepare_" in c])
def test_prepare_scripts_are_there(desk, command):
    # test_prepare.py runs them against a local server; here their arguments are read
    words = shlex.split(command)
    assert "--root" in call(desk, [words[0], words[1], "--help"]).stdout
    assert (ROOT / words[1]).is_file()


def test_weights_command(desk, tmp_path):
    (command,) = [c for c in COMMANDS if "seg_det.weights" in c]
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "seg_det.weights"]
    torch.save({"features.0.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "w.pth")
    assert "tensors" in call(desk, [*words[:3], str(tmp_path / "w.pth")], check=False).stdout


@pytest.mark.parametrize("document", ["README.md", "datasets/README.md"])
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
