"""From logits to the class of each pixel: equal to the plain definition, in bands, patches and windows."""

import pytest
import torch
import torch.nn.functional as F

from seg_det import postprocess
from seg_det.postprocess import Patch, canvas_patch, label_map


def random_logits(classes=5, size=(9, 13), seed=0):
    return torch.randn(classes, *size, generator=torch.Generator().manual_seed(seed))


def plain(logits, size, align_corners=False):
    return F.interpolate(logits[None], size, mode="bilinear", align_corners=align_corners)[0].argmax(0)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("band", [1, 300, 2**20])
def test_equals_upsampling_and_argmax(align_corners, band, monkeypatch):
    monkeypatch.setitem(postprocess.BAND, "cpu", band)
    logits, size = random_logits(), (72, 104)
    labels = label_map([canvas_patch(logits, size, size, size)], size, align_corners=align_corners)
    assert labels.dtype == torch.uint8 and labels.shape == size
    assert torch.equal(labels.long(), plain(logits, size, align_corners))


def test_a_map_larger_than_the_image():
    logits, size = random_logits(size=(40, 50)), (17, 23)
    labels = label_map([canvas_patch(logits, (320, 400), (320, 400), size)], size)
    assert torch.equal(labels.long(), plain(logits, size))


def test_level_classes_go_to_the_lower():
    patch = canvas_patch(torch.zeros(3, 2, 2), (16, 16), (16, 16), (16, 16))
    assert not label_map([patch], (16, 16)).any()
    assert not label_map([patch, patch], (16, 16)).any()
    assert not label_map([patch], (16, 16), output="labels").any()


def test_padding_is_cut_away():
    # the left half of the canvas shows the image, class 0 above class 1; the right half is padding, class 2
    logits = torch.full((3, 4, 8), -9.0)
    logits[0, :2, :4] = logits[1, 2:, :4] = logits[2, :, 4:] = 9.0
    patch = canvas_patch(logits, (32, 64), (32, 32), (60, 60))
    for output in ("logits", "labels"):
        labels = label_map([patch], (60, 60), output=output)
        assert (labels[:30, :52] == 0).all() and (labels[30:, :52] == 1).all()
        assert (labels[:, 58:] == 2).any() == (
            output == "logits"
        )  # interpolation looks over the border, as in training


@pytest.mark.parametrize("align_corners", [False, True])
def test_cutting_padding_equals_upsampling_the_canvas(align_corners):
    logits, canvas, content = random_logits(size=(6, 8)), (48, 64), (32, 40)
    labels = label_map([canvas_patch(logits, canvas, content, content)], content, align_corners=align_corners)
    assert torch.equal(labels.long(), plain(logits, canvas, align_corners)[:32, :40])


def test_labels_are_those_of_the_map_repeated():
    logits = random_logits(size=(4, 6))
    labels = label_map([canvas_patch(logits, (32, 48), (32, 48), (64, 96))], (64, 96), output="labels")
    expected = logits.argmax(0).repeat_interleave(16, 0).repeat_interleave(16, 1)
    assert torch.equal(labels.long(), expected)


def test_labels_with_aligned_corners_lie_around_the_cells():
    logits = torch.eye(3)[:, None]  # one row of three classes
    labels = label_map([canvas_patch(logits, (1, 5), (1, 5), (1, 5))], (1, 5), output="labels", align_corners=True)
    assert labels.tolist() == [[0, 1, 1, 2, 2]]  # cells on pixels 0, 2 and 4; halfway counts as the later


def test_patches_are_averaged_as_probabilities():
    size = (24, 32)
    a, b = random_logits(size=(3, 4), seed=1) * 3, random_logits(size=(6, 8), seed=2) * 3
    maps = [F.interpolate(x[None], size, mode="bilinear")[0].softmax(0) for x in (a, b)]
    labels = label_map([canvas_patch(x, size, size, size) for x in (a, b)], size)
    assert torch.equal(labels.long(), (maps[0] + maps[1]).argmax(0))
    assert not torch.equal(labels.long(), plain(a, size))


def test_windows_side_by_side_equal_each_alone(monkeypatch):
    monkeypatch.setitem(postprocess.BAND, "cpu", 700)
    size = (32, 32)
    quarters = [random_logits(size=(4, 4), seed=seed) for seed in range(4)]
    boxes = [(0, 0, 16, 16), (16, 0, 32, 16), (0, 16, 16, 32), (16, 16, 32, 32)]
    labels = label_map([Patch(q, box, (16, 16)) for q, box in zip(quarters, boxes, strict=True)], size)
    for logits, (left, top, right, bottom) in zip(quarters, boxes, strict=True):
        assert torch.equal(labels[top:bottom, left:right].long(), plain(logits, (16, 16)))


def test_overlapping_windows_are_averaged_where_they_overlap():
    left, right = torch.tensor([0.0, 4.0]), torch.tensor([2.0, 0.0])  # class 1 for sure, class 0 less so
    windows = [
        Patch(logits[:, None, None].expand(-1, 1, 1), box, (8, 8))
        for logits, box in ((left, (0, 0, 8, 8)), (right, (4, 0, 12, 8)))
    ]
    labels = label_map(windows, (8, 12))
    assert (labels[:, :8] == 1).all() and (labels[:, 8:] == 0).all()


def test_half_precision():
    logits = random_logits() * 4
    patch = canvas_patch(logits.bfloat16(), (72, 104), (72, 104), (72, 104))
    agreement = (label_map([patch], (72, 104)).long() == plain(logits, (72, 104))).float().mean()
    assert agreement > 0.98


def test_bad_requests():
    patch = canvas_patch(random_logits(), (72, 104), (72, 104), (72, 104))
    with pytest.raises(ValueError, match="expected an output of logits, labels, got 'scores'"):
        label_map([patch], (72, 104), output="scores")
    with pytest.raises(ValueError, match="expected one patch for the output labels, got 2"):
        label_map([patch, patch], (72, 104), output="labels")
