"""Top-1 and top-5 by hand, and that each image counts once whichever process saw it."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from seg_det.data.records import ClassificationRecord
from seg_det.errors import UserError
from seg_det.metrics.classification import ClassificationMetric
from seg_det.types import Category

NAMES = ["ape", "bee", "cat", "dog", "eel", "fox", "gnu"]
CATEGORIES = tuple(Category(10 * i, name) for i, name in enumerate(NAMES))
LABELS = {5: 0, 9: 0, 2: 6, 7: 3}  # by image id
RECORDS = [ClassificationRecord(Path("photos"), f"{i}.jpg", i, label) for i, label in LABELS.items()]


def ranking(*best):
    """Logits of an image whose classes in falling order begin with ``best``, two apart; the others are last."""
    logits = torch.full((7,), -50.0)
    logits[list(best)] = -2 * torch.arange(len(best), dtype=torch.float32)
    return logits


LOGITS = torch.stack([
    ranking(0, 1, 2, 3, 4),  # an ape, seen as one
    ranking(1, 2, 3, 4, 0),  # an ape, fifth
    ranking(0, 1, 2, 3, 4, 6),  # a gnu, sixth
    ranking(3, 0, 1, 2, 5),  # a dog, seen as one
])  # fmt: skip
IDS = torch.tensor([5, 9, 2, 7])


def filled():
    metric = ClassificationMetric(RECORDS, CATEGORIES)
    metric.update(IDS, LOGITS)
    return metric


def test_figures_by_hand():
    report = filled().compute()
    assert (report.top1, report.top5, report.images) == (0.5, 0.75, 4)
    assert report.headline() == {"top1": 0.5, "top5": 0.75}
    plain = report.to_dict()
    assert plain == json.loads(json.dumps(plain, allow_nan=False))
    assert plain["accuracy"] == {"top1": 0.5, "top5": 0.75, "images": 4}
    assert plain["per_class"]["ape"] == {"top1": 0.5, "images": 2}
    assert plain["per_class"]["gnu"] == {"top1": 0.0, "images": 1}
    assert plain["per_class"]["bee"] == {"top1": None, "images": 0}
    assert list(plain["per_class"]) == NAMES


def test_which_class_is_taken_for_which():
    plain = filled().compute().to_dict()
    assert plain["confusion"] == {"ape": {"ape": 1, "bee": 1}, "dog": {"dog": 1}, "gnu": {"ape": 1}}
    assert plain["confused"] == {"ape taken for bee": 1, "gnu taken for ape": 1}
    assert plain["confusion_of"] == "images"
    assert filled().compute().by_class() == {"ape": 0.5, "dog": 1.0, "gnu": 0.0}


def test_rows_of_the_predictions():
    rows = filled().results()
    assert rows == json.loads(json.dumps(rows, allow_nan=False))
    assert rows[1] == {
        "image_id": 9,
        "image": "photos/9.jpg",
        "label": "ape",
        "prediction": "bee",
        # softmax: 1 / (1 + e^-2 + e^-4 + e^-6 + e^-8)
        "score": pytest.approx(0.8647039),
        "top5": [10, 20, 30, 40, 0],
    }


def test_fewer_than_five_classes():
    metric = ClassificationMetric([ClassificationRecord(Path("p"), "a.jpg", 1, 2)], CATEGORIES[:3])
    metric.update([1], torch.tensor([[3.0, 2.0, 1.0]]))
    assert metric.compute().headline() == {"top1": 0.0}  # the best five of three tell nothing
    assert metric.results()[0]["top5"] == [0, 10, 20]


def test_an_image_counts_once_as_it_came_first():
    metric = filled()
    metric.update([2, 5], torch.stack([ranking(6), ranking(6)]))
    assert metric.compute() == filled().compute() and metric.results() == filled().results()


def test_only_what_was_seen_counts():
    metric = ClassificationMetric(RECORDS, CATEGORIES)
    metric.update([7], LOGITS[3:])
    assert metric.compute().images == 1 and metric.compute().top1 == 1.0


def test_processes_are_joined_by_their_states():
    parts = [ClassificationMetric(RECORDS, CATEGORIES) for _ in range(3)]
    parts[0].update(IDS[:2], LOGITS[:2])
    parts[1].update(IDS[1:], LOGITS[1:])  # one padded twice; the third process has no image
    states = pickle.loads(pickle.dumps([part.state() for part in parts]))
    for part in parts:
        part.merge(states)
        assert part.compute() == filled().compute()
    assert parts[0].results() == filled().results()


def test_reset_and_nothing_seen():
    metric = filled()
    metric.reset()
    report = metric.compute()
    assert (report.top1, report.top5, report.images) == (None, None, 0)
    assert report.headline() == {} and metric.results() == []


def test_half_precision_and_a_batch_that_is_let_go():
    metric = ClassificationMetric(RECORDS, CATEGORIES)
    metric.update(IDS, LOGITS.bfloat16().requires_grad_())
    state = metric.state()
    assert (state.top.dtype, state.scores.dtype, state.top.shape) == (torch.int64, torch.float32, (4, 5))
    assert not state.scores.requires_grad and metric.compute().top1 == 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite(value):
    logits = LOGITS.clone()
    logits[2, 4] = value
    with pytest.raises(UserError, match=r"the model's output for photos/2.jpg is not finite .*; use an earlier"):
        ClassificationMetric(RECORDS, CATEGORIES).update(IDS, logits)


def test_a_stranger_is_named():
    with pytest.raises(UserError, match="there is no image with id 8 among the 4 that are evaluated"):
        ClassificationMetric(RECORDS, CATEGORIES).update([8], LOGITS[:1])


@pytest.mark.parametrize("shape", [(4, 6), (3, 7)])
def test_as_many_logits_as_images_and_classes(shape):
    with pytest.raises(ValueError, match=rf"expected logits \[4, 7\], got \[{shape[0]}, {shape[1]}\]"):
        ClassificationMetric(RECORDS, CATEGORIES).update(IDS, torch.zeros(shape))
