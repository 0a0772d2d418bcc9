"""Detectors of other tools: their box code, their outputs, and the preset that their naming stands for."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from commands import run
from omegaconf import OmegaConf
from references import reference
from weight_files import SLIM_LEAVES, randomised, save

from seg_det.checksums import sha256_of
from seg_det.commands.network import postprocess
from seg_det.errors import UserError
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.models.ssdlite import SSDLite
from seg_det.predict.loading import load
from seg_det.predict.published import load_published
from seg_det.training.start import Start, load_start
from seg_det.types import Category
from seg_det.weights import CATALOGUE, load_model, published_model
from seg_det.weights.maps import NAMINGS

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
SSDLITE320 = "torchvision/ssdlite320_mobilenet_v3_large"
PRESETS = [naming for naming in NAMINGS.values() if naming.preset]


def tensorflow_detector(classes=1, **settings):
    torch.manual_seed(0)
    same = {"padding": "same", "bn_eps": 1e-3}
    model = SSDLite(partial(MobileNetV2, **same, **settings), num_classes=classes, padding="same")
    return randomised(model).eval()


def as_tensorflow(model):
    """The state dict under TensorFlow's names, boxes as (ty, tx, th, tw), written down without the table under test."""
    named = {}
    for key, tensor in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        layer, leaf = re.fullmatch(r"(.+?)\.((?:conv\.|norm\.)?(?:weight|bias|running_mean|running_var))", key).groups()
        if re.match(r"box_predictors\.\d\.project", key):
            tensor = tensor.unflatten(0, (-1, 4))[:, [1, 0, 3, 2]].flatten(0, 1)
        named[f"{tensorflow_layer(layer)}/{tensorflow_leaf(layer, leaf)}"] = tensor
    return named


def tensorflow_layer(layer):
    if match := re.fullmatch(r"(class|box)_predictors\.(\d)\.(\w+)", layer):
        kind = {"class": "ClassPredictor", "box": "BoxEncodingPredictor"}[match[1]]
        return f"BoxPredictor_{match[2]}/{kind}{'_depthwise' if match[3] == 'depthwise' else ''}"
    if match := re.fullmatch(r"extras\.(\d)\.(?:separable\.)?(\w+)", layer):
        number, part = int(match[1]), match[2]
        whole = (512, 256, 256, 128)[number]
        name = (
            f"1_Conv2d_{number + 2}_1x1_{whole // 2}" if part == "reduce" else f"2_Conv2d_{number + 2}_3x3_s2_{whole}"
        )
        return f"FeatureExtractor/MobilenetV2/layer_19_{name}{'_depthwise' if part == 'depthwise' else ''}"
    layer = layer.removeprefix("backbone.").replace("blocks.0.", "expanded_conv/")
    layer = re.sub(r"^blocks\.(\d+)\.", r"expanded_conv_\1/", layer)
    layer = {"stem": "Conv", "head": "Conv_1"}.get(layer, layer)
    return f"FeatureExtractor/MobilenetV2/{layer}"


def tensorflow_leaf(layer, leaf):
    depthwise = layer.endswith("depthwise") and leaf == "conv.weight"
    return ("depthwise_" if depthwise else "") + SLIM_LEAVES[leaf]


def same_tensors(a, b):
    return all(torch.equal(t, b.state_dict()[k]) for k, t in a.state_dict().items() if "num_batches" not in k)


# TensorFlow's form


def test_a_tensorflow_detector_with_its_box_code(tmp_path):
    source = tensorflow_detector(3)
    path = save(as_tensorflow(source), tmp_path / "tf.pth")
    target = SSDLite(partial(MobileNetV2, padding="same", bn_eps=1e-3), num_classes=3, padding="same")
    report = load_model(target, path)
    assert (report.naming, report.unused) == ("TF detection SSDLite MobileNetV2", ())
    assert report.notes == report.warnings == () and same_tensors(source, target)
    symmetric = SSDLite(partial(MobileNetV2, padding="same", bn_eps=1e-3), num_classes=3)
    (warning,) = load_model(symmetric, path).warnings  # the extra maps alone are padded otherwise
    assert warning.endswith("and the model has symmetric padding: set backbone.padding=same")


def test_what_a_tensorflow_file_is(tmp_path):
    found = published_model(str(save(as_tensorflow(tensorflow_detector(3)), tmp_path / "tf.pth")))
    assert found.model["_target_"] == "SSDLite" and found.model["padding"] == "same"
    assert found.model["backbone"]["_target_"] == "MobileNetV2"
    assert (found.outputs, found.named, found.input_size) == (3, False, 300)
    assert found.mean == found.std == (127.5, 127.5, 127.5)
    assert published_model(str(save(MobileNetV2(taps=("c5",)).state_dict(), tmp_path / "v2.pth"))) is None


