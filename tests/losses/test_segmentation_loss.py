"""The losses of label maps by hand, and Lovász against its definition."""

import math

import pytest
import torch
import torch.nn.functional as F

from seg_det.errors import UserError
from seg_det.losses.segmentation import dice, lovasz, segmentation_loss
from seg_det.types import IGNORE, DenseSegmentation, SegmentationBatch


def batch(masks):
    masks = torch.as_tensor(masks, dtype=torch.uint8)
    none = torch.zeros(0)
    return SegmentationBatch(none, masks, none, none, None)


def certain(masks, classes, odds):
    """Logits that give the class of each pixel ``odds`` times the probability of any other."""
    one_hot = F.one_hot(torch.as_tensor(masks).long(), classes).permute(0, 3, 1, 2)
    return one_hot * math.log(odds)


def test_cross_entropy_by_hand():
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, :, 0, 0] = torch.tensor([math.log(2.0), 0, 0])  # probabilities 1/2, 1/4, 1/4; 1/3 elsewhere
    losses = segmentation_loss(DenseSegmentation(logits), batch([[[0, 1], [IGNORE, IGNORE]]]))
    assert losses.pixels.item() == pytest.approx((math.log(2) + math.log(3)) / 2)
    assert losses.regions.item() == losses.auxiliary.item() == 0
    assert losses.total().item() == losses.pixels.item()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"class_weights": [1.0] * 7}, r"class_weights has 7 numbers, but there are \d classes: give one to each"),
        ({"class_weights": 5}, r"class_weights must be a list with a number for each class, got 5"),
        ({"class_weights": [1.0, -1.0]}, r"class_weights must not be negative, nor all 0, got \[1\.0, -1\.0\]"),
        ({"class_weights": [0.0, 0.0]}, r"class_weights must not be negative, nor all 0, got \[0\.0, 0\.0\]"),
        ({"class_weights": ["a", "b"]}, r"class_weights must be a list with a number for each class, got \['a', 'b'\]"),
        ({"class_weights": [math.nan, 1.0]}, r"class_weights must not be negative, nor all 0, got \[nan, 1\.0\]"),
        ({"dice_weight": -1.0}, r"task\.loss\.dice_weight must not be negative, got -1"),
        ({"pixel_stride": 1.5}, r"task\.loss\.pixel_stride must be a whole number from 1 on, got 1\.5"),
        ({"region_stride": 0}, r"task\.loss\.region_stride must be a whole number from 1 on, got 0"),
        ({"auxiliary_weight": -1.0}, r"task\.loss\.auxiliary_weight must not be negative, got -1"),
    ],
)
def test_weights_that_cannot_be(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        segmentation_loss(DenseSegmentation(torch.zeros(1, 2, 1, 3)), batch([[[0, 1, IGNORE]]]), **settings)


def test_class_weights_weigh_the_mean_too():
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 0, 0, 0] = math.log(3.0)  # probabilities 3/4, 1/4; 1/2 elsewhere
    losses = segmentation_loss(DenseSegmentation(logits), batch([[[0, 1, IGNORE]]]), class_weights=[3.0, 1.0])
    assert losses.pixels.item() == pytest.approx((3 * math.log(4 / 3) + math.log(2)) / 4)
    expected = F.cross_entropy(logits, torch.tensor([[[0, 1, IGNORE]]]), torch.tensor([3.0, 1.0]), ignore_index=IGNORE)
    assert losses.pixels.item() == pytest.approx(expected.item())


def test_hard_share_keeps_the_highest_losses():
    probabilities = torch.tensor([0.9, 0.5, 0.8, 0.1, 0.7])
    logits = torch.stack([probabilities.logit(), torch.zeros(5)])[None, :, None]
    labelled = batch([[[0, 0, 0, 0, IGNORE]]])
    hard = segmentation_loss(DenseSegmentation(logits), labelled, hard_share=0.5).pixels
    assert hard.item() == pytest.approx(-(math.log(0.1) + math.log(0.5)) / 2)
    # two of four pixels are kept, and a share of a pixel is a pixel
    assert segmentation_loss(DenseSegmentation(logits), labelled, hard_share=0.26).pixels.item() == pytest.approx(
        hard.item()
    )
    everything = segmentation_loss(DenseSegmentation(logits), labelled, hard_share=1.0).pixels
    assert everything.item() == pytest.approx(-probabilities[:4].log().mean().item())


