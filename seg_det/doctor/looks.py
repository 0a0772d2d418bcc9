"""One look at each image of a data set: the file is read and decoded once, and a few numbers of it are kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from seg_det.data.images import damage, decode_rgb
from seg_det.data.similar import Digest, dhash, thumbnail
from seg_det.errors import UserError
from seg_det.progress import progress_bar

LONGEST = 256  # pixels of the longer side of the copy that is measured
LUMA = np.array((0.241, 0.691, 0.068), np.float32)  # weights of the squares in perceived brightness, as in CleanVision
SIGNATURES = (  # of the formats that are read: where, what, the format and its suffixes
    (0, b"\xff\xd8\xff", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    (0, b"\x89PNG\r\n\x1a\n", "PNG", (".png",)),
    (0, b"BM", "BMP", (".bmp", ".dib")),
    (8, b"WEBP", "WebP", (".webp",)),
    (0, b"GIF8", "GIF", (".gif",)),
    (0, b"II*\0", "TIFF", (".tif", ".tiff")),
    (0, b"MM\0*", "TIFF", (".tif", ".tiff")),
)


class Look(NamedTuple):
    """What one look at an image gave; where ``fault`` says that it cannot be read, the numbers mean nothing."""

    path: Path
    fault: str = ""  # a sentence
    damage: str = ""  # a sentence on a file that decodes nevertheless
    format: str = ""  # by the content
    suffix_fits: bool = True
    size: tuple[int, int] = (0, 0)  # (H, W), upright
    content: bytes = b""  # hash of the file's bytes
    pixels: bytes = b""  # hash of the decoded pixels
    digest: Digest | None = None  # with a thumbnail in colours
    dark: float = 1.0  # brightness of the brightest hundredth of the pixels, 0..1
    bright: float = 0.0  # that of the darkest hundredth
    spread: float = 1.0  # largest standard deviation of a colour channel, 0..255
    entropy: float = 8.0  # bits of the histogram of tones
    sharpness: float = 0.0  # 99.9th percentile of the second derivative, 0..255
    colour: float = 255.0  # largest difference between the channels of a pixel


def look_at(path: Path) -> Look:
    """Read, decode and measure an image; never raises for a bad one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Look(path, fault=f"the image {path} cannot be read ({error.strerror})")
    try:
        rgb = decode_rgb(data, path)
    except UserError as error:
        return Look(path, fault=str(error))
    measured = _measured(rgb)
    return measured._replace(
        path=path,
        damage=damage(path) or "",
        **_format(data, path),
        size=rgb.shape[:2],
        content=hashlib.blake2b(data, digest_size=16).digest(),
        pixels=hashlib.blake2b(np.ascontiguousarray(rgb).data, digest_size=16).digest(),
    )


def look_at_all(paths: Iterable[Path], title: str) -> dict[Path, Look]:
    """A look at each image, in threads (decoding leaves Python free), with a progress bar."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = progress_bar(pool.map(look_at, unique), title, len(unique), unit="image")
        return {look.path: look for look in looks}


def _format(data: bytes, path: Path) -> dict[str, Any]:
    for place, signature, name, suffixes in SIGNATURES:
        if data[place:].startswith(signature):
            return {"format": name, "suffix_fits": path.suffix.lower() in suffixes}
    return {"format": "", "suffix_fits": True}


def _measured(rgb: np.ndarray) -> Look:
    """The numbers of an image u8 [H, W, 3]."""
    small = _reduced(rgb)
    red, green, blue = cv2.split(small)
    brightness = np.sqrt(cv2.transform(small.astype(np.float32) ** 2, LUMA[None])) / 255
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    shares = shares[shares > 0]
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F)) if min(grey.shape) > 2 else np.full((1, 1), 255.0)
    darkest, brightest = np.percentile(brightness, (1, 99))
    most, least = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    return Look(
        Path(),
        digest=Digest(dhash(grey), thumbnail(small)),
        dark=float(brightest),
        bright=float(darkest),
        spread=float(cv2.meanStdDev(small)[1].max()),
        entropy=float(-(shares * np.log2(shares)).sum()),
        sharpness=float(np.percentile(edges, 99.9)),
        colour=float(cv2.subtract(most, least).max()),
    )


def _reduced(rgb: np.ndarray) -> np.ndarray:
    scale = LONGEST / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
