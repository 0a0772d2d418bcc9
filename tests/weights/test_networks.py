from pathlib import Path

import pytest
from weight_files import as_slim_v3, classifier, save

from seg_det.models.backbones.mixnet import MixNet
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.weights import describe
from seg_det.weights.networks import CANDIDATES

CONF = Path(__file__).parents[2] / "conf" / "backbone"

HELD = (
    (MobileNetV1, {"width": 0.25}, "MobileNetV1, width 0.25", "v1 backbone.width=0.25"),
    (MobileNetV1, {"width": 0.4}, "MobileNetV1, width 0.4", "v1 backbone.width=0.4"),
    (MobileNetV2, {}, "MobileNetV2, width 1.0", "v2"),
    (MobileNetV2, {"width": 1.4}, "MobileNetV2, width 1.4", "v2 backbone.width=1.4"),
    (MobileNetV2, {"width": 0.5}, "MobileNetV2, width 0.5", "v2 backbone.width=0.5"),
    (
        MobileNetV2,
        {"width": 0.5, "scale_head": False},
        "MobileNetV2, width 0.5, scale_head false",
        "v2 backbone.width=0.5 backbone.scale_head=false",
    ),
    (
        MobileNetV2,
        {"reduced_tail": "segmentation"},  # the same as for detection
        "MobileNetV2, width 1.0, reduced_tail detection",
        "v2 backbone.reduced_tail=detection",
    ),
    (MobileNetV3, {"width": 0.75}, "MobileNetV3 Large, width 0.75", "v3 backbone.width=0.75"),
    (
        MobileNetV3,
        {"width": 0.75, "width_rule": "torchvision"},
        "MobileNetV3 Large, width 0.75, width_rule torchvision",
        "v3 backbone.width=0.75 backbone.width_rule=torchvision",
    ),
    (
        MobileNetV3,
        {"variant": "small", "reduced_tail": "segmentation"},
        "MobileNetV3 Small, width 1.0, reduced_tail segmentation",
        "v3_small backbone.reduced_tail=segmentation",
    ),
    (MobileNetV3, {"minimalistic": True}, "MobileNetV3 Large minimalistic, width 1.0", "v3_minimalistic"),
    (
        MobileNetV3,
        {"variant": "small", "minimalistic": True},
        "MobileNetV3 Small minimalistic, width 1.0",
        "v3_small_minimalistic",
    ),
    (MixNet, {}, "MixNet-S, width 1.0", "mixnet_s"),
    (MixNet, {"variant": "m"}, "MixNet-M, width 1.0", "mixnet_m"),
    (MixNet, {"variant": "l"}, "MixNet-L, width 1.0", "mixnet_l"),
    (MixNet, {"variant": "m", "width": 0.5}, "MixNet-M, width 0.5", "mixnet_m backbone.width=0.5"),
)


@pytest.mark.parametrize(("backbone", "settings", "name", "overrides"), HELD, ids=[overrides for *_, overrides in HELD])
def test_a_file_says_what_it_holds(tmp_path, backbone, settings, name, overrides):
    lines = describe(save(classifier(backbone, 7, **settings).state_dict(), tmp_path / "a.pth")).splitlines()
    assert lines[2:] == [f"holds: {name}, 7 classes", f"fits: backbone={overrides}"]
    bare = backbone(taps=("c5",), **settings)
    lines = describe(save(bare.state_dict(), tmp_path / "b.pth")).splitlines()
    assert lines[1] == "names: seg_det" and lines[2].startswith(f"holds: {name.split(',')[0]}, width")


def test_conventions_belong_to_what_a_file_fits(tmp_path):
    small = as_slim_v3(classifier(MobileNetV3, 1001, variant="small", width=0.75))
    assert describe(save(small, tmp_path / "a.pth")).splitlines()[2:] == [
        "holds: MobileNetV3 Small, width 0.75, 1001 classes",
        "fits: backbone=v3_small backbone.width=0.75 backbone.padding=same",
    ]


def test_an_unknown_network_in_known_names(tmp_path):
    state = classifier(MobileNetV2, kernels=(3, 5), width=0.35).state_dict()
    assert len(describe(save(state, tmp_path / "a.pth")).splitlines()) == 2


def test_every_candidate_is_a_choice_of_the_command_line():
    assert [candidate.yaml for candidate in CANDIDATES if not (CONF / f"{candidate.yaml}.yaml").is_file()] == []


@pytest.mark.parametrize(
    ("file", "held", "overrides"),
    [
        ("mobilenet_v1_0.25_128_tfslim_folded", "MobileNetV1, width 0.25, 1001 classes", "v1 backbone.width=0.25"),
        ("mobilenet_v1_1.0_224_tfslim_folded", "MobileNetV1, width 1.0, 1001 classes", "v1"),
        ("deeplabv3_mobilenet_v2_voc_tf_folded", "MobileNetV2, width 1.0, 21 classes", "v2"),
        ("ssdlite_mobilenet_v2_person_tf", "MobileNetV2, width 1.0", "v2"),
    ],
)
def test_real_files_of_tensorflow(real_data, file, held, overrides):
    path = real_data / "weights" / f"{file}.pth"
    eps = " backbone.bn_eps=0.001" if file.startswith("ssdlite") else ""
    tasks = {
        "ssdlite_mobilenet_v2_person_tf": "task=ssdlite_tf_v2 ",
        "deeplabv3_mobilenet_v2_voc_tf_folded": "task=deeplabv3 ",
    }
    task = tasks.get(file, "")
    assert describe(path).splitlines()[2:] == [
        f"holds: {held}",
        f"fits: {task}backbone={overrides} backbone.padding=same{eps}",
    ]
