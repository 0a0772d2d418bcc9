"""What a detector might find in the frames of a generated video: boxes that are a little off, misses, false positives."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from seg_det.data.shapes_scene import HEIGHT, WIDTH
from seg_det.data.shapes_video import VideoTruth, shapes_truth


class Found(NamedTuple):
    """The detections of a frame, boxes xyxy."""

    boxes: np.ndarray  # f32 [N, 4]
    scores: np.ndarray  # f32 [N]
    labels: np.ndarray  # i64 [N]


class Detector(NamedTuple):
    """How badly it detects: standard deviation in pixels, probability of a miss, false positives a frame, lowest score."""

    noise: float = 2.0
    miss: float = 0.1
    false: float = 0.5
    faintest: float = 0.6


PLAIN = Detector()


def detected(seed: int, frames: int, objects: int, detector: Detector = PLAIN) -> Iterator[tuple[VideoTruth, Found]]:
    """Truth and detections of each frame of a generated video, in random order; less visible objects score less."""
    rng = np.random.default_rng((seed, 99))
    for truth in shapes_truth(seed, frames=frames, objects=objects):
        kept = np.flatnonzero(rng.random(len(truth.ids)) >= detector.miss)
        boxes = truth.boxes[kept] + rng.normal(0, detector.noise, (len(kept), 4))
        scores = truth.visibility[kept] * rng.uniform(detector.faintest, 1, len(kept))
        count = rng.poisson(detector.false)
        corner, size = rng.uniform((0, 0), (WIDTH - 60, HEIGHT - 60), (count, 2)), rng.uniform(20, 120, (count, 2))
        boxes = np.concatenate([boxes, np.concatenate([corner, corner + size], axis=1)])
        scores = np.concatenate([scores, rng.uniform(0.1, 0.8, count)])
        labels = np.concatenate([truth.labels[kept], rng.integers(8, size=count)])
        order = rng.permutation(len(boxes))
        yield (
            truth,
            Found(boxes[order].round(1).astype(np.float32), scores[order].round(3).astype(np.float32), labels[order]),
        )
