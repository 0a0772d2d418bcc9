"""Norms that came folded into the convolutions train like others once they know images."""

import torch
from weight_files import as_folded_slim_v1, classifier, randomised, save

from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.weights import load_model
from seg_det.weights.unfold import folded_norms, unfold_norms

IMAGES = torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def folded(folder):
    torch.manual_seed(0)
    source = randomised(classifier(MobileNetV1, 1001, width=0.25, padding="same"))
    path = save(as_folded_slim_v1(source), folder / "tf.pth")
    model = classifier(MobileNetV1, 1001, width=0.25, padding="same")
    load_model(model, path)
    return model


def of(model, *, training):
    """The deepest map, and the norms left as they were."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train(training).momentum = 0.0
    with torch.no_grad():
        (deepest,) = model.backbone(IMAGES).values()
    return deepest


def distance(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


def test_training_goes_on_from_what_the_weights_know(tmp_path):
    model = folded(tmp_path)
    assert len(folded_norms(model)) == 27
    wanted = of(model, training=False)
    assert distance(of(model, training=True), wanted) > 0.3
    assert unfold_norms(model, lambda: model(IMAGES)) == 27 and not model.training
    assert distance(of(model, training=False), wanted) < 1e-4
    assert distance(of(model, training=True), wanted) < 1e-3


def test_other_norms_stay_as_they_are():
    model = randomised(classifier(MobileNetV1, 10, width=0.25)).train()
    fresh = classifier(MobileNetV1, 10, width=0.25)
    for norms in (model, fresh):
        before = {key: tensor.clone() for key, tensor in norms.state_dict().items()}
        assert unfold_norms(norms, lambda: 1 / 0) == 0
        assert all(torch.equal(tensor, before[key]) for key, tensor in norms.state_dict().items())
    assert model.training


def test_norms_that_the_images_never_reach_stay_folded(tmp_path):
    model = folded(tmp_path)
    assert unfold_norms(model, lambda: model.backbone.stem(IMAGES)) == 1
    assert len(folded_norms(model)) == 26
