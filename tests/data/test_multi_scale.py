"""Training at changing sizes: which sizes, and what the batch looks like in them."""

import pytest
import torch

from seg_det.data.multi_scale import MultiScale, input_sizes, resized
from seg_det.errors import UserError
from seg_det.types import ClassificationBatch, DetectionBatch, SegmentationBatch


def test_sizes_of_a_range_keep_the_ratio():
    assert input_sizes(None, (320, 320)) == ()
    assert input_sizes([0.8, 1.2], (320, 320)) == tuple((side, side) for side in (256, 288, 320, 352, 384))
    assert input_sizes([0.5, 1.0], (300, 300))[0] == (172, 172)  # 300 - 4 * 32
    assert input_sizes([1.0, 1.5], (128, 256)) == ((128, 256), (160, 320), (192, 384))


def test_sizes_of_a_list():
    assert input_sizes([224, [256, 320]], (320, 320)) == ((224, 224), (256, 320))


BAD = [[], [0.5], [1.2, 0.8], [0.0, 1.0], [0.5, 9.0], [0.5, 320], [0.99, 0.995], 2, "big", ["a", "b"], [float("inf")]]


@pytest.mark.parametrize("choice", BAD)
def test_bad_choices_are_named(choice):
    with pytest.raises(UserError, match=r"data\.multi_scale is"):
        input_sizes(choice, (321, 321))


def test_bad_pairs_are_named():
    with pytest.raises(UserError, match=r"a size is a number or \[height, width\], got \[32, 64, 96\]"):
        input_sizes([[32, 64, 96]], (320, 320))


def test_size_follows_from_seed_epoch_and_place():
    sizes = ((32, 32), (64, 64), (96, 96))
    drawn = [MultiScale(sizes, 1).size(epoch, i) for epoch in range(3) for i in range(20)]
    assert drawn == [MultiScale(sizes, 1).size(epoch, i) for epoch in range(3) for i in range(20)]
    assert set(drawn) == set(sizes) and drawn[:20] != drawn[20:40]
    assert drawn != [MultiScale(sizes, 2).size(epoch, i) for epoch in range(3) for i in range(20)]


def detection_batch():
    ramp = torch.arange(64, dtype=torch.uint8).expand(1, 3, 32, 64).contiguous()
    boxes = torch.tensor([[[8.0, 4, 24, 12], [0, 0, 60, 1.5], [0, 0, 0, 0]]])
    valid = torch.tensor([[True, True, False]])
    return DetectionBatch(ramp, boxes, valid.long(), ~valid, valid, torch.zeros(1), torch.tensor([[100, 200]]))


def test_boxes_go_with_their_images():
    batch = resized(detection_batch(), (16, 96))
    assert batch.images.shape == (1, 3, 16, 96) and batch.images.dtype == torch.uint8
    assert batch.boxes[0, 0].tolist() == [12, 2, 36, 6]
    assert batch.valid.tolist() == [[True, False, False]]  # the second is 0.75 pixels high
    assert batch.sizes.tolist() == [[100, 200]]
    assert batch.images[0, 0, 0, [2, 48, 93]].tolist() == [1, 32, 62]  # (x + 0.5) * 2 / 3 - 0.5, rounded


def test_the_own_size_is_left_alone():
    batch = detection_batch()
    assert resized(batch, (32, 64)) is batch


def test_masks_and_classes_go_along():
    masks = torch.zeros(1, 4, 4, dtype=torch.uint8)
    masks[0, 2:, 2:] = 255
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    batch = resized(SegmentationBatch(images, masks, torch.zeros(1), torch.tensor([[4, 4]]), None), (8, 8))
    assert batch.masks.dtype == torch.uint8 and batch.masks[0, :, 3].max() == 0
    assert (batch.masks[0, 4:, 4:] == 255).all() and batch.masks.unique().tolist() == [0, 255]
    batch = resized(ClassificationBatch(images, torch.tensor([3]), torch.zeros(1)), (8, 2))
    assert batch.images.shape == (1, 3, 8, 2) and batch.labels.tolist() == [3]
