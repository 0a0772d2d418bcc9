"""Published weights as whole models: which network and settings a file is for, and what its classes are called."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from seg_det.data.voc_seg import CLASSES as VOC_CLASSES
from seg_det.errors import UserError
from seg_det.ops.images import IMAGENET_MEAN, IMAGENET_STD
from seg_det.registry import BACKBONES, TARGET
from seg_det.types import Category
from seg_det.weights.catalogue import TAIL
from seg_det.weights.fit import arrange, identify, some
from seg_det.weights.loading import CENTRED, classes_of, outputs_of, published_as, read, saved_anew
from seg_det.weights.networks import Network

log = logging.getLogger(__name__)
IMAGENET_SIZE = 224
IMAGENET_CLASSES = tuple(Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())
# Of weights that do not name their classes, by their number, in the order of the outputs: of ImageNet and Pascal VOC.
USUAL_CLASSES = MappingProxyType({1000: IMAGENET_CLASSES, 21: VOC_CLASSES})


class PublishedClassifier(NamedTuple):
    """A classifier of ImageNet's classes whose weights were not trained here."""

    backbone: dict[str, Any]  # _target_ and settings
    mean: tuple[float, float, float]  # of 0..255 values, RGB
    std: tuple[float, float, float]
    input_size: int  # pixels
    outputs: int  # classes, a background among them
    told: bool = True  # whether its names tell padding, eps and normalisation, or the usual ones were assumed


class PublishedModel(NamedTuple):
    """A detector or segmenter whose weights were not trained here."""

    kind: str  # ModelCard.task
    model: dict[str, Any]  # _target_ and settings, without num_classes
    postprocess: dict[str, Any]
    mean: tuple[float, float, float]  # of 0..255 values, RGB
    std: tuple[float, float, float]
    input_size: int  # pixels
    resize: str  # ModelCard.resize
    outputs: int  # classes, without a detector's background
    named: bool  # whether it is known what they stand for


def known_categories(reference: str, classes: Sequence[str] | None = None) -> tuple[Category, ...]:
    """The classes of published weights, for use without a data set.

    ``classes`` chooses among those of a published detector (None: all), and names those of weights that name none, in the
    order of the outputs. Without it the latter are taken for ImageNet's (1000 classes) or Pascal VOC's (21, with the
    background), with a warning; with other numbers they are "class 0", "class 1", ... Raises UserError for other classes.
    """
    path, tensors, naming = read(reference)
    outputs, row = classes_of(arrange(tensors, naming)), published_as(reference, path)
    if row is None and naming.preset is not None:
        row = saved_anew(naming, outputs, classes or ())
    if row is not None and row.categories is not None:
        return _chosen(row.name, row.categories, classes)
    if naming.background and outputs == 1 + len(IMAGENET_CLASSES):
        outputs -= 1  # the background, which filling a model leaves out
    usual = USUAL_CLASSES.get(outputs) or [f"class {index}" for index in range(outputs)]
    names = tuple(classes or usual)
    if len(names) != outputs:
        raise UserError(f"{reference} has {outputs} classes, and classes names {len(names)}: name all, in their order.")
    if row is None and classes is None:
        shown = ", ".join(names[:3])
        log.warning(
            "%s does not name its %d classes, which are taken for %s ...: say others with classes=.",
            path,
            outputs,
            shown,
        )
    return tuple(Category(index, name) for index, name in enumerate(names))


def _chosen(name: str, categories: Sequence[Category], classes: Sequence[str] | None) -> tuple[Category, ...]:
    known = {category.name: category for category in categories}
    if unknown := [one for one in classes or () if one not in known]:
        raise UserError(f"{name} was not trained to find {some(unknown)}: leave it out of classes.")
    return tuple(known[one] for one in (known if classes is None else classes))


def published_classifier(reference: str) -> PublishedClassifier:
    """The classifier that a name of the catalogue, a path or an address holds.

    Raises UserError for weights of anything else and for a network that is none of ours.
    """
    path, tensors, naming = read(reference)
    given = arrange(tensors, naming)
    if "classifier.weight" not in given:
        raise UserError(f"{path} ({naming.name} names) holds no classifier, so there is nothing to evaluate.")
    outputs = len(given["classifier.weight"])
    if row := published_as(reference, path):
        return PublishedClassifier(dict(row.backbone), row.mean, row.std, row.input_size, outputs)
    if (network := identify(given, naming)) is None:
        raise UserError(f"{path} ({naming.name} names) holds none of our networks: {some(list(tensors))}.")
    mean, std = (CENTRED, CENTRED) if naming.centred else (IMAGENET_MEAN, IMAGENET_STD)
    return PublishedClassifier(network.backbone, mean, std, IMAGENET_SIZE, outputs, told=naming.eps is not None)


def published_model(reference: str, classes: Sequence[str] = ()) -> PublishedModel | None:
    """The detector or segmenter that a name of the catalogue, a path or an address holds, None for weights of anything else.

    ``classes`` are those that a detector is to find, of the ones that it was trained for, where they have names. Raises
    UserError for a network that is none of ours and for classes that it was not trained to find.
    """
    path, tensors, naming = read(reference)
    if (preset := naming.preset) is None:
        return None
    given, settings = arrange(tensors, naming), preset.settings()
    network = identify(given, naming)
    if network is None or not (outputs := classes_of(given)):
        raise UserError(f"{path} ({naming.name} names) holds no {settings.kind} model of ours: {some(list(tensors))}.")
    row = published_as(reference, path)
    if row is None and len(classes) != outputs:
        row = saved_anew(naming, outputs, classes)
    if classes and (chosen := outputs_of(row, classes)):
        merged = {"outputs": chosen.total, "class_outputs": list(chosen.chosen[1:])}
    else:
        merged = {}
    mean, std = (CENTRED, CENTRED) if naming.centred else (IMAGENET_MEAN, IMAGENET_STD)
    head = {"width": network.backbone.get("width", 1.0), "padding": naming.padding} if settings.extra_maps else {}
    return PublishedModel(
        kind=settings.kind,
        model={
            **settings.model,
            **head,
            "backbone": {**_untold(settings.backbone, network), **network.backbone},
            **merged,
        },
        postprocess=dict(settings.postprocess),
        mean=mean,
        std=std,
        input_size=preset.input_size,
        resize=preset.resize,
        outputs=outputs,
        named=row is not None and row.categories is not None,
    )


def _untold(preferred: Mapping[str, Any], network: Network) -> dict[str, Any]:
    """Of what a head prefers of its backbone, the settings that the backbone has and that no shape of its weights tells."""
    known = signature(BACKBONES.get(network.backbone[TARGET])).parameters
    return {key: value for key, value in preferred.items() if key in known and key not in TAIL}
