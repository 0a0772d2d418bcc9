"""MuonAdamW against torch's Muon for matrices and torch's AdamW for the rest."""

import copy

import pytest
import torch
from torch import nn

from seg_det.training.muon import MuonAdamW, orthogonalised


def filters(*shape):
    torch.manual_seed(0)
    return nn.Parameter(0.1 * torch.randn(shape))


def steps(optimiser, parameters, count, seed=1):
    """So many steps along the same random gradients for every optimiser."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=random)
        optimiser.step()


@pytest.mark.parametrize("shape", [(24, 96), (96, 24), (40, 40)])
def test_matrices_move_as_with_torchs_muon(shape):
    ours, theirs = filters(*shape), filters(*shape)
    groups = [{"params": [ours], "lr": 0.01, "weight_decay": 0.5}]
    steps(MuonAdamW(groups, 0.1, momentum=0.9), [ours], 4)
    reference = torch.optim.Muon([theirs], 0.01, weight_decay=0.5, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    steps(reference, [theirs], 4)
    moved = (theirs - filters(*shape)).norm()
    assert (ours - theirs).norm() < 0.02 * moved  # torch's rounds to bfloat16 on the way


def test_a_convolution_is_its_matrix_and_shapes_go_together():
    # 1x1 filters in channels-last memory, their transposes, 3x3 filters: each as if it were alone
    shapes = [(24, 96, 1, 1), (24, 96, 1, 1), (96, 24, 1, 1), (32, 20, 3, 3)]
    together = [filters(*shape) for shape in shapes]
    for parameter in together:
        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    steps(MuonAdamW([{"params": together}], 0.01), together, 3)
    random = torch.Generator().manual_seed(1)
    gradients = [[torch.randn(shape, generator=random) for shape in shapes] for _ in range(3)]
    for i, shape in enumerate(shapes):
        alone = nn.Parameter(filters(*shape).detach().flatten(1))
        optimiser = MuonAdamW([{"params": [alone]}], 0.01)
        for step in gradients:
            alone.grad = step[i].flatten(1)
            optimiser.step()
        torch.testing.assert_close(together[i].flatten(1), alone)


def test_the_rest_moves_as_with_adamw():
    shapes = [(96, 1, 3, 3), (96,), (9, 128, 1, 1), (16, 3, 3, 3)]  # depthwise, norm, outputs for few classes, narrow
    ours, theirs = ([filters(*shape) for shape in shapes] for _ in range(2))
    steps(MuonAdamW([{"params": ours, "weight_decay": 0.3}], 0.01, momentum=0.8, eps=1e-6), ours, 3)
    steps(torch.optim.AdamW(theirs, 0.01, betas=(0.8, 0.999), eps=1e-6, weight_decay=0.3), theirs, 3)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_all_directions_have_one_length():
    torch.manual_seed(0)
    steep = torch.randn(3, 20, 60) * torch.logspace(0, -1.5, 20)[:, None]  # rows of very different lengths
    lengths = torch.linalg.svdvals(orthogonalised(steep))
    assert lengths.min() > 0.5 and lengths.max() < 1.3
    assert torch.equal(orthogonalised(torch.zeros(1, 20, 60)), torch.zeros(1, 20, 60))


def test_parameters_without_gradient_stay():
    frozen, learned = filters(24, 96), filters(24, 96)
    optimiser = MuonAdamW([{"params": [frozen, learned], "weight_decay": 0.1}], 0.01)
    steps(optimiser, [learned], 1)
    assert torch.equal(frozen, filters(24, 96)) and not torch.equal(learned, filters(24, 96))


def test_state_survives_saving():
    parameters = [filters(24, 96), filters(96)]
    optimiser = MuonAdamW([{"params": parameters}], 0.01)
    steps(optimiser, parameters, 3)
    others = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    second = MuonAdamW([{"params": others}], 0.01)
    second.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    steps(optimiser, parameters, 2, seed=2)
    steps(second, others, 2, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))
