"""Videos of the embedded data set's shapes, with the true box and identity of every shape in every frame.

Shapes enter, cross one another, turn and leave, at constant speed on gently curved paths; each one that has left is followed by
another. The truth is what a detector can see: the tight box of an object's visible pixels, as in the images of
:mod:`seg_det.data.shapes`. An object that is mostly hidden is not in the truth of that frame and comes back with the same id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from seg_det.data.shapes_scene import (
    CLASSES,
    CONTRAST,
    HEIGHT,
    OUTLINES,
    WIDTH,
    Sprite,
    background,
    centred,
    contrasting,
    log_uniform,
    rasterise,
    texture,
)
from seg_det.errors import UserError

RADIUS = (18.0, 64.0)  # pixels, log-uniform
SPEED = (2.0, 7.0)  # pixels a frame, log-uniform
CURVE = 0.012  # radians a frame by which a path turns at most
SPIN = 0.06  # radians a frame by which a shape rotates at most
PAUSE = 20  # frames at most until another shape follows one that has left
MIN_VISIBLE = 0.3  # of an object's pixels; one that shows less is not in the truth
GRAIN = 4.0  # standard deviation of the noise of each pixel
MOTION, BACKGROUND, SURFACE, NOISE = range(4)  # independent random streams of a video


class VideoTruth(NamedTuple):
    """The objects of one frame, from back to front."""

    boxes: np.ndarray  # f32 [N, 4], xyxy: the tight box of the visible pixels
    labels: np.ndarray  # i64 [N], indices of seg_det.data.shapes_scene.CLASSES
    ids: np.ndarray  # i64 [N], from 1; an object has the same one in the whole video
    visibility: np.ndarray  # f32 [N], visible share of the object's pixels, border and objects in front counted


class VideoFrame(NamedTuple):
    """A frame and its objects, as in :class:`VideoTruth`."""

    image: np.ndarray  # u8 [HEIGHT, WIDTH, 3], RGB
    boxes: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    visibility: np.ndarray


@dataclass
class _Mover:
    """An object that moves: its outlines about (0, 0), and where it is."""

    id: int
    label: int
    outlines: list[np.ndarray]
    radius: float
    depth: float  # greater ones are in front
    position: np.ndarray  # f64 [2], x and y
    speed: float
    heading: float  # radians
    curve: float
    angle: float
    spin: float

    def step(self) -> None:
        self.position = self.position + self.speed * np.array([np.cos(self.heading), np.sin(self.heading)])
        self.heading += self.curve
        self.angle += self.spin

    def outside(self) -> bool:
        """Whether no part of it can be in the image."""
        beyond = (self.position < -self.radius) | (self.position > np.array([WIDTH, HEIGHT]) + self.radius)
        return bool(beyond.any())

    def sprite(self) -> Sprite:
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([(cosine, sine), (-sine, cosine)]) * self.radius
        return rasterise([outline @ turn + self.position for outline in self.outlines])


def _new_mover(rng: np.random.Generator, number: int, *, inside: bool) -> _Mover:
    """Object ``number``: somewhere in the image if ``inside``, else just beyond its border; it heads for the middle part."""
    label, radius = int(rng.integers(len(CLASSES))), log_uniform(rng, *RADIUS)
    size, margin = np.array([WIDTH, HEIGHT]), 0.99 * radius
    position = rng.uniform(radius, size - radius)
    if not inside:
        axis = int(rng.integers(2))
        position[axis] = -margin if rng.random() < 0.5 else size[axis] + margin
    towards = rng.uniform(0.25, 0.75, 2) * size - position
    stretch = np.sqrt(log_uniform(rng, 0.75, 1 / 0.75))
    outlines = [outline * (stretch, 1 / stretch) for outline in centred(OUTLINES[CLASSES[label]])]
    widest = max(float(np.linalg.norm(outline, axis=1).max()) for outline in outlines)
    return _Mover(
        id=number,
        label=label,
        outlines=[outline / widest for outline in outlines],
        radius=radius,
        depth=float(rng.random()),
        position=position,
        speed=log_uniform(rng, *SPEED),
        heading=float(np.arctan2(towards[1], towards[0])),
        curve=float(rng.uniform(-CURVE, CURVE)),
        angle=float(rng.uniform(0, 2 * np.pi)),
        spin=float(rng.uniform(-SPIN, SPIN)),
    )


def _moving(seed: int, frames: int, objects: int) -> Iterator[list[tuple[_Mover, Sprite]]]:
    """The objects of each frame, from back to front; their number varies from ``objects`` downwards."""
    rng = np.random.default_rng((seed, MOTION))
    movers = [_new_mover(rng, number, inside=True) for number in range(1, objects + 1)]
    entering: list[int] = []  # frames in which others follow
    number = objects
    for frame in range(frames):
        for _ in range(entering.count(frame)):
            number += 1
            movers.append(_new_mover(rng, number, inside=False))
        yield [(mover, mover.sprite()) for mover in sorted(movers, key=lambda mover: mover.depth)]
        for mover in movers:
            mover.step()
        staying = [mover for mover in movers if not mover.outside()]
        entering = [when for when in entering if when > frame]
        entering += [frame + 1 + int(rng.integers(PAUSE)) for _ in range(len(movers) - len(staying))]
        movers = staying


def _truth(shown: list[tuple[_Mover, Sprite]]) -> VideoTruth:
    owner = np.zeros((HEIGHT, WIDTH), np.int32)
    for place, (_, sprite) in enumerate(shown, start=1):
        owner[sprite.window][sprite.alpha >= 0.5] = place
    rows = []
    for place, (mover, sprite) in enumerate(shown, start=1):
        visible = owner[sprite.window] == place
        share = float(visible.sum()) / sprite.full_area
        if share >= MIN_VISIBLE:
            rows.append((_tight_box(visible, sprite), mover.label, mover.id, share))
    boxes, labels, ids, visibility = zip(*rows, strict=True) if rows else ((), (), (), ())
    return VideoTruth(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ids, np.int64),
        np.array(visibility, np.float32),
    )


def _tight_box(visible: np.ndarray, sprite: Sprite) -> tuple[int, int, int, int]:
    """xyxy of the pixels ``visible`` (bool [h, w], not empty) in the sprite's window."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    top, left = sprite.window[0].start, sprite.window[1].start
    return left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1


