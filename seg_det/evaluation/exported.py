"""Exported files among the models: measured by the same evaluators on the same data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seg_det import checkpoint
from seg_det.data.loaders import evaluation_loader
from seg_det.data.records import Source
from seg_det.data.segmentation_transforms import fitted
from seg_det.data.transforms import ClassificationTransform, DetectionTransform, flips
from seg_det.errors import UserError
from seg_det.evaluation.measure import Evaluation, measure
from seg_det.export.base import Session
from seg_det.export.pipeline import outputs_of
from seg_det.export.runtimes import Opened
from seg_det.kinds.kind import Kind
from seg_det.metrics.segmentation import LabelMaps
from seg_det.ops.placement import content_size
from seg_det.postprocess import to_file_size
from seg_det.types import DenseDetections, DenseSegmentation, Detections, ModelCard

AS_THEY_ARE = {  # transforms that leave the images of a kind alone: pipeline=full does its own
    "detection": lambda: DetectionTransform(flips(0, 0), min_side=0.0),
    "classification": lambda: ClassificationTransform(flips(0, 0)),
    "segmentation": lambda: fitted("whole", (1, 1), multiple=1),
}


class FilePredictor(nn.Module):
    """What an exported file predicts, in the form of its kind's predictor; batches hold one image."""

    def __init__(self, kind: Kind, card: ModelCard, export: dict[str, Any], session: Session):
        super().__init__()
        self.kind = kind
        self.expected = outputs_of(card, export["pipeline"])
        self.card = card
        self.pipeline = export["pipeline"]
        self.session = session
        self.inner = None
        if self.pipeline == "raw":  # reads raw outputs; it needs the anchors of the model and none of its weights
            self.inner = kind.predictor(checkpoint.outline(card, f"The card of the exported {card.name}"), card)

    def predict(self, images: Tensor, batch: Any) -> Any:
        """What the metric takes for ``images`` u8 [1, 3, H, W]."""
        outputs = self.outputs(images)
        if self.inner is not None:
            return self.inner.predictions(_raw(self.card.task, outputs), batch)
        return READERS[self.card.task](self, outputs, batch)

    def outputs(self, images: Tensor) -> dict[str, np.ndarray]:
        """The file's own outputs, without the dimension of the batch where it has one."""
        if self.pipeline == "full":
            return self._run(np.ascontiguousarray(images[0].permute(1, 2, 0).numpy()))
        found = self._run(images.float().contiguous().numpy())
        return found if self.pipeline == "raw" else {name: value[0] for name, value in found.items()}

    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What the runtime gives. Raises UserError where that is not what the card promises."""
        try:
            found = self.session(image)
        except Exception as error:  # each runtime has its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise UserError(
                f"The exported {self.card.name} cannot be run on an input of {list(image.shape)} ({reason}): its card and its "
                "file do not belong together; export it again."
            ) from error
        if missing := [name for name in self.expected if name not in found]:
            raise UserError(
                f"The exported {self.card.name} gives no {', '.join(missing)} but {', '.join(found)}: its card and its file do "
                "not belong together; export it again."
            )
        return found

    def _boxes(self, outputs: dict[str, np.ndarray], batch: Any) -> list[Detections]:
        count = int(outputs["count"])
        boxes, scores, labels = (torch.from_numpy(np.array(outputs[n][:count])) for n in ("boxes", "scores", "labels"))
        found = Detections(boxes.float(), scores.float(), labels.long())
        if self.pipeline != "full":
            found = to_file_size(found, self.card.input_size, tuple(batch.sizes[0].tolist()))
        return [found]

    def _labels(self, outputs: dict[str, np.ndarray], batch: Any) -> list[LabelMaps]:
        mask = torch.from_numpy(outputs["mask"].astype(np.uint8))
        if self.pipeline != "full":
            size = tuple(batch.sizes[0].tolist())
            content = content_size(self.card.resize, size, self.card.input_size)
            for dim, (length, part) in enumerate(zip(size, content, strict=True)):
                places = (torch.arange(length, dtype=torch.float64) + 0.5) * part / length
                mask = mask.index_select(dim, places.long())
        return [LabelMaps(mask, batch.originals[0])]

    def _scores(self, outputs: dict[str, np.ndarray], batch: Any) -> Tensor:
        # The metric takes logits: the logarithms of probabilities are such.
        return torch.from_numpy(np.array(outputs["scores"])).float().clamp(min=1e-30).log()[None]


READERS = {
    "detection": FilePredictor._boxes,
    "segmentation": FilePredictor._labels,
    "classification": FilePredictor._scores,
}


def file_loader(kind: Kind, card: ModelCard, export: dict[str, Any], source: Source, num_workers: int) -> DataLoader:
    """All images of ``source`` as the file's pipeline takes them, one at a time."""
    as_they_are = export["pipeline"] == "full"
    transform = AS_THEY_ARE[kind.name]() if as_they_are else kind.evaluation_transform(card)
    return evaluation_loader(source, transform, batch_size=1, num_workers=num_workers)


def evaluate_file(
    kind: Kind, opened: Opened, source: Source, *, num_workers: int, options: dict[str, Any] | None = None
) -> Evaluation:
    """Run an exported file over all of ``source`` (whose labels are its card's) and score it."""
    predictor = FilePredictor(kind, opened.card, opened.export, opened.session)
    loader = file_loader(kind, opened.card, opened.export, source, num_workers)
    return measure(predictor, loader, kind.metric(source, **(options or {})), source)


def _raw(task: str, outputs: dict[str, np.ndarray]) -> Any:
    logits = torch.from_numpy(np.array(outputs["logits"])).float()
    if task == "detection":
        return DenseDetections(logits, torch.from_numpy(np.array(outputs["deltas"])).float())
    return DenseSegmentation(logits) if task == "segmentation" else logits
