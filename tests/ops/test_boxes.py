import math

import torch

from seg_det.ops import boxes as B


def test_iou_of_hand_drawn_boxes():
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 4, 5]])
    b = torch.tensor([[5.0, 5, 15, 15], [20, 20, 30, 30], [0, 0, 10, 10]])
    torch.testing.assert_close(B.iou(a, b), torch.tensor([[25 / 175, 0.0, 1.0], [0.0, 0.0, 0.2]]))
    torch.testing.assert_close(B.covered(a, b)[:, 2], torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(B.covered(b, a)[2], torch.tensor([1.0, 0.2]))


def test_iou_is_batched():
    a, b = torch.rand(3, 5, 2), torch.rand(3, 7, 2)
    a, b = torch.cat([a, a + 0.5], -1), torch.cat([b, b + 0.3], -1)
    together = B.iou(a, b)
    for i in range(3):
        torch.testing.assert_close(together[i], B.iou(a[i], b[i]))


def test_encode_literal():
    anchor = torch.tensor([[10.0, 20, 30, 60]])  # centre (20, 40), 20 x 40
    box = torch.tensor([[12.0, 24, 32, 64]])  # shifted by (2, 4), same size
    torch.testing.assert_close(B.encode(box, anchor), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    wider = torch.tensor([[0.0, 20, 40, 60]])  # twice as wide
    torch.testing.assert_close(B.encode(wider, anchor), torch.tensor([[0.0, 0.0, 5 * math.log(2), 0.0]]))


def test_decode_inverts_encode():
    low = torch.rand(64, 2) * 100
    boxes = torch.cat([low, low + 1 + torch.rand(64, 2) * 50], 1)
    low = torch.rand(64, 2) * 100
    anchors = torch.cat([low, low + 5 + torch.rand(64, 2) * 50], 1)
    torch.testing.assert_close(B.decode(B.encode(boxes, anchors), anchors), boxes, rtol=1e-4, atol=1e-3)


def test_decode_of_huge_deltas_is_finite():
    anchors = torch.tensor([[0.0, 0, 10, 10]])
    assert torch.isfinite(B.decode(torch.full((1, 4), 1e4), anchors)).all()


def test_clip_and_rescale():
    box = torch.tensor([[-5.0, 2, 50, 30]])
    assert B.clip(box, (20, 40)).tolist() == [[0, 2, 40, 20]]
    assert B.rescale(torch.tensor([[10.0, 20, 30, 40]]), (100, 100), (50, 200)).tolist() == [[20, 10, 60, 20]]