def _surface(mover: _Mover, seed: int, colour: np.ndarray) -> np.ndarray:
    """What the object is painted with, f32 [S, S, 3], large enough for any rotation; it keeps it for the whole video."""
    rng = np.random.default_rng((seed, SURFACE, mover.id))
    side = 2 * int(np.ceil(mover.radius)) + 4
    return texture(rng, side, side, contrasting(rng, colour, log_uniform(rng, *CONTRAST)))


def _paint(canvas: np.ndarray, mover: _Mover, sprite: Sprite, surface: np.ndarray) -> None:
    """Paint one object; in place."""
    rows, columns = sprite.window
    left, top = np.rint(mover.position).astype(int) - len(surface) // 2
    part = surface[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    below = canvas[sprite.window]
    below += sprite.alpha[:, :, None] * (part - below)


def _check(seed: int, frames: int, objects: int) -> None:
    if seed < 0 or frames < 1 or objects < 0:
        raise UserError(f"a video needs seed >= 0, frames >= 1 and objects >= 0, got {seed}, {frames} and {objects}.")


def shapes_truth(seed: int = 0, *, frames: int = 150, objects: int = 6) -> Iterator[VideoTruth]:
    """The truth of :func:`shapes_video` without its pictures, which take most of the time. Raises UserError as it does."""
    _check(seed, frames, objects)
    return (_truth(shown) for shown in _moving(seed, frames, objects))


def shapes_video(seed: int = 0, *, frames: int = 150, objects: int = 6) -> Iterator[VideoFrame]:
    """A video of at most ``objects`` moving shapes at a time, frame by frame.

    With the same library versions the same ``seed`` gives the same video, and a longer one begins with the shorter one's frames.
    Raises UserError for a negative seed or number of objects, and for less than one frame.

    >>> frame = next(shapes_video(seed=3))
    >>> frame.image.shape, len(frame.boxes) == len(frame.ids)
    ((360, 480, 3), True)
    """
    _check(seed, frames, objects)
    return _painted(seed, frames, objects)


def _painted(seed: int, frames: int, objects: int) -> Iterator[VideoFrame]:
    scene = background(np.random.default_rng((seed, BACKGROUND))).astype(np.float32)
    colour = np.array(cv2.mean(scene)[:3])
    surfaces: dict[int, np.ndarray] = {}
    for number, shown in enumerate(_moving(seed, frames, objects)):
        canvas = scene.copy()
        # Those that have left are forgotten.
        surfaces = {m.id: surfaces[m.id] if m.id in surfaces else _surface(m, seed, colour) for m, _ in shown}
        for mover, sprite in shown:
            _paint(canvas, mover, sprite, surfaces[mover.id])
        noise = np.random.default_rng((seed, NOISE, number)).standard_normal((HEIGHT, WIDTH), np.float32)
        image = (cv2.GaussianBlur(canvas, (0, 0), 0.6) + GRAIN * noise[:, :, None]).clip(0, 255).astype(np.uint8)
        yield VideoFrame(image, *_truth(shown))
