"""Exported files of every target: opened by their suffix, and called as a network is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from seg_det import checkpoint, sidecar
from seg_det.errors import UserError
from seg_det.ops.images import sides
from seg_det.predict.lookup import task_of
from seg_det.predict.predictor import NotFinite
from seg_det.predict.preprocessing import AS_IT_IS, Preprocessing, Size
from seg_det.quiet import quiet_loading
from seg_det.registry import TARGETS
from seg_det.types import ModelCard

Session = Callable[[np.ndarray], dict[str, np.ndarray]]  # the input to the outputs by name, see seg_det.export


class Opened(NamedTuple):
    """An exported file that can be run."""

    path: Path
    card: ModelCard
    export: dict[str, Any]  # see seg_det.sidecar.Described
    session: Session


@cache
def targets() -> dict[str, Any]:
    """The classes of the export targets by the suffix of their files."""
    members: list[Any] = [TARGETS.get(name) for name in TARGETS]  # of seg_det.export, a package above
    return {target.suffix: target for target in members if target.opens}


def is_exported(reference: str) -> bool:
    """Whether ``reference`` has the name of an exported file."""
    return Path(reference).suffix in targets()


def open_file(path: Path) -> Opened:
    """The exported file ``path``, ready to run.

    Raises UserError if it is missing or of something else, its runtime is not installed, or its card is missing or altered.
    """
    target = targets()[path.suffix]
    if not path.exists():
        raise UserError(f"There is no exported file {path}.")
    target.require()
    if reason := target().elsewhere():
        raise UserError(f"{path} cannot be run here: {reason}.")
    described = sidecar.read(path, target().embedded(path))
    try:
        with quiet_loading():
            session = target.session(str(path))
    except Exception as error:  # each runtime has its own
        raise UserError(f"{path} cannot be opened as {target.name} ({str(error)[:160]}): export it again.") from error
    return Opened(path, *described, session)


class FilePredictor:
    """An exported file as a :class:`~seg_det.predict.predictor.Predictor`; it takes one image after the other, on the CPU.

    Raises UserError for a card of an unknown task and, where the file gives raw outputs, one that describes no model.
    """

    one_by_one = True

    def __init__(self, opened: Opened):
        self.card = card = opened.card
        self.what = f"The card of {opened.path}"
        self.pipeline = opened.export["pipeline"]
        self.session = opened.session
        self._lock, self._begun = Lock(), False
        self.task = task_of(card, self.what)
        # Decodes raw outputs; it needs the anchors, and none of the weights.
        self.decoder = self.task.predictor(self.network, card) if self.pipeline == "raw" else None
        if self.decoder is not None:
            self.preprocessing = self.decoder.preprocessing
        else:
            self.preprocessing = Preprocessing.of(card, AS_IT_IS if self.pipeline == "full" else card.resize)

    @cached_property
    def network(self) -> nn.Module:
        """The network that the card describes, without memory for its tensors. Raises UserError if it cannot be built."""
        outline = checkpoint.outline(self.card, self.what)
        task_of(self.card, self.what, outline)
        return outline

    def predict(self, images: Tensor, sizes: Sequence[Size]) -> list[Any]:
        """See :class:`~seg_det.predict.predictor.Predictor`. Raises UserError where card and file do not belong together."""
        found, broken = [], []
        for row, (image, size) in enumerate(zip(images, sizes, strict=True)):
            try:
                found.append(self._one(image[None].cpu(), size))
            except NotFinite:
                broken.append(row)
        if broken:
            raise NotFinite(broken)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def _one(self, image: Tensor, size: Size) -> Any:
        outputs = self.outputs(image)
        if self.decoder is None:
            return self.task.read(outputs, self.card, size, self.pipeline == "full")
        raw = {name: torch.from_numpy(np.array(outputs[name])).float() for name in self.task.raw_outputs}
        return self.decoder.decode(self.task.raw(raw), sides(image), [size])[0]

    def outputs(self, images: Tensor) -> dict[str, np.ndarray]:
        """The file's own outputs for u8 [1, 3, h, w], without the dimension of the batch where predictions have it."""
        if self.pipeline == "full":
            return self._run(np.ascontiguousarray(images[0].permute(1, 2, 0).numpy()))
        found = self._run(images.float().contiguous().numpy())
        return found if self.pipeline == "raw" else {name: value[0] for name, value in found.items()}

    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What the runtime gives. Raises UserError where that is not what the card promises."""
        try:
            # Not every runtime may be called by two threads at once; some tell at the first call how they run the file.
            with self._lock, nullcontext() if self._begun else quiet_loading():
                found = self.session(image)
                self._begun = True
        except Exception as error:  # each runtime has its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise UserError(
                f"The exported {self.card.name} cannot be run on an input of {list(image.shape)} ({reason}): its card and its "
                "file do not belong together; export it again."
            ) from error
        expected = self.task.raw_outputs if self.pipeline == "raw" else self.task.outputs
        if missing := [name for name in expected if name not in found]:
            raise UserError(
                f"The exported {self.card.name} gives no {', '.join(missing)} but {', '.join(found)}: its card and its file do "
                "not belong together; export it again."
            )
        if any(value.dtype.kind == "f" and not np.isfinite(value).all() for value in found.values()):
            raise NotFinite([0])
        return found
