"""The recipes that retell how others train their detectors: their figures, and that they really train."""

import pytest
import torch
from commands import run
from omegaconf import OmegaConf
from test_commands import SMALL
from test_conf import CONF, backbone_arguments, compose, names

from seg_det import checkpoint
from seg_det.commands.network import postprocess
from seg_det.commands.settings import build
from seg_det.kinds.lookup import KINDS
from seg_det.losses.boxes import BOX_LOSSES
from seg_det.registry import AUGMENTATIONS, LOSSES
from seg_det.training.optimisation import Recipe, optimiser, schedule
from seg_det.types import DetectionBatch, ModelCard

# images, GPUs, rate of a whole step, epochs; steps a run of COCO's 118,287 images has, and those that the source says
RECIPES = {
    "ssdlite_v2_coco_tf": (24, 1, 0.004, 41, 200_000),
    "ssd_v1_coco_tf": (24, 1, 0.004, 41, 200_000),
    "ssdlite_v3_coco_tf": (64, 8, 0.4, 1732, 400_000),
    "ssdlite_v3_coco_torchvision": (24, 8, 0.15, 660, None),
    "ssdlite_v2_coco_mmdet": (24, 8, 0.015, 600, None),
}
DETECTORS = [task for task in names("task") if compose(f"task={task}").task.kind == "detection"]


def recipe_of(config):
    values = OmegaConf.to_container(config.recipe)
    values.pop("backbone_weights")
    return Recipe(**values)


def predictor_of(config, size, classes=2):
    model = OmegaConf.to_container(config.task.model, resolve=True)
    model |= {"num_classes": classes, "backbone": backbone_arguments(config)}
    card = ModelCard("detection", "x", model, postprocess(config.task), (), size, (0, 0, 0), (255, 255, 255))
    return KINDS["detection"].task.predictor(checkpoint.build_model(model), card)


def batch_of(counts, size):
    """Images of noise with so many objects each, in the same places."""
    most = max(counts)
    boxes = torch.tensor([[8.0, 8, 40, 40], [20, 30, 60, 62]])[:most].expand(len(counts), -1, -1)
    valid = torch.arange(most) < torch.tensor(counts)[:, None]
    images = torch.randint(0, 256, (len(counts), 3, *size), dtype=torch.uint8)
    sizes = torch.tensor([size] * len(counts))
    labels = torch.zeros(len(counts), most, dtype=torch.long)
    return DetectionBatch(images, boxes, labels, torch.zeros_like(valid), valid, torch.arange(len(counts)), sizes)


@pytest.mark.parametrize("name", RECIPES)
def test_rates_and_lengths_are_the_source_s(name):
    images, gpus, rate, epochs, wanted = RECIPES[name]
    config = compose(f"experiment={name}", "dataset.root=/data")
    recipe = recipe_of(config)
    assert (config.data.batch_size, config.trainer.max_epochs) == (images, epochs)
    steps_per_epoch = 118_287 // (images * gpus)
    if wanted:
        assert epochs * steps_per_epoch == pytest.approx(wanted, rel=0.02)
    opt = optimiser(predictor_of(config, (64, 64)).model, recipe, images * gpus)
    share = schedule(opt, recipe, epochs * steps_per_epoch, steps_per_epoch).lr_lambdas[0]
    warmup = recipe.warmup_steps + round(recipe.warmup_epochs * steps_per_epoch)
    assert opt.defaults["lr"] * share(warmup) == pytest.approx(rate)
    assert share(epochs * steps_per_epoch) == pytest.approx(1.0 if recipe.optimiser == "rmsprop" else 0.0, abs=1e-9)
    assert (recipe.momentum, recipe.weight_decay) == (0.9, 4e-5)
    assert (recipe.clip_norm, recipe.ema_decay, recipe.freeze_until) == (None, None, None)


def test_the_warmup_of_the_tensorflow_cosine():
    recipe = recipe_of(compose("experiment=ssdlite_v3_coco_tf", "dataset.root=/data"))
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.4)
    share = schedule(opt, recipe, 400_000, 231).lr_lambdas[0]
    assert 0.4 * share(0) == pytest.approx(0.13333)
    assert 0.4 * share(1000) == pytest.approx((0.13333 + 0.4) / 2)
    assert 0.4 * share(201_000) == pytest.approx(0.2)


def test_anchors_and_losses_are_the_source_s():
    def shape(name, size):
        config = compose(f"experiment={name}", "dataset.root=/data")
        assert config.data.size == size
        anchors = predictor_of(config, (size, size), classes=80).anchors
        return len(anchors), config.task.loss.classification, config.task.loss.min_negatives

    assert shape("ssdlite_v2_coco_tf", 300) == (1917, "sigmoid", 3)
    assert shape("ssd_v1_coco_tf", 300) == (1917, "sigmoid", 0)
    assert shape("ssdlite_v3_coco_tf", 320) == (2034, "focal", 3)
    assert shape("ssdlite_v3_coco_torchvision", 320) == (3234, "softmax", 0)
    assert shape("ssdlite_v2_coco_mmdet", 320) == (3234, "softmax", 0)