def test_hard_share_with_weights_is_their_mean():
    logits = torch.zeros(1, 2, 1, 2)
    losses = segmentation_loss(DenseSegmentation(logits), batch([[[0, 1]]]), class_weights=[3, 1], hard_share=0.5)
    assert losses.pixels.item() == pytest.approx(math.log(2))  # the first alone, by its own weight


def test_logits_are_brought_to_the_masks():
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    masks = torch.randint(0, 3, (2, 16, 20), generator=torch.Generator().manual_seed(1))
    for align_corners in (False, True):
        large = F.interpolate(logits, (16, 20), mode="bilinear", align_corners=align_corners)
        for layout in (torch.contiguous_format, torch.channels_last):
            raw = DenseSegmentation(logits.contiguous(memory_format=layout))
            losses = segmentation_loss(raw, batch(masks), align_corners=align_corners)
            torch.testing.assert_close(losses.pixels, F.cross_entropy(large, masks))


def test_auxiliary_head_has_its_own_weight_and_no_selection():
    raw = DenseSegmentation(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 1, 1))
    losses = segmentation_loss(raw, batch([[[0, 1], [2, IGNORE]]]), auxiliary_weight=0.5, hard_share=0.3)
    assert losses.auxiliary.item() == pytest.approx(0.5 * math.log(4))
    assert losses.total().item() == pytest.approx(1.5 * math.log(4))


def test_dice_by_hand():
    probabilities = torch.tensor([[0.8, 0.6, 0.1], [0.2, 0.4, 0.9]])
    truth = torch.tensor([[True, True, False], [False, False, True]])
    # 2 x 1.4 / (1.5 + 2) and 2 x 0.9 / (1.5 + 1)
    assert dice(probabilities, truth).item() == pytest.approx(1 - (2.8 / 3.5 + 1.8 / 2.5) / 2)
    assert dice(truth.float(), truth).item() == 0
    assert dice((~truth).float(), truth).item() == 1


def jaccard_loss(errors, truth):
    """1 - intersection / union where the pixels ``errors`` of the truth's class or beside it are wrong."""
    intersection, union = (truth & ~errors).sum(), (truth | errors).sum()
    return 1 - intersection / union


def slow_lovasz(probabilities, truth):
    """Equation 9: the errors, largest first, each times what its pixel adds to the loss of the pixels before it."""
    total = 0.0
    for row, mask in zip(probabilities, truth, strict=True):
        errors = torch.where(mask, 1 - row, row)
        wrong, before = torch.zeros_like(mask), 0.0
        for i in errors.argsort(descending=True).tolist():
            wrong[i] = True
            now = jaccard_loss(wrong, mask).item()
            total += errors[i].item() * (now - before)
            before = now
    return total / len(truth)


@pytest.mark.parametrize("align_corners", [False, True])
def test_pixels_are_seen_on_a_lattice(align_corners):
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 5, 4, requires_grad=True), torch.randint(0, 3, (2, 33, 30))
    large = F.interpolate(logits, (33, 30), mode="bilinear", align_corners=align_corners)
    wanted = F.cross_entropy(large[..., ::3, ::3], masks[..., ::3, ::3])
    settings = {"pixel_stride": 3, "auxiliary_weight": 1.0, "align_corners": align_corners}
    found = segmentation_loss(DenseSegmentation(logits, logits), batch(masks), **settings)
    torch.testing.assert_close(found.pixels, wanted)
    torch.testing.assert_close(found.auxiliary, wanted)
    pairs = zip(*(torch.autograd.grad(x, logits) for x in (found.pixels, wanted)), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def test_regions_are_seen_on_a_lattice():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 9, 10), torch.randint(0, 3, (2, 9, 10))
    weights = {"dice_weight": 1.0, "lovasz_weight": 0.5, "region_stride": 1}
    found = segmentation_loss(DenseSegmentation(logits), batch(masks.tolist()), **{**weights, "region_stride": 4})
    few = segmentation_loss(DenseSegmentation(logits[..., ::4, ::4]), batch(masks[..., ::4, ::4].tolist()), **weights)
    assert found.regions.item() == pytest.approx(few.regions.item(), rel=1e-6)
    whole = segmentation_loss(DenseSegmentation(logits), batch(masks.tolist()), **weights)
    assert found.pixels.item() == whole.pixels.item() and found.regions.item() != pytest.approx(
        whole.regions.item(), rel=1e-3
    )


