"""Data sets as torch sees them: samples drawn and augmented reproducibly, whatever the number of workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from seg_det.data.collate import collate_classification, collate_detection, collate_segmentation
from seg_det.data.images import read_rgb
from seg_det.data.records import (
    ClassificationRecord,
    ClassificationSource,
    DetectionRecord,
    DetectionSource,
    SegmentationRecord,
    SegmentationSource,
)
from seg_det.data.transforms import ClassificationTransform, DetectionTransform, SegmentationTransform
from seg_det.types import ClassificationSample, DetectionSample, SegmentationSample, UserError

Source = DetectionSource | ClassificationSource | SegmentationSource
Transform = DetectionTransform | ClassificationTransform | SegmentationTransform
Sample = DetectionSample | ClassificationSample | SegmentationSample
Seed = tuple[int, int, int]  # of the run, epoch, index
EVALUATION_PIXELS = 2**22  # in a batch of images as large as they are in their files: two of 1024 x 2048


class SourceDataset(Dataset, ABC):
    """Samples of a source, transformed. The key ``epoch * len + index`` says which image, and how it is augmented:

    the same seed, epoch and index give the same sample in any worker process, so a resumed run goes on exactly.
    Samples for ``evaluation`` hold what only that asks for.
    """

    def __init__(self, source: Source, transform: Transform, *, seed: int = 0, evaluation: bool = False):
        self.source = source
        self.transform = transform
        self.seed = seed
        self.evaluation = evaluation

    def __len__(self) -> int:
        return len(self.source.records)

    def __getitem__(self, key: int) -> Sample:
        epoch, index = divmod(key, len(self))
        return self.sample(self.source.records[index], (self.seed, epoch, index))

    @abstractmethod
    def sample(self, record: Any, seed: Seed) -> Sample:
        """The sample of one record; a function of the arguments alone."""


class DetectionDataset(SourceDataset):
    """DetectionSamples of a DetectionSource."""

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


class ClassificationDataset(SourceDataset):
    """ClassificationSamples of a ClassificationSource."""

    def sample(self, record: ClassificationRecord, seed: Seed) -> ClassificationSample:
        """The record's image, transformed, and its class. Raises UserError naming the file if it is broken."""
        image = self.transform(read_rgb(record.path), seed=seed)
        return ClassificationSample(_to_tensor(image), record.label, record.image_id)


class SegmentationDataset(SourceDataset):
    """SegmentationSamples of a SegmentationSource; those for evaluation hold the masks as they are in the files too."""

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


class Pipeline(NamedTuple):
    """What goes together with the sources of one task."""

    task: str
    dataset: type[SourceDataset]
    transform: type[Transform]
    augmentations: str  # the choices of conf/augmentation
    collate: Callable[..., Any]


PIPELINES = {
    DetectionSource: Pipeline(
        "detection", DetectionDataset, DetectionTransform, "ssd, light, flip, flip_both or none", collate_detection
    ),
    ClassificationSource: Pipeline(
        "classification", ClassificationDataset, ClassificationTransform, "inception", collate_classification
    ),
    SegmentationSource: Pipeline(
        "segmentation",
        SegmentationDataset,
        SegmentationTransform,
        "segmentation, flip, flip_both or none",
        collate_segmentation,
    ),
}


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def read_image(record: DetectionRecord | SegmentationRecord) -> np.ndarray:
    """The record's image, u8 [H, W, 3] RGB. Raises UserError if it is broken or of another size than was annotated."""
    image = read_rgb(record.path)
    if image.shape[:2] != tuple(record.size):
        raise UserError(
            f"{record.path} has {image.shape[1]} x {image.shape[0]} pixels, its annotation says {record.size[1]} x "
            f"{record.size[0]}: they do not belong together; correct the annotation, or leave it out with dataset.on_bad=skip."
        )
    return image


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


def process_share() -> tuple[int, int]:
    """Rank of this process and how many there are: (0, 1) outside a distributed run."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


class ShareSampler(Sampler[int]):
    """Every image once, in order, split over the processes of a distributed run."""

    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return len(range(*self._range()))

    def __iter__(self) -> Iterator[int]:
        return iter(range(*self._range()))

    def _range(self) -> tuple[int, int, int]:
        rank, processes = process_share()
        return rank, self.length, processes


class SizeBatches(Sampler[list[int]]):
    """Batches of images of one size, the sizes in the order of their first image; of the keys that ``sampler`` gives.

    Large images come in smaller batches, of ``pixels`` at most where one image has no more, so that memory stays bounded.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        sizes: Sequence[tuple[int, int]],
        batch_size: int,
        *,
        pixels: int = EVALUATION_PIXELS,
    ):
        self.sampler = sampler
        self.sizes = sizes
        self.batch_size = batch_size
        self.pixels = pixels

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[list[int]]:
        groups: dict[tuple[int, int], list[int]] = {}
        for key in self.sampler:
            groups.setdefault(self.sizes[key], []).append(key)
        for (height, width), group in groups.items():
            count = max(1, min(self.batch_size, self.pixels // (height * width)))
            for start in range(0, len(group), count):
                yield group[start : start + count]


class EpochSampler(Sampler[int]):
    """Shuffled keys of one epoch (see SourceDataset), split over the processes of a distributed run."""

    def __init__(self, length: int, *, seed: int = 0):
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // process_share()[1]

    def __iter__(self) -> Iterator[int]:
        rank, processes = process_share()
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        share = order[rank : len(self) * processes : processes]
        return iter((self.epoch * self.length + share).tolist())


def _dataset(source: Source, transform: Transform, *, seed: int = 0, evaluation: bool = False) -> SourceDataset:
    pipeline = PIPELINES[type(source)]
    if not isinstance(transform, pipeline.transform):
        raise UserError(
            f"{source.name} is a data set for {pipeline.task}, and the augmentation is for another task: "
            f"set augmentation to {pipeline.augmentations}."
        )
    return pipeline.dataset(source, transform, seed=seed, evaluation=evaluation)


def _one_thread(worker: int) -> None:
    """OpenCV's own threads would compete with the training for the cores that the workers share."""
    cv2.setNumThreads(0)


def train_loader(source: Source, transform: Transform, *, batch_size: int, num_workers: int, seed: int) -> DataLoader:
    """Shuffled, augmented batches; an incomplete last one is dropped, unless it is the only one.

    Raises UserError if ``transform`` is for another task than ``source``.
    """
    dataset = _dataset(source, transform, seed=seed)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(len(dataset), seed=seed),
        drop_last=len(dataset) >= batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=PIPELINES[type(source)].collate,
        worker_init_fn=_one_thread,
    )


def evaluation_loader(
    source: Source, transform: Transform, *, batch_size: int, num_workers: int, shared: bool = False
) -> DataLoader:
    """All images once; ``shared`` splits them over the processes of a distributed run.

    They come in the source's order, except that images with masks which the transform leaves at different sizes come
    together with those of their own size. Raises UserError if ``transform`` is for another task than ``source``.
    """
    dataset = _dataset(source, transform, evaluation=True)
    sampler = ShareSampler(len(dataset)) if shared else SequentialSampler(dataset)
    if isinstance(source, SegmentationSource):
        sizes = [transform.view.output_size(record.size) for record in source.records]
        batches = SizeBatches(sampler, sizes, batch_size)
    else:
        batches = BatchSampler(sampler, batch_size, drop_last=False)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=PIPELINES[type(source)].collate,
        worker_init_fn=_one_thread,
    )