@pytest.mark.parametrize("name", RECIPES)
def test_heads_say_where_it_comes_from_and_that_it_was_not_run(name):
    head = (CONF / "experiment" / f"{name}.yaml").read_text()
    for words in ("# Source: ", " AP on ", " hours", "not run here", "What differs"):
        assert words in head
    config = compose(f"experiment={name}", "dataset.root=/data")
    build(config.augmentation, AUGMENTATIONS, size=[64, 64])


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_of_every_recipe(name):
    torch.manual_seed(0)  # which negatives are hard is chance: once in a while none of the first map
    config = compose(f"experiment={name}", "dataset.root=/data")
    size = (64, 64)
    predictor = predictor_of(config, size)
    opt = optimiser(predictor.model, recipe_of(config), images_per_step=2)
    before = predictor.model.class_predictors[0].project.weight.detach().clone()
    for _ in range(2):
        batch = batch_of([2, 1], size)
        loss = (
            KINDS["detection"].loss(build(config.task.loss, LOSSES), predictor, predictor(batch.images), batch).total()
        )
        opt.zero_grad()
        loss.backward()
        opt.step()
        assert loss.isfinite()
    after = predictor.model.class_predictors[0].project.weight
    assert after.isfinite().all() and not torch.equal(before, after)


def test_a_recipe_trains_as_a_user_starts_it(tiny_shapes, tmp_path):
    arguments = ["experiment=ssdlite_v2_coco_mmdet", "dataset=shapes", f"dataset.root={tiny_shapes}", *SMALL]
    images = ["dataset.train_images=24", "dataset.val_images=8"]
    done = run(tmp_path, "train", *arguments, *images, "trainer.check_val_every_n_epoch=1")
    assert "ssdlite_mmdet_v2_shapes on" in done.stdout and "AP50" in done.stdout


def test_a_recipe_trains_on_real_images(real_data, tmp_path):
    root = real_data / "data" / "coco2017_subset"
    once = ["trainer.fast_dev_run=true", "trainer.accelerator=cpu", "data.num_workers=0", "data.batch_size=4"]
    done = run(tmp_path, "train", "experiment=ssdlite_v3_coco_tf", f"dataset.root={root}", "data.size=96", *once)
    assert "one batch was trained and one evaluated" in done.stdout


@pytest.mark.parametrize("task", DETECTORS)
def test_every_detector_takes_every_loss(task):
    size = (64, 64)
    torch.manual_seed(0)
    config = compose(f"task={task}", "backbone=v2", "backbone.width=0.35")
    predictor = predictor_of(config, size)
    batches = {"objects": batch_of([2, 0], size), "background": batch_of([0, 0], size)}
    raw = {name: predictor(batch.images) for name, batch in batches.items()}
    for classification in ("softmax", "sigmoid", "focal"):
        for localisation in BOX_LOSSES:
            smoothing = 0.0 if classification == "focal" else 0.1
            keys = [f"classification={classification}", f"localisation={localisation}", f"label_smoothing={smoothing}"]
            chosen = OmegaConf.merge(config.task.loss, OmegaConf.from_dotlist([*keys, "negative_ratio=2"]))
            function = build(chosen, LOSSES)
            for name, batch in batches.items():
                losses = KINDS["detection"].loss(function, predictor, raw[name], batch)
                predictor.model.zero_grad()
                losses.total().backward(retain_graph=True)
                gradients = [p.grad for p in predictor.model.parameters() if p.grad is not None]
                assert losses.total().isfinite() and all(g.isfinite().all() for g in gradients), (keys, name)
                assert (losses.localisation > 0) == (name == "objects")


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_box_losses_in_autocast(precision):
    size = (64, 64)
    torch.manual_seed(0)
    config = compose("task=ssdlite", "backbone=v2", "backbone.width=0.35")
    predictor, batch = predictor_of(config, size), batch_of([2, 0], size)
    for localisation in BOX_LOSSES:
        function = build(OmegaConf.merge(config.task.loss, {"localisation": localisation}), LOSSES)
        with torch.autocast("cpu", precision):
            losses = KINDS["detection"].loss(function, predictor, predictor(batch.images), batch)
        predictor.model.zero_grad()
        losses.total().backward()
        assert losses.localisation.dtype == torch.float32 and losses.localisation.isfinite()
        assert all(p.grad.isfinite().all() for p in predictor.model.parameters() if p.grad is not None), localisation