def test_a_published_detector_has_a_card(tmp_path):
    source = tensorflow_detector(2)
    path = str(save(as_tensorflow(source), tmp_path / "two.pth"))
    categories = (Category(7, "cat"), Category(9, "dog"))
    model, card = load_published(path, categories)
    assert same_tensors(source, model) and not model.training
    assert (card.task, card.name, card.categories, card.input_size) == ("detection", "two", categories, (300, 300))
    assert (card.postprocess["score"], card.postprocess["iou_threshold"]) == ("sigmoid", 0.6)
    assert card.resize == "stretch_antialiased"
    with pytest.raises(
        UserError, match=r"for each class \(2\) have no names, and the data has 1 classes: .* with classes="
    ):
        load_published(path, categories[:1])


def test_a_file_without_its_predictors_is_no_detector(tmp_path):
    state = {key: t for key, t in as_tensorflow(tensorflow_detector()).items() if "Predictor" not in key}
    with pytest.raises(
        UserError, match=r"tf\.pth .* holds no detection model of ours: FeatureExtractor/MobilenetV2/Conv"
    ):
        published_model(str(save(state, tmp_path / "tf.pth")))


# Presets


@pytest.mark.parametrize("naming", PRESETS, ids=lambda naming: naming.name)
def test_presets_say_what_their_task_says(naming):
    """Read without Hydra they are what Hydra composes; widths and paddings are the backbone's."""
    preset, settings = naming.preset, naming.preset.settings()
    corners = [] if preset.align_corners is None else [f"task.postprocess.align_corners={preset.align_corners}"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", [f"task={preset.task}", *corners, "dataset=coco"])
    model = OmegaConf.to_container(config.task, resolve=True)["model"]
    assert settings.extra_maps == ({"width", "padding"} <= set(model))
    assert dict(settings.model) == {key: value for key, value in model.items() if key not in ("width", "padding")}
    assert settings.kind == config.task.kind
    assert settings.postprocess == postprocess(config.task)
    assert settings.backbone == (config.task.get("backbone") or {})
    if settings.kind == "segmentation":  # TensorFlow aligns corners at sizes of 16 n + 1
        assert settings.postprocess["align_corners"] == (preset.input_size % 16 == 1)


# Outputs of COCO's ids


def test_coco_names_are_the_ids_of_its_80_classes():
    categories = CATALOGUE[SSDLITE320].categories
    ids = [category.id for category in categories]
    assert sorted(set(range(1, 91)) - set(ids)) == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83] and ids == sorted(ids)
    assert len({category.name for category in categories}) == 80
    assert categories[0] == Category(1, "person") and categories[-1] == Category(90, "toothbrush")


def test_coco_names_are_torchvisions():
    names = reference("torchvision.models.detection").SSDLite320_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
    assert [(i, name) for i, name in enumerate(names) if name not in ("__background__", "N/A")] == [
        tuple(vars(category).values()) for category in CATALOGUE[SSDLITE320].categories
    ]


def coco_detector(classes):
    backbone = partial(MobileNetV3, reduced_tail="detection")
    return SSDLite(backbone, num_classes=classes, anchor_rule="torchvision", reduce_first_map=False).eval()


@pytest.fixture(scope="module")
def coco_file(tmp_path_factory):
    """A detector of 91 outputs whose class biases are the numbers of the outputs, under the name of the published one."""
    model = coco_detector(90)
    for predictor in model.class_predictors:
        with torch.no_grad():
            predictor.project.bias.copy_(torch.arange(91.0).repeat(6))
    return save(as_torchvision(model), tmp_path_factory.mktemp("weights") / "coco.pth"), model


def as_torchvision(model):
    """Our tensors under torchvision's names, by the table turned round: each name was tested against torchvision itself."""
    library = reference("torchvision.models.detection")
    theirs = library.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=91).state_dict()
    ours = NAMINGS["torchvision SSDLite320 MobileNetV3"].rename(theirs)
    state = model.state_dict()
    return {keys[0]: state[key] for key, keys in ours.items() if key in state}


@pytest.fixture
def published(coco_file, monkeypatch):
    monkeypatch.setattr("seg_det.weights.loading.fetch", lambda row: coco_file[0])
    return coco_file[1]


def biases(model, classes):
    return [predictor.project.bias.reshape(6, classes + 1)[-1].tolist() for predictor in model.class_predictors]


def assert_scores_among_all(model, whole, outputs):
    """A cat is no dog because only dogs are asked for: the other classes stay in the softmax."""
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        got, wanted = (m.eval()(images).logits.softmax(-1) for m in (model, whole))
    assert got.shape[-1] == 1 + len(outputs)
    torch.testing.assert_close(got[..., 1:], wanted[..., outputs])


def test_outputs_are_taken_by_the_names_of_the_classes(published):
    model = coco_detector(3)
    report = load_model(model, SSDLITE320, ["toothbrush", "person", "stop sign"])
    assert biases(model, 3) == [[0.0, 90.0, 1.0, 13.0]] * 6
    assert report.notes == ("of 91 outputs of an anchor 4 were taken, by the names of the classes",)
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        few, all_of_them = model(images), published(images)
    torch.testing.assert_close(few.logits, all_of_them.logits[..., [0, 90, 1, 13]])
    torch.testing.assert_close(few.deltas, all_of_them.deltas)


