"""The cells of task and backbone that every target is tested with, and the comparison with eager."""

import copy
from functools import cache, partial

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from seg_det import sidecar
from seg_det.export.base import Job
from seg_det.export.pipeline import Network, build_graph, completed, exportable, outputs_of
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.models.classifier import Classifier
from seg_det.models.deeplabv3 import DeepLabv3
from seg_det.models.lraspp import LRASPP
from seg_det.models.ssdlite import SSDLite
from seg_det.nn.blocks import InvertedResidual
from seg_det.nn.fake_quant import calibrate, simulate
from seg_det.types import Category, ModelCard

CATEGORIES = (Category(7, "cat"), Category(3, "dog"), Category(5, "cow"))
SIZE = (224, 288)
CELLS = {
    "ssdlite_v2": ("detection", SSDLite, MobileNetV2, "stretch"),
    "ssdlite_v3": ("detection", SSDLite, MobileNetV3, "stretch_antialiased"),
    "lraspp_v3": ("segmentation", LRASPP, MobileNetV3, "letterbox"),
    "deeplabv3_v2": ("segmentation", DeepLabv3, MobileNetV2, "stretch"),
    "classifier_v2": ("classification", Classifier, MobileNetV2, "centre_crop"),
}
# One a task, which every run of the tests converts for every target; CELLS are the real ones, most of them marked slow.
SMALLEST = {
    "detector": ("detection", partial(SSDLite, taps=("c3",)), MobileNetV1, "stretch"),
    "segmenter": ("segmentation", LRASPP, MobileNetV1, "letterbox"),
    "classifier": ("classification", Classifier, MobileNetV1, "centre_crop"),
}


def slow(*cases):
    """The cases of a parametrisation, marked slow."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in cases]


def photo(height=480, width=640, seed=0):
    """An image with slopes, edges and grain, u8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width] / 40
    waves = np.stack([np.sin(x * (c + 1)) + np.cos(y * (c + 2) + seed) for c in range(3)], -1)
    waves += 2 * ((x - 2) ** 2 + (y - 1.5) ** 2 < 1)[..., None]
    waves += 0.3 * np.random.default_rng(seed).standard_normal(waves.shape)
    return np.clip(90 + 45 * waves, 0, 255).astype(np.uint8)


def canvas(seed=0):
    """The photo as a network of ``SIZE`` sees it, u8 [1, 3, h, w]."""
    return cv2.resize(photo(seed=seed), SIZE[::-1]).transpose(2, 0, 1)[None]


def cell(name, width=0.5, categories=CATEGORIES):
    """A model whose norms have statistics, and its card; the model is the caller's own."""
    model, card = _cell(name, width, tuple(categories))
    return copy.deepcopy(model), card


@cache
def _cell(name, width, categories):
    task, head, backbone, resize = {**CELLS, **SMALLEST}[name]
    torch.manual_seed(0)
    model = head(partial(backbone, width=width), num_classes=len(categories))
    # Photos that differ, and enough of them: deep maps hold a few cells, and a norm with the statistics of a handful of nearly
    # equal values would amplify a runtime's rounding a thousandfold.
    images = torch.from_numpy(np.concatenate([canvas(seed) for seed in range(16)]))
    images = (images - 115.0) / 57
    for layer in model.modules():  # weights of a size that keeps the signal, as training has them
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
        if isinstance(layer, InvertedResidual) and layer.shortcut:
            # Beside the shortcut, as training has it: full weight on random branches amplifies rounding from block to block.
            nn.init.constant_(layer.project.norm.weight, 0.3)
    with torch.no_grad():
        model.train()(images)
        if task == "segmentation":  # no class above all others everywhere
            last = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)][-1]
            last.bias -= model.eval()(images).logits.mean((0, 2, 3))
    config = {
        "_target_": type(model).__name__,
        **{key: list(value) for key, value in getattr(head, "keywords", {}).items()},
        "num_classes": len(categories),
        "backbone": {"_target_": backbone.__name__, "width": width},
    }
    limits = {"max_candidates": 100} if task == "detection" else {}  # fewer than anchors, as real detectors have it
    card = ModelCard(
        task, name, config, limits, categories, SIZE, (120.0, 116.0, 103.0), (58.0, 57.0, 57.0), resize=resize
    )
    return model.eval(), card


