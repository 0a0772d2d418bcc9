"""Mosaic and mixup: what is where in the mixed image, what it weighs, and when mixing ends."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from seg_det.data.classification_transforms import inception_augmentation
from seg_det.data.collate import collate_classification, collate_detection
from seg_det.data.detection_transforms import ssd_augmentation
from seg_det.data.loaders import train_loader
from seg_det.data.mixing import MosaicLayout, checked_mixing, mosaic
from seg_det.data.plain_transforms import flip_only
from seg_det.data.records import DetectionRecord, DetectionSource
from seg_det.errors import UserError
from seg_det.losses import label_loss, multibox_loss
from seg_det.types import (
    Category,
    ClassificationBatch,
    ClassificationSample,
    DenseDetections,
    DetectionBatch,
    DetectionSample,
)


def sample(grey, boxes, *, size=(40, 60), share=1.0, label=0):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    flags = torch.zeros(len(boxes), dtype=torch.bool)
    image = torch.full((3, *size), grey, dtype=torch.uint8)
    return DetectionSample(image, boxes, torch.full((len(boxes),), label), flags, flags, grey, size, share)


def test_mosaic_by_hand():
    # Parts of 30 x 40 that meet at (36, 17): the first reaches 4 pixels beyond the left border and 13 beyond the upper one.
    layout = MosaicLayout((30, 40), (36, 17))
    whole = [0.0, 0, 60, 40]
    corner = [0.0, 0, 15, 8]  # of 10 x 6 in a part: outside in the first, which loses its upper left
    mixed = mosaic([sample(10 * i, [whole, corner], label=i) for i in range(1, 5)], layout)
    assert mixed.image_id == 10 and mixed.image.shape == (3, 40, 60)
    assert mixed.image[0, [0, 0, 39, 39], [0, 59, 0, 59]].tolist() == [10, 20, 30, 40]
    assert mixed.image[0, 16, 35] == 10 and mixed.image[0, 17, 36] == 40
    expected = {
        1: [[0, 0, 36, 17]],
        2: [[36, 0, 60, 17]],  # the corner box ends above the image
        3: [[0, 17, 36, 40], [0, 17, 6, 23]],
        4: [[36, 17, 60, 40], [36, 17, 46, 23]],
    }
    for label, boxes in expected.items():
        assert mixed.boxes[mixed.labels == label].tolist() == boxes, label
    assert len(mixed.crowd) == len(mixed.difficult) == len(mixed.boxes) == 6


def test_mosaic_always_fills_the_image():
    rng = np.random.default_rng(0)
    for size in [(40, 60), (41, 61), (1, 7)]:
        for _ in range(50):
            windows = MosaicLayout.draw(rng, size).windows(size)
            areas = (windows[:, 2:] - windows[:, :2]).prod(1)
            assert (areas >= 0).all() and areas.sum() == size[0] * size[1]


def test_mixup_of_objects():
    first = sample(100, [[1, 2, 3, 4]], share=0.75)
    second = sample(200, [[5, 6, 7, 8], [9, 9, 19, 19]], label=1)  # is not mixed itself
    batch = collate_detection([first, second])
    assert batch.images[:, 0, 0, 0].tolist() == [125, 200]
    assert batch.valid.sum(1).tolist() == [3, 2]
    assert batch.labels[0].tolist() == [0, 1, 1] and batch.weights[0].tolist() == [0.75, 0.25, 0.25]
    assert batch.weights[1, :2].tolist() == [1, 1]
    assert collate_detection([second, second]).weights is None


def test_loss_of_mixed_objects_is_weighted():
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    logits = torch.zeros(1, 2, 3)
    boxes, flags = torch.tensor([[[0.0, 0, 10, 9], [20, 20, 30, 28]]]), torch.zeros(1, 2, dtype=torch.bool)
    batch = DetectionBatch(
        torch.zeros(1, 3, 32, 32), boxes, torch.tensor([[0, 1]]), flags, ~flags, torch.zeros(1), torch.zeros(1, 2)
    )
    raw = DenseDetections(logits, torch.zeros(1, 2, 4))
    plain = multibox_loss(raw, batch, anchors)
    halved = multibox_loss(raw, batch._replace(weights=torch.tensor([[0.5, 0.5]])), anchors)
    torch.testing.assert_close(halved, type(halved)(*(0.5 * value for value in plain)))
    alone = multibox_loss(raw, batch._replace(weights=torch.tensor([[1.0, 0.0]])), anchors)
    assert 0 < alone.localisation < plain.localisation


def test_mixup_of_classes():
    images = [torch.full((3, 4, 4), level, dtype=torch.uint8) for level in (0, 100)]
    batch = collate_classification(
        [ClassificationSample(images[0], 0, 7, 0.4), ClassificationSample(images[1], 1, 8, 1.0)]
    )
    assert batch.images[:, 0, 0, 0].tolist() == [60, 100]
    assert batch.labels.tolist() == [0, 1] and batch.others.tolist() == [1, 0]
    torch.testing.assert_close(batch.shares, torch.tensor([0.4, 1.0]))
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    one = ClassificationBatch(images[0][None], torch.tensor([0]), torch.tensor([7]))
    two = one._replace(labels=torch.tensor([1]))
    mixed = one._replace(others=torch.tensor([1]), shares=torch.tensor([0.4]))
    losses = [label_loss(logits, batch).total() for batch in (one, two, mixed)]
    torch.testing.assert_close(losses[2], 0.4 * losses[0] + 0.6 * losses[1])


@pytest.fixture
def source(tmp_path):
    records = []
    for i in range(8):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), np.full((40, 60, 3), 20 * i, np.uint8))
        box, flag = np.array([[6, 4, 30, 20]], np.float32), np.zeros(1, bool)
        records.append(DetectionRecord(Path(path), i, (40, 60), box, np.zeros(1, np.int64), flag, flag, box[:, 0]))
    return DetectionSource("made", tuple(records), (Category(1, "cat"),))


def epochs(source, transform, **settings):
    loader = train_loader(source, transform, batch_size=4, num_workers=0, seed=3, **settings)
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        yield list(loader)


def greys(batches):
    """How many levels each image shows."""
    return [len(torch.unique(image)) for batch in batches for image in batch.images]


def test_mosaic_ends_with_the_epochs_that_are_left_whole(source):
    transform = flip_only((32, 48), mosaic=1.0, unmixed_epochs=1)
    first, second, last = epochs(source, transform, epochs=3)
    assert np.mean(greys(first)) > 3 and np.mean(greys(second)) > 3
    assert greys(last) == [1] * 8
    again = next(iter(epochs(source, transform, epochs=3)))
    assert all((a.images == b.images).all() for a, b in zip(first, again, strict=True))


def test_mixup_comes_as_often_as_it_says(source):
    some = [b for batches in epochs(source, flip_only((32, 48), mixup=0.5), epochs=3) for b in batches]
    mixed = torch.cat(
        [((b.weights < 1) & b.valid).any(1) if b.weights is not None else torch.zeros(4).bool() for b in some]
    )
    assert 4 <= mixed.sum() <= 20
    assert all(b.weights is None for batches in epochs(source, flip_only((32, 48)), epochs=3) for b in batches)


def test_mixing_is_off_by_default():
    for transform in (ssd_augmentation((32, 32)), inception_augmentation((32, 32)), flip_only((32, 32))):
        assert transform.mixing == checked_mixing(0, 0, 0) and transform.mixing.turns(10, 1) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flip_only((32, 32), mosaic=1.0, kind="classification"), "mosaic is not for classification: set it to 0"),
        (lambda: flip_only((32, 32), mixup=0.1, kind="segmentation"), "mixup is not for segmentation"),
        (lambda: ssd_augmentation((32, 32), mosaic=1.5), "mosaic"),
        (lambda: inception_augmentation((32, 32), unmixed_epochs=-1), "unmixed_epochs is -1, but must not be negative"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
