import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from seg_det.data import samplers
from seg_det.data.classes import with_categories
from seg_det.data.classification_transforms import inception_augmentation
from seg_det.data.coco_seg import DrawnMask, Region
from seg_det.data.collate import collate_classification, collate_detection
from seg_det.data.detection_transforms import ssd_augmentation
from seg_det.data.loaders import (
    ClassificationDataset,
    DetectionDataset,
    evaluation_loader,
    read_image,
    train_loader,
)
from seg_det.data.masks import MaskFile, mask_code
from seg_det.data.plain_transforms import centre_crop, resize_only
from seg_det.data.records import (
    ClassificationRecord,
    ClassificationSource,
    DetectionRecord,
    DetectionSource,
    SegmentationRecord,
    SegmentationSource,
)
from seg_det.data.samplers import EpochSampler, ShareSampler, repeat_factors
from seg_det.errors import UserError
from seg_det.types import IGNORE, Category, ClassificationSample, DetectionSample

CATEGORIES = (Category(3, "cat"), Category(7, "dog"))


def record(path: Path, image_id: int, boxes, labels, size=(40, 60)) -> DetectionRecord:
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    flags = np.zeros(len(boxes), dtype=bool)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return DetectionRecord(path, image_id, size, boxes, np.array(labels, dtype=np.int64), flags, flags, area)


@pytest.fixture
def source(tmp_path):
    records = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), np.full((40, 60, 3), 10 * i, np.uint8))
        records.append(record(path, 100 + i, [[6, 4, 30, 20]] * (i % 3), [1] * (i % 3)))
    return DetectionSource("made", tuple(records), CATEGORIES)


@pytest.fixture
def photos(source):
    """The same images with a class each: cat, dog, cat, ..."""
    records = [
        ClassificationRecord(r.path.parent, r.path.name, r.image_id, i % 2) for i, r in enumerate(source.records)
    ]
    return ClassificationSource("photos", tuple(records), CATEGORIES)


def test_sample_and_batch(source):
    batch = next(iter(evaluation_loader(source, resize_only((20, 30)), batch_size=3, num_workers=0)))
    assert batch.images.shape == (3, 3, 20, 30) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.image_ids.tolist() == [100, 101, 102] and batch.sizes.tolist() == [[40, 60]] * 3
    assert batch.valid.tolist() == [[False, False], [True, False], [True, True]]
    assert batch.boxes[2, 1].tolist() == [3, 2, 15, 10] and batch.labels[2].tolist() == [1, 1]


def test_classification_batch(photos):
    batch = next(iter(evaluation_loader(photos, centre_crop((20, 30)), batch_size=3, num_workers=0)))
    assert batch.images.shape == (3, 3, 20, 30) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.images[:, 0, 0, 0].tolist() == [0, 10, 20]
    assert batch.labels.tolist() == [0, 1, 0] and batch.labels.dtype == torch.int64
    assert batch.image_ids.tolist() == [100, 101, 102]


def test_classification_batch_of_samples():
    samples = [ClassificationSample(torch.full((3, 2, 2), i, dtype=torch.uint8), 4 + i, 7 + i) for i in range(2)]
    batch = collate_classification(samples)
    assert batch.images[:, 0, 0, 0].tolist() == [0, 1]
    assert (batch.labels.tolist(), batch.image_ids.tolist()) == ([4, 5], [7, 8])


def test_classification_is_augmented_by_seed_epoch_and_index(photos):
    cv2.imwrite(str(photos.records[5].path), np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    dataset = ClassificationDataset(photos, inception_augmentation((16, 16)), seed=0)
    first, later = dataset[5], dataset[6 + 5]
    assert (first.label, first.image_id) == (later.label, later.image_id) == (1, 105)
    assert not torch.equal(first.image, later.image) and torch.equal(first.image, dataset[5].image)
    loader = train_loader(photos, inception_augmentation((16, 16)), batch_size=6, num_workers=1, seed=0)
    batch = next(iter(loader))
    assert torch.equal(batch.images[batch.image_ids.tolist().index(105)], first.image)


def test_broken_image_is_named_as_it_is_loaded(photos):
    photos.records[1].path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"the image .*1\.png is broken \(no known image format\)"):
        list(evaluation_loader(photos, centre_crop((16, 16)), batch_size=3, num_workers=0))


