"""The detections of an evaluation in little memory: 24 bytes each, in one array an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from seg_det.types import Detections


class PackedDetections(Mapping[int, Detections]):
    """Detections by image id, on the CPU; an image seen before is left out, see :meth:`add`.

    A row f32 [6] holds a box, a score and a label, which float32 tells apart up to 2**24.
    """

    def __init__(self) -> None:
        self._rows: dict[int, np.ndarray] = {}

    def add(self, image_id: int, found: Detections) -> None:
        """Keep a copy of ``found``, unless there are detections of that image; nothing of it is kept alive."""
        if image_id not in self._rows:
            parts = (found.boxes, found.scores[:, None], found.labels[:, None])
            self._rows[image_id] = torch.cat([part.detach().to("cpu", torch.float32) for part in parts], 1).numpy()

    def clear(self) -> None:
        """Forget all."""
        self._rows.clear()

    def __getitem__(self, image_id: int) -> Detections:
        rows = torch.from_numpy(self._rows[image_id])
        return Detections(rows[:, :4], rows[:, 4], rows[:, 5].long())

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
