import torch

from seg_det.ops.matching import match

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [10, 10, 20, 20]])


def matched(boxes, *, valid=None, crowd=None, **settings):
    boxes = torch.tensor([boxes], dtype=torch.float32).reshape(1, -1, 4)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool) if valid is None else torch.tensor([valid])
    crowd = torch.zeros_like(valid) if crowd is None else torch.tensor([crowd])
    found = match(ANCHORS, boxes, valid, crowd, **settings)
    return found.objects[0].tolist(), found.ignored[0].tolist()


def test_threshold_and_best_anchor():
    # the first object covers 64 % of anchor 0; the second overlaps anchor 3 by 1/7 only, but claims it
    assert matched([[0, 0, 8, 8], [15, 15, 20, 20]])[0] == [0, -1, -1, 1]


def test_a_claim_goes_before_a_better_overlap():
    # object 0 overlaps anchor 0 most, but it is also the only anchor of object 1
    assert matched([[0, 0, 10, 10], [2, 2, 5, 5]])[0] == [1, -1, -1, -1]


def test_padding_and_crowds_claim_nothing():
    boxes = [[0, 0, 10, 10], [10, 10, 20, 20]]
    assert matched(boxes, valid=[True, False])[0] == [0, -1, -1, -1]
    index, ignored = matched(boxes, crowd=[False, True])
    assert index == [0, -1, -1, -1]
    assert ignored == [False, False, False, True]


def test_crowd_is_measured_on_the_anchor():
    _, ignored = matched([[0, 0, 20, 5], [0, 0, 20, 4]], crowd=[True, True], valid=[True, True])
    assert ignored == [True, True, False, False]
    _, ignored = matched([[0, 0, 20, 4]], crowd=[True])
    assert ignored == [False] * 4


def test_no_objects_at_all():
    index, ignored = matched([])
    assert index == [-1] * 4 and ignored == [False] * 4
    index, _ = matched([[0, 0, 0, 0]], valid=[False])
    assert index == [-1] * 4


def test_batch_equals_single_images():
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(8, 5, 2, generator=generator) * 15
    boxes = torch.cat([low, low + 1 + torch.rand(8, 5, 2, generator=generator) * 9], 2)
    valid = torch.rand(8, 5, generator=generator) < 0.7
    crowd = torch.rand(8, 5, generator=generator) < 0.2
    together = match(ANCHORS, boxes, valid, crowd)
    for i in range(8):
        alone = match(ANCHORS, boxes[i : i + 1], valid[i : i + 1], crowd[i : i + 1])
        assert torch.equal(together.objects[i], alone.objects[0]) and torch.equal(together.ignored[i], alone.ignored[0])