def test_augmentation_of_another_task_is_refused(source, photos):
    with pytest.raises(UserError, match="photos is a data set for classification, .* set augmentation to inception"):
        train_loader(photos, ssd_augmentation((32, 32)), batch_size=2, num_workers=0, seed=0)
    with pytest.raises(UserError, match="made is a data set for detection, .* set augmentation to ssd, light, flip"):
        evaluation_loader(source, centre_crop((32, 32)), batch_size=2, num_workers=0)


def test_a_batch_without_any_object():
    empty = torch.zeros(0, dtype=torch.bool)
    sample = DetectionSample(
        torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0).long(), empty, empty, 1, (4, 4)
    )
    batch = collate_detection([sample, sample])
    assert batch.boxes.shape == (2, 0, 4) and batch.valid.shape == (2, 0)


def test_each_epoch_is_another_order_and_repeats(source):
    sampler = EpochSampler(6, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(6)) and list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(second) == list(range(6, 12)) and [k - 6 for k in second] != first
    assert list(EpochSampler(6, seed=2)) != first


def test_processes_share_an_epoch(monkeypatch):
    shares = []
    for rank in range(2):
        monkeypatch.setattr(samplers, "process_share", lambda rank=rank: (rank, 2))
        shares.append(list(EpochSampler(7)))
    assert [len(share) for share in shares] == [3, 3]
    assert not set(shares[0]) & set(shares[1])
    assert (len(ShareSampler(7)), list(ShareSampler(7))) == (3, [1, 3, 5])  # of the second process


def counts(keys, length):
    return np.bincount([key % length for key in keys], minlength=length)


def test_repeats_on_average_and_epochs_of_one_length():
    sampler = EpochSampler(4, seed=3, repeats=np.array([1.0, 1.0, 2.5, 3.25]))
    total = np.zeros(4)
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler) == 8 and len(set(keys)) == 8
        found = counts(keys, 4)
        assert (np.array([1, 1, 2, 3]) <= found).all() and (found <= np.array([2, 2, 3, 4])).all()
        total += found
    assert total / 2000 == pytest.approx(np.array([1.0, 1.0, 2.5, 3.25]) * 8 / 7.75, abs=0.05)


def test_copies_are_other_samples_in_every_epoch():
    sampler = EpochSampler(2, seed=0, repeats=np.array([1.0, 3.0]))
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen += list(sampler)
        assert list(sampler) == seen[-4:]
    assert len(set(seen)) == 12


def test_rare_classes_ask_for_their_images(tmp_path):
    rows = [[0], [0], [0], [0, 1], [], [0], [0], [0]]  # class 0 in 7 of 8 images, class 1 in one
    boxes = [[[0, 0, 5, 5]] * len(labels) for labels in rows]
    records = tuple(record(tmp_path, i, box, labels) for i, (box, labels) in enumerate(zip(boxes, rows, strict=True)))
    factors = repeat_factors(DetectionSource("made", records, CATEGORIES), 0.5)
    assert factors.tolist() == [1, 1, 1, pytest.approx(2.0), 1, 1, 1, 1]  # sqrt(0.5 / 0.125)
    named = tuple(ClassificationRecord(tmp_path, "x", i, label) for i, label in enumerate([0, 0, 0, 1]))
    factors = repeat_factors(ClassificationSource("made", named, CATEGORIES), 1.0)
    assert factors.tolist() == pytest.approx([math.sqrt(4 / 3)] * 3 + [2.0])


def test_balance_that_cannot_be(source):
    with pytest.raises(UserError, match=r"data\.balance must be a share of the images above 0 and at most 1.*got 2"):
        repeat_factors(source, 2)
    file = SegmentationRecord(Path("a.png"), MaskFile(Path("b.png"), mask_code([0, 1])), 1, (4, 4))
    with pytest.raises(UserError, match=r"the mask files of made tell only .* weighed by task\.loss\.class_weights"):
        repeat_factors(SegmentationSource("made", (file,), CATEGORIES), 0.5)


def test_crowds_and_images_without_objects_ask_for_nothing(tmp_path):
    crowd = record(tmp_path, 1, [[0, 0, 5, 5]], [1])._replace(crowd=np.array([True]))
    records = (record(tmp_path, 0, [], []), crowd, *(record(tmp_path, i, [[0, 0, 5, 5]] * 2, [0, 0]) for i in (2, 3)))
    assert repeat_factors(DetectionSource("made", records, CATEGORIES), 1.0).tolist() == [1, 1, *[2**0.5] * 2]
    assert repeat_factors(DetectionSource("made", records[:2], CATEGORIES), 1.0).tolist() == [1, 1]


