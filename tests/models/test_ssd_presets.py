"""The presets of conf/task against the sources' own tables: TensorFlow's sample configurations, torchvision, mmdetection."""

import math
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from seg_det import checkpoint
from seg_det.commands.network import postprocess
from seg_det.commands.settings import with_preferences
from seg_det.models.ssd import SSD
from seg_det.ops.boxes import encode
from seg_det.ops.matching import match
from seg_det.postprocess import detect
from seg_det.types import DenseDetections

CONF = Path(__file__).parents[2] / "conf"
TF_TAPS = ["c4_expand", "head"]


def compose(task, backbone="v2", *more):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return with_preferences(hydra.compose("train", [f"task={task}", f"backbone={backbone}", *more]))


# Hand-written from ssdlite_mobilenet_v2_coco.config, ssdlite_mobilenet_v3_large_320x320_coco.config, torchvision's
# detection/ssdlite.py and mmdetection's ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py.
# score, its threshold, suppression, candidates of a class, kept
DECODING = {
    "ssdlite_tf_v2": ("sigmoid", 1e-8, 0.6, None, 100),
    "ssdlite_focal": ("sigmoid", 1e-8, 0.6, None, 100),
    "ssdlite_torchvision": ("softmax", 0.001, 0.55, 300, 300),
    "ssdlite_mmdet": ("softmax", 0.02, 0.45, 1000, 200),
}
# classification, negatives to a positive, fewest, IoU to match, boxes, their weight
LOSS = {
    "ssdlite_tf_v2": ("sigmoid", 3.0, 3, 0.5, "smooth_l1", 1.0),
    "ssdlite_focal": ("focal", 3.0, 3, 0.5, "smooth_l1", 0.25),
    "ssdlite_torchvision": ("softmax", 3.0, 0, 0.5, "smooth_l1", 1.0),
    "ssdlite_mmdet": ("softmax", 3.0, 0, 0.5, "smooth_l1", 1.0),
}
# taps, epsilon and momentum of the head's norms and the momentum of the backbone's, start of the classes' biases
NETWORK = {
    "ssdlite_tf_v2": (TF_TAPS, 0.001, 0.0003, 0.0003, 0.0),
    "ssdlite_focal": (TF_TAPS, 0.001, 0.03, 0.03, -4.6),
    "ssdlite_torchvision": (TF_TAPS, 0.001, 0.03, 0.03, 0.0),
    "ssdlite_mmdet": (["c4", "head"], 0.001, 0.03, 0.03, 0.0),
}
# image side, channels of the maps on MobileNetV2, sides of the maps, anchors of a cell, of all
ANCHORS = {
    "ssdlite_tf_v2": (300, [576, 1280, 512, 256, 256, 128], [19, 10, 5, 3, 2, 1], [3, 6, 6, 6, 6, 6], 1917),
    "ssdlite_focal": (320, [576, 1280, 512, 256, 256, 128], [20, 10, 5, 3, 2, 1], [3, 6, 6, 6, 6, 6], 2034),
    "ssdlite_torchvision": (320, [576, 1280, 512, 256, 256, 128], [20, 10, 5, 3, 2, 1], [6, 6, 6, 6, 6, 6], 3234),
    "ssdlite_mmdet": (320, [96, 1280, 512, 256, 256, 128], [20, 10, 5, 3, 2, 1], [6, 6, 6, 6, 6, 6], 3234),
}
# (width, height) in pixels of the shapes of the first map and of the second map's first three, in the predictors' order
R2, R3 = 2**0.5, 3**0.5
SHAPES = {
    "ssdlite_tf_v2": (
        [(30, 30), (60 * R2, 60 / R2), (60 / R2, 60 * R2)],
        [(105, 105), (105 * R2, 105 / R2), (105 / R2, 105 * R2)],
    ),
    "ssdlite_focal": (
        [(32, 32), (64 * R2, 64 / R2), (64 / R2, 64 * R2)],
        [(112, 112), (112 * R2, 112 / R2), (112 / R2, 112 * R2)],
    ),
    "ssdlite_torchvision": (
        [
            (64, 64),
            ((64 * 112) ** 0.5, (64 * 112) ** 0.5),
            (64 * R2, 64 / R2),
            (64 / R2, 64 * R2),
            (64 * R3, 64 / R3),
            (64 / R3, 64 * R3),
        ],
        [(112, 112), ((112 * 160) ** 0.5, (112 * 160) ** 0.5), (112 * R2, 112 / R2)],
    ),
    "ssdlite_mmdet": (
        [
            (48, 48),
            (4800**0.5, 4800**0.5),
            (48 * R2, 48 / R2),
            (48 / R2, 48 * R2),
            (48 * R3, 48 / R3),
            (48 / R3, 48 * R3),
        ],
        [(100, 100), (15000**0.5, 15000**0.5), (100 * R2, 100 / R2)],
    ),
}
PRESETS = list(DECODING)


