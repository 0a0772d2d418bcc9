"""The images that a classifier's report shows: the most confident mistakes first."""

import numpy as np
import pytest
import torch
from PIL import Image

from seg_det.data.records import ClassificationRecord, ClassificationSource
from seg_det.kinds.classification import CLASSIFICATION
from seg_det.types import Category, ModelCard

CATEGORIES = (Category(1, "ape"), Category(2, "bee"))


@pytest.fixture
def source(tmp_path):
    """Six images of 40 by 800 pixels, the first three apes."""
    for i in range(6):
        Image.fromarray(np.full((40, 800, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    records = tuple(ClassificationRecord(tmp_path, f"{i}.png", i, int(i > 2)) for i in range(6))
    return ClassificationSource("zoo val", records, CATEGORIES)


# By image: the probability of the ape; 1 and 4 are wrong.
APE = [0.9, 0.4, 0.6, 0.2, 0.8, 0.45]


def evaluated(source):
    metric = CLASSIFICATION.metric(source)
    metric.update(range(6), torch.tensor([[p, 1 - p] for p in APE]).log())
    return metric, metric.compute()


def test_the_most_confident_mistakes_come_first_and_the_surest_answers_last(source):
    worst, best = CLASSIFICATION.details(*evaluated(source), source).galleries
    assert [(picture.title, picture.note) for picture in worst.pictures] == [
        ("4.png", "bee: \N{BALLOT X} taken for ape, 80%"),
        ("1.png", "ape: \N{BALLOT X} taken for bee, 60%"),
        ("5.png", "bee: right, 55%"),
        ("2.png", "ape: right, 60%"),
    ]
    assert [picture.title for picture in best.pictures] == ["0.png", "3.png"]
    assert best.pictures[0].note == "ape: right, 90%"
    assert worst.small and best.small
    assert "the most confident of them at the top" in worst.rule


def test_pictures_are_small(source):
    worst, _ = CLASSIFICATION.details(*evaluated(source), source).galleries
    assert {picture.image.shape for picture in worst.pictures} == {(16, 320, 3)}


def test_a_single_prediction_is_drawn_with_its_class(source):
    card = ModelCard("classification", "x", {}, {}, CATEGORIES, (32, 32), (0, 0, 0), (255, 255, 255))
    drawn = CLASSIFICATION.drawn(torch.tensor([0.9, 0.1]).log(), source.records[0], card)
    assert drawn.shape == (16, 320, 3) and drawn.any()  # the image is black
