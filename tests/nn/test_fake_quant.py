"""Simulated 8 bits against numbers worked out by hand, against folded norms, and around training."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from seg_det.export.pipeline import exportable
from seg_det.nn.blocks import ConvNormAct
from seg_det.nn.convolutions import SameConv2d
from seg_det.nn.fake_quant import calibrate, rounded, rounded_weights, simulate, take_ranges


def test_weights_are_rounded_by_output_channel():
    # Steps 1.27 / 127 = 0.01 and 254 / 127 = 2; halves go to the even number; a channel of zeros stays so.
    weights = torch.tensor([[1.27, 0.123, -0.004, -1.27], [254.0, 0.9, 1.1, -3.0], [0.0, 0.0, 0.0, 0.0]])
    wanted = torch.tensor([[1.27, 0.12, 0.0, -1.27], [254.0, 0.0, 2.0, -4.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(rounded_weights(weights), wanted)


def test_inputs_are_rounded_within_their_range():
    # From -1 to 1.55 a step is 2.55 / 255 = 0.01, and zero lies on step 100.
    x = torch.tensor([-2.0, -1.0, -0.004, 0.0, 0.006, 0.123, 1.55, 9.0])
    wanted = torch.tensor([-1.0, -1.0, 0.0, 0.0, 0.01, 0.12, 1.55, 1.55])
    torch.testing.assert_close(rounded(x, torch.tensor(-1.0), torch.tensor(1.55)), wanted)
    # A range off zero is widened to it: 0 to 5.1 in steps of 0.02.
    torch.testing.assert_close(
        rounded(torch.tensor([4.013]), torch.tensor(3.0), torch.tensor(5.1)), torch.tensor([4.02])
    )


def test_gradients_pass_inside_the_range_only():
    x = torch.tensor([-2.0, 0.123, 1.0, 9.0], requires_grad=True)
    rounded(x, torch.tensor(-1.0), torch.tensor(1.55)).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]
    weights = torch.tensor([[1.27, 0.123], [-3.0, 0.5]], requires_grad=True)
    (rounded_weights(weights) * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert weights.grad.tolist() == [[1, 2], [3, 4]]


def test_a_layer_computes_with_rounded_weights_on_a_rounded_input():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[1.27, 0.123]])  # 0.12
    (simulation,) = simulate(layer).values()
    calibrate([simulation], lambda: layer(torch.tensor([[0.0, 2.55]])))  # steps of 0.01
    assert layer(torch.tensor([[1.004, 2.006]])).item() == pytest.approx(1.27 * 1.0 + 0.12 * 2.01)
    simulation.active = False
    assert layer(torch.tensor([[1.004, 2.006]])).item() == pytest.approx(1.27 * 1.004 + 0.123 * 2.006)
    assert layer.weight is layer._parameters["weight"] and layer.weight[0, 1].item() == pytest.approx(0.123)


def test_ranges_are_means_of_the_batches_and_only_training_moves_them():
    layer = nn.Linear(2, 1)
    (simulation,) = simulate(layer).values()
    layer.train()
    for low, high in ((-1.0, 3.0), (-2.0, 4.0), (0.0, 8.0)):
        layer(torch.tensor([[low, high]]))
    layer.eval()(torch.tensor([[-50.0, 50.0]]))
    assert (simulation.low.item(), simulation.high.item()) == pytest.approx((-1.0, 5.0))
    simulation.batches.fill_(1000)
    layer.train()(torch.tensor([[-1.0, 105.0]]))
    assert simulation.high.item() == pytest.approx(6.0)  # a hundredth of the way


def test_calibration_takes_the_whole_range():
    layer = nn.Linear(2, 1)
    (simulation,) = simulate(layer).values()
    calibrate([simulation], lambda: [layer(torch.tensor([pair])) for pair in ([1.0, 3.0], [-2.0, 4.0], [0.0, 2.0])])
    assert (simulation.low.item(), simulation.high.item()) == (-2.0, 4.0)
    layer.train()(torch.tensor([[-6.0, 8.0]]))  # training goes on with means
    assert (simulation.low.item(), simulation.high.item()) == (-3.0, 5.0)


@pytest.mark.parametrize("groups", [1, 8])
def test_a_norm_may_be_folded_before_or_after(groups):
    torch.manual_seed(0)
    block = ConvNormAct(8, 8, kernel=3, groups=groups, norm=nn.BatchNorm2d, act=None).eval()
    for values, low, high in (
        (block.norm.weight, -2, 2),
        (block.norm.bias, -1, 1),
        (block.norm.running_mean, -1, 1),
        (block.norm.running_var, 0.1, 9),
    ):
        nn.init.uniform_(values, low, high)
    images = torch.randn(2, 8, 9, 7)
    outputs = []
    with torch.no_grad():
        for network in (block, exportable(block)):
            network = copy.deepcopy(network)
            calibrate(simulate(network).values(), partial(network, images))
            outputs.append(network(images))
        rounding = (outputs[0] - block(images)).abs().max()
    assert rounding > 1e-3
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)


def test_a_simulated_copy_stands_for_itself():
    layer = SameConv2d(1, 1, 3, 2, bias=False)
    (simulation,) = simulate(layer).values()
    calibrate([simulation], lambda: layer(torch.rand(1, 1, 6, 6)))
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.zero_()
    twin.simulation.active = False
    x = torch.rand(1, 1, 6, 6)
    assert layer(x).abs().max() > 0 and twin(x).abs().max() == 0 and simulation.active


def test_the_state_without_ranges_is_an_ordinary_model_s():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    plain = copy.deepcopy(model)
    simulate(model)
    state = model.state_dict()
    ranges = take_ranges(state)
    assert sorted(ranges) == [f"{i}.simulation.{name}" for i in (0, 2) for name in ("batches", "high", "low")]
    plain.load_state_dict(state)
    model.load_state_dict({**state, **ranges})


def test_a_failing_layer_keeps_its_parameter():
    layer = nn.Conv2d(3, 4, 1)
    simulate(layer)
    with pytest.raises(RuntimeError):
        layer(torch.rand(1, 5, 2, 2))
    assert isinstance(layer.weight, nn.Parameter)
