"""LR-ASPP: the gate by hand, and its settings."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.lraspp import LRASPP, Gate
from seg_det.types import Feature

V2 = partial(MobileNetV2, width=0.35)


def gate(
    *, pool: int | None, stride: tuple[int, int] = (1, 1), act: str = "hard_sigmoid", align_corners: bool = True
) -> Gate:
    """One channel, so that hard_sigmoid gives mean / 6 + 0.5 for means within -3..3."""
    built = Gate(1, 1, pool=pool, stride=stride, act=act, bias=True, align_corners=align_corners)
    nn.init.ones_(built.conv.weight)
    nn.init.zeros_(built.conv.bias)
    return built


def means(gates: Tensor) -> list[float]:
    return [round(value, 4) for value in ((gates.flatten() - 0.5) * 6).tolist()]


def test_gate_of_windows_with_a_stride():
    """Windows of 3 at columns 0 and 2 of a row: means 1 and 2; upsampled to five columns with the corners aligned."""
    x = torch.tensor([0.0, 0.0, 3.0, 3.0, 0.0]).view(1, 1, 1, 5)
    assert means(gate(pool=3, stride=(1, 2))(x)) == [1.0, 1.25, 1.5, 1.75, 2.0]
    # half-pixel centres: (column + 0.5) * 2 / 5 - 0.5 = -0.3, 0.1, 0.5, 0.9, 1.3, kept within 0..1
    assert means(gate(pool=3, stride=(1, 2), align_corners=False)(x)) == [1.0, 1.1, 1.5, 1.9, 2.0]


def test_gate_of_rows_and_columns():
    """A 3x5 map, windows of 2x2 moved by two rows and three columns: one row of two windows, the last row is not seen."""
    x = torch.tensor([[1.0, 1.0, 9.0, 2.0, 2.0], [1.0, 1.0, 9.0, 2.0, 2.0], [9.0] * 5]).view(1, 1, 3, 5)
    assert means(gate(pool=2, stride=(2, 3))(x)) == [1.0, 1.25, 1.5, 1.75, 2.0] * 3


@pytest.mark.parametrize("pool", [None, 3, 49])
def test_gate_of_a_map_smaller_than_the_window(pool):
    x = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]).view(1, 1, 2, 3)
    assert means(gate(pool=pool, stride=(16, 20))(x)) == [1.0] * 6


def test_gate_of_a_map_smaller_than_the_window_on_one_side():
    """A row of 7 under a window of 5x5: all of the height, columns 0..4 and 2..6."""
    x = torch.tensor([5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0]).view(1, 1, 1, 7)
    assert means(gate(pool=5, stride=(4, 2))(x))[::3] == [1.0, 1.5, 2.0]


def test_sigmoid_gate():
    x = torch.full((1, 1, 2, 2), 1.0986)  # ln 3
    assert gate(pool=None, act="sigmoid")(x).flatten().tolist() == pytest.approx([0.75] * 4, abs=1e-4)


@pytest.mark.parametrize(("size", "positions"), [((1025, 2049), (2, 5)), ((1024, 2048), (1, 4)), ((769, 769), (1, 1))])
def test_positions_of_the_papers_window(size, positions):
    """49x49 with stride (16, 20) covers 65x129 cells, those of 1025x2049 at output stride 16, to the last one."""
    model = LRASPP(V2, num_classes=2).to("meta")
    pooled = []
    model.gate.conv.register_forward_hook(lambda layer, inputs, output: pooled.append(tuple(output.shape[2:])))
    model(torch.empty(1, 3, *size, device="meta"))
    assert pooled == [positions]


class TwoMaps(nn.Module):
    """Stands in for a backbone: a fine map of 2x4 and a deep one of 1x2, whatever the images."""

    features = (Feature("c3_depthwise", 1, 8), Feature("deep", 1, 16))

    def __init__(self, *, taps: tuple[str, ...], output_stride: int):
        super().__init__()
        assert (taps, output_stride) == (("c3_depthwise", "deep"), 16)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"c3_depthwise": torch.arange(8.0).view(1, 1, 2, 4), "deep": torch.tensor([2.0, 4.0]).view(1, 1, 1, 2)}


def test_logits_are_the_sum_of_a_fine_and_a_gated_deep_map():
    model = LRASPP(TwoMaps, num_classes=1, channels=1, align_corners=True, bn_eps=0.0).eval()
    nn.init.ones_(model.main.conv.weight)
    nn.init.zeros_(model.gate.conv.weight)  # a gate of 0.5 everywhere
    for classifier, weight, bias in ((model.fine_classifier, 1.0, 0.5), (model.deep_classifier, 30.0, 1.0)):
        nn.init.constant_(classifier.weight, weight)
        nn.init.constant_(classifier.bias, bias)
    # the deep map, gated: 1, 2; spread over four columns: 1, 4/3, 5/3, 2; classified: 31, 41, 51, 61
    expected = [31.5, 42.5, 53.5, 64.5, 35.5, 46.5, 57.5, 68.5]
    assert model(torch.rand(1, 3, 16, 32)).logits.flatten().tolist() == pytest.approx(expected)


def test_output_size_is_that_of_the_fine_tap():
    model = LRASPP(V2, num_classes=3, taps=("c2", "deep")).eval()
    assert model(torch.rand(1, 3, 65, 98)).logits.shape == (1, 3, 17, 25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": "swish"}, "task.model.gate must be one of sigmoid, hard_sigmoid, got swish"),
        ({"taps": ("c3",)}, "task.model.taps must name two maps, the fine one and the deep one, got c3"),
        ({"pool": 0}, "task.model.pool must be at least 1 or null, got 0"),
        (
            {"pool_stride": (16, 0)},
            r"task.model.pool_stride must be two steps of at least 1, rows and columns, got \[16, 0\]",
        ),
        ({"pool_stride": (16,)}, r"task.model.pool_stride must be two steps .*, got \[16\]"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(UserError, match=message):
        LRASPP(V2, num_classes=3, **settings)
