import copy
from collections import OrderedDict

import pytest
import torch
from recipes import plain_recipe
from torch import nn

from seg_det.errors import UserError
from seg_det.nn.blocks import ConvNormAct, batch_norm
from seg_det.training.optimisation import EMA, Recipe, optimiser, parameter_groups, schedule, warmup_of

NORM = batch_norm(eps=1e-5, momentum=0.1)


def network():
    backbone = nn.Sequential(ConvNormAct(3, 8, kernel=3, norm=NORM), ConvNormAct(8, 8, kernel=3, groups=8, norm=NORM))
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Conv2d(8, 4, 1)))


def test_norms_and_biases_do_not_decay():
    model = network()
    decayed, free = parameter_groups(model, 4e-5)
    assert decayed["weight_decay"] == 4e-5 and free["weight_decay"] == 0
    assert {id(p) for p in decayed["params"]} == {
        id(model.backbone[0].conv.weight),
        id(model.backbone[1].conv.weight),
        id(model.head.weight),
    }
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


def test_depthwise_filters_as_an_option():
    model = network()
    decayed, free = parameter_groups(model, 4e-5, decay_depthwise=False)
    assert {id(p) for p in decayed["params"]} == {id(model.backbone[0].conv.weight), id(model.head.weight)}
    assert any(p is model.backbone[1].conv.weight for p in free["params"])


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw", "muon"])
def test_rate_scales_with_the_images_of_a_step(name):
    opt = optimiser(network(), plain_recipe(optimiser=name, lr=0.02, lr_batch=16), images_per_step=64)
    assert {group["lr"] for group in opt.param_groups} == {0.08}


def test_the_head_has_a_rate_of_its_own():
    model = network()
    opt = optimiser(model, plain_recipe(lr=0.02, lr_batch=16, head_lr=5.0, weight_decay=0.1), images_per_step=16)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in opt.param_groups for p in group["params"]}
    assert rates[id(model.backbone[0].conv.weight)] == (0.02, 0.1)
    assert rates[id(model.backbone[0].norm.weight)] == (0.02, 0.0)
    assert rates[id(model.head.weight)] == (pytest.approx(0.1), 0.1) and rates[id(model.head.bias)][1] == 0.0
    assert len(rates) == len(list(model.parameters()))


def rates(recipe, steps, steps_per_epoch=10):
    opt = optimiser(network(), recipe, images_per_step=recipe.lr_batch)
    rate = schedule(opt, recipe, steps, steps_per_epoch)
    seen = []
    for _ in range(steps):
        seen.append(opt.param_groups[0]["lr"])
        opt.step()
        rate.step()
    return seen


def test_warmup_and_cosine():
    seen = rates(plain_recipe(lr=1.0, warmup_steps=10), 110)
    assert seen[0] == pytest.approx(1e-3)
    assert seen[5] == pytest.approx(0.5, abs=1e-3)
    assert seen[10] == pytest.approx(1.0)
    assert seen[60] == pytest.approx(0.5, abs=1e-6)
    assert seen[-1] < 1e-3


def test_start_of_the_warmup():
    seen = rates(plain_recipe(lr=0.4, lr_batch=512, warmup_steps=4, warmup_start=1 / 3), 8)
    assert seen[:5] == pytest.approx([0.4 / 3, 0.2, 0.8 / 3, 1 / 3, 0.4])
    with pytest.raises(UserError, match="recipe.warmup_start must be at least 0 and below 1, got 1.5"):
        plain_recipe(warmup_start=1.5)


def test_final_rate_of_the_cosine():
    assert rates(plain_recipe(lr=1.0, final_lr=0.1), 100)[-1] == pytest.approx(0.1, abs=1e-3)


def test_poly():
    seen = rates(plain_recipe(lr=1.0, schedule="poly", poly_power=0.9), 100)
    assert seen[50] == pytest.approx(0.5**0.9, rel=1e-3)