@pytest.fixture(scope="module")
def configs():
    return {task: compose(task) for task in PRESETS}


@pytest.mark.parametrize("task", PRESETS)
def test_decoding(configs, task):
    decoding = postprocess(configs[task].task)
    keys = ("score", "score_threshold", "iou_threshold", "max_candidates", "max_detections")
    assert tuple(decoding[key] for key in keys) == DECODING[task]


@pytest.mark.parametrize("task", PRESETS)
def test_loss(configs, task):
    loss = configs[task].task.loss
    found = (loss.classification, loss.negative_ratio, loss.min_negatives, loss.match_threshold)
    assert (*found, loss.localisation, loss.localisation_weight) == LOSS[task]


@pytest.mark.parametrize("task", PRESETS)
def test_network(configs, task):
    model, backbone = configs[task].task.model, configs[task].backbone
    found = (list(model.taps), model.bn_eps, model.bn_momentum, backbone.bn_momentum, model.class_bias)
    assert found == NETWORK[task]


@pytest.mark.parametrize("task", PRESETS)
def test_anchors(configs, task):
    side, channels, sides, counts, total = ANCHORS[task]
    settings = OmegaConf.to_container(configs[task].task.model, resolve=True)
    backbone = {k: v for k, v in OmegaConf.to_container(configs[task].backbone, resolve=True).items() if k != "weights"}
    with torch.device("meta"):
        model = checkpoint.build_model({**settings, "num_classes": 80, "backbone": backbone})
    assert [predictor.depthwise.conv.in_channels for predictor in model.class_predictors] == channels
    assert model.map_sizes((side, side)) == [(n, n) for n in sides]
    assert [predictor.project.out_channels for predictor in model.box_predictors] == [4 * n for n in counts]
    anchors = model.anchors((side, side))
    assert len(anchors) == total
    first, second = SHAPES[task]
    start = sides[0] ** 2 * counts[0]
    for found, wanted in ((anchors[: counts[0]], first), (anchors[start : start + 3], second)):
        assert (found[:, 2:] - found[:, :2]).flatten().tolist() == pytest.approx(
            [n for wh in wanted for n in wh], abs=2e-3
        )
    assert anchors[0, :2].add(anchors[0, 2:]).tolist() == pytest.approx(
        [side / sides[0]] * 2
    )  # twice the cell's centre


def test_what_all_presets_share():
    """The box coder's 10, 10, 5, 5; an object's best anchor is its own at any IoU; boxes end where the image ends."""
    anchor = torch.tensor([[100.0, 100, 140, 180]])
    box = torch.tensor([[104.0, 92, 144, 172]])  # 4 of 40 to the right, 8 of 80 up, of the same size
    torch.testing.assert_close(encode(box, anchor), torch.tensor([[1.0, -1, 0, 0]]))
    torch.testing.assert_close(
        encode(torch.tensor([[80.0, 60, 160, 220]]), anchor)[:, 2:], torch.full((1, 2), 5 * math.log(2))
    )
    speck = torch.tensor([[[100.0, 100, 104, 104]]])  # IoU 16 of 3200
    sure = torch.ones(1, 1, dtype=torch.bool)
    assert match(anchor, speck, sure, ~sure).objects.tolist() == [[0]]
    raw = DenseDetections(torch.tensor([[[0.0, 9.0]]]), torch.zeros(1, 1, 4))
    (found,) = detect(raw, torch.tensor([[-20.0, 10, 60, 400]]), (320, 320))
    assert found.boxes.tolist() == [[0, 10, 60, 320]]


def test_focal_constants_of_tensorflow():
    config = compose("ssdlite_focal", "v3").task
    assert (config.loss.focal_alpha, config.loss.focal_gamma, config.model.class_bias) == (0.75, 2.0, -4.6)


def test_presets_reach_the_backbone_and_can_be_overruled():
    assert compose("ssdlite_torchvision", "v3").backbone.reduced_tail == "detection"
    assert compose("ssdlite_torchvision", "v2").backbone.reduced_tail is None  # torchvision has none for MobileNetV2
    assert compose("ssdlite", "v3").backbone.reduced_tail is None
    assert [compose("ssdlite", name).backbone.bn_momentum for name in ("v1", "v2", "v3")] == [0.1, 0.1, 0.01]
    config = compose("ssdlite_torchvision", "v3", "backbone.reduced_tail=none", "backbone.padding=same")
    assert config.backbone.reduced_tail is None
    assert config.task.model.padding == "same"  # the extra maps follow


def test_ssd_is_the_full_form():
    assert compose("ssd").task.model._target_ == SSD.__name__
