"""Data sets as torch sees them: samples drawn and augmented reproducibly, whatever the number of workers."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

import cv2
import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from seg_det.data.collate import collate_classification, collate_detection, collate_segmentation
from seg_det.data.images import read_rgb
from seg_det.data.mixing import CLASSIFICATION_BETA, DETECTION_BETA, MosaicLayout, mosaic
from seg_det.data.records import (
    ClassificationRecord,
    ClassificationSource,
    DetectionRecord,
    DetectionSource,
    SegmentationRecord,
    SegmentationSource,
    Source,
)
from seg_det.data.samplers import EpochSampler, ShareSampler, SizeBatches, repeat_factors
from seg_det.data.transforms import ClassificationTransform, DetectionTransform, SegmentationTransform
from seg_det.errors import UserError
from seg_det.ops.images import sides
from seg_det.types import ClassificationSample, DetectionSample, SegmentationSample

Transform = DetectionTransform | ClassificationTransform | SegmentationTransform
Sample = DetectionSample | ClassificationSample | SegmentationSample
One = TypeVar("One", DetectionSample, ClassificationSample, SegmentationSample)
GRACE = 30  # seconds, more than a step takes
MIXING = 1  # after a sample's seed: another stream (0 would be the same one)
Seed = tuple[int, ...]  # of the run, turn, index, and which one of the images of a mosaic


class SourceDataset(Dataset[One], ABC):
    """Samples of a source, transformed; one subclass a kind of source.

    The key ``turn * len + index`` says which image, and how it is augmented:

    the same seed, turn and index give the same sample in any worker process, so a resumed run goes on exactly. Turns
    are epochs, unless an epoch has some images more than once.
    In the first ``mixed_turns`` images are mixed as the transform says. Samples for ``evaluation`` hold what only that asks for.
    """

    what: ClassVar[str]  # the samples, for messages
    of: ClassVar[type]  # the source
    takes: ClassVar[type]  # the transform
    augmentations: ClassVar[str]  # the choices of conf/augmentation
    collate: ClassVar[Callable[..., Any]]  # samples to a batch

    def __init__(
        self,
        source: Source,
        transform: Transform,
        *,
        seed: int = 0,
        evaluation: bool = False,
        mixed_turns: int = 0,
    ):
        self.source = source
        self.transform = transform
        self.seed = seed
        self.evaluation = evaluation
        self.mixed_turns = mixed_turns

    def __len__(self) -> int:
        return len(self.source.records)

    def __getitem__(self, key: int) -> One:
        turn, index = divmod(key, len(self))
        seed = (self.seed, turn, index)
        sample = self.sample(self.source.records[index], seed)
        return self.mixed(sample, seed) if turn < self.mixed_turns else sample

    @abstractmethod
    def sample(self, record: Any, seed: Seed) -> One:
        """The sample of one record; a function of the arguments alone."""

    def mixed(self, sample: One, seed: Seed) -> One:
        """The sample with others in it, or with the share of it that is to be mixed with the next; by the seed alone."""
        return sample


class DetectionDataset(SourceDataset[DetectionSample]):
    """DetectionSamples of a DetectionSource."""

    source: DetectionSource
    transform: DetectionTransform

    what, of, takes = "detection", DetectionSource, DetectionTransform
    augmentations = "ssd, light, flip, flip_both or none"
    collate = staticmethod(collate_detection)

    def sample(self, record: DetectionRecord, seed: Seed) -> DetectionSample:
        """The record's image and objects, transformed. Raises UserError as :func:`read_image` does."""
        image, boxes, kept = self.transform(read_image(record), record.boxes, seed=seed)
        return DetectionSample(
            image=_to_tensor(image),
            boxes=torch.from_numpy(boxes),
            labels=torch.from_numpy(record.labels[kept]),
            crowd=torch.from_numpy(record.crowd[kept]),
            difficult=torch.from_numpy(record.difficult[kept]),
            image_id=record.image_id,
            size=record.size,
        )

    def mixed(self, sample: DetectionSample, seed: Seed) -> DetectionSample:
        """With a probability each: a mosaic with three other images, a share for mixup."""
        rng, mixing = np.random.default_rng((*seed, MIXING)), self.transform.mixing
        if rng.random() < mixing.mosaic:
            layout = MosaicLayout.draw(rng, sides(sample.image))
            places = enumerate(rng.integers(len(self), size=3), start=MIXING + 1)
            others = [self.sample(self.source.records[index], (*seed, place)) for place, index in places]
            sample = mosaic([sample, *others], layout)
        if rng.random() < mixing.mixup:
            sample = sample._replace(share=float(rng.beta(DETECTION_BETA, DETECTION_BETA)))
        return sample


class ClassificationDataset(SourceDataset[ClassificationSample]):
    """ClassificationSamples of a ClassificationSource."""

    transform: ClassificationTransform

    what, of, takes = "classification", ClassificationSource, ClassificationTransform
    augmentations = "inception, flip, flip_both or none"
    collate = staticmethod(collate_classification)

    def sample(self, record: ClassificationRecord, seed: Seed) -> ClassificationSample:
        """The record's image, transformed, and its class. Raises UserError naming the file if it is broken."""
        image = self.transform(read_rgb(record.path), seed=seed)
        return ClassificationSample(_to_tensor(image), record.label, record.image_id)

    def mixed(self, sample: ClassificationSample, seed: Seed) -> ClassificationSample:
        """With a probability, a share for mixup."""
        rng = np.random.default_rng((*seed, MIXING))
        if rng.random() < self.transform.mixing.mixup:
            return sample._replace(share=float(rng.beta(CLASSIFICATION_BETA, CLASSIFICATION_BETA)))
        return sample


