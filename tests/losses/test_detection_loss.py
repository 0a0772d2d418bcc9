import math

import pytest
import torch

from seg_det.errors import UserError
from seg_det.losses.detection import focal, hardest, multibox_loss
from seg_det.ops.boxes import encode
from seg_det.types import DenseDetections, DetectionBatch

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [10, 10, 20, 20]])


def batch(boxes, labels, crowd=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 4)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    crowd = torch.zeros_like(valid) if crowd is None else torch.tensor([crowd])
    none = torch.zeros(0)
    return DetectionBatch(none, boxes, torch.tensor([labels], dtype=torch.long), crowd, valid, none, none)


def zeros(classes=2):
    return DenseDetections(torch.zeros(1, 4, classes + 1), torch.zeros(1, 4, 4))


def test_softmax_literal():
    # one positive and the three negatives of the ratio, all at uniform scores over three columns
    losses = multibox_loss(zeros(), batch([[0, 0, 10, 10]], [1]), ANCHORS)
    assert losses.classification.item() == pytest.approx(4 * math.log(3))
    assert losses.localisation.item() == 0.0


def test_ratio_and_minimum():
    one = batch([[0, 0, 10, 10]], [0])
    assert multibox_loss(
        zeros(), one, ANCHORS, negative_ratio=1, min_negatives=0
    ).classification.item() == pytest.approx(2 * math.log(3))
    empty = batch([], [])
    assert multibox_loss(zeros(), empty, ANCHORS, min_negatives=0).classification.item() == 0
    assert multibox_loss(zeros(), empty, ANCHORS).classification.item() == pytest.approx(3 * math.log(3))
    assert multibox_loss(zeros(), empty, ANCHORS, min_negatives=2).classification.item() == pytest.approx(
        2 * math.log(3)
    )


def test_hardest_negatives_are_chosen():
    loss = torch.tensor([[9.0, 5, 1, 3, 4]])
    positive = torch.tensor([[True, False, False, False, False]])
    ignored = torch.tensor([[False, True, False, False, False]])
    assert hardest(loss, positive, ignored, 2.0, 0).tolist() == [[False, False, False, True, True]]


def test_localisation_literal():
    box = torch.tensor([[1.0, 0, 11, 10]])  # shifted by a tenth of the anchor: delta 10 * 0.1 = 1
    target = encode(box, ANCHORS[:1])
    assert target.tolist() == [[pytest.approx(1.0), 0.0, 0.0, 0.0]]
    losses = multibox_loss(zeros(), batch(box.tolist(), [0]), ANCHORS)
    assert losses.localisation.item() == pytest.approx(0.5)
    assert multibox_loss(
        zeros(), batch(box.tolist(), [0]), ANCHORS, localisation_weight=2
    ).localisation.item() == pytest.approx(1.0)
    perfect = DenseDetections(torch.zeros(1, 4, 3), torch.cat([target, torch.zeros(3, 4)])[None])
    assert multibox_loss(perfect, batch(box.tolist(), [0]), ANCHORS).localisation.item() == pytest.approx(0, abs=1e-6)


def test_focal_literals():
    # p = 0.5: (1 - p)^2 = 0.25
    at_zero = focal(torch.zeros(2), torch.tensor([1, 0]), 0.75, 2.0)
    assert at_zero.tolist() == pytest.approx([0.75 * 0.25 * math.log(2), 0.25 * 0.25 * math.log(2)])
    p = 1 / (1 + math.exp(-2))
    assert focal(torch.tensor([2.0]), torch.tensor([0]), 0.75, 2.0).item() == pytest.approx(
        -0.25 * p**2 * math.log(1 - p)
    )


def test_focal_uses_all_anchors_but_the_ignored():
    absent, present = 0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)  # a column of an anchor
    one = batch([[0, 0, 10, 10]], [1])
    assert multibox_loss(zeros(), one, ANCHORS, classification="focal").classification.item() == pytest.approx(
        11 * absent + present
    )
    crowded = batch([[0, 0, 10, 10], [10, 10, 20, 20]], [1, 1], crowd=[False, True])
    assert multibox_loss(zeros(), crowded, ANCHORS, classification="focal").classification.item() == pytest.approx(
        8 * absent + present
    )


def test_focal_starts_small_from_its_bias():
    start = DenseDetections(torch.full((1, 4, 3), -4.6), torch.zeros(1, 4, 4))
    loss = multibox_loss(start, batch([[0, 0, 10, 10]], [1]), ANCHORS, classification="focal").classification.item()
    assert loss == pytest.approx(0.75 * 0.99**2 * 4.6, rel=0.02)  # the one object that is not seen yet


def test_sigmoid_with_mining():
    losses = multibox_loss(zeros(), batch([[0, 0, 10, 10]], [1]), ANCHORS, classification="sigmoid")
    assert losses.classification.item() == pytest.approx(4 * 3 * math.log(2))


@pytest.mark.parametrize("classification", ["softmax", "sigmoid", "focal"])
def test_no_objects_no_nan(classification):
    raw = DenseDetections(torch.randn(1, 4, 3, requires_grad=True), torch.randn(1, 4, 4, requires_grad=True))
    total = multibox_loss(raw, batch([], []), ANCHORS, classification=classification).total()
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(raw.logits.grad).all()


