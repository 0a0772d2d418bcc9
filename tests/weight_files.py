"""Weights files for tests, in our names and in those of TF-slim."""

import re
from functools import partial

import torch
from torch import nn

from seg_det.models.classifier import Classifier


def save(content, path):
    torch.save(content, path)
    return path


def classifier(backbone, classes=10, **settings):
    return Classifier(partial(backbone, **settings), num_classes=classes).eval()


def randomised(model):
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


SLIM_LEAVES = {
    "conv.weight": "weights",
    "norm.weight": "BatchNorm/gamma",
    "norm.bias": "BatchNorm/beta",
    "norm.running_mean": "BatchNorm/moving_mean",
    "norm.running_var": "BatchNorm/moving_variance",
    "weight": "weights",
    "bias": "biases",
}


def as_slim_v3(model):
    """The state dict of our MobileNetV3 classifier under TF-slim's names, written down without the table under test."""
    named = {}
    for key, tensor in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        layer, leaf = re.fullmatch(r"(.+?)\.((?:conv\.|norm\.)?\w+)", key).groups()
        layer = layer.removeprefix("backbone.")
        layer = re.sub(r"^blocks\.(\d+)\.", lambda m: f"expanded_conv_{m[1]}/".replace("_0/", "/"), layer)
        for ours, theirs in (
            ("squeeze_excite.reduce", "squeeze_excite/Conv"),
            ("squeeze_excite.restore", "squeeze_excite/Conv_1"),
            ("stem", "Conv"),
            ("head", "Conv_1"),
            ("hidden.0", "Conv_2"),
            ("classifier", "Logits/Conv2d_1c_1x1"),
        ):
            layer = re.sub(rf"{re.escape(ours)}$", theirs, layer)
        depthwise = "depthwise_" if layer.endswith("/depthwise") and leaf == "conv.weight" else ""
        shaped = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        named[f"MobilenetV3/{layer}/{depthwise}{SLIM_LEAVES[leaf]}"] = shaped
    return named


def as_folded_slim_v1(model):
    """Weights and biases that compute what our MobileNetV1 does with its norms, under TF-slim's names."""
    named = {}
    layers = {"Conv2d_0": model.backbone.stem}
    for i, block in enumerate(model.backbone.blocks, start=1):
        layers |= {f"Conv2d_{i}_depthwise": block.depthwise, f"Conv2d_{i}_pointwise": block.pointwise}
    for name, layer in layers.items():
        gain = layer.norm.weight / (layer.norm.running_var + layer.norm.eps).sqrt()
        leaf = "depthwise_weights" if "depthwise" in name else "weights"
        named[f"MobilenetV1/{name}/{leaf}"] = layer.conv.weight * gain[:, None, None, None]
        named[f"MobilenetV1/{name}/biases"] = layer.norm.bias - layer.norm.running_mean * gain
    named["MobilenetV1/Logits/Conv2d_1c_1x1/weights"] = model.classifier.weight[:, :, None, None]
    named["MobilenetV1/Logits/Conv2d_1c_1x1/biases"] = model.classifier.bias
    return {key: tensor.detach().clone() for key, tensor in named.items()}
