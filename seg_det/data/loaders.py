"""Data sets as torch sees them: samples drawn and augmented reproducibly, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, Sampler

from seg_det.data.collate import collate_detection
from seg_det.data.images import read_rgb
from seg_det.data.records import DetectionRecord, DetectionSource
from seg_det.data.transforms import DetectionTransform
from seg_det.types import DetectionSample, UserError


class DetectionDataset(Dataset[DetectionSample]):
    """Samples of a source, transformed. The key ``epoch * len + index`` says which image, and how it is augmented:

    the same seed, epoch and index give the same sample in any worker process, so a resumed run goes on exactly.
    """

    def __init__(self, source: DetectionSource, transform: DetectionTransform, *, seed: int = 0):
        self.source = source
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source.records)

    def __getitem__(self, key: int) -> DetectionSample:
        epoch, index = divmod(key, len(self))
        record = self.source.records[index]
        image, boxes, kept = self.transform(read_image(record), record.boxes, seed=(self.seed, epoch, index))
        return DetectionSample(
            image=torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1),
            boxes=torch.from_numpy(boxes),
            labels=torch.from_numpy(record.labels[kept]),
            crowd=torch.from_numpy(record.crowd[kept]),
            difficult=torch.from_numpy(record.difficult[kept]),
            image_id=record.image_id,
            size=record.size,
        )


def read_image(record: DetectionRecord) -> np.ndarray:
    """The record's image, u8 [H, W, 3] RGB. Raises UserError if it is broken or of another size than was annotated."""
    image = read_rgb(record.path)
    if image.shape[:2] != tuple(record.size):
        raise UserError(
            f"{record.path} has {image.shape[1]} x {image.shape[0]} pixels, its annotation says {record.size[1]} x "
            f"{record.size[0]}: the boxes cannot be trusted; correct the annotation, or leave it out with dataset.on_bad=skip."
        )
    return image


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


class EpochSampler(Sampler[int]):
    """Shuffled keys of one epoch (see DetectionDataset), split over the processes of a distributed run."""

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


def _one_thread(worker: int) -> None:
    """OpenCV's own threads would compete with the training for the cores that the workers share."""
    cv2.setNumThreads(0)


def train_loader(
    source: DetectionSource, transform: DetectionTransform, *, batch_size: int, num_workers: int, seed: int
) -> DataLoader:
    """Shuffled, augmented batches; an incomplete last one is dropped, unless it is the only one."""
    dataset = DetectionDataset(source, transform, seed=seed)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(len(dataset), seed=seed),
        drop_last=len(dataset) >= batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate_detection,
        worker_init_fn=_one_thread,
    )


def evaluation_loader(
    source: DetectionSource, transform: DetectionTransform, *, batch_size: int, num_workers: int, shared: bool = False
) -> DataLoader:
    """All images once, in the source's order; ``shared`` splits them over the processes of a distributed run."""
    return DataLoader(
        DetectionDataset(source, transform),
        sampler=ShareSampler(len(source.records)) if shared else None,
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate_detection,
        worker_init_fn=_one_thread,
    )
