import pytest

from seg_det.ops.strides import stride_to_dilation

LAYERS = [2, 1, 2, 2, 1, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("output_stride", "rule", "expected"),
    [
        (32, "tf", [(s, 1) for s in LAYERS]),
        (16, "tf", [(2, 1), (1, 1), (2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1), (1, 2)]),
        (16, "torchvision", [(2, 1), (1, 1), (2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 2), (1, 2)]),
        (8, "tf", [(2, 1), (1, 1), (2, 1), (2, 1), (1, 1), (1, 1), (1, 2), (1, 2), (1, 4)]),
    ],
)
def test_rules(output_stride, rule, expected):
    assert stride_to_dilation(LAYERS, output_stride, rule=rule) == expected


def test_impossible_stride_is_named():
    with pytest.raises(ValueError, match=r"expected an output stride of \[2, 4, 8, 16, 32\], got 12"):
        stride_to_dilation(LAYERS, 12)
    with pytest.raises(ValueError, match='expected dilation rule "tf" or "torchvision", got "keras"'):
        stride_to_dilation(LAYERS, 16, rule="keras")
