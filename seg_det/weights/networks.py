"""Which network of ours the tensors of a file are of: the one whose backbone has exactly their shapes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import cache
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seg_det.errors import UserError
from seg_det.models.backbones.base import Backbone
from seg_det.models.backbones.mixnet import MixNet
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.backbones.mobilenet_v3 import MobileNetV3
from seg_det.weights.naming import Naming


class Network(NamedTuple):
    """What a file holds: for people, as settings of the command line, and as configuration of the backbone."""

    name: str
    overrides: str
    backbone: dict[str, Any]


class Candidate(NamedTuple):
    name: str
    yaml: str  # conf/backbone/<yaml>.yaml
    build: Callable[..., Backbone]
    settings: dict[str, Any]
    variations: tuple[dict[str, Any], ...] = ({},)


V2_VARIATIONS: tuple[dict[str, Any], ...] = ({}, {"scale_head": False}, {"reduced_tail": "detection"})
V3_VARIATIONS = tuple(
    {**tail, **rule}
    for tail in ({}, {"reduced_tail": "detection"}, {"reduced_tail": "segmentation"})
    for rule in ({}, {"width_rule": "torchvision"})
)
SMALL, MINIMALISTIC = {"variant": "small"}, {"minimalistic": True}
CANDIDATES = (
    Candidate("MobileNetV1", "v1", MobileNetV1, {}),
    Candidate("MobileNetV2", "v2", MobileNetV2, {}, V2_VARIATIONS),
    Candidate("MobileNetV3 Large", "v3", MobileNetV3, {}, V3_VARIATIONS),
    Candidate("MobileNetV3 Small", "v3_small", MobileNetV3, SMALL, V3_VARIATIONS),
    Candidate("MobileNetV3 Large minimalistic", "v3_minimalistic", MobileNetV3, MINIMALISTIC, V3_VARIATIONS),
    Candidate(
        "MobileNetV3 Small minimalistic", "v3_small_minimalistic", MobileNetV3, SMALL | MINIMALISTIC, V3_VARIATIONS
    ),
    *(Candidate(f"MixNet-{v.upper()}", f"mixnet_{v}", MixNet, {"variant": v}) for v in ("s", "m", "l")),
)
USUAL_WIDTHS = (1.0, 0.75, 0.5, 0.25, 0.35, 1.25, 1.3, 1.4)
WIDEST = 8.0


def identify(given: Mapping[str, Tensor], naming: Naming) -> Network | None:
    """The network whose backbone has exactly these tensors (our names), None if none of ours has."""
    wanted = {key: tensor.shape for key, tensor in given.items() if key.startswith("backbone.") and ".norm." not in key}
    trials = []
    for candidate, base in zip(CANDIDATES, _tables(), strict=True):
        if _without_head(base).keys() == _without_head(wanted).keys():
            ratios = [shape[0] / base[key][0] for key, shape in _without_head(wanted).items() if shape]
            widths = _widths_near(median(ratios)) if ratios else []
            trials += [(width, candidate, variation) for width in widths for variation in candidate.variations]
    for width, candidate, variation in sorted(trials, key=lambda t: (t[0] not in USUAL_WIDTHS, t[0] != 1, len(t[2]))):
        shapes = _shapes(candidate, width, variation)
        if all(shapes.get(key) == shape for key, shape in wanted.items()):
            return _network(candidate, width, variation, given, naming)
    return None


@cache
def _tables() -> list[dict[str, torch.Size]]:
    """The shapes of each candidate at width 1."""
    return [_shapes(candidate, 1.0, {}) for candidate in CANDIDATES]


def _widths_near(width: float) -> list[float]:
    """Usual widths, then hundredths; rounding to multiples of 8 has blurred ``width``."""
    if not 0 < width <= WIDEST:
        return []
    hundredths = [i / 100 for i in range(math.floor(width * 94), math.ceil(width * 106) + 1)]
    near = [usual for usual in USUAL_WIDTHS if 0.8 < usual / width < 1.25]
    return near + [w for w in hundredths if w > 0 and w not in near]


def _shapes(candidate: Candidate, width: float, variation: Mapping[str, Any]) -> dict[str, torch.Size]:
    try:
        with torch.device("meta"):
            backbone = candidate.build(taps=("head",), width=width, **candidate.settings, **variation)
    except UserError:  # too narrow or too wide for this one
        return {}
    return {f"backbone.{k}": t.shape for k, t in backbone.state_dict().items() if ".norm." not in k}


def _without_head(shapes: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
    return {key: shape for key, shape in shapes.items() if not key.startswith("backbone.head.")}


def _network(
    candidate: Candidate, width: float, variation: Mapping[str, Any], given: Mapping[str, Tensor], naming: Naming
) -> Network:
    unfolded = "backbone.stem.norm.weight" in given
    default_eps = inspect.signature(candidate.build).parameters["bn_eps"].default
    settings = {
        **({"width": width} if width != 1 else {}),
        **variation,
        **({"padding": naming.padding} if naming.padding == "same" else {}),
        **({"bn_eps": naming.eps} if unfolded and naming.eps not in (None, default_eps) else {}),
    }
    told = [f"width {width}", *(f"{key} {str(value).lower()}" for key, value in variation.items())]
    told += [f"{rows} classes" for rows in given["classifier.weight"].shape[:1]] if "classifier.weight" in given else []
    keys = " ".join(f"backbone.{key}={str(value).lower()}" for key, value in settings.items())
    return Network(
        ", ".join([candidate.name, *told]),
        f"backbone={candidate.yaml} {keys}".rstrip(),
        {"_target_": candidate.build.__name__, **candidate.settings, **settings},
    )
