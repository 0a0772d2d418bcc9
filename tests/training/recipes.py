"""A recipe without what conf/recipe/finetune.yaml adds for short trainings: what the tests of single parts begin with."""

from typing import Any

from seg_det.training.optimisation import Recipe

PLAIN = {
    "optimiser": "sgd",
    "lr": 0.02,
    "weight_decay": 4e-5,
    "warmup_steps": 0,
    "clip_norm": None,
    "ema_decay": 0.999,
    "freeze_until": None,
    "frozen_norms": "none",
}


def plain_recipe(**settings: Any) -> Recipe:
    """SGD at a falling rate, without warm-up, clipping and frozen stages; with ``settings``."""
    return Recipe(**{**PLAIN, **settings})