def test_masks_that_are_drawn_tell_their_classes(tmp_path):
    outline = (np.array([0.0, 0, 3, 0, 3, 3]),)
    labels = [[1, 1], [1], [1, IGNORE], [2, 1]]
    records = tuple(
        SegmentationRecord(tmp_path, DrawnMask((4, 4), tuple(Region(label, outline) for label in row), 0), i, (4, 4))
        for i, row in enumerate(labels)
    )
    source = SegmentationSource("made", records, (Category(0, "background"), *CATEGORIES))
    assert repeat_factors(source, 1.0).tolist() == [1, 1, 1, 2.0]


def test_processes_share_a_balanced_epoch(monkeypatch):
    repeats = np.array([1.0, 1.5, 4.0, 1.0, 2.5])
    alone = EpochSampler(5, seed=2, repeats=repeats)
    alone.set_epoch(3)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(samplers, "process_share", lambda rank=rank: (rank, 2))
        sampler = EpochSampler(5, seed=2, repeats=repeats)
        sampler.set_epoch(3)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler) == 5
    monkeypatch.undo()
    assert sorted(shares[0] + shares[1]) == sorted(alone) and not set(shares[0]) & set(shares[1])


def test_small_shares_of_processes_still_give_a_batch(source, monkeypatch):
    monkeypatch.setattr(samplers, "process_share", lambda: (1, 2))
    count = len(source.records)
    loader = train_loader(source, ssd_augmentation((32, 32)), batch_size=count, num_workers=0, seed=0)
    assert [len(batch.images) for batch in loader] == [count // 2]


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_augmentation_does_not_depend_on_workers(source, mixup):
    def batches(workers):
        augmentation = ssd_augmentation((32, 32), mixup=mixup)
        loader = train_loader(source, augmentation, batch_size=3, epochs=3, num_workers=workers, seed=5)
        loader.sampler.set_epoch(2)
        return list(loader)

    for alone, shared in zip(batches(0), batches(2), strict=True):
        assert (alone.weights is not None) == (shared.weights is not None) == bool(mixup)
        for a, b in zip(alone, shared, strict=True):
            assert a is b is None or torch.equal(a, b)


def test_epochs_are_augmented_differently(source):
    dataset = DetectionDataset(source, ssd_augmentation((32, 32)), seed=0)
    images = [dataset[epoch * 6 + 5].image for epoch in range(4)]
    assert any(not torch.equal(images[0], image) for image in images[1:])
    assert torch.equal(dataset[5].image, images[0])


def test_incomplete_batch_is_dropped_unless_it_is_the_only_one(source):
    def steps(size):
        return len(list(train_loader(source, resize_only((32, 32)), batch_size=size, num_workers=0, seed=0)))

    assert steps(4) == 1 and steps(6) == 1 and steps(16) == 1


def test_annotated_size_must_be_the_image_s(tmp_path, source):
    wrong = source.records[1]._replace(size=(60, 40))
    with pytest.raises(
        UserError, match=r"1\.png has 60 x 40 pixels, its annotation says 40 x 60: .*dataset.on_bad=skip"
    ):
        read_image(wrong)


def test_labels_follow_the_model_s_class_map(source):
    turned = with_categories(source, (Category(1, "dog"), Category(2, "cat")), "the model")
    assert turned.records[2].labels.tolist() == [0, 0]
    assert turned.categories == (Category(7, "dog"), Category(3, "cat"))  # the data's own ids, in the model's order
    assert with_categories(source, CATEGORIES, "the model") is source


def test_classification_labels_follow_the_model_s_class_map(photos):
    turned = with_categories(photos, (Category(1, "dog"), Category(2, "cat")), "the model")
    assert [record.label for record in turned.records] == [1, 0, 1, 0, 1, 0]
    assert turned.categories == (Category(7, "dog"), Category(3, "cat"))
    assert turned.records[0].path == photos.records[0].path
    assert with_categories(photos, CATEGORIES, "the model") is photos


def test_other_classes_are_refused(source):
    with pytest.raises(UserError, match=r"made has 2 classes, the model m has 1, .*only in the data: dog"):
        with_categories(source, (Category(3, "cat"),), "the model m")
    with pytest.raises(UserError, match=r"only in the data: dog; only in the model m: cow"):
        with_categories(source, (Category(3, "cat"), Category(4, "cow")), "the model m")