def test_padding_changes_nothing():
    torch.manual_seed(0)
    raw = DenseDetections(torch.randn(1, 4, 3), torch.randn(1, 4, 4))
    plain = batch([[1, 1, 9, 9]], [1])
    padded = plain._replace(
        boxes=torch.cat([plain.boxes, torch.zeros(1, 2, 4)], 1),
        labels=torch.cat([plain.labels, torch.zeros(1, 2, dtype=torch.long)], 1),
        crowd=torch.zeros(1, 3, dtype=torch.bool),
        valid=torch.tensor([[True, False, False]]),
    )
    for classification in ("softmax", "focal"):
        a, b = (multibox_loss(raw, x, ANCHORS, classification=classification) for x in (plain, padded))
        torch.testing.assert_close(a, b)


def test_unknown_loss():
    with pytest.raises(UserError, match="task.loss.classification must be one of softmax, sigmoid, focal, got 'hinge'"):
        multibox_loss(zeros(), batch([], []), ANCHORS, classification="hinge")


def test_localisation_by_overlap():
    box = [[0, 0, 10, 5]]  # half of the first anchor
    losses = multibox_loss(zeros(), batch(box, [0]), ANCHORS, match_threshold=0.4, localisation="giou")
    assert losses.localisation.item() == pytest.approx(0.5)
    twice = multibox_loss(
        zeros(), batch(box, [0]), ANCHORS, match_threshold=0.4, localisation="giou", localisation_weight=2
    )
    assert twice.localisation.item() == pytest.approx(1.0)


def test_smoothed_targets():
    logits = torch.zeros(1, 4, 3)
    logits[0, 0] = torch.tensor([0.0, 0.0, 2.0])
    raw, one = DenseDetections(logits, torch.zeros(1, 4, 4)), batch([[0, 0, 10, 10]], [1])
    log_sum = math.log(2 + math.exp(2))
    softmax = multibox_loss(raw, one, ANCHORS, negative_ratio=0, min_negatives=0, label_smoothing=0.3)
    assert softmax.classification.item() == pytest.approx(log_sum - (0.7 + 0.1) * 2)
    sigmoid = multibox_loss(
        raw, one, ANCHORS, negative_ratio=0, label_smoothing=0.3, classification="sigmoid", min_negatives=0
    )
    present = math.log(1 + math.exp(2)) - 0.85 * 2
    assert sigmoid.classification.item() == pytest.approx(2 * math.log(2) + present)


@pytest.mark.parametrize("classification", ["softmax", "sigmoid", "focal"])
@pytest.mark.parametrize("localisation", ["smooth_l1", "giou", "diou", "ciou"])
def test_images_without_objects_teach_the_background(classification, localisation):
    logits, deltas = torch.zeros(1, 4, 3, requires_grad=True), torch.zeros(1, 4, 4, requires_grad=True)
    settings = {"classification": classification, "localisation": localisation, "min_negatives": 2}
    losses = multibox_loss(DenseDetections(logits, deltas), batch([], []), ANCHORS, **settings)
    losses.total().backward()
    assert losses.classification.item() > 0 and losses.localisation.item() == 0
    assert logits.grad.isfinite().all() and logits.grad.any() and not deltas.grad.any()


@pytest.mark.parametrize("localisation", ["giou", "diou", "ciou"])
def test_half_precision_output_is_compared_in_full(localisation):
    raw = DenseDetections(torch.zeros(1, 4, 3), torch.full((1, 4, 4), 0.125))
    half = DenseDetections(raw.logits.bfloat16(), raw.deltas.bfloat16())
    one = batch([[1, 2, 11, 13]], [1])
    expected, found = (multibox_loss(r, one, ANCHORS, localisation=localisation).localisation for r in (raw, half))
    assert found.dtype == torch.float32 and found.item() == expected.item() > 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"localisation": "iou"}, r"task\.loss\.localisation must be one of smooth_l1, giou, diou, ciou, got 'iou'"),
        ({"label_smoothing": 1.5}, r"task\.loss\.label_smoothing must be from 0 to 1, got 1\.5"),
        ({"match_threshold": 1.5}, r"task\.loss\.match_threshold must be from 0 to 1, got 1\.5"),
        ({"focal_alpha": 3}, r"task\.loss\.focal_alpha must be from 0 to 1, got 3"),
        ({"focal_gamma": -1}, r"task\.loss\.focal_gamma must not be negative, got -1"),
        ({"negative_ratio": -1}, r"task\.loss\.negative_ratio must not be negative, got -1"),
        ({"min_negatives": -3}, r"task\.loss\.min_negatives must not be negative, got -3"),
        ({"localisation_weight": float("nan")}, r"task\.loss\.localisation_weight must not be negative, got nan"),
        ({"label_smoothing": 0.1, "classification": "focal"}, r"does not go with task\.loss\.classification=focal"),
    ],
)
def test_choices_that_cannot_be(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        multibox_loss(zeros(), batch([], []), ANCHORS, **settings)
