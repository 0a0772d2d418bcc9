"""The presets of conf/task against the sources' own tables: TensorFlow's sample configurations, torchvision, mmdetection."""

from pathlib import Path

import hydra
import pytest

from seg_det.models.ssd import SSD
from seg_det.verbs import postprocess

CONF = Path(__file__).parents[2] / "conf"
TF_TAPS = ["c4_expand", "head"]


def compose(task, backbone="v2"):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", [f"task={task}", f"backbone={backbone}"])


# score, its threshold, suppression, kept; loss, fewest negatives, weight of the boxes; anchors, taps, momentum of the norms
TABLE = {
    "ssdlite_tf_v2": ("sigmoid", 1e-8, 0.6, 100, "sigmoid", 3, 1.0, "tensorflow", TF_TAPS, 0.0003),
    "ssdlite_focal": ("sigmoid", 1e-8, 0.6, 100, "focal", 3, 0.25, "tensorflow", TF_TAPS, 0.03),
    "ssdlite_torchvision": ("softmax", 0.001, 0.55, 300, "softmax", 0, 1.0, "torchvision", TF_TAPS, 0.03),
    "ssdlite_mmdet": ("softmax", 0.02, 0.45, 200, "softmax", 0, 1.0, "mmdet", ["c4", "head"], 0.03),
}


@pytest.mark.parametrize("task", TABLE)
def test_the_table(task):
    config = compose(task)
    decoding, loss, model = postprocess(config.task), config.task.loss, config.task.model
    found = (decoding["score"], decoding["score_threshold"], decoding["iou_threshold"], decoding["max_detections"])
    found += (loss.classification, loss.min_negatives, loss.localisation_weight, model.anchor_rule, list(model.taps))
    assert (*found, model.bn_momentum) == TABLE[task]
    assert config.backbone.bn_momentum == model.bn_momentum and model.bn_eps == 1e-3
    assert (loss.negative_ratio, loss.match_threshold) == (3.0, 0.5)


def test_focal_constants_of_tensorflow():
    config = compose("ssdlite_focal", "v3").task
    assert (config.loss.focal_alpha, config.loss.focal_gamma, config.model.class_bias) == (0.75, 2.0, -4.6)


def test_presets_reach_the_backbone_and_can_be_overruled():
    assert compose("ssdlite_torchvision", "v3").backbone.reduced_tail == "detection"
    assert compose("ssdlite_torchvision", "v2").backbone.reduced_tail is None  # torchvision has none for MobileNetV2
    assert compose("ssdlite", "v3").backbone.reduced_tail is None
    assert [compose("ssdlite", name).backbone.bn_momentum for name in ("v1", "v2", "v3")] == [0.01, 0.1, 0.01]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = ["task=ssdlite_torchvision", "backbone=v3", "backbone.reduced_tail=null", "backbone.padding=same"]
        config = hydra.compose("train", chosen)
    assert config.backbone.reduced_tail is None
    assert config.task.model.padding == "same"  # the extra maps follow


def test_ssd_is_the_full_form():
    assert compose("ssd").task.model._target_ == f"{SSD.__module__}.{SSD.__name__}"
