"""What holds for all three segmentation heads, on every backbone."""

from functools import partial

import pytest
import torch
from torch import nn

from seg_det.errors import UserError
from seg_det.models.backbones.inception import InceptionV1, InceptionV2
from seg_det.models.backbones.mixnet import MixNet
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.models.deeplabv3 import DeepLabv3
from seg_det.models.lraspp import LRASPP
from seg_det.models.raspp import RASPP
from seg_det.models.segmentation_heads import ASPP, ImagePooling, PooledBatchNorm2d
from seg_det.nn.blocks import batch_norm

V2 = partial(MobileNetV2, width=0.35)
BACKBONES = {
    "v1": partial(MobileNetV1, width=0.25),
    "v2": V2,
    "v2_mixed": partial(MobileNetV2, width=0.5, kernels=(3, 5)),
    "v2_reduced": partial(MobileNetV2, width=0.35, reduced_tail="segmentation", padding="same"),
    "v3_large": partial(MobileNetV3, width=0.35),
    "v3_small": partial(MobileNetV3, variant="small", dilation_rule="torchvision"),
    "v3_minimalistic": partial(MobileNetV3, width=0.35, minimalistic=True),
    "mixnet_s": partial(MixNet, width=0.5),
    "inception_v1": InceptionV1,
    "inception_v2": InceptionV2,
}
HEADS = {
    "deeplabv3": partial(DeepLabv3, auxiliary_tap="c3_first", rates=(6, 12, 18), channels=16),
    "raspp": partial(RASPP, channels=16),
    "lraspp": partial(LRASPP, channels=16),
}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())


@every_head
@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES.keys())
def test_raw_output_on_every_backbone(backbone, head):
    model = head(backbone, num_classes=5).eval()
    with torch.inference_mode():
        raw = model(torch.rand(1, 3, 65, 98))
    fine = isinstance(model, LRASPP)
    assert raw.logits.shape == ((1, 5, 9, 13) if fine else (1, 5, 5, 7))
    assert raw.logits.isfinite().all()
    assert raw.auxiliary is None if not isinstance(model, DeepLabv3) else raw.auxiliary.shape == (1, 5, 9, 13)


@every_head
@pytest.mark.parametrize(("output_stride", "size"), [(8, (9, 13)), (16, (5, 7)), (32, (3, 4))])
def test_output_strides(head, output_stride, size):
    model = head(V2, num_classes=5, output_stride=output_stride).eval()
    with torch.inference_mode():
        raw = model(torch.rand(1, 3, 65, 98))
    assert raw.logits.shape[2:] == ((9, 13) if isinstance(model, LRASPP) else size)


@every_head
def test_same_raw_output_form_in_training_and_evaluation(head):
    model = head(V2, num_classes=5)
    forms = [
        [x if x is None else x.shape for x in model.train(mode)(torch.rand(2, 3, 64, 64))] for mode in (True, False)
    ]
    assert forms[0] == forms[1]


@every_head
def test_one_image_trains(head):
    model = head(V2, num_classes=5).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    images = torch.rand(1, 3, 64, 96)
    for _ in range(3):
        raw = model(images)
        loss = sum(x.flatten(2).mean(2).softmax(1)[:, 0].sum() for x in raw if x is not None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(buffer.isfinite().all() for buffer in model.buffers())


@every_head
def test_model_is_export_clean(head):
    model = head(V2, num_classes=5).eval()
    images = torch.rand(1, 3, 65, 96)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images).logits, model(images).logits)


@every_head
def test_start_without_a_preference(head):
    """Logits of an untrained head are small, so the first loss is that of a guess among the classes."""
    torch.manual_seed(0)
    model = head(V2, num_classes=5).train()
    with torch.no_grad():
        logits = model(torch.rand(2, 3, 64, 96)).logits
    loss = nn.functional.cross_entropy(logits, torch.zeros(2, *logits.shape[2:], dtype=torch.long))
    assert loss.item() == pytest.approx(1.6094, abs=0.1)  # ln 5


@every_head
def test_taps_that_the_backbone_lacks(head):
    wrong = {"taps": ("c3", "c9")} if head is HEADS["lraspp"] else {"tap": "c9"}
    with pytest.raises(UserError, match="MobileNetV2 has no tap c9"):
        head(MobileNetV2, num_classes=5, **wrong)
    with pytest.raises(UserError, match=r"The output stride does not fit MobileNetV2: .* \[2, 4, 8, 16, 32\], got 12"):
        head(MobileNetV2, num_classes=5, output_stride=12)


