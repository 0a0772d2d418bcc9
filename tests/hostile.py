"""Runs, cards and exported files as somebody who wants to run code would make them, small and made by the test."""

import hashlib
import json
from functools import cache
from pathlib import Path

import hydra
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from seg_det import checkpoint
from seg_det.commands import running
from seg_det.commands.settings import with_preferences
from seg_det.data.shapes_scene import CLASSES
from seg_det.types import Category, ModelCard

CONF = Path(__file__).parent.parent / "conf"
BACKBONE = {"_target_": "MobileNetV1", "width": 0.25}
MODELS = {
    "detection": {"_target_": "SSDLite", "num_classes": 8, "width": 0.25, "backbone": BACKBONE},
    "segmentation": {"_target_": "RASPP", "num_classes": 9, "channels": 8, "backbone": BACKBONE},
    "classification": {"_target_": "Classifier", "num_classes": 3, "backbone": BACKBONE},
}
RESIZES = {"detection": "stretch", "segmentation": "stretch", "classification": "centre_crop"}
POSTPROCESS = {
    "detection": {"score": "softmax", "score_threshold": 0.01, "iou_threshold": 0.5, "max_candidates": 50, "max_detections": 10},
    "segmentation": {"output": "logits", "align_corners": False, "flip": False, "scales": [1.0], "overlap": None},
    "classification": {},
}  # fmt: skip
SECTIONS = [
    "data",
    "trainer",
    "augmentation",
    "task",
    "backbone",
    "dataset",
    "recipe",
    "choices",
    "seed",
    "weights",
    "resume",
]
MARKER = "CODE_RAN"  # the file that the code of every attack would leave in the working folder


def card(task="detection"):
    """The plain card of a small untrained model."""
    classes = {"detection": CLASSES, "segmentation": ("background", *CLASSES), "classification": ("a", "b", "c")}[task]
    names = tuple(Category(i, name) for i, name in enumerate(classes))
    whole = ModelCard(
        task, f"small_{task}", MODELS[task], POSTPROCESS[task], names, (64, 64), (120.0, 115.0, 100.0), (58.0, 57.0, 57.0),
        resize=RESIZES[task], metrics={"AP": 0.5}, training_data={"name": "shapes train", "start": "none"}, version="0.1.0",
    )  # fmt: skip
    return whole.to_dict()


def state(task="detection"):
    """The tensors of that model, under the names that training gives them."""
    return dict(_state(task))


@cache
def _state(task):
    torch.manual_seed(0)
    model = checkpoint.build_model(MODELS[task])
    return {checkpoint.PREFIX + key: value for key, value in model.state_dict().items()}


def write_run(folder, config, *, plain_card=None, task="detection"):
    """A run folder with a checkpoint and ``config``, a dictionary or text, as its configuration; returns the folder."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    content = {"state_dict": state(task), "card": card(task) if plain_card is None else plain_card, "epoch": 0}
    torch.save(content, folder / "checkpoints" / "best.ckpt")
    text = config if isinstance(config, str) else yaml.safe_dump(json.loads(json.dumps(config)))  # without aliases
    (folder / "config.yaml").write_text(text)
    return folder


def training_config(root, **sections):
    """The configuration of a training run on the shapes data set in ``root``, as a dictionary."""
    keys = [f"dataset.root={root}", "dataset.train_images=24", "dataset.val_images=8", "task=ssdlite", "backbone=v1"]
    keys += ["backbone.width=0.25", "data.size=64", "data.batch_size=2", "data.num_workers=0", "trainer.max_epochs=1"]
    config = OmegaConf.masked_copy(with_preferences(composed("train", tuple(keys))), SECTIONS)
    config.choices = {"task": "ssdlite", "backbone": "v1", "dataset": "shapes"}
    return {**OmegaConf.to_container(config), **sections}


@cache
def composed(verb, keys):
    """The configuration of a command, with what Hydra knows of the command beside it."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(verb, list(keys), return_hydra_config=True)


def invoke(command, *overrides, groups=()):
    """A command in this process, in the frame of the entry points; returns the sentence that it ended with, None for success.

    ``groups`` are overrides that choose files of conf/.
    """
    config = composed(command, tuple(groups)).copy()
    with open_dict(config.hydra):
        config.hydra.runtime.output_dir = str(Path.cwd() / "runs" / "here")
        config.hydra.overrides.task = [*groups, *overrides]
    HydraConfig.instance().set_config(config)
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    own = OmegaConf.merge(own, OmegaConf.from_dotlist(list(overrides)))
    try:
        running.run(command, own)
    except SystemExit as end:
        return str(end.code)


def sealed(content):
    """Card and export as JSON with the checksum that belongs to them."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "checksum": digest})
