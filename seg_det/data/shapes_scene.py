"""Scenes of the embedded data set: where the shapes lie, what is visible of them, and a picture of it.

A scene is laid out first (outlines, placement, occlusion) and painted afterwards, so that the geometry can be had
without a picture. Everything random comes from the generator that the caller hands in.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

WIDTH, HEIGHT = 480, 360
RADIUS = (16.0, 110.0)  # pixels, log-uniform: objects under 32^2 and over 96^2 pixels both occur
COUNTS = (0.05, 0.12, 0.19, 0.22, 0.18, 0.12, 0.08, 0.04)  # probability of 0..7 objects tried
PLACEMENT_TRIES = 8
MIN_INSIDE = 0.7  # of an object's pixels lie inside the image
MIN_UNCOVERED = 0.6  # of an object's pixels stay visible, border and occlusion together
MIN_FRAGMENT = 0.03  # of an object's visible pixels; a smaller piece beyond an occluder is left out
CONTRAST = (60.0, 160.0)  # colour distance of an object to its surroundings, log-uniform, in 0..255 RGB
SUPERSAMPLING = 4


def _circle(radius: float = 1.0, points: int = 96) -> np.ndarray:
    angle = np.linspace(0.0, 2 * np.pi, points, endpoint=False)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _star(points: int, inner: float) -> np.ndarray:
    return _circle(points=2 * points) * np.where(np.arange(2 * points) % 2, inner, 1.0)[:, None]


def _cross(arm: float = 0.34) -> np.ndarray:
    quarter = np.array([(1.0, -arm), (1.0, arm), (arm, arm)])
    turn = np.array([(0.0, 1.0), (-1.0, 0.0)])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _crescent(shift: float = 0.42, bite: float = 0.8) -> np.ndarray:
    """The unit disc less a disc of radius ``bite`` at (shift, 0)."""
    meet = (1 + shift**2 - bite**2) / (2 * shift)
    outer = np.arccos(meet)
    inner = np.arctan2(np.sin(outer), meet - shift)
    around, back = np.linspace(outer, 2 * np.pi - outer, 64), np.linspace(2 * np.pi - inner, inner, 48)[1:-1]
    disc = np.stack([np.cos(around), np.sin(around)], axis=1)
    bitten = bite * np.stack([np.cos(back), np.sin(back)], axis=1) + (shift, 0.0)
    return np.concatenate([disc, bitten])


# One class a row: its closed outlines, filled by the even-odd rule. The order is that of the class indices.
OUTLINES: dict[str, tuple[np.ndarray, ...]] = {
    "circle": (_circle(),),
    "square": (_circle(points=4),),
    "triangle": (_circle(points=3),),
    "pentagon": (_circle(points=5),),
    "star": (_star(5, inner=0.42),),
    "cross": (_cross(),),
    "ring": (_circle(), _circle(radius=0.56)),
    "crescent": (_crescent(),),
}
CLASSES = tuple(OUTLINES)


class Sprite(NamedTuple):
    """A filled outline: the part inside the image, and how many pixels it would have without the image's border."""

    alpha: np.ndarray  # f32 [h, w], coverage 0..1 of each pixel
    window: tuple[slice, slice]  # rows and columns of the image that alpha stands for
    full_area: int


class Scene(NamedTuple):
    """Objects from back to front, and which of them each pixel shows."""

    labels: tuple[int, ...]  # class indices
    sprites: tuple[Sprite, ...]
    owner: np.ndarray  # u8 [HEIGHT, WIDTH]: 0 where background is visible, k + 1 for object k

    def visible(self, k: int) -> np.ndarray:
        """Visible pixels of object ``k``: bool [HEIGHT, WIDTH]."""
        return self.owner == k + 1


