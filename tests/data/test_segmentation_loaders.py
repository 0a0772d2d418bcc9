"""Masks in samples and batches: what training gets, what evaluation gets, and images of many sizes."""

import cv2
import numpy as np
import pytest
import torch

from seg_det.data import samplers
from seg_det.data.classes import with_categories
from seg_det.data.collate import collate_segmentation
from seg_det.data.detection_transforms import ssd_augmentation
from seg_det.data.loaders import (
    SegmentationDataset,
    evaluation_loader,
    read_mask,
    train_loader,
)
from seg_det.data.masks import MaskFile, mask_code
from seg_det.data.records import SegmentationRecord, SegmentationSource
from seg_det.data.samplers import ShareSampler, SizeBatches
from seg_det.data.segmentation_transforms import fitted, segmentation_augmentation
from seg_det.errors import UserError
from seg_det.types import Category, SegmentationSample

CATEGORIES = (Category(3, "sky"), Category(7, "road"), Category(9, "tree"))
SIZES = [(40, 60), (60, 40), (40, 60), (33, 60), (60, 40), (40, 60)]


@pytest.fixture
def source(tmp_path):
    records, code = [], mask_code(range(3))
    for i, size in enumerate(SIZES):
        image, mask = tmp_path / f"{i}.png", tmp_path / f"{i}_mask.png"
        cv2.imwrite(str(image), np.full((*size, 3), 10 * i, np.uint8))
        pixels = np.random.default_rng(i).integers(0, 3, size, dtype=np.uint8)
        pixels[:2] = 255
        cv2.imwrite(str(mask), pixels)
        records.append(SegmentationRecord(image, MaskFile(mask, code), 100 + i, size))
    return SegmentationSource("made", tuple(records), CATEGORIES)


def test_training_batch(source):
    batch = next(iter(train_loader(source, segmentation_augmentation([32, 48]), batch_size=4, num_workers=0, seed=0)))
    assert batch.images.shape == (4, 3, 32, 48) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.masks.shape == (4, 32, 48) and batch.masks.dtype == torch.uint8
    assert set(batch.masks.unique().tolist()) <= {0, 1, 2, 255}
    assert batch.originals is None and batch.sizes.shape == (4, 2)


def test_training_sample_is_a_function_of_seed_epoch_and_index(source):
    dataset = SegmentationDataset(source, segmentation_augmentation([32, 32]), seed=0)
    first, later = dataset[4], dataset[6 + 4]
    assert first.original is None and first.size == (60, 40) and first.image_id == later.image_id == 104
    assert torch.equal(first.mask, dataset[4].mask) and not torch.equal(first.mask, later.mask)
    batch = next(iter(train_loader(source, segmentation_augmentation([32, 32]), batch_size=6, num_workers=1, seed=0)))
    assert torch.equal(batch.masks[batch.image_ids.tolist().index(104)], first.mask)


def test_evaluation_holds_the_masks_of_the_files(source):
    (batch,) = evaluation_loader(source, fitted("stretch", [20, 30]), batch_size=8, num_workers=0)
    assert batch.images.shape == (6, 3, 20, 30) and batch.masks.shape == (6, 20, 30)
    assert batch.image_ids.tolist() == list(range(100, 106)) and batch.sizes.tolist() == [list(size) for size in SIZES]
    for original, record in zip(batch.originals, source.records, strict=True):
        assert torch.equal(original, torch.from_numpy(record.mask.read()))


def test_whole_images_come_with_those_of_their_size(source):
    batches = list(evaluation_loader(source, fitted("whole", [32, 32]), batch_size=2, num_workers=0))
    assert [batch.image_ids.tolist() for batch in batches] == [[100, 101], [102, 103], [104, 105]]
    assert {tuple(batch.images.shape[2:]) for batch in batches} == {(64, 64)}
    finer = list(evaluation_loader(source, fitted("whole", [4, 4], multiple=4), batch_size=2, num_workers=0))
    assert [batch.image_ids.tolist() for batch in finer] == [[100, 102], [105], [101, 104], [103]]
    assert [tuple(batch.images.shape[2:]) for batch in finer] == [(40, 60), (40, 60), (60, 40), (36, 60)]


def test_sizes_share_the_images_of_a_distributed_run(monkeypatch):
    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(samplers, "process_share", lambda rank=rank: (rank, 2))
        batches = SizeBatches(ShareSampler(6), SIZES, 2)
        keys = list(batches)
        assert len(batches) == len(keys) and all(len({SIZES[key] for key in batch}) == 1 for batch in keys)
        seen += [key for batch in keys for key in batch]
    assert sorted(seen) == list(range(6))


def test_large_images_come_in_smaller_batches():
    sizes = [(10, 20)] * 5 + [(40, 40)] * 2
    batches = SizeBatches(ShareSampler(7), sizes, 4, pixels=600)
    assert list(batches) == [[0, 1, 2], [3, 4], [5], [6]] and len(batches) == 4


def test_batch_of_one_and_of_ignored_pixels():
    sample = SegmentationSample(
        torch.zeros(3, 4, 4, dtype=torch.uint8), torch.full((4, 4), 255, dtype=torch.uint8), 1, (4, 4), None
    )
    batch = collate_segmentation([sample])
    assert batch.masks.shape == (1, 4, 4) and batch.originals is None
    assert batch.sizes.tolist() == [[4, 4]] and batch.image_ids.tolist() == [1]


def test_masks_follow_the_model_s_class_map(source):
    turned = with_categories(source, (Category(1, "tree"), Category(2, "sky"), Category(3, "road")), "the model")
    assert turned.categories == (Category(9, "tree"), Category(3, "sky"), Category(7, "road"))
    before, after = source.records[0].mask.read(), turned.records[0].mask.read()
    for old, new in ((0, 1), (1, 2), (2, 0), (255, 255)):
        assert (after[before == old] == new).all()
    assert with_categories(source, CATEGORIES, "the model") is source


def test_other_classes_are_refused(source):
    with pytest.raises(UserError, match=r"made has 3 classes, the model m has 1, .*only in the data: road, tree"):
        with_categories(source, (Category(3, "sky"),), "the model m")


def test_augmentation_of_another_task_is_refused(source):
    with pytest.raises(
        UserError, match="made is a data set for segmentation, .* augmentation to segmentation, flip, flip_both"
    ):
        train_loader(source, ssd_augmentation((32, 32)), batch_size=2, num_workers=0, seed=0)


def test_bad_mask_is_named_as_it_is_loaded(source):
    cv2.imwrite(str(source.records[1].mask.path), np.full((60, 40), 7, np.uint8))
    with pytest.raises(
        UserError, match=r"1_mask.png holds the value 7 in 2,400 pixels, but there are 3 classes \(0..2\)"
    ):
        list(evaluation_loader(source, fitted("stretch", [8, 8]), batch_size=8, num_workers=0))


def test_files_that_changed_since_they_were_listed(source):
    cv2.imwrite(str(source.records[1].mask.path), np.zeros((60, 41), np.uint8))
    with pytest.raises(UserError, match=r"the mask of .*1.png has 41 x 60 pixels, the image 40 x 60: it was changed"):
        read_mask(source.records[1])
