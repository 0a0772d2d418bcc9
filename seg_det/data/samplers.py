"""Which images come when: every epoch shuffled and balanced reproducibly, evaluation in batches that fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch.distributed as dist
from torch.utils.data import Sampler

from seg_det.data.coco_seg import DrawnMask
from seg_det.data.records import ClassificationSource, DetectionSource, SegmentationRecord, Source
from seg_det.errors import UserError
from seg_det.types import IGNORE

EVALUATION_PIXELS = 2**22  # in a batch of images as large as they are in their files: two of 1024 x 2048


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
    """Shuffled keys of one epoch (see SourceDataset), split over the processes of a distributed run.

    ``repeats`` f64 [length]: how often each image comes on average, at least 1; an epoch holds the sum of it. The part after
    the point is left to chance, drawn for all images together so that epochs have one length. Copies of an image in an
    epoch are augmented differently.
    """

    def __init__(self, length: int, *, seed: int = 0, repeats: np.ndarray | None = None):
        self.length = length
        self.seed = seed
        self.repeats = np.ones(length) if repeats is None else repeats
        self.turns = 1 if repeats is None else math.ceil(repeats.max(initial=1)) + 1  # room for each image in an epoch
        self.epoch = 0
        self._begin = (0, 0)

    def resume(self, epoch: int, keys: int) -> None:
        """In ``epoch`` leave out the first ``keys`` of this process, which were trained on before."""
        self._begin = (epoch, keys)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return round(self.repeats.sum()) // process_share()[1]

    def __iter__(self) -> Iterator[int]:
        rank, processes = process_share()
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(self.length)
        turn = np.zeros_like(order)
        if self.turns > 1:
            order, turn = self._repeated(order, generator)
        keys = (self.epoch * self.turns + turn) * self.length + order
        first = self._begin[1] if self._begin[0] == self.epoch else 0
        return iter(keys[rank : len(self) * processes : processes][first:].tolist())

    def _repeated(self, order: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Images and which of their turns it is, shuffled: systematic sampling along the images in random order."""
        ends = np.cumsum(self.repeats[order])
        ends *= round(ends[-1]) / ends[-1]
        counts = np.diff(np.floor(ends + generator.random()).astype(int), prepend=0)
        images = np.repeat(order, counts)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        turns = np.arange(len(images)) - starts
        shuffle = generator.permutation(len(images))
        return images[shuffle], turns[shuffle]


def repeat_factors(source: Source, share: float) -> np.ndarray:
    """How often each image should come in an epoch so that rare classes are learned, f64 [N], at least 1.

    A class that the share f of the images shows asks for max(1, sqrt(share / f)), an image for what its rarest class does,
    one that shows none for 1. Crowds are no objects, and the background of masks is no class here.
    Source: LVIS (arXiv 1908.03195), section 4.1.

    Raises UserError for a share outside 0..1, and for mask files, whose classes are not known before they are read; masks
    that are drawn from annotations (COCO's) tell theirs.
    """
    if not 0 < share <= 1:
        raise UserError(f"data.balance must be a share of the images above 0 and at most 1, or null, got {share}.")
    images, classes = _shown(source)
    frequency = np.bincount(classes, minlength=len(source.categories)) / max(1, len(source.records))
    asked = np.sqrt(share / frequency[classes]).clip(min=1)
    factors = np.ones(len(source.records))
    np.maximum.at(factors, images, asked)
    return factors


def _shown(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Which image shows which class, each pair once: positions of records and indices of categories, i64 [P] each."""
    if isinstance(source, ClassificationSource):
        return np.arange(len(source.records)), np.array([record.label for record in source.records], np.int64)
    if isinstance(source, DetectionSource):
        labels = [record.labels[~record.crowd] for record in source.records]
    else:
        labels = [_drawn_classes(record, source.name) for record in source.records]
    images = np.repeat(np.arange(len(labels)), [len(one) for one in labels])
    pairs = np.unique(images * len(source.categories) + np.concatenate([np.zeros(0, np.int64), *labels]))
    return np.divmod(pairs, len(source.categories))


def _drawn_classes(record: SegmentationRecord, name: str) -> np.ndarray:
    if not isinstance(record.mask, DrawnMask):
        raise UserError(
            f"data.balance must know the classes of each image, which the mask files of {name} tell only once they are read: "
            "set it to null; the classes of masks are weighed by task.loss.class_weights."
        )
    return np.array([region.label for region in record.mask.regions if region.label != IGNORE], np.int64)
