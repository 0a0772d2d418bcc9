import math

import pytest
import torch
from references import reference
from torch.autograd import gradcheck

from seg_det.losses.boxes import BOX_LOSSES, ciou, diou, giou
from seg_det.ops.boxes import decode, encode

ANCHOR = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


def loss_of(function, predicted, truth):
    predicted, truth = torch.tensor([predicted]), torch.tensor([truth])
    return function(encode(predicted, ANCHOR), truth, ANCHOR).item()


# A square of 4 and one of the same size, two to the right: they share 2 x 4 of 24 pixels, the hull is 6 x 4.
# Their centres are 2 apart, the hull's corners sqrt(52). Then a rectangle of 8 x 2 in the same place.
@pytest.mark.parametrize(
    ("function", "truth", "expected"),
    [
        (giou, [2.0, 0.0, 6.0, 4.0], 1 - 8 / 24 + 0),
        (diou, [2.0, 0.0, 6.0, 4.0], 1 - 8 / 24 + 4 / 52),
        (ciou, [2.0, 0.0, 6.0, 4.0], 1 - 8 / 24 + 4 / 52),
        (giou, [8.0, 4.0, 12.0, 8.0], 1 - 0 + (96 - 32) / 96),
        (diou, [8.0, 4.0, 12.0, 8.0], 1 - 0 + (64 + 16) / (144 + 64)),
        (giou, [0.0, 0.0, 4.0, 4.0], 0.0),
        (diou, [0.0, 0.0, 4.0, 4.0], 0.0),
        (ciou, [0.0, 0.0, 4.0, 4.0], 0.0),
    ],
)
def test_literals(function, truth, expected):
    assert loss_of(function, [0.0, 0.0, 4.0, 4.0], truth) == pytest.approx(expected, abs=1e-5)


def test_aspect_ratios_literal():
    overlap = 4 * 2 / (16 + 16 - 8)  # both around (4, 4): 4 x 4 and 8 x 2
    v = 4 / math.pi**2 * (math.atan(1) - math.atan(4)) ** 2
    expected = 1 - overlap + v * v / (1 - overlap + v)
    assert loss_of(ciou, [2.0, 2.0, 6.0, 6.0], [0.0, 3.0, 8.0, 5.0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_values_and_gradients_are_torchvision_s(name):
    independent = {
        "giou": lambda: reference("torchvision.ops").generalized_box_iou_loss,
        "diou": lambda: reference("torchvision.ops").distance_box_iou_loss,
        "ciou": lambda: reference("torchvision.ops").complete_box_iou_loss,
    }[name]()
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(2, 200, 4, generator=generator, dtype=torch.float64) * 60
    boxes[..., 2:] += boxes[..., :2] + 1
    anchors = torch.tensor([[10.0, 10, 70, 50]], dtype=torch.float64).expand(200, 4)
    deltas = encode(boxes[0], anchors).requires_grad_()
    ours = BOX_LOSSES[name](deltas, boxes[1], anchors)
    theirs = independent(decode(deltas, anchors), boxes[1])
    torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-6)
    found, expected = (torch.autograd.grad(loss.sum(), deltas)[0] for loss in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_a_box_without_area_is_no_nan(name):
    boxes = torch.tensor([[3.0, 3, 3, 3], [2, 5, 8, 5], [5, 2, 5, 8]])
    deltas = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, -1e4], [0, 0, -1e4, 0]], requires_grad=True)
    loss = BOX_LOSSES[name](deltas, boxes, ANCHOR.expand(3, 4))
    loss.sum().backward()
    assert loss.isfinite().all() and (loss >= 0).all() and deltas.grad.isfinite().all()


@pytest.mark.parametrize("name", ["smooth_l1", "giou", "diou"])
def test_gradients_are_those_of_the_value(name):
    generator = torch.Generator().manual_seed(0)
    anchors = torch.tensor([[0.0, 0, 10, 10], [5, 5, 25, 15]], dtype=torch.float64)
    boxes = torch.tensor([[1.0, 2, 12, 9], [4, 1, 22, 19]], dtype=torch.float64)
    deltas = torch.rand(2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda d: BOX_LOSSES[name](d, boxes, anchors), [deltas])


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_wild_predictions_have_finite_gradients(name):
    deltas = torch.tensor(
        [[0.0, 0, -1e4, 0], [0, 0, -1e4, -1e4], [1e4, -1e4, 1e4, 1e4], [0, 0, 0, 0]], requires_grad=True
    )
    boxes = torch.tensor([[0.0, 0, 10, 10], [3, 3, 3.01, 3.01], [0, 0, 10, 10], [0, 0, 10, 10]])
    loss = BOX_LOSSES[name](deltas, boxes, ANCHOR.expand(4, 4))
    assert loss.shape == (4,) and loss.isfinite().all()
    loss.sum().backward()
    assert deltas.grad.isfinite().all()