@pytest.mark.parametrize(
    ("backbone", "fine", "deep"),
    [
        (MobileNetV1, 256, 1024),
        (MobileNetV2, 192, 320),
        (partial(MobileNetV2, reduced_tail="segmentation"), 192, 160),
        (MobileNetV3, 120, 960),
        (partial(MobileNetV3, reduced_tail="segmentation"), 120, 480),
        (partial(MobileNetV3, variant="small"), 88, 576),
        (partial(MobileNetV3, variant="small", reduced_tail="segmentation"), 88, 288),
        (MixNet, 240, 200),
        (InceptionV1, 480, 1024),
    ],
)
def test_what_the_heads_stand_on(backbone, fine, deep):
    """The papers' taps: depthwise output of stride 8 before squeeze-and-excite; V2's bottleneck, V3's last convolution."""
    features = LRASPP(backbone, num_classes=5).backbone.features
    assert [feature.channels for feature in features] == [fine, deep]
    assert [feature.stride for feature in features] == [8, 16]
    assert RASPP(backbone, num_classes=5).backbone.features == features[1:]
    assert DeepLabv3(backbone, num_classes=5).backbone.features == features[1:]


def test_the_wide_last_convolution_of_v2_is_not_built():
    assert not [name for name, _ in RASPP(MobileNetV2, num_classes=5).backbone.named_parameters() if "head" in name]


def test_pooled_norm_of_several_images_is_batch_norm():
    ours, theirs = PooledBatchNorm2d(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 1, 1)
    for training in (True, False):
        ours.train(training), theirs.train(training)
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_pooled_norm_of_one_image_takes_the_running_statistics():
    norm = PooledBatchNorm2d(2, eps=0.0).train()
    norm.running_mean.copy_(torch.tensor([1.0, -2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 0.25]))
    nn.init.constant_(norm.weight, 3.0)
    nn.init.constant_(norm.bias, 0.5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(2).train()(torch.zeros(1, 2, 1, 1))
    # (5 - 1) / 2 * 3 + 0.5 and (-1 + 2) / 0.5 * 3 + 0.5
    assert norm(torch.tensor([5.0, -1.0]).view(1, 2, 1, 1)).flatten().tolist() == [6.5, 6.5]
    assert norm.running_mean.tolist() == [1.0, -2.0] and norm.running_var.tolist() == [4.0, 0.25]


def test_image_pooling_is_the_mean_at_every_place():
    pooling = ImagePooling(1, 1, norm=batch_norm(eps=0.0, momentum=0.1), act=nn.ReLU).eval()
    nn.init.constant_(pooling.conv.weight, 2.0)
    pooled = pooling(torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]).view(1, 1, 2, 3))
    assert pooled.flatten().tolist() == [4.0] * 6  # twice the mean of 2


@pytest.mark.parametrize(("pooling_last", "expected"), [(False, [2.0, 10.0]), (True, [10.0, 2.0])])
def test_order_of_the_branches(pooling_last, expected):
    """One pixel of 1 in a map of 2: the pooled mean is 0.5 x weight 4, the local branch 1 x weight 10."""
    aspp = ASPP(1, 1, pooling_last=pooling_last, bn_eps=0.0, bn_momentum=0.1).eval()
    aspp.project = nn.Identity()
    nn.init.constant_(aspp.image_pooling.conv.weight, 4.0)
    nn.init.constant_(aspp.branches[0].conv.weight, 10.0)
    joined = aspp(torch.tensor([1.0, 0.0]).view(1, 1, 1, 2))
    assert joined[0, :, 0, 0].tolist() == expected


def test_atrous_branches_reach_as_far_as_their_rate():
    aspp = ASPP(1, 1, rates=(2, 3), bn_eps=0.0, bn_momentum=0.1).eval()
    aspp.project = nn.Identity()
    for branch in aspp.branches:
        nn.init.ones_(branch.conv.weight)
    x = torch.zeros(1, 1, 1, 9)
    x[..., 4] = 1.0
    rows = aspp(x)[0, 1:, 0]
    assert [row.nonzero().flatten().tolist() for row in rows] == [[4], [2, 4, 6], [1, 4, 7]]
