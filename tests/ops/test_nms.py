import pytest
import torch

from seg_det.ops.boxes import iou
from seg_det.ops.nms import nms


def textbook_nms(boxes, scores, labels, threshold):
    """One box at a time, as the definition says."""
    order, keep = scores.argsort(descending=True, stable=True).tolist(), []
    overlap = iou(boxes, boxes)
    for i in order:
        if all(labels[i] != labels[j] or not overlap[i, j] > threshold for j in keep):
            keep.append(i)
    return keep


def test_a_chain_of_three():
    # a suppresses b, and b would suppress c: c stays, because b is gone
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.long)
    assert nms(boxes, scores, labels, 0.4).tolist() == [0, 2]
    assert nms(boxes, scores, labels, 0.5).tolist() == [0, 1, 2]
    assert nms(boxes, scores, torch.tensor([0, 1, 0]), 0.4).tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [100, pytest.param(200, marks=pytest.mark.slow)])
def test_equals_the_textbook_on_crowded_boxes(count):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        low = torch.rand(count, 2, generator=generator) * (20 + count / 5)
        boxes = torch.cat([low, low + 10 + torch.rand(count, 2, generator=generator) * 30], 1)
        scores = torch.rand(count, generator=generator)
        labels = torch.randint(0, 3, (count,), generator=generator)
        for threshold in (0.1, 0.5, 0.8):
            assert nms(boxes, scores, labels, threshold).tolist() == textbook_nms(boxes, scores, labels, threshold)


def test_empty_and_flat_boxes():
    none = torch.zeros(0)
    assert nms(none.reshape(0, 4), none, none.long(), 0.5).tolist() == []
    flat = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1]])
    assert nms(flat, torch.tensor([0.9, 0.8]), torch.zeros(2).long(), 0.5).tolist() == [0, 1]
