"""The rules that choose settings, on figures of made-up data; no network is built unless a rule asks for it."""

from functools import partial

import numpy as np
import pytest
import torch

from seg_det import checkpoint
from seg_det.automatic import rules
from seg_det.automatic.choosing import Choice, Rule, Situation, choose
from seg_det.automatic.statistics import Statistics

MODEL = {
    "_target_": "SSDLite",
    "taps": ["c4_expand", "head"],
    "num_classes": 2,
    "backbone": {"_target_": "MobileNetV2", "width": 0.25},
}


def refuse(*_):
    raise AssertionError("not asked for")


def situation(data, *, set_by_user=(), boxes=None, budget=None, model=refuse, **settings):
    values = {"data.batch_size": 16, "trainer.accumulate_grad_batches": 1, "trainer.max_epochs": 30, **settings}
    return Situation(
        data,
        get=values.get,
        is_set=lambda key: key in set_by_user,
        boxes=refuse if boxes is None else lambda size: boxes,
        model=model,
        budget=lambda: budget,
    ), values


def chosen(rule, data, **settings):
    return rule(situation(data, **settings)[0])


def objects(*sides):
    return Statistics(images=160, classes=2, height=480, width=640, sides=np.array(sides))


def test_the_input_grows_where_objects_are_small():
    assert chosen(rules.input_size, objects(*[0.1] * 10))[0] == 320
    assert chosen(rules.input_size, objects(*[0.03] * 10)) == (416, "a tenth of the objects are below 12 pixels there")
    assert chosen(rules.input_size, objects(*[0.001] * 10))[0] == 512
    assert chosen(rules.input_size, objects()) is None
    small_images = Statistics(images=9, classes=1, height=200, width=300, sides=np.array([0.001]))
    assert chosen(rules.input_size, small_images)[0] == 320  # larger ones would show nothing more


def test_a_finer_map_is_added_where_objects_are_small():
    of = {"data.size": 320, "task.model.taps": ["c4_expand", "head"]}
    taps, reason = chosen(rules.finer_tap, objects(0.09, *[0.2] * 9), **of)
    assert taps == ["c3_expand", "c4_expand", "head"] and reason.startswith("10% of the objects are below 32 pixels")
    assert chosen(rules.finer_tap, objects(*[0.2] * 10), **of) is None
    assert chosen(rules.finer_tap, objects(*[0.01] * 10), **{**of, "task.model.taps": ["c3", "c4"]}) is None
    assert chosen(rules.finer_tap, objects(), **of) is None
    wide = {"data.size": [160, 640], "task.model.taps": ["c4", "c5"]}  # 0.09 * sqrt(160 * 640) is 29 pixels
    assert chosen(rules.finer_tap, objects(0.09), **wide)[0] == ["c3", "c4", "c5"]


def test_anchors_are_fitted_where_some_objects_match_none():
    model = partial(checkpoint.build_model, MODEL)
    wide = torch.tensor([[10.0, 50.0, 210.0, 60.0]]).repeat(40, 1) + torch.arange(40)[:, None]
    shapes, reason = chosen(rules.anchors, objects(), boxes=wide, model=model, **{"data.size": 320})
    assert [len(level) for level in shapes] == [3, 6, 6, 6, 6, 6]
    assert reason == "fitted: matched at IoU 0.5 from 0.0% of the objects to 70.0%"
    assert chosen(rules.anchors, objects(), boxes=wide[:20], model=model, **{"data.size": 320}) is None  # too few
    square = torch.tensor([[80.0, 80.0, 240.0, 240.0]]).repeat(40, 1)
    assert chosen(rules.anchors, objects(), boxes=square, model=model, **{"data.size": 320}) is None  # all match


@pytest.mark.parametrize(
    ("images", "epochs", "steps"), [(160, 100, 1000), (80, 100, 500), (1600, 12, 1200), (3, 100, 100)]
)
def test_a_run_has_about_a_thousand_steps(images, epochs, steps):
    found, reason = chosen(rules.epochs, Statistics(images, 2))
    assert found == epochs and reason.startswith(f"{steps} steps")


def test_with_a_budget_epochs_are_no_limit_and_a_part_of_an_epoch_is_one():
    assert chosen(rules.epochs, Statistics(160, 2), budget=300) == (61, "about 300 steps; the budget ends the run")
    assert chosen(rules.part_of_an_epoch, Statistics(160, 2), budget=300) is None  # 30 epochs
    assert chosen(rules.part_of_an_epoch, Statistics(16000, 2), budget=300)[0] == 30
    assert chosen(rules.part_of_an_epoch, Statistics(16000, 2)) is None
    assert chosen(rules.validations, Statistics(160, 2), budget=300)[0] == 3
    assert chosen(rules.validations, Statistics(160, 2), **{"trainer.max_epochs": 55})[0] == 5


def test_the_schedule_follows_the_steps():
    data = Statistics(160, 2)  # ten steps an epoch
    assert chosen(rules.warmup, data)[0] == 15 and chosen(rules.warmup, data, budget=100)[0] == 5
    assert chosen(rules.averaging, data)[0] == 0.9667  # of 300 steps
    assert chosen(rules.averaging, data, budget=10**6)[0] == 0.9998
    limited = {"trainer.limit_train_batches": 0.5}
    assert chosen(rules.warmup, data, **limited)[0] == 7
    assert chosen(rules.warmup, data, **{"trainer.limit_train_batches": 4})[0] == 6


def test_images_are_changed_more_the_more_often_they_are_seen():
    few, many = Statistics(160, 2), Statistics(16, 2)
    assert chosen(rules.zoom_out_share, few) == (0.25, "each image is seen 30 times: light augmentation")
    assert chosen(rules.zoom_out_share, many, budget=200) == (
        0.5,
        "each image is seen 200 times: stronger augmentation",
    )
    assert chosen(rules.zoom_out_most, few)[0] == 1.5 and chosen(rules.zoom_out_most, many, budget=200)[0] == 2.0
    assert chosen(rules.crops, few)[0].count(1.0) == 4 and chosen(rules.crops, many, budget=200) is None


def test_classes_are_weighted_by_their_pixels():
    uneven = Statistics(100, 3, pixels=np.array([0.8, 0.16, 0.01]))
    weights, reason = chosen(rules.class_weights, uneven)
    assert weights == [0.67, 1.0, 2.0] and reason == "the classes have 1.00% to 80% of the pixels"
    assert chosen(rules.class_weights, Statistics(100, 2, pixels=np.array([0.6, 0.4]))) is None
    absent = Statistics(100, 3, pixels=np.array([0.9, 0.0, 0.1]))
    assert chosen(rules.class_weights, absent)[0] == [0.86, 1.5, 1.5]  # as the rarest that there is


def test_what_the_user_set_stays_and_the_rest_follows_it():
    seen, values = situation(Statistics(160, 2), set_by_user=["a"], a=1, b=2, c=3)
    table = (
        Rule("a", refuse),
        Rule("b", lambda s: (s.get("a") + 10, "follows a")),
        Rule("c", lambda s: (s.get("b") + 10, "follows b")),
        Rule("d", lambda s: None),
    )
    found = choose(table, seen, values.__setitem__)
    assert found == [Choice("b", 11, "follows a"), Choice("c", 21, "follows b")]
    assert (values["a"], values["b"], values["c"]) == (1, 11, 21)
    assert choose((Rule("b", lambda s: (11, "as it is")),), seen, values.__setitem__) == []
