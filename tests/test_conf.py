"""Every file of conf/ composes, and every cell of the grid builds and runs; a new file is tested the day it appears."""

import re
import warnings
from dataclasses import asdict
from inspect import Parameter, signature
from itertools import product
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from references import reference

from seg_det import checkpoint
from seg_det.commands.network import postprocess
from seg_det.commands.settings import build, with_preferences
from seg_det.kinds.lookup import KINDS
from seg_det.registry import AUGMENTATIONS, BACKBONES, CALLBACKS, LOGGERS, LOSSES, MODELS, READERS, TARGETS
from seg_det.training.optimisation import Recipe
from seg_det.training.trainer import TrainerSettings
from seg_det.types import ClassificationBatch, DetectionBatch, ModelCard, SegmentationBatch

CONF = Path(__file__).parent.parent / "conf"


def names(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def compose(*overrides, name="train"):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(name, list(overrides))
    return with_preferences(config) if "backbone" in config else config


def backbone_arguments(config):
    return {
        key: value for key, value in OmegaConf.to_container(config.backbone, resolve=True).items() if key != "weights"
    }


def detection_batch():
    flags = torch.ones(2, 1, dtype=torch.bool)
    box = torch.tensor([[[8.0, 8, 40, 40]]]).expand(2, -1, -1)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    labels = torch.ones(2, 1, dtype=torch.long)
    return DetectionBatch(images, box, labels, ~flags, flags, torch.arange(2), torch.full((2, 2), 64))


def classification_batch():
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    return ClassificationBatch(images, torch.tensor([0, 1]), torch.arange(2))


def segmentation_batch():
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    masks = torch.randint(0, 2, (2, 64, 64), dtype=torch.uint8)
    return SegmentationBatch(images, masks, torch.arange(2), torch.full((2, 2), 64), list(masks))


BATCHES = {"detection": detection_batch, "classification": classification_batch, "segmentation": segmentation_batch}


@pytest.mark.parametrize(("task", "backbone"), list(product(names("task"), names("backbone"))))
def test_every_task_with_every_backbone(task, backbone):
    if backbone == "timm":
        reference("timm")
    config = compose(f"task={task}", f"backbone={backbone}")
    model = {
        **OmegaConf.to_container(config.task.model, resolve=True),
        "num_classes": 2,
        "backbone": backbone_arguments(config),
    }
    kind = KINDS[config.task.kind]
    card = ModelCard(kind.name, "x", model, postprocess(config.task), (), (64, 64), (0, 0, 0), (255, 255, 255))
    predictor = kind.task.predictor(checkpoint.build_model(model), card)
    batch = BATCHES[kind.name]()
    raw = predictor(batch.images)
    loss = kind.loss(build(config.task.loss, LOSSES), predictor, raw, batch).total()
    loss.backward()
    assert torch.isfinite(loss)
    assert len(predictor.decode(raw, (64, 64), kind.batch_sizes(batch))) == 2


@pytest.mark.parametrize("dataset", names("dataset"))
def test_every_dataset_names_both_splits(dataset):
    config = compose(f"dataset={dataset}", "dataset.root=/data")
    dataset = OmegaConf.to_container(config.dataset, resolve=True)
    assert {"name", "root", "on_bad", "train", "val"} <= set(dataset)
    for split in ("train", "val"):
        assert dataset[split]["_target_"] in set(READERS)


@pytest.mark.parametrize("recipe", names("recipe"))
def test_every_recipe_fits_its_class(recipe):
    config = compose("task=classifier", "backbone=v1", f"recipe={recipe}")
    checkpoint.build_model({**config.task.model, "num_classes": 2, "backbone": backbone_arguments(config)})
    values = OmegaConf.to_container(config.recipe)
    values.pop("backbone_weights")
    Recipe(**values)


@pytest.mark.parametrize("trainer", names("trainer"))
def test_every_trainer_fits_its_class(trainer):
    settings = TrainerSettings(**OmegaConf.to_container(compose(f"trainer={trainer}", "dataset=coco").trainer))
    if trainer == "default":
        assert settings == TrainerSettings()


@pytest.mark.parametrize("augmentation", names("augmentation"))
def test_every_augmentation_builds(augmentation):
    build(compose(f"augmentation={augmentation}").augmentation, AUGMENTATIONS, size=[64, 64])


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_composes_and_says_what_it_reached(experiment):
    config = compose(f"experiment={experiment}", "dataset.root=/data")
    model = OmegaConf.to_container(config.task.model, resolve=True)
    checkpoint.build_model({**model, "num_classes": 2, "backbone": backbone_arguments(config)})
    head = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    assert f"python train.py experiment={experiment}" in head
    assert "reached" in head or "not run" in head


def test_the_command_line_goes_before_what_a_dataset_prefers():
    assert compose().augmentation._target_ == "flip_only"
    assert compose("augmentation=ssd").augmentation.zoom_out_probability == 0.5
    assert compose("dataset=coco").data.size == 320
    assert compose("data.size=160").data.size == 160


def test_evaluation_composes_with_and_without_a_dataset():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "dataset" not in compose(name="evaluate")
    for dataset in names("dataset"):
        assert compose(f"dataset={dataset}", name="evaluate").dataset.name == dataset


def test_defaults_are_those_that_the_published_figures_were_measured_with():
    """The README's first row is `python train.py`: who changes one of these measures it again."""
    config = compose()
    recipe = {
        "backbone_weights": "auto", "optimiser": "adamw", "lr": 0.002, "lr_batch": 16, "head_lr": 1.0, "momentum": 0.9,
        "weight_decay": 0.02, "decay_depthwise": True, "rmsprop_alpha": 0.9, "eps": 1e-8, "schedule": "cosine",
        "warmup_steps": 50, "warmup_epochs": 0.0, "warmup_start": 1e-3, "hold": 0.0, "final_lr": 0.0, "poly_power": 0.9,
        "step_epochs": 30, "step_factor": 0.1, "clip_norm": 10.0, "ema_decay": 0.998, "freeze_until": "c2",
        "frozen_norms": "stages", "quantise": False,
    }  # fmt: skip
    assert OmegaConf.to_container(config.recipe) == recipe
    assert (config.data.size, config.data.batch_size, config.trainer.max_epochs) == (224, 16, 7)
    assert (config.task.name, config.dataset.name, config.backbone.width, config.seed) == ("ssdlite", "shapes", 1.0, 0)
    assert OmegaConf.to_container(config.task.postprocess) == {
        "score_threshold": 0.01, "iou_threshold": 0.55, "max_candidates": 400, "max_detections": 100,
    }  # fmt: skip


# Choices that state the defaults of what they configure; the others of their groups are variants of these.
BASES = {
    "task": ("ssdlite", "ssd", "lraspp", "raspp", "deeplabv3", "classifier"),
    "backbone": ("v1", "v2", "v3", "mixnet_s", "inception_v1", "inception_v2", "timm"),
    "augmentation": ("ssd", "flip", "inception", "none", "segmentation"),
    "logger": names("logger"),
    "callbacks": names("callbacks"),
    "dataset": names("dataset"),
}
FAMILIES = (AUGMENTATIONS, BACKBONES, CALLBACKS, LOGGERS, LOSSES, MODELS, READERS, TARGETS)
WHERE = {"root", "split", "images", "annotations", "named_in", "labels"}  # of a reader: which part lies where
OWN_TO_A_DATASET = {("read_coco", "known_bad")}  # two boxes of COCO's official file


@pytest.mark.parametrize(("group", "choice"), [(group, choice) for group in BASES for choice in BASES[group]])
def test_python_has_the_defaults_of_the_configuration(group, choice):
    chosen = f"[{choice}]" if group in ("logger", "callbacks") else choice
    config = compose("dataset=coco", f"{group}={chosen}", "dataset.root=/data")
    section = OmegaConf.to_container(config[group], resolve=True)
    assert list(_unequal(section)) == []


@pytest.mark.parametrize("target", names("target"))
def test_python_has_the_defaults_of_the_targets(target):
    section = OmegaConf.to_container(compose(f"target={target}", name="export"), resolve=False)["target"]
    assert list(_unequal(section)) == []


def test_the_recipe_has_the_defaults_of_the_configuration():
    values = OmegaConf.to_container(compose().recipe)
    assert values.pop("backbone_weights") == "auto"
    assert values == asdict(Recipe())


def _unequal(section):
    """The values of a section, and of those below it, that differ from the default of what they configure."""
    if not isinstance(section, dict):
        return
    if "_target_" in section:
        parameters = signature(_member(section["_target_"])).parameters
        for key, value in section.items():
            default = parameters[key].default if key in parameters and key not in WHERE else Parameter.empty
            default = list(default) if isinstance(default, tuple) else default
            if default not in (Parameter.empty, value) and (section["_target_"], key) not in OWN_TO_A_DATASET:
                yield section["_target_"], key, value, default
    for value in section.values():
        yield from _unequal(value)


def _member(target):
    return next(family.get(target) for family in FAMILIES if target in set(family))


READ = {  # of a group's files, the sections that their values may refer to
    "backbone": set(),
    "loss": {"task.postprocess"},
    "postprocess": set(),
    "task": {"task"},
    "recipe": set(),
}


@pytest.mark.parametrize("group", READ)
def test_groups_stand_alone(group):
    for path in (CONF / group).glob("*.yaml"):
        lines = [line.partition("#")[0] for line in path.read_text().splitlines()]
        for name in re.findall(r"\$\{(?:oc\.select:)?([\w.]+)", "\n".join(lines)):
            assert any(name.startswith(f"{section}.") for section in READ[group]), f"{path.name} reads {name}"


def test_what_a_head_prefers_of_its_backbone_gives_way_to_what_is_said():
    assert compose("task=lraspp", "backbone=v2").backbone.scale_head is False
    assert compose("task=lraspp", "backbone=v2", "backbone.scale_head=true").backbone.scale_head is True
    assert compose("task=ssdlite_torchvision", "backbone=v3").backbone.reduced_tail == "detection"
    assert (
        compose("task=ssdlite_torchvision", "backbone=v3", "backbone.reduced_tail=none").backbone.reduced_tail is None
    )
    assert compose("task=ssdlite", "backbone=v2", "backbone.width=0.5").task.model.width == 0.5
    assert compose("task=ssdlite", "backbone.width=0.5", "task.model.width=1.0").task.model.width == 1.0


@pytest.mark.parametrize(
    ("choice", "task"), [("focal", "ssdlite"), ("multibox_sigmoid", "ssdlite_mmdet"), ("pixels", "lraspp")]
)
def test_a_loss_and_a_post_processing_can_be_chosen(choice, task):
    config = compose(f"task={task}", f"loss={choice}")
    assert set(config.task.loss) == set(compose(f"task={task}").task.loss)
    build(config.task.loss, LOSSES)
    assert compose("task=ssdlite", "postprocess=boxes_torchvision").task.postprocess.max_detections == 300
