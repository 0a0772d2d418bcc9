from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import hardswish

from seg_det.errors import UserError
from seg_det.models.backbones.mixnet import MixNet
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.models.classifier import Classifier
from seg_det.types import Feature

BACKBONES = {
    "v1": partial(MobileNetV1, width=0.25),
    "v1_same": partial(MobileNetV1, width=0.25, padding="same"),
    "v2": partial(MobileNetV2, width=0.35),
    "v3_large": partial(MobileNetV3, width=0.35),
    "v3_small": partial(MobileNetV3, variant="small", width=0.35),
    "v3_small_minimalistic": partial(MobileNetV3, variant="small", minimalistic=True, width=0.35),
    "mixnet_s": partial(MixNet, width=0.5),
    "mixnet_m_same": partial(MixNet, variant="m", width=0.5, padding="same"),
}


def test_logits_are_a_linear_map_of_the_pooled_head():
    model = Classifier(partial(MobileNetV2, width=0.35), num_classes=7).eval()
    images = torch.rand(2, 3, 70, 65)
    pooled = model.backbone(images)["head"].flatten(2).mean(-1)
    expected = pooled @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(model(images), expected)
    assert expected.shape == (2, 7) and isinstance(model.hidden, nn.Identity)


def test_hidden_layer_of_v3():
    model = Classifier(partial(MobileNetV3, variant="small"), num_classes=5).eval()
    images = torch.rand(1, 3, 64, 64)
    linear = model.hidden[0]
    assert (linear.in_features, linear.out_features) == (576, 1024)
    hidden = hardswish(model.backbone(images)["head"].mean((2, 3)) @ linear.weight.T + linear.bias)
    torch.testing.assert_close(model(images), hidden @ model.classifier.weight.T + model.classifier.bias)


@pytest.mark.parametrize(
    ("backbone", "hidden", "width"),
    [
        (partial(MobileNetV3, variant="small"), 1280, 1280),  # the paper's earlier revision
        (MobileNetV3, None, 1280),
        (partial(MobileNetV3, width=0.75), None, 1280),
        (partial(MobileNetV3, width=0.75, width_rule="torchvision"), None, 960),
    ],
)
def test_width_of_the_hidden_layer(backbone, hidden, width):
    assert Classifier(backbone, num_classes=3, hidden=hidden).classifier.in_features == width


@pytest.mark.parametrize(
    ("backbone", "settings", "message"),
    [
        (MobileNetV1, {"hidden": 64}, r"task.model.hidden=64 is for a backbone with a hidden layer"),
        (MobileNetV3, {"hidden": 0}, r"task.model.hidden=0 is for .* and above 0"),
        (MobileNetV1, {"dropout": 1.0}, "task.model.dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_settings_that_make_no_sense(backbone, settings, message):
    with pytest.raises(UserError, match=message):
        Classifier(backbone, num_classes=3, **settings)


def test_linear_layers_of_the_backbone_stay_as_they_are():
    class Linear(nn.Module):
        hidden = None
        features = (Feature("head", 4, 32),)

        def __init__(self, taps, output_stride):
            super().__init__()
            self.layer = nn.Linear(4, 4, bias=False)
            nn.init.ones_(self.layer.weight)

    assert (Classifier(Linear, num_classes=3).backbone.layer.weight == 1).all()


@pytest.mark.parametrize("name", ["v1", "v3_small"])
def test_dropout_is_the_last_before_the_classifier_and_in_training_alone(name):
    model = Classifier(BACKBONES[name], num_classes=3)
    model.dropout.p = 1.0
    nn.init.constant_(model.classifier.bias, 2.0)
    if name == "v3_small":
        nn.init.constant_(model.hidden[0].bias, 1.0)
    images = torch.rand(2, 3, 32, 32)
    assert model.train()(images).tolist() == [[2.0] * 3] * 2  # everything is dropped but the bias
    assert (model.eval()(images) != 2).all()


def test_dropout_of_nothing():
    model = Classifier(partial(MobileNetV1, width=0.25), num_classes=3, dropout=0.0)
    assert model.dropout.p == 0 and Classifier(MobileNetV1, num_classes=3).dropout.p == 0.2


def test_output_stride():
    model = Classifier(partial(MobileNetV2, width=0.35), num_classes=3, output_stride=8).eval()
    assert model.backbone.features[0].stride == 8
    assert model(torch.rand(1, 3, 33, 33)).shape == (1, 3)
    with pytest.raises(UserError, match=r"expected an output stride of \[2, 4, 8, 16, 32\], got 64"):
        Classifier(MobileNetV2, num_classes=3, output_stride=64)


@pytest.mark.parametrize("name", BACKBONES)
def test_models_are_export_clean(name):
    model = Classifier(BACKBONES[name], num_classes=4).eval()
    images = torch.rand(1, 3, 64, 64)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


def test_same_padding_exports_with_a_free_batch():
    model = Classifier(BACKBONES["v1_same"], num_classes=4).eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    exported = torch.export.export(model, (torch.rand(2, 3, 64, 64),), dynamic_shapes={"images": {0: batch}}).module()
    images = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(exported(images), model(images))
