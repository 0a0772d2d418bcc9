"""The preset ssdlite_torchvision against torchvision's ssdlite320_mobilenet_v3_large with the same random weights.

Logits, deltas, anchors, matching, losses and final detections are compared. The published checkpoint's COCO figure is
torchvision's own: it was not measured again.
"""

from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from references import reference
from torch import nn

from seg_det import checkpoint
from seg_det.commands.network import postprocess
from seg_det.commands.settings import build as build_section
from seg_det.commands.settings import with_preferences
from seg_det.ops.matching import match
from seg_det.postprocess import detect
from seg_det.predict.published import load_published
from seg_det.registry import LOSSES
from seg_det.types import DenseDetections, DetectionBatch
from seg_det.weights import CATALOGUE, load_model

CONF = Path(__file__).parents[2] / "conf"
OUTPUTS = 7  # with the background
SIZE = (320, 320)
_library = []  # torch forgets the operators of a library that is collected


def greedy_nms(boxes, scores, threshold):
    """The plain algorithm, box after box: what torchvision's compiled operator does."""
    order, kept = scores.argsort(descending=True, stable=True).tolist(), []
    while order:
        best, *rest = order
        kept.append(best)
        low, high = torch.maximum(boxes[best, :2], boxes[rest, :2]), torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        order = [
            i for i, iou in zip(rest, shared / (areas[best] + areas[rest] - shared), strict=True) if iou <= threshold
        ]
    return torch.tensor(kept, dtype=torch.long)


@pytest.fixture(scope="module")
def theirs():
    library = reference("torchvision.models.detection")
    with pytest.MonkeyPatch.context() as patch:
        _bring_nms(patch)
        yield randomised(library)


def _bring_nms(patch):
    patch.setattr(reference("torchvision.extension"), "_has_ops", lambda: True)
    if not torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "CPU"):
        _library.append(torch.library.Library("torchvision", "IMPL"))
        _library[0].impl("nms", greedy_nms, "CPU")


def randomised(library, outputs=OUTPUTS):
    torch.manual_seed(3)
    model = library.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=outputs)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        nn.init.uniform_(layer.weight, 0.6, 1.4)
        nn.init.uniform_(layer.bias, -0.3, 0.3)
    _measure_statistics(model, norms)
    return model


def _measure_statistics(model, norms):
    """Of real maps: with others the picture is lost on the way, and any two networks of the same norms agree."""
    momentum = norms[0].momentum
    for layer in norms:
        layer.momentum = 1.0
    with torch.no_grad():
        model.head(list(model.train().backbone(normalised(pictures(4))).values()))
    for layer in norms:
        layer.momentum = momentum


@pytest.fixture(scope="module")
def preset():
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return with_preferences(hydra.compose("train", ["task=ssdlite_torchvision", "backbone=v3"]))


def build(config, classes):
    backbone = {k: v for k, v in OmegaConf.to_container(config.backbone, resolve=True).items() if k != "weights"}
    settings = OmegaConf.to_container(config.task.model, resolve=True)
    return checkpoint.build_model({**settings, "num_classes": classes, "backbone": backbone})


@pytest.fixture(scope="module")
def ours(theirs, preset, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "theirs.pth"
    torch.save(theirs.state_dict(), path)
    model = build(preset, OUTPUTS - 1)
    report = load_model(model, path)
    assert report.unused == () and report.kept == () and report.warnings == ()
    return model


def pictures(count, size=SIZE):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(5))


def normalised(images):
    return (images - 0.5) / 0.5


def apart(a, b):
    return (a - b).abs().max().item()


