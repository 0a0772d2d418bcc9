"""What stands in the place of a result for an image that could not be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seg_det.errors import UserError
from seg_det.predict.result import Result


class Failed(Result):
    """An image of several that could not be used; every attribute of a result raises its error."""

    error: UserError
    place: int  # among the images

    def __init__(self, error: UserError, source: Any, place: int):
        object.__setattr__(self, "error", error)
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "place", place)

    @property
    def ok(self) -> bool:
        """False."""
        return False

    def image(self) -> np.ndarray:
        """Raises the error."""
        raise self.error

    @property
    def names(self) -> list[str]:
        """Raises the error."""
        raise self.error

    def only(self, labels: Sequence[int]) -> Failed:
        """Raises the error."""
        raise self.error

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Raises the error."""
        raise self.error

    def drawn(self, image: np.ndarray) -> np.ndarray:
        """Raises the error."""
        raise self.error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "error":
            raise AttributeError(name)
        raise UserError(f"there is no {name}: {self.error}") from self.error

    def __repr__(self) -> str:
        return f"Failed({self.error})"
