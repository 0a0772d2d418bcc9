"""Padding and mixed depthwise convolutions against convolutions padded and split by hand."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d as plain_conv2d
from torch.nn.functional import pad

from seg_det.metrics.complexity import count
from seg_det.nn.convolutions import DilatedDepthwise, MixConv, SameConv2d, conv2d, same_padding, split_channels


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "expected"),
    [
        (224, 3, 2, 1, (0, 1)),  # 112 outputs reach over (112 - 1) * 2 + 3 = 225 pixels
        (225, 3, 2, 1, (1, 1)),  # 113 outputs over 227
        (14, 5, 2, 1, (1, 2)),  # 7 over 17
        (15, 5, 2, 1, (2, 2)),  # 8 over 19
        (14, 3, 1, 1, (1, 1)),
        (14, 3, 2, 2, (1, 2)),  # 7 over 12 + 5
        (10, 3, 1, 4, (4, 4)),
        (4, 1, 2, 1, (0, 0)),  # the last pixel is not looked at: nothing to add
        (1, 3, 2, 1, (1, 1)),
        (2, 7, 2, 1, (2, 3)),  # a map smaller than the kernel
    ],
)
def test_same_padding_by_hand(size, kernel, stride, dilation, expected):
    assert same_padding(size, kernel, stride, dilation) == expected


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9, 11])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_output_is_the_input_over_the_stride_rounded_up(padding, kernel):
    for stride, dilation, (rows, columns) in [
        (1, 1, (8, 9)),
        (2, 1, (8, 9)),
        (2, 1, (1, 2)),
        (1, 2, (5, 4)),
        (2, 2, (7, 10)),
    ]:
        conv = conv2d(2, 3, kernel, stride=stride, dilation=dilation, padding=padding)
        assert conv(torch.rand(1, 2, rows, columns)).shape == (1, 3, -(-rows // stride), -(-columns // stride))


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (8, 11)])
def test_same_is_a_convolution_padded_by_hand(size):
    conv = conv2d(2, 4, 3, stride=2, padding="same")
    assert isinstance(conv, SameConv2d)
    x = torch.rand(1, 2, *size)
    rows, columns = ((0, 1) if side % 2 == 0 else (1, 1) for side in size)
    expected = plain_conv2d(pad(x, (*columns, *rows)), conv.weight, conv.bias, stride=2)
    torch.testing.assert_close(conv(x), expected)


def test_same_on_even_sizes_looks_one_pixel_further_down_and_right():
    same, symmetric = (conv2d(1, 1, 3, stride=2, bias=False, padding=padding) for padding in ("same", "symmetric"))
    for conv in (same, symmetric):
        nn.init.constant_(conv.weight, 1.0)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert same(x).flatten().tolist() == [
        45,
        39,
        66,
        50,
    ]  # 0+1+2+4+5+6+8+9+10; 2+3+6+7+10+11; 8..10, 12..14; 10, 11, 14, 15
    assert symmetric(x).flatten().tolist() == [10, 24, 51, 90]  # 0+1+4+5; 1+2+3+5+6+7; ...
    odd = torch.rand(1, 1, 5, 7)
    torch.testing.assert_close(same(odd), symmetric(odd))


def test_same_is_symmetric_at_stride_1():
    assert type(conv2d(2, 2, 5, dilation=3, padding="same")) is nn.Conv2d
    assert conv2d(2, 2, 5, dilation=3, padding="same").padding == (6, 6)


@pytest.mark.parametrize(
    ("kernel", "dilation", "size"), [(3, 2, (8, 6)), (3, 2, (7, 10)), (5, 2, (9, 4)), (3, 4, (6, 9)), (3, 4, (3, 2))]
)
def test_a_dilated_depthwise_convolution_trains_as_torchs(kernel, dilation, size):
    conv = conv2d(6, 12, kernel, dilation=dilation, groups=6, padding="same").double()
    assert isinstance(conv, DilatedDepthwise)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.rand(2, 6, *size, dtype=torch.double).contiguous(memory_format=memory_format).requires_grad_()
        ours = conv(x)
        theirs = plain_conv2d(x, conv.weight, conv.bias, padding=kernel // 2 * dilation, dilation=dilation, groups=6)
        torch.testing.assert_close(ours, theirs)
        toward = torch.rand_like(theirs)
        wanted = (x, conv.weight, conv.bias)
        torch.testing.assert_close(
            torch.autograd.grad(ours, wanted, toward), torch.autograd.grad(theirs, wanted, toward)
        )


def test_only_training_takes_a_dilated_convolution_apart():
    conv, x = conv2d(4, 4, 3, dilation=2, groups=4), torch.rand(1, 4, 6, 6)
    graph = torch.export.export(conv.eval(), (x,)).graph
    assert [node.target for node in graph.nodes if node.op == "call_function"] == [torch.ops.aten.conv2d.default]
    assert type(conv2d(4, 4, 3, groups=4)) is nn.Conv2d  # not dilated
    assert type(conv2d(4, 4, 3, dilation=2)) is nn.Conv2d  # not depthwise


def test_unknown_padding_is_named():
    with pytest.raises(ValueError, match="expected padding symmetric or same, got 'valid'"):
        conv2d(3, 8, 3, padding="valid")


@pytest.mark.parametrize(
    ("channels", "groups", "partition", "expected"),
    [
        (64, 4, "equal", [16, 16, 16, 16]),
        (64, 4, "exponential", [32, 16, 8, 8]),
        (240, 3, "equal", [80, 80, 80]),
        (62, 4, "equal", [17, 15, 15, 15]),  # the first takes the remainder
        (62, 4, "exponential", [31, 16, 8, 7]),
        (40, 1, "equal", [40]),
        (40, 1, "exponential", [40]),
        (1200, 5, "equal", [240] * 5),
        (64, 5, "exponential", [32, 16, 8, 4, 4]),
        (3, 3, "equal", [1, 1, 1]),
    ],
)
def test_partitions(channels, groups, partition, expected):
    assert split_channels(channels, groups, partition) == expected
    assert sum(expected) == channels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 4), r"3 channels cannot be split into 4 equal groups: \[3, 0, 0, 0\]"),
        ((4, 4, "exponential"), r"4 channels cannot be split into 4 exponential groups: \[2, 1, 1, 0\]"),
        ((8, 2, "halves"), "expected partition equal or exponential, got 'halves'"),
    ],
)
def test_impossible_partitions(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_channels(*arguments)


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("partition", ["equal", "exponential"])
@pytest.mark.parametrize(("stride", "padding"), [(1, "symmetric"), (2, "symmetric"), (2, "same")])
def test_mixconv_is_depthwise_convolutions_side_by_side(groups, partition, stride, padding):
    kernels = [2 * i + 3 for i in range(groups)]
    mixed = MixConv(33, 33, kernels, stride=stride, partition=partition, padding=padding)
    x = torch.rand(2, 33, 14, 12)
    start, expected = 0, []
    for branch, channels, kernel in zip(mixed.branches, mixed.split, kernels, strict=True):
        assert branch.weight.shape == (channels, 1, kernel, kernel)
        sides = [
            same_padding(side, kernel, stride, 1) if padding == "same" else (kernel // 2,) * 2 for side in (12, 14)
        ]
        part = pad(x[:, start : start + channels], (*sides[0], *sides[1]))
        expected.append(plain_conv2d(part, branch.weight, stride=stride, groups=channels))
        start += channels
    assert start == 33
    torch.testing.assert_close(mixed(x), torch.cat(expected, 1))


def test_mixconv_with_dilation_keeps_the_size():
    mixed = MixConv(8, 8, (3, 5), dilation=2)
    assert [branch.dilation for branch in mixed.branches] == [(2, 2), (2, 2)]
    assert mixed(torch.rand(1, 8, 9, 6)).shape == (1, 8, 9, 6)


def test_depth_multiplier():
    """Two outputs for each input, those of one input beside each other: 5 channels -> 10."""
    mixed = MixConv(5, 10, (3, 5))
    x = torch.rand(1, 5, 10, 10)
    assert mixed(x).shape == (1, 10, 10, 10)
    changed = x.clone()
    changed[:, 1] += 1
    differs = (mixed(x) != mixed(changed)).any(-1).any(-1)[0]
    assert differs.tolist() == [False, False, True, True] + [False] * 6
    assert [tuple(branch.weight.shape) for branch in mixed.branches] == [(6, 1, 3, 3), (4, 1, 5, 5)]


def test_more_kernels_than_channels():
    with pytest.raises(ValueError, match="2 channels cannot be split into 3 equal groups"):
        MixConv(2, 2, (3, 5, 7))


def test_mixconv_costs_the_mean_of_its_kernels():
    # three groups of one channel on 4 x 4: 16 * (9 + 25 + 49)
    assert count(MixConv(3, 3, (3, 5, 7)), (4, 4)).madds == 16 * 83
