"""A trained network as a function: canvases in, predictions in pixels of the images out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seg_det.errors import UserError
from seg_det.ops.images import normalise, sides
from seg_det.predict.preprocessing import Preprocessing, Size
from seg_det.types import ModelCard


class ImageFault(UserError):
    """An image that a predictor cannot use; others of the same model can do."""


class NotFinite(ImageFault):
    """A network's output that is NaN or infinite; ``rows`` are the places of the images in the batch.

    ``names`` say of each image of the batch which one it is, ``files`` where it was read from.
    """

    def __init__(
        self, rows: Sequence[int], names: Sequence[object] | None = None, files: Sequence[object] | None = None
    ):
        self.rows = list(rows)
        first = self.rows[0]
        facts = ["NaN or infinity"]
        facts += [str(files[first])] if files else []
        facts += [f"{len(self.rows)} images of the batch"] if len(self.rows) > 1 else []
        super().__init__(
            f"the model's output for the image {names[first] if names else first} is not finite ({'; '.join(facts)}): its "
            "weights are broken, or numbers of 16 bits overflow; use an earlier checkpoint or 32 bits, or train again with a "
            "lower recipe.lr"
        )


class Predictor(Protocol):
    """What evaluation and :class:`~seg_det.predict.model.Model` use: a network, or an exported file."""

    card: ModelCard
    preprocessing: Preprocessing  # from an image to the canvas that ``predict`` takes
    one_by_one: bool  # whether a batch gains nothing

    def predict(self, images: Tensor, sizes: Sequence[Size]) -> list[Any]:
        """What is found on canvases u8 [B, 3, h, w] of images of ``sizes``, in pixels of these; a form of its own by task.

        Raises NotFinite.
        """
        ...


class NetworkPredictor(nn.Module, ABC):
    """A network with the pre- and post-processing of its card; one subclass a task, which says how raw output is decoded."""

    one_by_one = False
    mean: Tensor  # f32 [3]
    std: Tensor  # f32 [3]

    def __init__(self, model: nn.Module, card: ModelCard):
        super().__init__()
        self.model = model
        self.card = card
        self.preprocessing = Preprocessing.of(card)
        self.register_buffer("mean", torch.tensor(card.mean), persistent=False)
        self.register_buffer("std", torch.tensor(card.std), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.mean.device

    def forward(self, images: Tensor) -> Any:
        """Raw output for canvases u8 [B, 3, h, w]."""
        return self.model(normalise(images, self.mean, self.std))

    @abstractmethod
    def decode(self, raw: Any, canvas: Size, sizes: Sequence[Size]) -> list[Any]:
        """Predictions from the raw output for canvases of size ``canvas``, in pixels of images of ``sizes``."""

    def predict(self, images: Tensor, sizes: Sequence[Size]) -> list[Any]:
        """See :class:`Predictor`."""
        return self.decode(self(images), sides(images), sizes)


def require_finite(parts: Sequence[Tensor]) -> None:
    """Raise NotFinite for the images of a batch of which a part [B, ...] is not finite."""
    largest = torch.stack([part.detach().float().abs().flatten(1).amax(1) for part in parts], 1)
    finite = largest.isfinite().all(1).tolist()
    if not all(finite):
        raise NotFinite([row for row, fine in enumerate(finite) if not fine])
