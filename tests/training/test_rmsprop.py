"""RMSpropTF against its formula, computed by hand."""

import copy

import pytest
import torch

from seg_det.training.rmsprop import RMSpropTF


def test_two_steps_by_hand():
    w = torch.tensor([1.0], requires_grad=True)
    optimiser = RMSpropTF([w], 0.1, alpha=0.9, eps=1.0, momentum=0.5)
    w.grad = torch.tensor([2.0])
    optimiser.step()
    # s = .9 + .1 * 4 = 1.3;  v = .1 * 2 / sqrt(2.3) = 0.131876
    assert w.item() == pytest.approx(1 - 0.131876, abs=1e-6)
    w.grad = torch.tensor([-1.0])
    optimiser.step()
    # s = 1.17 + .1 = 1.27;  v = .5 * .131876 - .1 / sqrt(2.27) = -0.000435
    assert w.item() == pytest.approx(0.868124 + 0.000435, abs=2e-6)


def test_weight_decay_adds_to_the_gradient_and_groups_differ():
    a, b = (torch.tensor([2.0], requires_grad=True) for _ in range(2))
    optimiser = RMSpropTF([{"params": [a], "weight_decay": 0.5}, {"params": [b]}], 1.0, eps=0.0, momentum=0.0)
    a.grad, b.grad = torch.tensor([1.0]), torch.tensor([1.0])
    optimiser.step()
    # gradient 1 + .5 * 2 = 2, s = .9 + .4 = 1.3, against gradient 1, s = .9 + .1 = 1
    assert a.item() == pytest.approx(2 - 2 / 1.3**0.5)
    assert b.item() == pytest.approx(1.0)


def test_parameters_without_gradient_stay():
    a, b = (torch.tensor([2.0], requires_grad=True) for _ in range(2))
    a.grad = torch.tensor([1.0])
    optimiser = RMSpropTF([a, b], 0.1)
    optimiser.step()
    assert a.item() != 2.0 and b.item() == 2.0


def test_state_survives_saving():
    def steps(w, optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            (w**2).sum().backward()
            optimiser.step()

    w = torch.tensor([1.0, -3.0], requires_grad=True)
    optimiser = RMSpropTF([w], 0.1)
    steps(w, optimiser, 3)
    other = w.detach().clone().requires_grad_()
    second = RMSpropTF([other], 0.1)
    second.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    steps(w, optimiser, 2)
    steps(other, second, 2)
    assert torch.equal(w, other)