def test_constants_of_the_norms(theirs, ours):
    constants = [
        {(m.eps, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} for model in (theirs, ours)
    ]
    assert constants[0] == constants[1] == {(0.001, 0.03)}


@pytest.mark.parametrize("size", [SIZE, (97, 131)])
def test_logits_and_deltas(theirs, ours, size):
    images = normalised(pictures(2, size))
    with torch.inference_mode():
        wanted = theirs.eval().head(list(theirs.backbone(images).values()))
        got = ours.eval()(images)
    assert all(apart(*of_images) > 0.5 for of_images in wanted.values())  # they hang on what is seen
    assert apart(got.logits, wanted["cls_logits"]) < 1e-4
    assert apart(got.deltas, wanted["bbox_regression"]) < 1e-4


@pytest.mark.parametrize("size", [SIZE, (97, 131), (512, 320)])
def test_anchors(theirs, ours, size):
    images = pictures(1, size)
    with torch.inference_mode():
        maps = list(theirs.eval().backbone(images).values())
    listed = reference("torchvision.models.detection.image_list").ImageList(images, [size])
    wanted = theirs.anchor_generator(listed, maps)[0]
    got = ours.anchors(size)
    assert got.shape == wanted.shape and apart(got, wanted) < 1e-4
    assert size != SIZE or len(got) == 3234


# Small and large objects, one without any anchor above the threshold, two that claim the same anchor, and no object
BOXES = (
    [[20.0, 30, 90, 120], [22, 28, 88, 122], [200, 150, 318, 310], [5, 5, 12, 9]],
    [],
    [[0, 0, 320, 320], [100, 100, 140, 300]],
)
LABELS = ([1, 2, 6, 3], [], [4, 5])


def batch_and_targets(images):
    most = max(map(len, BOXES))
    boxes, labels, valid = torch.zeros(3, most, 4), torch.zeros(3, most).long(), torch.zeros(3, most, dtype=torch.bool)
    targets = []
    for i, (own, names) in enumerate(zip(BOXES, LABELS, strict=True)):
        targets.append({"boxes": torch.tensor(own).reshape(-1, 4), "labels": torch.tensor(names, dtype=torch.long)})
        boxes[i, : len(own)], labels[i, : len(own)] = targets[i]["boxes"], targets[i]["labels"] - 1
        valid[i, : len(own)] = True
    return DetectionBatch(
        images, boxes, labels, ~valid & False, valid, torch.arange(3), torch.full((3, 2), 320)
    ), targets


def test_matching(theirs, ours):
    batch, targets = batch_and_targets(pictures(3))
    anchors = ours.anchors(SIZE)
    found = match(anchors, batch.boxes, batch.valid, batch.crowd, threshold=0.5).objects
    overlaps = reference("torchvision.ops").box_iou
    for row, target in zip(found, targets, strict=True):
        if len(target["boxes"]):
            wanted = theirs.proposal_matcher(overlaps(target["boxes"], anchors))
            assert (wanted >= 0).sum() > 4 and torch.equal(row, wanted)
        else:
            assert (row == -1).all()


def test_losses_and_their_gradients(theirs, ours, preset):
    images = pictures(3)
    batch, targets = batch_and_targets(images)
    theirs.train(), ours.train()
    wanted = theirs(list(images), targets)
    raw = ours(normalised(images))
    got = build_section(preset.task.loss, LOSSES)(raw, batch, ours.anchors(SIZE))
    assert got.classification.item() == pytest.approx(wanted["classification"].item(), rel=1e-4)
    assert got.localisation.item() == pytest.approx(wanted["bbox_regression"].item(), rel=1e-4)
    theirs.zero_grad(), ours.zero_grad()
    sum(wanted.values()).backward()
    got.total().backward()
    for branch, own in (("classification_head", ours.class_predictors), ("regression_head", ours.box_predictors)):
        pairs = list(zip(getattr(theirs.head, branch).module_list, own, strict=True))
        largest = max(one[1].weight.grad.abs().max() for one, _ in pairs)
        assert all(apart(one[1].weight.grad, other.project.weight.grad) < 1e-4 * largest for one, other in pairs)


def spread(scores_apart, background):
    """Raw output of two images with scores that no rounding can swap."""
    generator = torch.Generator().manual_seed(1)
    logits = scores_apart * torch.randn(2, 3234, OUTPUTS, generator=generator)
    logits[..., 0] += background
    return DenseDetections(logits, torch.randn(2, 3234, 4, generator=generator))


@pytest.mark.parametrize(("scores_apart", "background", "full"), [(1.0, 0.0, True), (4.0, 22.0, False)])
def test_detections(theirs, ours, preset, monkeypatch, scores_apart, background, full):
    """Of the same raw output, by the whole of torchvision's model: its anchors, decoding, thresholds and suppression."""
    raw = spread(scores_apart, background)
    heads = {"cls_logits": raw.logits, "bbox_regression": raw.deltas}
    monkeypatch.setattr(theirs.head, "forward", lambda maps: heads)
    with torch.inference_mode():
        wanted = theirs.eval()(list(pictures(2)))
    got = detect(raw, ours.anchors(SIZE), SIZE, **postprocess(preset.task))
    for one, other in zip(wanted, got, strict=True):
        assert len(one["boxes"]) == 300 if full else 50 < len(one["boxes"]) < 300
        assert torch.equal(one["labels"], other.labels + 1)
        assert torch.equal(one["scores"], other.scores)
        assert apart(one["boxes"], other.boxes) < 1e-3


def of_91_outputs(library):
    """A detector of COCO's ids that is sure enough of itself to find few things."""
    model = randomised(library, outputs=91)
    for predictor in model.head.classification_head.module_list:
        nn.init.normal_(predictor[1].weight, std=0.5)
        with torch.no_grad():
            predictor[1].bias[::91] = 30.0
    return model.eval()


def test_a_file_of_torchvision_finds_cocos_80_classes(theirs, tmp_path):
    """As evaluate.py takes it: the file alone says the network, its decoding and, by 91 outputs, the classes."""
    whole = of_91_outputs(reference("torchvision.models.detection"))
    path = tmp_path / "coco.pth"
    torch.save(whole.state_dict(), path)
    categories = CATALOGUE["torchvision/ssdlite320_mobilenet_v3_large"].categories[
        ::-1
    ]  # another order than the outputs'
    model, card = load_published(str(path), categories)
    images = pictures(2)
    with torch.inference_mode():
        wanted = whole(list(images))
        pixels = (255 * images - torch.tensor(card.mean).view(3, 1, 1)) / torch.tensor(card.std).view(3, 1, 1)
        got = detect(model(pixels), model.anchors(SIZE), SIZE, **card.postprocess)
    for one, other in zip(wanted, got, strict=True):
        ids = torch.tensor([category.id for category in categories])
        known = torch.isin(one["labels"], ids)  # the other ten outputs mean nothing, and take places among the 300
        count = int(known.sum())
        assert 200 < count < len(known) == len(other.scores) == 300
        found = one["labels"][known], one["scores"][known], one["boxes"][known]
        again = ids[other.labels[:count]], other.scores[:count], other.boxes[:count]
        assert apart(found[1], again[1]) < 1e-4
        # class by class: the last bit of two networks may swap detections of different classes
        found, again = ([column[part[0].argsort(stable=True)] for column in part] for part in (found, again))
        assert torch.equal(found[0], again[0])
        assert apart(found[1], again[1]) < 1e-4 and apart(found[2], again[2]) < 1e-2


def test_the_preset_has_the_published_size(preset):
    model = build(preset, 90)
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_440_060