def test_hold_comes_before_the_curve():
    seen = rates(plain_recipe(lr=1.0, schedule="poly", poly_power=1.0, warmup_steps=10, hold=0.4), 110)
    assert seen[9] < 1 and seen[10:51] == pytest.approx([1.0] * 41)
    assert seen[80] == pytest.approx(0.5) and seen[-1] == pytest.approx(1 / 60)
    with pytest.raises(UserError, match="recipe.hold must be at least 0 and below 1, got 1"):
        plain_recipe(hold=1)


@pytest.mark.parametrize("name", ["cosine", "poly"])
def test_a_longer_resumed_run_follows_its_own_curve(name):
    recipe = plain_recipe(lr=1.0, schedule=name, warmup_steps=10)
    opt = optimiser(network(), recipe, images_per_step=16)
    short = schedule(opt, recipe, 50, 10)
    for _ in range(50):
        opt.step()
        short.step()
    saved = short.state_dict()
    opt = optimiser(network(), recipe, images_per_step=16)
    longer = schedule(opt, recipe, 150, 10)
    longer.load_state_dict(saved)
    seen = []
    for _ in range(100):
        opt.step()
        longer.step()
        seen.append(opt.param_groups[0]["lr"])
    assert seen == pytest.approx([*rates(recipe, 150)[51:], 0.0])


def test_step():
    seen = rates(plain_recipe(lr=1.0, schedule="step", step_epochs=3, step_factor=0.1), 100, steps_per_epoch=10)
    assert seen[29] == pytest.approx(1.0) and seen[30] == pytest.approx(0.1) and seen[60] == pytest.approx(0.01)


def test_constant_and_a_warmup_longer_than_the_run():
    assert rates(plain_recipe(lr=1.0, schedule="constant"), 5) == [1.0] * 5
    assert rates(plain_recipe(lr=1.0, schedule="constant", warmup_steps=50), 5) == [1.0] * 5


@pytest.mark.parametrize(
    ("recipe", "total", "steps"),
    [
        ({"warmup_steps": 50}, 100, 50),  # half of the run stays
        ({"warmup_steps": 50}, 90, 9),  # a tenth
        ({"warmup_steps": 10, "warmup_epochs": 2.0}, 40, 4),  # of 10 steps an epoch: 30 are too many
        ({"warmup_steps": 2}, 3, 0),
    ],
)
def test_a_warmup_that_would_fill_the_run_is_cut(recipe, total, steps):
    assert warmup_of(plain_recipe(**recipe), total, 10) == steps


def test_mistakes_name_the_key():
    with pytest.raises(UserError, match="recipe.optimiser must be one of sgd, rmsprop, adamw, muon, got 'adam'"):
        plain_recipe(optimiser="adam")
    with pytest.raises(UserError, match="recipe.schedule must be one of cosine, poly, step, constant, got 'cos'"):
        plain_recipe(schedule="cos")
    with pytest.raises(UserError, match="must be positive, got -1"):
        plain_recipe(lr=-1)


def test_average_follows_the_rule():
    from torch.optim.swa_utils import AveragedModel

    model = nn.BatchNorm2d(1)
    averaged = AveragedModel(model, use_buffers=True, **EMA(0.5)._kwargs)
    expected = None
    for n, value in enumerate([1.0, 2.0, 4.0]):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)
        model.num_batches_tracked.fill_(n + 1)
        averaged.update_parameters(copy.deepcopy(model))
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert averaged.module.weight.item() == pytest.approx(expected)
    assert averaged.module.running_mean.item() == pytest.approx(expected)
    assert averaged.module.num_batches_tracked.item() == 3
    assert torch.is_tensor(averaged.n_averaged)


def test_a_negative_clip_norm_is_refused():
    with pytest.raises(UserError, match="recipe.clip_norm must not be negative, got -1; null clips nothing"):
        Recipe(clip_norm=-1)