def rasterise(outlines: list[np.ndarray]) -> Sprite:
    """Anti-aliased fill of ``outlines`` (continuous pixel coordinates), supersampled and then averaged."""
    corners = np.concatenate(outlines)
    low, high = np.floor(corners.min(axis=0)).astype(int) - 1, np.ceil(corners.max(axis=0)).astype(int) + 1
    columns, rows = high - low
    fine = np.zeros((rows * SUPERSAMPLING, columns * SUPERSAMPLING), np.uint8)
    # OpenCV's integer coordinates are pixel centres; 4 fractional bits
    points = [np.rint(((outline - low) * SUPERSAMPLING - 0.5) * 16).astype(np.int32) for outline in outlines]
    cv2.fillPoly(fine, points, 255, shift=4)
    alpha = cv2.resize(fine, (int(columns), int(rows)), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    (left, top), (right, bottom) = low.clip(0, (WIDTH, HEIGHT)), high.clip(0, (WIDTH, HEIGHT))
    inside = alpha[top - low[1] : bottom - low[1], left - low[0] : right - low[0]]
    return Sprite(inside, (slice(top, bottom), slice(left, right)), cv2.countNonZero((alpha >= 0.5).astype(np.uint8)))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def centred(outlines: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """``outlines`` about (0, 0), with the farthest corner of the first one at distance 1."""
    middle = (outlines[0].min(axis=0) + outlines[0].max(axis=0)) / 2
    unit = np.linalg.norm(outlines[0] - middle, axis=1).max()
    return [(outline - middle) / unit for outline in outlines]


def _pose(outlines: tuple[np.ndarray, ...], rng: np.random.Generator) -> list[np.ndarray]:
    """``outlines`` at a random place, size and rotation of the image, slightly stretched and seen at an angle."""
    radius, centre = log_uniform(rng, *RADIUS), rng.uniform((0, 0), (WIDTH, HEIGHT))
    stretch = np.sqrt(log_uniform(rng, 0.75, 1 / 0.75))
    tilt = rng.uniform(-0.15, 0.15, 2)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    flat = [outline * (stretch, 1 / stretch) for outline in centred(outlines)]
    return [(points / (1 + points @ tilt)[:, None]) @ turn * radius + centre for points in flat]


def _drop_fragments(owner: np.ndarray, sprites: list[Sprite]) -> None:
    """Give the slivers that show beyond an occluder to the background; in place."""
    for k, sprite in enumerate(sprites):
        part = owner[sprite.window]
        pieces, piece_of, stats, _ = cv2.connectedComponentsWithStats((part == k + 1).astype(np.uint8), connectivity=8)
        if pieces > 2:
            area = stats[1:, cv2.CC_STAT_AREA]
            part[np.isin(piece_of, 1 + np.flatnonzero(area < MIN_FRAGMENT * area.sum()))] = 0


def lay_out(rng: np.random.Generator) -> Scene:
    """Place 0..7 objects, later ones in front; one that would hide too much of another or of itself is left out."""
    owner = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels: list[int] = []
    sprites: list[Sprite] = []
    for _ in range(rng.choice(len(COUNTS), p=COUNTS)):
        label = int(rng.integers(len(CLASSES)))
        for _ in range(PLACEMENT_TRIES):
            sprite = rasterise(_pose(OUTLINES[CLASSES[label]], rng))
            covered = owner.copy()
            covered[sprite.window][sprite.alpha >= 0.5] = len(sprites) + 1
            visible = np.bincount(covered.ravel(), minlength=len(sprites) + 2)[1:]
            needed = [MIN_UNCOVERED * other.full_area for other in sprites] + [MIN_INSIDE * sprite.full_area]
            if (visible >= needed).all():
                owner = covered
                labels.append(label)
                sprites.append(sprite)
                break
    _drop_fragments(owner, sprites)
    return Scene(tuple(labels), tuple(sprites), owner)


def _noise(rng: np.random.Generator, height: int, width: int, octaves: int, coarsest: float) -> np.ndarray:
    """Smooth noise in octaves: f32 [height, width], about 0..1; ``coarsest`` is the longest period in pixels."""
    total = np.zeros((1, 1), np.float32)
    for octave in range(octaves):
        period = coarsest / 2**octave
        grid = rng.random((int(height / period) + 2, int(width / period) + 2), np.float32)
        # the sum so far grows with the grid: only the last enlargement has the full size
        total = cv2.resize(total, grid.shape[::-1], interpolation=cv2.INTER_CUBIC) + grid * 0.5 ** (octave + 1)
    return cv2.resize(total, (width, height), interpolation=cv2.INTER_CUBIC) / (1 - 0.5**octaves)


def _pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One of six patterns at a random scale and direction: f32 [height, width], about 0..1."""
    kind = rng.choice(("plain", "gradient", "noise", "stripes", "dots", "checks"), p=(0.1, 0.2, 0.3, 0.2, 0.1, 0.1))
    if kind == "plain":
        return np.zeros((height, width), np.float32)
    if kind == "noise":
        return _noise(rng, height, width, octaves=4, coarsest=log_uniform(rng, 8, 60))
    angle, period = rng.uniform(0, 2 * np.pi), log_uniform(rng, 5, 40)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    if kind == "gradient":
        return (along - along.min()) / max(float(np.ptp(along)), 1.0)
    across = np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x
    pitch = np.float32(2 * np.pi / period)
    if kind == "stripes":
        wave = np.sin(along * pitch)
    elif kind == "checks":
        wave = 2 * np.sin(along * pitch) * np.sin(across * pitch)
    else:
        wave = 2 * (np.cos(along * pitch) + np.cos(across * pitch)) - 1.5
    return np.clip(0.5 + log_uniform(rng, 0.5, 3) * wave, 0, 1)


def contrasting(rng: np.random.Generator, colour: np.ndarray, distance: float) -> np.ndarray:
    """A colour at ``distance`` from ``colour``, mostly lighter or darker; the opposite one where the gamut ends."""
    step = rng.normal() + 0.6 * rng.normal(size=3)
    step *= distance / np.linalg.norm(step)
    ends = np.clip(np.stack([colour + step, colour - step]), 0, 255)
    return ends[np.linalg.norm(ends - colour, axis=1).argmax()]


def texture(rng: np.random.Generator, height: int, width: int, colour: np.ndarray) -> np.ndarray:
    """``colour`` and a second one, mixed by a pattern: f32 [height, width, 3]."""
    other = contrasting(rng, colour, rng.uniform(10, 110))
    return cv2.transform(_pattern(rng, height, width), np.stack([other - colour, colour], axis=1))


def _grey(plane: np.ndarray) -> np.ndarray:
    """[H, W] as three equal channels: OpenCV's arithmetic is several times as fast on them as numpy's broadcasting."""
    return cv2.merge([plane, plane, plane])


def _paint(canvas: np.ndarray, sprite: Sprite, rng: np.random.Generator) -> None:
    """Paint a textured sprite whose rim is a little darker or lighter, as a rounded thing's is; in place."""
    below = canvas[sprite.window].astype(np.float32)
    height, width = sprite.alpha.shape
    colour = contrasting(rng, np.array(cv2.mean(below)[:3]), log_uniform(rng, *CONTRAST))
    surface = texture(rng, height, width, colour)
    inner = cv2.GaussianBlur(sprite.alpha, (0, 0), max(1.0, 0.04 * (height + width)))
    surface *= _grey(1 + rng.uniform(-0.15, 0.5) * (inner - 1))
    canvas[sprite.window] = cv2.add(below, _grey(sprite.alpha) * (surface - below), dtype=cv2.CV_8U)


def _blob(rng: np.random.Generator) -> Sprite:
    """A patch of no class: a wobbly curve or a ragged polygon."""
    curved = rng.random() < 0.6
    unit = _circle(points=60 if curved else int(rng.integers(7, 12)))
    if curved:
        angle = np.linspace(0, 2 * np.pi, len(unit), endpoint=False)
        waves = np.arange(2, 6)[:, None]
        size = 1 + (rng.normal(0, 0.17, (4, 1)) * np.cos(waves * angle + rng.uniform(0, 7, (4, 1)))).sum(axis=0)
    else:
        size = rng.uniform(0.25, 1.3, len(unit))
    radius = log_uniform(rng, 16, 150) * np.array((1.0, rng.uniform(0.4, 1.0)))
    centre = rng.uniform(0, (WIDTH, HEIGHT))
    return rasterise([unit * size.clip(0.2)[:, None] * radius + centre])


def _scribble(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """One bent line or open arc; in place."""
    colour = np.clip(rng.uniform(0, 255) + rng.normal(0, 40, 3), 0, 255).tolist()
    thickness = int(rng.integers(1, 7))
    start = rng.uniform(0, (WIDTH, HEIGHT))
    if rng.random() < 0.3:
        axes, turn, begin = rng.integers(10, 90, 2).tolist(), int(rng.integers(360)), int(rng.integers(360))
        end = begin + int(rng.integers(40, 200))
        cv2.ellipse(canvas, start.astype(int).tolist(), axes, turn, begin, end, colour, thickness, cv2.LINE_AA)
        return
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, 8))
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * log_uniform(rng, 2, 40)
    points = np.rint((start + np.cumsum(steps, axis=0)) * 16).astype(np.int32)
    cv2.polylines(canvas, [points], False, colour, thickness, cv2.LINE_AA, shift=4)


def background(rng: np.random.Generator) -> np.ndarray:
    """Texture, coarse colour variation and clutter without a class: u8 [HEIGHT, WIDTH, 3]."""
    # half the size, then enlarged: farther than the objects, so a little out of focus, and four times as fast
    height, width = HEIGHT // 2, WIDTH // 2
    colour = np.clip(rng.uniform(40, 215) + rng.normal(0, 28, 3), 15, 240)
    tint = cv2.resize(rng.normal(0, 15, (4, 5, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    cloud = (_noise(rng, height, width, octaves=5, coarsest=80) - 0.5) * rng.uniform(20, 200)
    ground = cv2.add(texture(rng, height, width, colour) + tint, _grey(cloud), dtype=cv2.CV_8U)
    canvas = cv2.resize(ground, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(2, 8)):
        _paint(canvas, _blob(rng), rng)
    for _ in range(rng.integers(3, 16)):
        _scribble(canvas, rng)
    return canvas


def paint_scene(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """``scene`` as a camera might see it, unevenly lit, a little soft and noisy: u8 [HEIGHT, WIDTH, 3]."""
    canvas = background(rng)
    for sprite in scene.sprites:
        _paint(canvas, sprite, rng)
    light = _noise(rng, HEIGHT, WIDTH, octaves=1, coarsest=240) * rng.uniform(0, 125) + rng.uniform(180, 230)
    grain = rng.standard_normal((HEIGHT, WIDTH), np.float32) * rng.uniform(1, 8)
    soft = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.1))
    lit = cv2.multiply(soft, _grey(light.astype(np.int16)), scale=1 / 255, dtype=cv2.CV_16S)
    return cv2.add(lit, _grey(np.rint(grain).astype(np.int16)), dtype=cv2.CV_8U)
