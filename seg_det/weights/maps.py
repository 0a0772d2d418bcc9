"""How weight files name the tensors of our models: one table a naming."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from seg_det.weights.naming import Naming, Preset, Row, cleaned


def _rows(layers: Iterable[tuple[str, str]], leaves: Iterable[tuple[str, str]]) -> tuple[Row, ...]:
    """A row for each tensor (``leaves``) of each layer; both are (the file's, ours)."""
    leaves = tuple(leaves)
    return tuple(Row(file + leaf, ours + part) for file, ours in layers for leaf, part in leaves)


LINEAR = (r"(weight|bias)", "{}")
CONV_NORM = ((r"0\.(\w+)", "conv.{}"), (r"1\.(\w+)", "norm.{}"))
TORCHVISION_SE = ((r"fc1\.(\w+)", "reduce.{}"), (r"fc2\.(\w+)", "restore.{}"))
BLOCK = "backbone.blocks"

# features.0 is the stem and the last one the 1x1 convolution before pooling, so block i of ours is features.{i + 1}.
# The first block does not expand, and its members move up by one.
TORCHVISION_MOBILENET_V2 = Naming(
    name="torchvision MobileNetV2",
    mark=r"features\.1\.conv\.0\.0\.weight",
    rows=(
        *_rows(
            (
                (r"features\.0\.", "backbone.stem."),
                (r"features\.1\.conv\.0\.", f"{BLOCK}.0.depthwise."),
                (r"features\.(\d+)\.conv\.0\.", f"{BLOCK}.{{-1}}.expand."),
                (r"features\.(\d+)\.conv\.1\.", f"{BLOCK}.{{-1}}.depthwise."),
                (r"features\.\d+\.", "backbone.head."),
            ),
            CONV_NORM,
        ),
        Row(r"features\.1\.conv\.1\.(\w+)", f"{BLOCK}.0.project.conv.{{}}"),
        Row(r"features\.1\.conv\.2\.(\w+)", f"{BLOCK}.0.project.norm.{{}}"),
        Row(r"features\.(\d+)\.conv\.2\.(\w+)", f"{BLOCK}.{{-1}}.project.conv.{{}}"),
        Row(r"features\.(\d+)\.conv\.3\.(\w+)", f"{BLOCK}.{{-1}}.project.norm.{{}}"),
        Row(r"classifier\.1\.(\w+)", "classifier.{}"),
    ),
    padding="symmetric",
    eps=1e-5,
)


def _v3_start(features: str) -> tuple[Row, ...]:
    """The stem and the first block, which does not expand; without squeeze-and-excite its projection moves up by one."""
    layers = (
        (rf"{features}0\.", "backbone.stem."),
        (rf"{features}1\.block\.0\.", f"{BLOCK}.0.depthwise."),
        (rf"{features}1\.block\.[12]\.", f"{BLOCK}.0.project."),
    )
    return _rows(layers, CONV_NORM) + _rows(
        ((rf"{features}1\.block\.1\.", f"{BLOCK}.0.squeeze_excite."),), TORCHVISION_SE
    )


def _v3_block(file: str, ours: str) -> tuple[Row, ...]:
    """The other blocks; without squeeze-and-excite the projection moves up by one."""
    layers = (
        (rf"{file}0\.", f"{ours}.expand."),
        (rf"{file}1\.", f"{ours}.depthwise."),
        (rf"{file}[23]\.", f"{ours}.project."),
    )
    return _rows(layers, CONV_NORM) + _rows(((rf"{file}2\.", f"{ours}.squeeze_excite."),), TORCHVISION_SE)


def _v3(features: str) -> tuple[Row, ...]:
    return (
        *_v3_start(features),
        *_v3_block(rf"{features}(\d+)\.block\.", BLOCK + ".{-1}"),
        *_rows(((rf"{features}\d+\.", "backbone.head."),), CONV_NORM),
    )


TORCHVISION_MOBILENET_V3 = Naming(
    name="torchvision MobileNetV3",
    mark=r"features\.1\.block\.0\.0\.weight",
    rows=(
        *_v3(r"features\."),
        *_rows(((r"classifier\.0\.", "hidden.0."), (r"classifier\.3\.", "classifier.")), (LINEAR,)),
    ),
    padding="symmetric",
    eps=1e-3,
)
TORCHVISION_LRASPP = Naming(
    name="torchvision LR-ASPP MobileNetV3",
    mark=r"classifier\.cbr\.0\.weight",
    rows=(
        *_v3(r"backbone\."),
        Row(r"classifier\.cbr\.0\.(\w+)", "main.conv.{}"),
        Row(r"classifier\.cbr\.1\.(\w+)", "main.norm.{}"),
        Row(r"classifier\.scale\.1\.(\w+)", "gate.conv.{}"),
        Row(r"classifier\.low_classifier\.(\w+)", "fine_classifier.{}"),
        Row(r"classifier\.high_classifier\.(\w+)", "deep_classifier.{}"),
    ),
    padding="symmetric",
    eps=1e-3,
    preset=Preset("lraspp_torchvision", input_size=520, resize="letterbox"),
)
# The fifth branch of the pyramid is image pooling.
TORCHVISION_DEEPLABV3 = Naming(
    name="torchvision DeepLabv3 MobileNetV3",
    mark=r"classifier\.0\.convs\.0\.0\.weight",
    rows=(
        *_v3(r"backbone\."),
        Row(r"classifier\.0\.convs\.4\.1\.(\w+)", "aspp.image_pooling.conv.{}"),
        Row(r"classifier\.0\.convs\.4\.2\.(\w+)", "aspp.image_pooling.norm.{}"),
        Row(r"classifier\.0\.convs\.(\d)\.0\.(\w+)", "aspp.branches.{}.conv.{}"),
        Row(r"classifier\.0\.convs\.(\d)\.1\.(\w+)", "aspp.branches.{}.norm.{}"),
        Row(r"classifier\.0\.project\.0\.(\w+)", "aspp.project.conv.{}"),
        Row(r"classifier\.0\.project\.1\.(\w+)", "aspp.project.norm.{}"),
        Row(r"classifier\.1\.(\w+)", "refine.conv.{}"),
        Row(r"classifier\.2\.(\w+)", "refine.norm.{}"),
        Row(r"classifier\.4\.(\w+)", "classifier.{}"),
        Row(r"aux_classifier\.0\.(\w+)", "auxiliary.reduce.conv.{}"),
        Row(r"aux_classifier\.1\.(\w+)", "auxiliary.reduce.norm.{}"),
        Row(r"aux_classifier\.4\.(\w+)", "auxiliary.classifier.{}"),
    ),
    padding="symmetric",
    eps=1e-3,
    preset=Preset("deeplabv3_torchvision", input_size=520, resize="letterbox"),
)
# Cut in two behind the expansion of block 12 (from 0), the detector's first tap: features.0.13 is that expansion,
# features.1.0 the rest of the block, features.1.3 the last 1x1 convolution.
TORCHVISION_SSDLITE320 = Naming(
    name="torchvision SSDLite320 MobileNetV3",
    mark=r"backbone\.features\.0\.1\.block\.0\.0\.weight",
    rows=(
        *_v3_start(r"backbone\.features\.0\."),
        *_v3_block(r"backbone\.features\.0\.(\d+)\.block\.", BLOCK + ".{-1}"),
        *_v3_block(r"backbone\.features\.1\.0\.", BLOCK + ".12"),
        *_v3_block(r"backbone\.features\.1\.(\d+)\.block\.", BLOCK + ".{+12}"),
        *_rows(
            (
                (r"backbone\.features\.0\.13\.", f"{BLOCK}.12.expand."),
                (r"backbone\.features\.1\.3\.", "backbone.head."),
                (r"backbone\.extra\.(\d+)\.0\.", "extras.{}.reduce."),
                (r"backbone\.extra\.(\d+)\.1\.", "extras.{}.separable.depthwise."),
                (r"backbone\.extra\.(\d+)\.2\.", "extras.{}.separable.pointwise."),
                (r"head\.classification_head\.module_list\.(\d+)\.0\.", "class_predictors.{}.depthwise."),
                (r"head\.regression_head\.module_list\.(\d+)\.0\.", "box_predictors.{}.depthwise."),
            ),
            CONV_NORM,
        ),
        Row(r"head\.classification_head\.module_list\.(\d+)\.1\.(\w+)", "class_predictors.{}.project.{}"),
        Row(r"head\.regression_head\.module_list\.(\d+)\.1\.(\w+)", "box_predictors.{}.project.{}"),
    ),
    padding="symmetric",
    eps=1e-3,
    centred=True,
    preset=Preset("ssdlite_torchvision", input_size=320, resize="stretch"),
)

# Norms are numbered, and what they and conv_pw belong to shows in the block's other members: conv_pwl projects where
# something expands. Only MobileNetV1 has it nowhere; blocks.1.0 expands in all others. A last stage with a "conv" alone is
# MobileNetV3's last 1x1 convolution, and its conv_head, with a bias, the hidden layer. Padding and eps vary (tf_*).
T = r"blocks\.(\d+\.\d+)\."
TIMM = Naming(
    name="timm EfficientNet-style",
    mark=r"conv_stem\.weight",
    block=T + r".+",
    rows=(
        Row(r"conv_stem\.(\w+)", "backbone.stem.conv.{}"),
        Row(r"bn1\.(\w+)", "backbone.stem.norm.{}"),
        Row(T + r"conv_dw\.(\d+)\.(\w+)", BLOCK + ".{#}.depthwise.conv.branches.{}.{}"),
        Row(T + r"conv_dw\.(\w+)", BLOCK + ".{#}.depthwise.conv.{}"),
        Row(T + r"se\.conv_reduce\.(\w+)", BLOCK + ".{#}.squeeze_excite.reduce.{}"),
        Row(T + r"se\.conv_expand\.(\w+)", BLOCK + ".{#}.squeeze_excite.restore.{}"),
        Row(T + r"conv_pw\.(?:\d+\.)?(\w+)", BLOCK + ".{#}.expand.conv.{}", beside="blocks.{}.conv_pwl"),
        Row(T + r"bn1\.(\w+)", BLOCK + ".{#}.expand.norm.{}", beside="blocks.{}.conv_pwl"),
        Row(T + r"bn2\.(\w+)", BLOCK + ".{#}.depthwise.norm.{}", beside="blocks.{}.conv_pwl"),
        Row(T + r"conv_pwl\.(?:\d+\.)?(\w+)", BLOCK + ".{#}.project.conv.{}"),
        Row(T + r"bn3\.(\w+)", BLOCK + ".{#}.project.norm.{}"),
        Row(r"blocks\.\d+\.0\.conv\.(\w+)", "backbone.head.conv.{}"),
        Row(r"blocks\.[1-9]\d*\.0\.bn1\.(\w+)", "backbone.head.norm.{}", beside="blocks.1.0.conv_pwl"),
        Row(T + r"bn1\.(\w+)", BLOCK + ".{#}.depthwise.norm.{}"),
        Row(T + r"conv_pw\.(?:\d+\.)?(\w+)", BLOCK + ".{#}.project.conv.{}", beside="blocks.1.0.conv_pwl"),
        Row(T + r"bn2\.(\w+)", BLOCK + ".{#}.project.norm.{}", beside="blocks.1.0.conv_pwl"),
        Row(T + r"conv_pw\.(\w+)", BLOCK + ".{#}.pointwise.conv.{}"),
        Row(T + r"bn2\.(\w+)", BLOCK + ".{#}.pointwise.norm.{}"),
        Row(r"conv_head\.(\w+)", "hidden.0.{}", beside="conv_head.bias"),
        Row(r"conv_head\.(\w+)", "backbone.head.conv.{}"),
        Row(r"bn2\.(\w+)", "backbone.head.norm.{}"),
        Row(r"classifier\.(\w+)", "classifier.{}"),
    ),
)

# Without BatchNorm the bias of a convolution is what its folded norm left.
SLIM_CONV = (
    (r"/(?:depthwise_)?weights", ".conv.weight"),
    (r"/biases", ".norm.bias"),
    (r"/BatchNorm/gamma", ".norm.weight"),
    (r"/BatchNorm/beta", ".norm.bias"),
    (r"/BatchNorm/moving_mean", ".norm.running_mean"),
    (r"/BatchNorm/moving_variance", ".norm.running_var"),
)
SLIM_BIASED = ((r"/weights", ".weight"), (r"/biases", ".bias"))


def _slim_blocks(net: str) -> tuple[Row, ...]:
    """MobileNetV2 and V3: expanded_conv is block 0, expanded_conv_7 block 7."""
    layers = [(f"{net}/Conv", "backbone.stem"), (f"{net}/Conv_1", "backbone.head")]
    for part in ("expand", "depthwise", "project"):
        layers += [(f"{net}/expanded_conv/{part}", f"{BLOCK}.0.{part}")]
        layers += [(rf"{net}/expanded_conv_(\d+)/{part}", f"{BLOCK}.{{}}.{part}")]
    squeeze = [
        (rf"{net}/expanded_conv{number}/squeeze_excite/{conv}", f"{BLOCK}.{block}.squeeze_excite.{ours}")
        for number, block in (("", "0"), (r"_(\d+)", "{}"))
        for conv, ours in (("Conv", "reduce"), ("Conv_1", "restore"))
    ]
    return _rows(layers, SLIM_CONV) + _rows(squeeze, SLIM_BIASED)


def _slim(name: str, mark: str, rows: tuple[Row, ...]) -> Naming:
    return Naming(name, mark, rows, padding="same", eps=1e-3, centred=True, folds=True, background=True)


TF_SLIM_V1 = _slim(
    "TF-slim MobileNetV1",
    r"MobilenetV1/Conv2d_0/weights",
    _rows(
        (
            ("MobilenetV1/Conv2d_0", "backbone.stem"),
            (r"MobilenetV1/Conv2d_(\d+)_(depthwise|pointwise)", BLOCK + ".{-1}.{}"),
        ),
        SLIM_CONV,
    )
    + _rows((("MobilenetV1/Logits/Conv2d_1c_1x1", "classifier"),), SLIM_BIASED),
)
TF_SLIM_V2 = _slim(
    "TF-slim MobileNetV2",
    r"MobilenetV2/Conv/weights",
    _slim_blocks("MobilenetV2") + _rows((("MobilenetV2/Logits/Conv2d_1c_1x1", "classifier"),), SLIM_BIASED),
)
TF_SLIM_V3 = _slim(
    "TF-slim MobileNetV3",
    r"MobilenetV3/Conv/weights",
    _slim_blocks("MobilenetV3")
    + _rows(
        (("MobilenetV3/Conv_2", "hidden.0"), ("MobilenetV3/Logits/Conv2d_1c_1x1", "classifier")),
        SLIM_BIASED,
    ),
)
TF_DEEPLAB_V2 = replace(
    _slim(
        "TF DeepLabv3 MobileNetV2",
        r"image_pooling/weights",
        _slim_blocks("MobilenetV2")
        + _rows(
            (
                ("image_pooling", "aspp.image_pooling"),
                (r"aspp(\d)", "aspp.branches.{}"),
                ("concat_projection", "aspp.project"),
            ),
            SLIM_CONV,
        )
        + _rows((("logits/semantic", "classifier"),), SLIM_BIASED),
    ),
    preset=Preset("deeplabv3", input_size=513, resize="letterbox", align_corners=True),
)
# The extra maps are numbered from 2. Boxes are ty, tx, th, tw.
EXTRA = r"FeatureExtractor/MobilenetV2/layer_19_{}_Conv2d_(\d)_{}"
TF_SSDLITE_V2 = replace(
    _slim(
        "TF detection SSDLite MobileNetV2",
        r"FeatureExtractor/MobilenetV2/Conv/weights",
        _slim_blocks("FeatureExtractor/MobilenetV2")
        + _rows(
            (
                (EXTRA.format(1, r"1x1_\d+"), "extras.{-2}.reduce"),
                (EXTRA.format(2, r"3x3_s2_\d+_depthwise"), "extras.{-2}.separable.depthwise"),
                (EXTRA.format(2, r"3x3_s2_\d+"), "extras.{-2}.separable.pointwise"),
                (r"BoxPredictor_(\d)/ClassPredictor_depthwise", "class_predictors.{}.depthwise"),
                (r"BoxPredictor_(\d)/BoxEncodingPredictor_depthwise", "box_predictors.{}.depthwise"),
            ),
            SLIM_CONV,
        )
        + _rows(
            (
                (r"BoxPredictor_(\d)/ClassPredictor", "class_predictors.{}.project"),
                (r"BoxPredictor_(\d)/BoxEncodingPredictor", "box_predictors.{}.project"),
            ),
            SLIM_BIASED,
        ),
    ),
    boxes="yxhw",
    preset=Preset("ssdlite_tf_v2", input_size=300, resize="stretch_antialiased"),
)

SEG_DET_MODEL = Naming(name="seg_det model", mark=r"backbone\..+", rows=(Row(r"(.+)", "{}"),))
SEG_DET = Naming(name="seg_det", mark=r"(stem|blocks|network)\..+", rows=(Row(r"(.+)", "backbone.{}"),))

# Ours come last: their marks are the widest.
NAMINGS: Mapping[str, Naming] = MappingProxyType(
    {
        naming.name: naming
        for naming in (
            TORCHVISION_MOBILENET_V2,
            TORCHVISION_MOBILENET_V3,
            TORCHVISION_SSDLITE320,
            TORCHVISION_LRASPP,
            TORCHVISION_DEEPLABV3,
            TIMM,
            TF_SLIM_V1,
            TF_DEEPLAB_V2,
            TF_SLIM_V2,
            TF_SLIM_V3,
            TF_SSDLITE_V2,
            SEG_DET_MODEL,
            SEG_DET,
        )
    }
)


def detect(keys: Iterable[str]) -> Naming | None:
    """The first naming whose mark is among the keys, None if there is none."""
    clean = tuple(cleaned(keys))
    return next((n for n in NAMINGS.values() if any(re.fullmatch(n.mark, key) for key in clean)), None)