class SegmentationDataset(SourceDataset[SegmentationSample]):
    """SegmentationSamples of a SegmentationSource; those for evaluation hold the masks as they are in the files too."""

    transform: SegmentationTransform

    what, of, takes = "segmentation", SegmentationSource, SegmentationTransform
    augmentations = "segmentation, flip, flip_both or none"
    collate = staticmethod(collate_segmentation)

    def sample(self, record: SegmentationRecord, seed: Seed) -> SegmentationSample:
        """The record's image and mask, transformed. Raises UserError as :func:`read_image` and :func:`read_mask` do."""
        truth = read_mask(record)
        image, mask = self.transform(read_image(record), truth, seed=seed)
        return SegmentationSample(
            image=_to_tensor(image),
            mask=torch.from_numpy(np.ascontiguousarray(mask)),
            image_id=record.image_id,
            size=record.size,
            original=torch.from_numpy(truth) if self.evaluation else None,
        )


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def read_image(record: DetectionRecord | SegmentationRecord) -> np.ndarray:
    """The record's image, u8 [H, W, 3] RGB. Raises UserError if it is broken or of another size than was annotated."""
    image = read_rgb(record.path)
    require_annotated_size(record, image)
    return image


def require_annotated_size(record: Any, image: np.ndarray) -> None:
    """Raise UserError for an image of another size than its record says, where that says one."""
    size = getattr(record, "size", None)
    if size is not None and image.shape[:2] != tuple(size):
        raise UserError(
            f"{record.path} has {image.shape[1]} x {image.shape[0]} pixels, its annotation says {size[1]} x "
            f"{size[0]}: they do not belong together; correct the annotation, or leave it out with dataset.on_bad=skip."
        )


def read_mask(record: SegmentationRecord) -> np.ndarray:
    """The classes of the record's pixels, u8 [H, W], indices or IGNORE.

    Raises UserError as the record's mask does, and if it is of another size than the image.
    """
    mask = record.mask.read()
    if mask.shape != tuple(record.size):
        raise UserError(
            f"the mask of {record.path} has {mask.shape[1]} x {mask.shape[0]} pixels, the image {record.size[1]} x "
            f"{record.size[0]}: it was changed since it was listed; start again."
        )
    return mask


def _dataset(source: Source, transform: Transform, *, seed: int = 0, evaluation: bool = False) -> SourceDataset[Any]:
    kind = next(kind for kind in SourceDataset.__subclasses__() if kind.of is type(source))
    if not isinstance(transform, kind.takes):
        raise UserError(
            f"{source.name} is a data set for {kind.what}, and the augmentation is for another task: "
            f"set augmentation to {kind.augmentations}."
        )
    return kind(source, transform, seed=seed, evaluation=evaluation)


def loading(num_workers: int) -> dict[str, Any]:
    """The arguments that every DataLoader has in common."""
    return {
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": _start_worker,
    }


def _start_worker(worker: int) -> None:
    """OpenCV's own threads would compete with the training for the cores that the workers share.

    Terminals and schedulers send their signals to all processes: the training decides when its workers end. SIGTERM gives it
    GRACE seconds for that.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


def train_loader(
    source: Source,
    transform: Transform,
    *,
    batch_size: int,
    num_workers: int,
    seed: int,
    epochs: int = 1,
    balance: float | None = None,
) -> DataLoader:
    """Shuffled, augmented batches; an incomplete last one is dropped, unless it is the only one.

    With ``balance`` images of classes that a smaller share of the images shows come more often (:func:`repeat_factors`).
    Mosaic and mixup, where the transform has them, end before the last of the ``epochs``, as it says.
    Raises UserError if ``transform`` is for another task than ``source``, and where the classes cannot be balanced.
    """
    dataset = _dataset(source, transform, seed=seed)
    repeats = None if balance is None else repeat_factors(source, balance)
    sampler = EpochSampler(len(dataset), seed=seed, repeats=repeats)
    dataset.mixed_turns = transform.mixing.turns(epochs, sampler.turns)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=len(sampler) >= batch_size,
        collate_fn=dataset.collate,
        **loading(num_workers),
    )


def evaluation_loader(
    source: Source, transform: Transform, *, batch_size: int, num_workers: int, shared: bool = False
) -> DataLoader:
    """All images once, with what the loss needs; ``shared`` splits them over the processes of a distributed run.

    They come in the source's order, except that images with masks which the transform leaves at different sizes come
    together with those of their own size. Raises UserError if ``transform`` is for another task than ``source``.
    """
    dataset = _dataset(source, transform, evaluation=True)
    sampler = ShareSampler(len(dataset)) if shared else SequentialSampler(dataset)
    batches: Sampler[list[int]]
    if isinstance(source, SegmentationSource):
        view = cast(SegmentationTransform, transform).view  # as the data set has seen to
        sizes = [view.output_size(record.size) for record in source.records]
        batches = SizeBatches(sampler, sizes, batch_size)
    else:
        batches = BatchSampler(sampler, batch_size, drop_last=False)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=dataset.collate, **loading(num_workers))
