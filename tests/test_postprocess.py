import pytest
import torch

from seg_det import postprocess
from seg_det.errors import UserError
from seg_det.ops.anchors import grid_anchors, ssd_shapes
from seg_det.ops.boxes import clip, decode
from seg_det.ops.nms import nms, suppresses
from seg_det.postprocess import check_limits, class_scores, detect, to_file_size
from seg_det.types import DenseDetections, Detections

ANCHORS = grid_anchors(ssd_shapes(2), [(6, 6), (3, 3)], (96, 96))
SIZE = (96, 96)


def per_class(raw, score_threshold, iou_threshold, max_candidates, max_detections):
    """The definition, one image and one class at a time."""
    for logits, deltas in zip(*raw, strict=True):
        scores, boxes = logits.softmax(-1)[:, 1:], clip(decode(deltas, ANCHORS), SIZE)
        parts = []
        for c in range(scores.shape[1]):
            above = (scores[:, c] > score_threshold).nonzero().flatten()
            above = above[scores[above, c].argsort(descending=True, stable=True)][:max_candidates]
            keep = above[nms(boxes[above], scores[above, c], torch.zeros_like(above), iou_threshold)]
            parts.append(Detections(boxes[keep], scores[keep, c], torch.full_like(keep, c)))
        merged = Detections(*(torch.cat(field) for field in zip(*parts, strict=True)))
        yield merged.select(merged.scores.argsort(descending=True, stable=True)[:max_detections])


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
@pytest.mark.parametrize("limits", [(0.01, 0.5, 400, 100), (0.2, 0.3, 5, 100), (0.0, 0.7, 20, 10), (0.9, 0.5, 10, 10)])
def test_equals_the_definition(sharpness, limits):
    torch.manual_seed(0)
    raw = DenseDetections(torch.randn(4, len(ANCHORS), 6) * sharpness, torch.randn(4, len(ANCHORS), 4))
    threshold, overlap, candidates, most = limits
    found = detect(
        raw,
        ANCHORS,
        SIZE,
        score_threshold=threshold,
        iou_threshold=overlap,
        max_candidates=candidates,
        max_detections=most,
    )
    for ours, expected in zip(found, per_class(raw, *limits), strict=True):
        torch.testing.assert_close(ours, expected)


def test_images_of_a_batch_do_not_mix():
    torch.manual_seed(1)
    raw = DenseDetections(torch.randn(3, len(ANCHORS), 4) * 3, torch.randn(3, len(ANCHORS), 4))
    together = detect(raw, ANCHORS, SIZE)
    for i, found in enumerate(together):
        alone = detect(DenseDetections(raw.logits[i : i + 1], raw.deltas[i : i + 1]), ANCHORS, SIZE)[0]
        torch.testing.assert_close(found, alone)


def test_many_boxes_on_one_spot_stay_within_the_candidates(monkeypatch):
    seen = []

    def spy(boxes, labels, threshold):
        seen.append(boxes.shape[1])
        return suppresses(boxes, labels, threshold)

    monkeypatch.setattr(postprocess, "suppresses", spy)
    anchors = torch.tensor([[10.0, 10, 50, 50]]).repeat(3000, 1)
    logits = torch.stack([torch.zeros(3000), torch.linspace(1, 3, 3000)], -1)[None]
    found = detect(DenseDetections(logits, torch.zeros(1, 3000, 4)), anchors, SIZE, max_candidates=400)[0]
    assert len(found.scores) == 1 and max(seen) <= 800


@pytest.mark.parametrize("limits", [(0.01, 0.5, 400, 100), (0.2, 0.3, 5, 100), (0.0, 0.7, 20, 10)])
def test_classes_by_themselves_equal_the_definition(monkeypatch, limits):
    monkeypatch.setattr(postprocess, "LONGEST_PREFIX", 0)
    torch.manual_seed(0)
    raw = DenseDetections(torch.randn(3, len(ANCHORS), 4) * 3, torch.randn(3, len(ANCHORS), 4) * 0.5)
    names = ("score_threshold", "iou_threshold", "max_candidates", "max_detections")
    found = detect(raw, ANCHORS, SIZE, **dict(zip(names, limits, strict=True)))
    for ours, expected in zip(found, per_class(raw, *limits), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_collapsed_detector_takes_bounded_memory(monkeypatch):
    """One box from all anchors, for 80 classes: of 162,720 pairs hardly any survives, and no matrix of them is built."""
    seen = []

    def spy(boxes, labels, threshold):
        seen.append(boxes.shape[0] * boxes.shape[1] ** 2)
        return suppresses(boxes, labels, threshold)

    monkeypatch.setattr(postprocess, "suppresses", spy)
    anchors = torch.tensor([[10.0, 10, 50, 50]]).repeat(2034, 1)
    raw = DenseDetections(torch.zeros(12, 2034, 81), torch.zeros(12, 2034, 4))
    found = detect(raw, anchors, SIZE, max_candidates=None)
    assert [sorted(one.labels.tolist()) for one in found] == [list(range(80))] * 12
    assert all((one.boxes == anchors[:80]).all() for one in found)
    assert max(seen) <= postprocess.COMPARED


def test_nothing_above_the_threshold(monkeypatch):
    raw = DenseDetections(torch.zeros(1, len(ANCHORS), 3), torch.zeros(1, len(ANCHORS), 4))
    found = detect(raw, ANCHORS, SIZE, score_threshold=0.9)[0]
    monkeypatch.setattr(postprocess, "LONGEST_PREFIX", 0)
    torch.testing.assert_close(detect(raw, ANCHORS, SIZE, score_threshold=0.9)[0], found)
    assert found.boxes.shape == (0, 4) and found.scores.shape == (0,) and found.labels.shape == (0,)


def test_scores_leave_the_background_out():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    assert class_scores(logits, "softmax").tolist() == [[0.25] * 3]
    assert class_scores(logits, "sigmoid").tolist() == [[0.5] * 3]
    with pytest.raises(UserError, match="postprocess.score must be softmax or sigmoid, got 'linear'"):
        class_scores(logits, "linear")


def test_back_to_the_size_of_the_file():
    found = Detections(torch.tensor([[10.0, 10, 20, 20]]), torch.tensor([0.5]), torch.tensor([0]))
    assert to_file_size(found, (100, 100), (50, 300)).boxes.tolist() == [[30, 5, 60, 10]]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"score": "linear"}, r"postprocess\.score must be softmax or sigmoid, got 'linear'"),
        ({"score_threshold": -0.1}, r"postprocess\.score_threshold must be from 0 to 1, got -0\.1"),
        ({"score_threshold": None}, r"postprocess\.score_threshold must be from 0 to 1, got None"),
        ({"iou_threshold": 2}, r"postprocess\.iou_threshold must be from 0 to 1, got 2"),
        ({"iou_threshold": float("nan")}, r"postprocess\.iou_threshold must be from 0 to 1, got nan"),
        ({"max_candidates": 0}, r"max_candidates must be a whole number from 1, or null for all, got 0"),
        ({"max_detections": 0}, r"max_detections must be a whole number from 1, got 0"),
        ({"max_detections": None}, r"max_detections must be a whole number from 1, got None"),
        ({"max_detections": 2.5}, r"max_detections must be a whole number from 1, got 2\.5"),
    ],
)
def test_limits_that_cannot_be(setting, sentence):
    with pytest.raises(UserError, match=sentence):
        check_limits(**setting)


def test_limits_that_can_be():
    check_limits()
    check_limits(score="sigmoid", score_threshold=0, iou_threshold=1.0, max_candidates=None, max_detections=1)
