"""SSD: one look at feature maps of several strides, with full 3x3 convolutions (arXiv 1512.02325; MobileNetV2, table 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.models.backbones.base import BackboneBuilder
from seg_det.nn.blocks import ConvNormAct, Norm, batch_norm
from seg_det.nn.convolutions import PADDINGS
from seg_det.ops.anchors import Shape, are_shapes, grid_anchors, ssd_shapes
from seg_det.registry import MODELS
from seg_det.types import DenseDetections

EXTRA_MAPS = (512, 256, 256, 128)
MOST_TAPS = 16
MOST_ANCHORS = 2**22  # of one image size


def flatten_predictions(x: Tensor, outputs: int) -> Tensor:
    """[B, A * K, H, W] -> [B, H * W * A, K]: one row an anchor, in the order row, column, shape."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, outputs)


def merge_outputs(logits: Tensor, chosen: Tensor, rest: Tensor) -> Tensor:
    """Logits [..., 1 + len(chosen)] from [..., K]: all of ``rest`` in one background, then those ``chosen`` (indices i64).

    A softmax gives the chosen ones the same scores before and after.
    """
    background = logits.index_select(-1, rest).logsumexp(-1, keepdim=True)
    return torch.cat([background, logits.index_select(-1, chosen)], -1)


class ExtraMap(nn.Module):
    """1x1 to half of the channels, then a stride-2 3x3 convolution: the next coarser feature map."""

    def __init__(self, in_channels: int, out_channels: int, *, padding: str, norm: Norm):
        super().__init__()
        self.reduce = ConvNormAct(in_channels, out_channels // 2, norm=norm)
        self.shrink = ConvNormAct(out_channels // 2, out_channels, kernel=3, stride=2, padding=padding, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.shrink(self.reduce(x))


class Predictor(nn.Module):
    """A 3x3 convolution with bias and nothing after it; ``norm`` is for forms that have layers before it."""

    def __init__(self, channels: int, outputs: int, *, norm: Norm):
        super().__init__()
        self.project = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x)


@MODELS.register
class SSD(nn.Module):
    """Single-shot detector: images f32 [B, 3, H, W] -> DenseDetections(logits [B, A, C + 1], deltas [B, A, 4]).

    Column 0 of the logits is the background. ``backbone`` is called as ``backbone(taps=..., output_stride=32)``; the finest
    tap comes first.

    - ``width`` scales the extra maps, max(16, int(c * width)); ``padding`` is theirs, "symmetric" or TensorFlow's "same";
    - ``anchor_shapes`` lists (scale, width / height) pairs for each feature map; left out, they are :func:`ssd_shapes` of
      ``scales``, ``min_scale``, ``max_scale`` and ``reduce_first_map``;
    - ``anchor_rule`` is "tensorflow", "torchvision" or "mmdet": order and details of the anchors, for weights from there;
    - ``class_bias`` is the start value of the classes' biases (focal loss: -4.6, so that no anchor starts as an object);
    - ``class_outputs`` are the places of the classes among the ``outputs`` of an anchor, for weights that find other classes
      too, which then count as background; left out, the predictors have the C + 1 outputs of the model.

    A subclass may set ``extra_map`` and ``predictor``. Raises UserError for arguments that cannot be.
    """

    TAPS = ("c4_expand", "head")
    extra_map: type[nn.Module] = ExtraMap
    predictor: type[nn.Module] = Predictor
    chosen: Tensor  # i64 [C]: places of the classes among the outputs
    rest: Tensor  # i64: of the others

    def __init__(
        self,
        backbone: BackboneBuilder,
        *,
        num_classes: int,
        width: float = 1.0,
        taps: Sequence[str] = TAPS,
        anchor_rule: str = "tensorflow",
        anchor_shapes: Sequence[Sequence[Shape]] | None = None,
        scales: Sequence[float] | None = None,
        min_scale: float = 0.2,
        max_scale: float = 0.95,
        reduce_first_map: bool = True,
        class_bias: float = 0.0,
        outputs: int | None = None,
        class_outputs: Sequence[int] | None = None,
        padding: str = "symmetric",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.03,
    ):
        super().__init__()
        if len(taps) > MOST_TAPS:
            raise UserError(f"task.model.taps must name at most {MOST_TAPS} feature maps, got {len(taps)}.")
        norm = batch_norm(eps=bn_eps, momentum=bn_momentum)
        self.num_classes = num_classes
        self.outputs = outputs or num_classes + 1
        self._choose(class_outputs)
        self.anchor_rule = anchor_rule
        # First: a width or padding that cannot be is the backbone's, which these follow unless they are said by themselves.
        self.backbone = backbone(taps=tuple(taps), output_stride=32)
        if padding not in PADDINGS:
            raise UserError(f"task.model.padding must be one of {', '.join(PADDINGS)}, got {padding}.")
        if not width > 0:
            raise UserError(f"task.model.width must be positive, got {width}.")
        channels = [feature.channels for feature in self.backbone.features]
        self.extras = nn.ModuleList()
        for base in EXTRA_MAPS:
            channels.append(max(16, int(base * width)))
            self.extras.append(self.extra_map(channels[-2], channels[-1], padding=padding, norm=norm))
        self.anchor_shapes = anchor_shapes or ssd_shapes(
            len(channels),
            rule=anchor_rule,
            scales=scales,
            min_scale=min_scale,
            max_scale=max_scale,
            reduce_first_map=reduce_first_map,
        )
        if not are_shapes(self.anchor_shapes):
            wanted = "a list of [scale, width / height] pairs of positive numbers for each feature map"
            raise UserError(f"task.model.anchor_shapes must hold {wanted}, got {self.anchor_shapes}.")
        if len(self.anchor_shapes) != len(channels):
            maps = f"{len(channels)} feature maps ({', '.join(taps)} and {len(EXTRA_MAPS)} extra)"
            raise UserError(
                f"task.model.anchor_shapes must hold one list for each of {maps}, got {len(self.anchor_shapes)}."
            )
        places = [(c, len(shapes)) for c, shapes in zip(channels, self.anchor_shapes, strict=True)]
        self.class_predictors = nn.ModuleList(self.predictor(c, n * self.outputs, norm=norm) for c, n in places)
        self.box_predictors = nn.ModuleList(self.predictor(c, n * 4, norm=norm) for c, n in places)
        for part in (self.extras, self.class_predictors, self.box_predictors):
            part.apply(_init)
        for predictor in self.class_predictors:
            nn.init.constant_(predictor.get_parameter("project.bias"), class_bias)

    def _choose(self, class_outputs: Sequence[int] | None) -> None:
        every = list(range(1, self.outputs))
        chosen = every if class_outputs is None else list(class_outputs)
        if len(chosen) != self.num_classes or not set(chosen) <= set(every):
            raise UserError(
                f"task.model.class_outputs must name {self.num_classes} of the outputs 1 to {self.outputs - 1}, got {chosen}."
            )
        self.merges = chosen != every
        self.register_buffer("chosen", torch.tensor(chosen), persistent=False)
        self.register_buffer("rest", torch.tensor(sorted({0, *every} - {*chosen})), persistent=False)

    def forward(self, images: Tensor) -> DenseDetections:
        features = self.backbone(images)
        maps = [features[feature.name] for feature in self.backbone.features]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        scores = [flatten_predictions(p(x), self.outputs) for p, x in zip(self.class_predictors, maps, strict=True)]
        deltas = [flatten_predictions(p(x), 4) for p, x in zip(self.box_predictors, maps, strict=True)]
        logits = torch.cat(scores, 1)
        if self.merges:
            logits = merge_outputs(logits, self.chosen, self.rest)
        return DenseDetections(logits, torch.cat(deltas, 1))

    def map_sizes(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        """(rows, columns) of each feature map for images of ``image_size`` (H, W)."""
        sizes = self.backbone.map_sizes(image_size)
        for _ in self.extras:
            rows, columns = sizes[-1]
            sizes.append((-(-rows // 2), -(-columns // 2)))
        return sizes

    def anchors(self, image_size: tuple[int, int]) -> Tensor:
        """Anchors f32 [A, 4], xyxy pixels, one for each row of the raw output at ``image_size`` (H, W)."""
        sizes = self.map_sizes(image_size)
        count = sum(len(s) * rows * columns for s, (rows, columns) in zip(self.anchor_shapes, sizes, strict=True))
        if count > MOST_ANCHORS:
            raise UserError(
                f"The detector has {count} anchors at {image_size[0]} x {image_size[1]} pixels, and {MOST_ANCHORS} are the most: "
                "choose a smaller input size or fewer task.model.anchor_shapes."
            )
        return grid_anchors(self.anchor_shapes, sizes, image_size, rule=self.anchor_rule)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.03)  # SSD heads and extras of the TensorFlow configurations
        if module.bias is not None:
            nn.init.zeros_(module.bias)
