"""Types shared between packages.

Tensors are held in NamedTuples (they pin and move to a device by themselves), plain values in frozen dataclasses. Boxes are
always ``xyxy`` in pixels of the image that they are about: x grows to the right, y downwards, and a box covers the
half-open range [x1, x2) x [y1, y2). Labels are class indices 0..C-1 without background.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from seg_det import migrations
from seg_det.errors import UserError
from seg_det.values import Wrong, is_name, matched, require_plain, shown

if TYPE_CHECKING:  # cards and records are read without torch
    from torch import Tensor

MOST_PIXELS = 2**24  # of ModelCard.input_size
IGNORE = 255  # in masks: a pixel that is neither learned nor counted


class Feature(NamedTuple):
    """What a backbone promises about one of its feature maps: ``c2``..``c5`` by stride, ``c4_expand``, ``head``."""

    name: str
    channels: int
    stride: int


class DetectionSample(NamedTuple):
    """One image with its objects; boxes in pixels of ``image`` as it is here, ``size`` as it was in the file."""

    image: Tensor  # u8 [3, H, W], RGB
    boxes: Tensor  # f32 [N, 4]
    labels: Tensor  # i64 [N]
    crowd: Tensor  # bool [N]: a region of many objects, never a target (COCO iscrowd)
    difficult: Tensor  # bool [N]: not counted by the VOC protocol
    image_id: int
    size: tuple[int, int]  # (H, W) of the file, after its EXIF rotation and before any resize
    share: float = 1.0  # mixup: of this image in the mixture with the next of its batch


class DetectionBatch(NamedTuple):
    """A batch of samples of one size; objects padded to the largest count G, ``valid`` says which are real."""

    images: Tensor  # u8 [B, 3, H, W], RGB
    boxes: Tensor  # f32 [B, G, 4]
    labels: Tensor  # i64 [B, G]
    crowd: Tensor  # bool [B, G]
    valid: Tensor  # bool [B, G]
    image_ids: Tensor  # i64 [B]
    sizes: Tensor  # i64 [B, 2], (H, W) of the files
    weights: Tensor | None = None  # f32 [B, G] of the objects in the loss, where images were mixed


class ClassificationSample(NamedTuple):
    """One image and its class."""

    image: Tensor  # u8 [3, H, W], RGB
    label: int  # 0..C-1
    image_id: int
    share: float = 1.0  # mixup: of this image in the mixture with the next of its batch


class ClassificationBatch(NamedTuple):
    """A batch of samples of one size."""

    images: Tensor  # u8 [B, 3, H, W], RGB
    labels: Tensor  # i64 [B]
    image_ids: Tensor  # i64 [B]
    others: Tensor | None = None  # i64 [B], where images were mixed: the class of the other one,
    shares: Tensor | None = None  # f32 [B], and the share of ``labels`` in the target


class SegmentationSample(NamedTuple):
    """One image and the class of each of its pixels."""

    image: Tensor  # u8 [3, H, W], RGB
    mask: Tensor  # u8 [H, W], 0..C-1 or IGNORE
    image_id: int
    size: tuple[int, int]  # (H, W) of the file, before any resize
    original: Tensor | None  # u8 of the file's size, what evaluation counts; None in training


class SegmentationBatch(NamedTuple):
    """A batch of samples of one size."""

    images: Tensor  # u8 [B, 3, H, W], RGB
    masks: Tensor  # u8 [B, H, W]
    image_ids: Tensor  # i64 [B]
    sizes: Tensor  # i64 [B, 2], (H, W) of the files
    originals: list[Tensor] | None  # u8, each of its file's size


class DenseSegmentation(NamedTuple):
    """Raw head output at the strides of the head's maps: no activation, not brought to the size of the images."""

    logits: Tensor  # f32 [B, C, h, w]
    auxiliary: Tensor | None = None  # f32 [B, C, h', w'] of a second head, which only the loss reads


class DenseDetections(NamedTuple):
    """Raw head output, one row an anchor; no activation, no NMS, so it exports as it is."""

    logits: Tensor  # [B, A, K]
    deltas: Tensor  # [B, A, 4]


class Detections(NamedTuple):
    """Final detections of one image, best score first."""

    boxes: Tensor  # f32 [N, 4]
    scores: Tensor  # f32 [N], 0..1
    labels: Tensor  # i64 [N]

    def select(self, keep: Tensor) -> Detections:
        """The detections at ``keep`` (indices or a mask); ``detections[keep]`` would index the fields instead."""
        return Detections(*(field[keep] for field in self))


@dataclass(frozen=True)
class Category:
    """A class: its position in the card is the model's index, ``id`` is the data set's own number."""

    id: int
    name: str


@dataclass(frozen=True)
class ModelCard:
    """What must be known to use the weights; stored with them in every checkpoint, exported file and report."""

    task: str  # "detection"
    name: str  # "ssdlite_v2_shapes"
    model: dict[str, Any]  # what checkpoint.build_model takes: _target_ and its arguments, the backbone's inside
    postprocess: dict[str, Any]  # arguments of the decoder
    categories: tuple[Category, ...]
    input_size: tuple[int, int]  # (H, W)
    mean: tuple[float, float, float]  # of 0..255 values, in colour order
    std: tuple[float, float, float]
    resize: str = "stretch"  # to input_size, bilinear, aspect ratio not kept
    colour_order: str = "RGB"
    metrics: dict[str, float | None] = field(default_factory=dict)
    training_data: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    score_thresholds: tuple[float | None, ...] = ()  # of each category, where F1 is best on the validation split

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers: what JSON and a ``weights_only`` checkpoint can hold."""
        plain = asdict(self)
        for key in ("input_size", "mean", "std", "categories", "score_thresholds"):
            plain[key] = list(plain[key])
        return migrations.marked(plain)

    def replace(self, **changes: Any) -> ModelCard:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, plain: dict[str, Any], what: str = "The model card") -> ModelCard:
        """Inverse of :meth:`to_dict`, for cards that come from anywhere.

        Raises UserError, which begins with ``what``, for a key that a card does not have and a value that it cannot have.
        """
        try:
            require_plain(plain, "card")
            if not isinstance(plain, dict):
                raise Wrong("card", f"is {shown(plain)}, not a dictionary")
            card: ModelCard = matched(migrations.upgraded(plain, migrations.CARD_STEPS, what), cls, "card")
            _check_card(card)
        except Wrong as error:
            raise UserError(f"{what} cannot be used: {error}; get the file again from where it was made.") from error
        return card


def _check_card(card: ModelCard) -> None:
    """Raises Wrong for a value that a card cannot have though its type is right."""
    if not is_name(card.name):  # of folders, and in the programs that the export writes
        raise Wrong("card.name", f"is {shown(card.name)}, not a name that a folder can have")
    height, width = card.input_size
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise Wrong("card.input_size", f"is {list(card.input_size)}, not [height, width] of 1 to {MOST_PIXELS} pixels")
    if min(card.std) <= 0:
        raise Wrong("card.std", f"is {list(card.std)}, not three numbers above 0")
    thresholds = card.score_thresholds
    if thresholds and len(thresholds) != len(card.categories):
        raise Wrong(
            "card.score_thresholds", f"holds {len(thresholds)} numbers, and there are {len(card.categories)} classes"
        )
    if not all(value is None or 0 <= value <= 1 for value in thresholds):
        raise Wrong("card.score_thresholds", f"is {shown(list(thresholds))}, not numbers from 0 to 1")
    if card.colour_order != "RGB":
        raise Wrong("card.colour_order", f"is {shown(card.colour_order)}, not 'RGB', the only one that is known")
