import pytest

from seg_det.weights.catalogue import CATALOGUE
from seg_det.weights.maps import NAMINGS, detect
from seg_det.weights.naming import Naming, Row

KEYS = {
    "torchvision MobileNetV2": (
        ("features.1.conv.0.0.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("features.0.1.running_var", "backbone.stem.norm.running_var"),
        ("features.1.conv.1.weight", "backbone.blocks.0.project.conv.weight"),
        ("features.1.conv.2.bias", "backbone.blocks.0.project.norm.bias"),
        ("features.17.conv.3.bias", "backbone.blocks.16.project.norm.bias"),
        ("features.18.0.weight", "backbone.head.conv.weight"),
        ("classifier.1.bias", "classifier.bias"),
    ),
    "torchvision MobileNetV3": (
        ("features.1.block.0.0.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("features.1.block.1.0.weight", "backbone.blocks.0.project.conv.weight"),  # Large
        ("features.1.block.1.fc2.bias", "backbone.blocks.0.squeeze_excite.restore.bias"),  # Small
        ("features.1.block.2.1.weight", "backbone.blocks.0.project.norm.weight"),
        ("features.4.block.2.fc1.weight", "backbone.blocks.3.squeeze_excite.reduce.weight"),
        ("features.4.block.3.0.weight", "backbone.blocks.3.project.conv.weight"),
        ("features.12.0.weight", "backbone.head.conv.weight"),
        ("classifier.0.weight", "hidden.0.weight"),
        ("classifier.3.weight", "classifier.weight"),
    ),
    "torchvision SSDLite320 MobileNetV3": (
        ("backbone.features.0.1.block.0.0.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("backbone.features.0.12.block.3.1.bias", "backbone.blocks.11.project.norm.bias"),
        ("backbone.features.0.13.0.weight", "backbone.blocks.12.expand.conv.weight"),
        ("backbone.features.1.0.1.1.weight", "backbone.blocks.12.depthwise.norm.weight"),
        ("backbone.features.1.0.2.fc1.bias", "backbone.blocks.12.squeeze_excite.reduce.bias"),
        ("backbone.features.1.0.3.0.weight", "backbone.blocks.12.project.conv.weight"),
        ("backbone.features.1.2.block.0.0.weight", "backbone.blocks.14.expand.conv.weight"),
        ("backbone.features.1.3.1.weight", "backbone.head.norm.weight"),
        ("backbone.extra.3.1.0.weight", "extras.3.separable.depthwise.conv.weight"),
        ("head.classification_head.module_list.5.0.1.bias", "class_predictors.5.depthwise.norm.bias"),
        ("head.regression_head.module_list.0.1.bias", "box_predictors.0.project.bias"),
    ),
    "torchvision LR-ASPP MobileNetV3": (
        ("classifier.cbr.0.weight", "main.conv.weight"),
        ("backbone.1.block.0.0.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("backbone.0.0.weight", "backbone.stem.conv.weight"),
        ("backbone.16.1.bias", "backbone.head.norm.bias"),
        ("classifier.low_classifier.weight", "fine_classifier.weight"),
    ),
    "torchvision DeepLabv3 MobileNetV3": (
        ("classifier.0.convs.0.0.weight", "aspp.branches.0.conv.weight"),
        ("classifier.0.convs.4.2.bias", "aspp.image_pooling.norm.bias"),
        ("classifier.4.bias", "classifier.bias"),
        ("aux_classifier.0.weight", "auxiliary.reduce.conv.weight"),
    ),
    "TF-slim MobileNetV1": (
        ("MobilenetV1/Conv2d_0/weights", "backbone.stem.conv.weight"),
        ("MobilenetV1/Conv2d_0/BatchNorm/gamma", "backbone.stem.norm.weight"),
        ("MobilenetV1/Conv2d_13_pointwise/biases", "backbone.blocks.12.pointwise.norm.bias"),
        ("MobilenetV1/Conv2d_1_depthwise/depthwise_weights", "backbone.blocks.0.depthwise.conv.weight"),
        ("MobilenetV1/Logits/Conv2d_1c_1x1/biases", "classifier.bias"),
        ("MobilenetV1/Conv2d_1_depthwise/depthwise_weights/RMSProp", None),
        ("global_step", None),
    ),
    "TF-slim MobileNetV2": (
        ("MobilenetV2/Conv/weights", "backbone.stem.conv.weight"),
        ("MobilenetV2/expanded_conv/project/BatchNorm/moving_mean", "backbone.blocks.0.project.norm.running_mean"),
        ("MobilenetV2/expanded_conv_16/expand/BatchNorm/beta", "backbone.blocks.16.expand.norm.bias"),
        ("MobilenetV2/Conv_1/weights", "backbone.head.conv.weight"),
        ("MobilenetV2/Logits/Conv2d_1c_1x1/weights", "classifier.weight"),
    ),
    "TF-slim MobileNetV3": (
        ("MobilenetV3/Conv/weights:0", "backbone.stem.conv.weight"),
        ("MobilenetV3/expanded_conv/squeeze_excite/Conv/biases", "backbone.blocks.0.squeeze_excite.reduce.bias"),
        (
            "MobilenetV3/expanded_conv_3/squeeze_excite/Conv_1/weights",
            "backbone.blocks.3.squeeze_excite.restore.weight",
        ),
        ("MobilenetV3/Conv_1/BatchNorm/moving_variance", "backbone.head.norm.running_var"),
        ("MobilenetV3/Conv_2/biases", "hidden.0.bias"),
    ),
    "TF detection SSDLite MobileNetV2": (
        ("FeatureExtractor/MobilenetV2/Conv/weights", "backbone.stem.conv.weight"),
        ("FeatureExtractor/MobilenetV2/expanded_conv_13/expand/weights", "backbone.blocks.13.expand.conv.weight"),
        ("FeatureExtractor/MobilenetV2/layer_19_1_Conv2d_2_1x1_256/weights", "extras.0.reduce.conv.weight"),
        (
            "FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_5_3x3_s2_128_depthwise/depthwise_weights",
            "extras.3.separable.depthwise.conv.weight",
        ),
        (
            "FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_5_3x3_s2_128/BatchNorm/moving_mean",
            "extras.3.separable.pointwise.norm.running_mean",
        ),
        ("BoxPredictor_0/ClassPredictor_depthwise/BatchNorm/gamma", "class_predictors.0.depthwise.norm.weight"),
        ("BoxPredictor_5/ClassPredictor/biases", "class_predictors.5.project.bias"),
        (
            "BoxPredictor_5/BoxEncodingPredictor_depthwise/depthwise_weights",
            "box_predictors.5.depthwise.conv.weight",
        ),
        ("BoxPredictor_0/BoxEncodingPredictor/weights", "box_predictors.0.project.weight"),
    ),
    "TF DeepLabv3 MobileNetV2": (
        ("image_pooling/weights", "aspp.image_pooling.conv.weight"),
        ("MobilenetV2/Conv/weights", "backbone.stem.conv.weight"),
        ("MobilenetV2/expanded_conv_5/depthwise/biases", "backbone.blocks.5.depthwise.norm.bias"),
    ),
    "seg_det model": (("backbone.stem.conv.weight", "backbone.stem.conv.weight"), ("hidden.0.bias", "hidden.0.bias")),
    "seg_det": (("stem.conv.weight", "backbone.stem.conv.weight"),),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys(name):
    naming = detect(key for key, _ in KEYS[name])
    assert naming is NAMINGS[name]
    assert naming.rename(key for key, _ in KEYS[name]) == {
        ours: [key for key, other in KEYS[name] if other == ours] for _, ours in KEYS[name] if ours
    }


TIMM = {
    "v1": (
        ("conv_stem.weight", "backbone.stem.conv.weight"),
        ("bn1.bias", "backbone.stem.norm.bias"),
        ("blocks.0.0.conv_dw.weight", "backbone.blocks.0.depthwise.conv.weight"),
        ("blocks.1.0.bn1.weight", "backbone.blocks.1.depthwise.norm.weight"),
        ("blocks.1.1.conv_pw.weight", "backbone.blocks.2.pointwise.conv.weight"),
        ("blocks.4.0.bn1.weight", "backbone.blocks.3.depthwise.norm.weight"),
        ("blocks.4.0.bn2.weight", "backbone.blocks.3.pointwise.norm.weight"),
        ("classifier.weight", "classifier.weight"),
    ),
    "v2, mixnet": (
        ("conv_stem.weight", "backbone.stem.conv.weight"),
        ("blocks.0.0.bn1.weight", "backbone.blocks.0.depthwise.norm.weight"),
        ("blocks.0.0.conv_pw.weight", "backbone.blocks.0.project.conv.weight"),
        ("blocks.0.0.bn2.weight", "backbone.blocks.0.project.norm.weight"),
        ("blocks.1.0.conv_pw.0.weight", "backbone.blocks.1.expand.conv.weight"),
        ("blocks.1.0.conv_pw.1.weight", "backbone.blocks.1.expand.conv.weight"),
        ("blocks.1.0.bn1.weight", "backbone.blocks.1.expand.norm.weight"),
        ("blocks.1.0.bn2.weight", "backbone.blocks.1.depthwise.norm.weight"),
        ("blocks.1.0.conv_pwl.weight", "backbone.blocks.1.project.conv.weight"),
        ("blocks.1.0.bn3.weight", "backbone.blocks.1.project.norm.weight"),
        ("blocks.2.10.conv_dw.3.weight", "backbone.blocks.3.depthwise.conv.branches.3.weight"),
        ("blocks.2.9.se.conv_reduce.bias", "backbone.blocks.2.squeeze_excite.reduce.bias"),
        ("conv_head.weight", "backbone.head.conv.weight"),
        ("bn2.weight", "backbone.head.norm.weight"),
    ),
    "v3": (
        ("conv_stem.weight", "backbone.stem.conv.weight"),
        ("blocks.0.0.bn1.weight", "backbone.blocks.0.depthwise.norm.weight"),
        ("blocks.1.0.conv_pwl.weight", "backbone.blocks.1.project.conv.weight"),
        ("blocks.5.0.conv.weight", "backbone.head.conv.weight"),
        ("blocks.5.0.bn1.weight", "backbone.head.norm.weight"),
        ("conv_head.weight", "hidden.0.weight"),
        ("conv_head.bias", "hidden.0.bias"),
    ),
}


@pytest.mark.parametrize("kind", TIMM)
def test_keys_of_timm(kind):
    naming = detect(key for key, _ in TIMM[kind])
    assert naming is NAMINGS["timm EfficientNet-style"]
    found = naming.rename(key for key, _ in TIMM[kind])
    assert [(key, ours) for ours, keys in found.items() for key in keys] == list(TIMM[kind])


def test_every_published_row_has_its_mapping():
    assert {row.mapping for row in CATALOGUE.values()} <= NAMINGS.keys()


def test_the_average_of_a_variable_goes_before_it():
    naming = Naming("net", "a", (Row(r"(\w+)/weights", "{}.weight"),))
    average = "b/weights/ExponentialMovingAverage"
    for keys in (("a/weights:0", "b/weights", average), (average, "b/weights", "a/weights:0")):
        assert naming.rename(keys) == {"a.weight": ["a/weights:0"], "b.weight": [average]}


def test_placeholders():
    rows = (Row(r"(\d+)\.(\d+)", "{+12}.{-1}.x"), Row(r"b(\d+\.\d+)\.(\w+)", "{#}.{}"))
    naming = Naming("net", "a", rows, block=r"b(\d+\.\d+)\..*")
    assert naming.rename(["0.1", "b10.0.w", "b2.11.w", "b2.9.w"]) == {
        "12.0.x": ["0.1"],
        "2.w": ["b10.0.w"],
        "1.w": ["b2.11.w"],
        "0.w": ["b2.9.w"],
    }
