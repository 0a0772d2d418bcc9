"""A run with a budget: ended by its time or its steps, its schedule fitted to what is left."""

from types import SimpleNamespace

import pytest
import torch

from seg_det.errors import UserError
from seg_det.training import budget
from seg_det.training.budget import Budget, BudgetClock, Length
from seg_det.training.optimisation import Recipe, schedule


class Run:
    """A trainer whose steps and validations take the time that they are said to."""

    def __init__(self, monkeypatch, clock, *, batches=10, every=1, images=20):
        self.now = 0.0
        monkeypatch.setattr(budget.time, "monotonic", lambda: self.now)
        self.clock = clock
        loader = SimpleNamespace(_data_source=SimpleNamespace(instance=range(images // 4)))
        self.trainer = SimpleNamespace(
            global_step=0,
            should_stop=False,
            num_training_batches=batches,
            check_val_every_n_epoch=every,
            fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(val_loop=loader)),
        )

    def step(self, seconds):
        self.clock.on_train_batch_start(self.trainer, None, None, 0)
        self.now += seconds
        self.trainer.global_step += 1
        self.clock.on_train_batch_end(self.trainer, None, None, None, 0)

    def validate(self, seconds):
        self.clock.on_train_epoch_end(self.trainer, None)
        self.clock.on_validation_start(self.trainer, None)
        self.now += seconds
        self.clock.on_validation_end(self.trainer, None)

    def train(self, seconds, validation):
        while not self.trainer.should_stop:
            self.step(seconds(self.trainer.global_step))
            if self.trainer.global_step % 10 == 0:
                self.validate(validation)


@pytest.mark.parametrize("seconds", [lambda step: 1.0, lambda step: 0.4, lambda step: 1.0 if step < 100 else 2.0])
def test_the_run_ends_with_its_time(monkeypatch, seconds):
    length = Length(1000)  # the plan before the first step was timed
    run = Run(monkeypatch, BudgetClock(Budget(minutes=10), length))
    run.train(seconds, validation=6.0)
    whole = run.now + 6.0 + 6.0 * budget.OVERHEAD + budget.REPORT_SECONDS  # with the last validation and the report
    assert whole == pytest.approx(600, rel=0.03)
    assert length.steps == run.trainer.global_step


def test_more_to_evaluate_at_the_end_leaves_fewer_steps(monkeypatch):
    steps = []
    for evaluations in (1, 11):
        run = Run(monkeypatch, BudgetClock(Budget(minutes=10, evaluations=evaluations), Length(1000)))
        run.train(lambda step: 1.0, validation=6.0)
        steps.append(run.trainer.global_step)
    assert steps[0] - steps[1] == pytest.approx(10 * 6.0 * budget.OVERHEAD / 1.6, abs=6)  # a step with its validations


def test_steps_end_a_run_exactly(monkeypatch):
    run = Run(monkeypatch, BudgetClock(Budget(steps=37), Length(37)))
    run.train(lambda step: 100.0, validation=1.0)
    assert run.trainer.global_step == 37


def test_a_resumed_run_has_the_time_that_is_left(monkeypatch):
    first = Run(monkeypatch, BudgetClock(Budget(minutes=10), Length(1000)))
    for _ in range(100):
        first.step(1.0)
    state = first.clock.state_dict()
    assert state["seconds"] == 100 and 450 < state["steps"] < 520
    length = Length(1)
    second = Run(monkeypatch, BudgetClock(Budget(minutes=10), length))
    second.clock.load_state_dict(state)
    assert length.steps == state["steps"]
    second.trainer.global_step = 100
    second.train(lambda step: 1.0, validation=6.0)
    assert 100 + second.now + 6.0 * (1 + budget.OVERHEAD) + budget.REPORT_SECONDS == pytest.approx(600, rel=0.03)


def test_the_schedule_ends_with_the_steps_that_there_are():
    length = Length(100)
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    rate = schedule(opt, Recipe(warmup_steps=0), 100, 10, present=lambda: length.steps)
    for _ in range(50):
        opt.step()
        rate.step()
    assert opt.param_groups[0]["lr"] == pytest.approx(0.5)  # the middle of a cosine
    length.steps = 51
    opt.step()
    rate.step()
    assert opt.param_groups[0]["lr"] == pytest.approx(0.0)


def test_a_budget_that_cannot_be():
    with pytest.raises(UserError, match=r"budget.minutes and budget.steps both say how long to train: leave one out."):
        Budget(minutes=1, steps=1)
    with pytest.raises(UserError, match=r"budget.minutes must be above 0, got -1"):
        Budget(minutes=-1)