def test_lovasz_equals_its_definition():
    generator = torch.Generator().manual_seed(0)
    for classes, pixels in ((2, 5), (3, 40), (5, 200)):
        labels = torch.arange(pixels) % classes
        probabilities = torch.randn(classes, pixels, generator=generator).softmax(0)
        truth = labels == torch.arange(classes)[:, None]
        assert lovasz(probabilities, truth).item() == pytest.approx(slow_lovasz(probabilities, truth), rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "iou"), [([], 1.0), ([0], 2 / 3), ([0, 5], 2 / 4), ([3, 4, 5], 3 / 6), ([0, 1, 2], 0)]
)
def test_lovasz_of_decided_pixels_is_one_minus_iou(wrong, iou):
    truth = torch.tensor([[True, True, True, False, False, False]])
    decided = truth.clone()
    decided[:, wrong] ^= True
    assert lovasz(decided.float(), truth).item() == pytest.approx(1 - iou, abs=1e-6)


def test_lovasz_of_many_pixels_keeps_its_digits():
    truth = (torch.arange(400_000) % 2 == 0)[None]
    decided = truth.clone()
    decided[:, :100_000] = True  # 50,000 pixels too many
    assert lovasz(decided.float(), truth).item() == pytest.approx(1 - 200 / 250, rel=1e-4)


def test_regions_leave_out_ignored_pixels_and_absent_classes():
    masks = torch.tensor([[[0, 0, 2, IGNORE]]])
    logits = torch.randn(1, 4, 1, 4, generator=torch.Generator().manual_seed(0))
    probabilities = logits.softmax(1)[0, :, 0, :3][[0, 2]]
    truth = torch.tensor([[True, True, False], [False, False, True]])
    losses = segmentation_loss(DenseSegmentation(logits), batch(masks), dice_weight=2.0, region_stride=1)
    assert losses.regions.item() == pytest.approx(2 * dice(probabilities, truth).item())
    settings = {"dice_weight": 1.0, "lovasz_weight": 0.5, "region_stride": 1}
    losses = segmentation_loss(DenseSegmentation(logits), batch(masks), **settings)
    expected = dice(probabilities, truth).item() + 0.5 * slow_lovasz(probabilities, truth)
    assert losses.regions.item() == pytest.approx(expected, rel=1e-5)


SETTINGS = [
    {},
    {"class_weights": [1.0, 2.0]},
    {"hard_share": 0.25},
    {"hard_share": 0.25, "class_weights": [1.0, 2.0]},
    {"dice_weight": 1.0, "lovasz_weight": 1.0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_pixel_ignored(settings):
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    auxiliary = torch.randn(1, 2, 2, 2, requires_grad=True)
    masks = torch.full((1, 6, 6), IGNORE)
    total = segmentation_loss(DenseSegmentation(logits, auxiliary), batch(masks), **settings).total()
    total.backward()
    assert total.item() == 0
    assert not logits.grad.any() and not auxiliary.grad.any()  # NaN would count as true


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_ignored_pixels_get_no_gradient_and_others_do(settings):
    logits = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masks = torch.full((1, 4, 4), IGNORE)
    masks[0, 0], masks[0, 1] = 0, 1
    segmentation_loss(DenseSegmentation(logits), batch(masks), **settings).total().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, :, :2].any() and not logits.grad[0, :, 2:].any()


def test_a_certain_network_loses_nothing_and_stays_finite():
    masks = torch.tensor([[[0, 1], [1, 2]]])
    logits = certain(masks, 3, 1e30).requires_grad_()
    losses = segmentation_loss(DenseSegmentation(logits), batch(masks), dice_weight=1.0, lovasz_weight=1.0)
    losses.total().backward()
    assert losses.total().item() == pytest.approx(0, abs=1e-6)
    assert logits.grad.isfinite().all()


def test_half_precision_logits_are_summed_in_full():
    masks = torch.zeros(1, 400, 400)
    logits = torch.zeros(1, 2, 400, 400, dtype=torch.bfloat16)
    loss = segmentation_loss(DenseSegmentation(logits), batch(masks), dice_weight=1.0).pixels
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)


def test_bad_settings():
    raw = DenseSegmentation(torch.zeros(1, 3, 1, 1))
    with pytest.raises(UserError, match="task.loss.class_weights has 2 numbers, but there are 3 classes"):
        segmentation_loss(raw, batch([[[0]]]), class_weights=[1.0, 1.0])
    for share in (0.0, 1.5):
        with pytest.raises(UserError, match=f"task.loss.hard_share must be above 0 and at most 1, got {share}"):
            segmentation_loss(raw, batch([[[0]]]), hard_share=share)