def test_the_80_classes_of_coco(published):
    names = [category.name for category in CATALOGUE[SSDLITE320].categories]
    model = coco_detector(80)
    load_start(model, Start(model=SSDLITE320), names, {})
    assert biases(model, 80)[0][12] == 13.0 and biases(model, 80)[0][80] == 90.0


def test_classes_that_the_detector_never_saw(published):
    message = (
        r"ssdlite320_mobilenet_v3_large was not trained to find raccoon, .*backbone\.weights=torchvision/ssdlite320"
    )
    with pytest.raises(UserError, match=message):
        load_model(coco_detector(2), SSDLITE320, ["person", "raccoon"])


def test_a_published_name_is_measured_on_some_of_its_classes(published):
    model, card = load_published(SSDLITE320, (Category(1, "dog"),))
    assert_scores_among_all(model, published, [18])
    assert (card.input_size, card.resize, card.postprocess["max_detections"]) == ((320, 320), "stretch", 300)
    assert card.training_data["name"] == "COCO train2017" and card.mean == (127.5, 127.5, 127.5)


def test_a_published_name_loads_without_a_data_set(published):
    every = load(SSDLITE320, device="cpu")
    assert len(every.names) == 80 and every.card.categories[-1] == Category(90, "toothbrush")
    some = load(SSDLITE320, device="cpu", classes=["dog", "person"])
    assert_scores_among_all(some.predictor.model, published, [18, 1])
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    assert set(some(image, score_threshold=0).names) <= {"dog", "person"}
    with pytest.raises(UserError, match="was not trained to find raccoon: leave it out of classes"):
        load(SSDLITE320, classes=["raccoon"])


def test_the_file_itself_is_known_by_its_hash(coco_file, monkeypatch):
    row = replace(CATALOGUE[SSDLITE320], sha256=sha256_of(coco_file[0]))
    monkeypatch.setattr("seg_det.weights.loading.CATALOGUE", {row.name: row})
    assert published_model(str(coco_file[0])).named
    model = coco_detector(1)
    load_model(model, coco_file[0], ["dog"])
    assert biases(model, 1)[0] == [0.0, 18.0]


def test_a_published_detector_saved_anew_is_known_by_its_naming_and_its_91_outputs(coco_file):
    """Its hash is another one: all that torchvision's training writes has the names and the ids of COCO."""
    path, whole = coco_file
    assert published_model(str(path)).named
    model, card = load_published(str(path), (Category(5, "toothbrush"), Category(2, "person")))
    assert_scores_among_all(model, whole, [90, 1])
    assert card.categories[0] == Category(5, "toothbrush")
    model = coco_detector(1)
    (warning,) = load_model(model, path, ["dog"]).warnings
    assert warning.endswith(
        f"coco.pth is taken for {SSDLITE320} saved anew, by its 90 classes: its outputs mean the same"
    )
    assert biases(model, 1)[0] == [0.0, 18.0]
    same_number = coco_detector(90)  # nothing is to be chosen: the file has the outputs of the model
    assert load_model(same_number, path, [f"thing {n}" for n in range(90)]).warnings == ()
    assert same_tensors(whole, same_number)


def test_another_file_keeps_its_outputs(coco_file, tmp_path):
    with pytest.raises(UserError, match=r"coco\.pth finds 90 classes and the data has 2: .*backbone\.weights="):
        load_model(coco_detector(2), coco_file[0], ["dog", "raccoon"])
    path = save(as_tensorflow(tensorflow_detector(3)), tmp_path / "tf.pth")  # nothing tells what these are
    model = SSDLite(partial(MobileNetV2, padding="same", bn_eps=1e-3), num_classes=1, padding="same")
    with pytest.raises(UserError, match=r"tf\.pth finds 3 classes and the data has 1"):
        load_model(model, path, ["dog"])


# The command


def test_evaluate_takes_a_detector_and_the_class_that_it_finds(tmp_path, tiny_shapes):
    path = save(as_tensorflow(tensorflow_detector(1)), tmp_path / "one.pth")
    data = ["dataset=shapes", f"dataset.root={tiny_shapes}", "dataset.train_images=24", "dataset.val_images=8"]
    refused = run(tmp_path, "evaluate", f"model={path}", *data, check=False)
    assert "one.pth for each class (1) have no names, and the data has 8 classes: say which" in refused.stderr
    run(tmp_path, "evaluate", f"model={path}", *data, "classes=[triangle]", "data.num_workers=0", "input_size=96")
    (found,) = (tmp_path / "runs").rglob("metrics.json")
    card = json.loads(found.read_text())["card"]
    assert [category["name"] for category in card["categories"]] == ["triangle"]
    assert card["postprocess"]["iou_threshold"] == 0.6 and card["resize"] == "stretch_antialiased"