def job_for(name, pipeline, precision="fp32", **settings):
    model, card = cell(name)
    card = completed(card, pipeline)
    export = {"pipeline": pipeline, "outputs": list(outputs_of(card, pipeline))}
    if pipeline == "raw" and card.task == "detection":
        export["anchors"] = model.anchors(card.input_size).tolist()
    return Job(exportable(model), card, pipeline, precision, sidecar.sealed(card, export), **settings), export


def example(pipeline, seed=0):
    if pipeline == "full":
        return photo(seed=seed)
    return np.ascontiguousarray(canvas(seed), np.float32)


def eager(job, image):
    """What the graph gives in torch, with the static suppression of ours: an independent tail."""
    graph = build_graph(job, half=False)
    with torch.no_grad():
        outputs = graph.module(torch.from_numpy(image))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {name: value.numpy() for name, value in zip(graph.outputs, outputs, strict=True)}


class Batch:
    """A calibration image."""

    def __init__(self, seed):
        self.images = torch.from_numpy(np.ascontiguousarray(canvas(seed)))


def simulated(job, batches, image):
    """Raw outputs of this package's own simulation of 8 bits, with the job's ``keep_float``."""
    model = copy.deepcopy(job.model)
    layers = simulate(model)
    network = Network(model, job.card, half=False)
    with torch.no_grad():
        calibrate(layers.values(), lambda: [network(batch.images.float()) for batch in batches])
        for name, layer in layers.items():
            layer.active = not any(name.startswith(f"{part}.") for part in job.keep_float)
        outputs = network(torch.from_numpy(image))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {name: x.numpy() for name, x in zip(outputs_of(job.card, "raw"), outputs, strict=True)}


def lost(wanted, found):
    """The norm of the difference, as a share of the wanted one's, by output."""
    return {name: np.linalg.norm(found[name] - x) / np.linalg.norm(x) for name, x in wanted.items()}


def assert_lost_as_simulated(job, session, batches):
    """``session`` of an int8 file loses of the raw outputs about what this package's own simulation of 8 bits loses."""
    image = example("raw")
    wanted = eager(job, image)
    found, expected = lost(wanted, session(image)), lost(wanted, simulated(job, batches, image))
    for key in wanted:  # the file also rounds what additions and activations give
        assert 0.5 * expected[key] < found[key] < 2 * expected[key] < 0.06


def assert_same(wanted, found, task, *, tolerance=1e-3):
    """The same detections with scores to 1e-3 and boxes to a tenth of a pixel; masks with an IoU above 0.999."""
    assert list(wanted) == list(found)
    if "mask" in wanted:
        assert found["mask"].shape == wanted["mask"].shape
        assert len(np.unique(wanted["mask"])) > 1
        assert (np.asarray(found["mask"]).astype(int) == wanted["mask"]).mean() > 0.9995
        return
    if "boxes" in wanted:
        assert (np.asarray(wanted["count"]) == np.asarray(found["count"])).all() and np.asarray(
            wanted["count"]
        ).min() > 5
        scores, labels, boxes = (np.asarray(found[n]).squeeze() for n in ("scores", "labels", "boxes"))
        np.testing.assert_allclose(scores, wanted["scores"].squeeze(), atol=tolerance)
        clear = (
            np.abs(np.diff(wanted["scores"].squeeze(), prepend=2, append=-1)) > 2e-5
        )  # no neighbour at the same score
        clear = clear[1:] & clear[:-1]
        assert clear.sum() > 5
        assert (labels[clear] == wanted["labels"].squeeze()[clear]).all()
        np.testing.assert_allclose(boxes[clear], wanted["boxes"].squeeze()[clear], atol=0.1)
        return
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=tolerance, rtol=tolerance)
