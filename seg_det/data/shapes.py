"""The embedded data set: eight classes of shapes on cluttered pictures, generated once into ordinary files.

The same files serve detection (COCO JSON) and segmentation (masks as PNG), and every figure in them is exact: an object
is its visible pixels, after the image's border and the objects in front of it. ``bbox`` is the tight box of those
pixels, ``area`` their number and ``segmentation`` their outline along the pixels' edges. COCO's polygons have no holes,
so a piece with a hole (a ring, or an object with a smaller one on top) is cut at the hole into parts side by side.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from seg_det.data.coco import read_coco
from seg_det.data.masks import MaskedImage, MaskFile, mask_code, masked_records, segmentation_source
from seg_det.data.problems import Problems
from seg_det.data.records import DetectionSource, SegmentationSource
from seg_det.data.shapes_scene import CLASSES, HEIGHT, WIDTH, Scene, lay_out, paint_scene
from seg_det.errors import UserError
from seg_det.progress import progress_bar
from seg_det.registry import READERS
from seg_det.types import Category

SPLITS = ("train", "val")
Annotations = list[dict[str, Any]]  # of an image
JPEG_QUALITY = 90
MOST_IMAGES = 10**6  # a split: file names have six digits
FORMAT = 1  # raise it whenever the same seed would give other files
MARKER = "shapes.json"


@READERS.register
def read_shapes(
    root: str | Path,
    split: str,
    *,
    kind: str = "detection",
    on_bad: str = "error",
    seed: int = 0,
    train_images: int = 1500,
    val_images: int = 200,
    within: Sequence[Path] | None = None,
) -> DetectionSource | SegmentationSource:
    """One split (``train`` or ``val``) of the embedded data set below ``root``, generated first where it is missing.

    Its masks if ``kind`` is "segmentation", with the background as class 0; else its boxes. ``within`` are the only folders
    in which it may be generated, None: anywhere.
    Raises UserError as :func:`generate_shapes` does, and for an unknown split.
    """
    if split not in SPLITS:
        raise UserError(f"the shapes data set has no split {split!r}; choose one of {', '.join(SPLITS)}")
    if within is not None and not (Path(root) / MARKER).is_file():
        _require_within(Path(root), within)
    root = generate_shapes(Path(root), seed=seed, train_images=train_images, val_images=val_images)
    return _read_masks(root, split, on_bad) if kind == SegmentationSource.kind else _read_boxes(root, split, on_bad)


def _read_boxes(root: Path, split: str, on_bad: str) -> DetectionSource:
    annotations = root / "annotations" / f"instances_{split}.json"
    return read_coco(images=root / "images" / split, annotations=annotations, on_bad=on_bad)


def _require_within(root: Path, folders: Sequence[Path]) -> None:
    """Raise UserError unless ``root`` is one of ``folders`` or lies in one of them, links followed."""
    if not any(root.resolve().is_relative_to(Path(folder).resolve()) for folder in folders):
        raise UserError(
            f"The run's shapes data set {root} is missing, and a saved configuration generates none outside the working folder: "
            f"name it yourself with dataset=shapes dataset.root={root}, or with dataset.root= alone where you resume."
        )


def _read_masks(root: Path, split: str, on_bad: str) -> SegmentationSource:
    problems = Problems(on_bad)
    names = ("background", *CLASSES)
    code = mask_code(range(len(names)))
    images = sorted((root / "images" / split).glob("*.jpg"))
    masks = root / "masks" / split
    listed = [MaskedImage(path, MaskFile(masks / f"{path.stem}.png", code), int(path.stem)) for path in images]
    name = f"{root.name} {split}"
    categories = [Category(index, name) for index, name in enumerate(names)]
    return segmentation_source(name, masked_records(listed, problems, name), categories, problems)


def generate_shapes(root: Path, *, seed: int = 0, train_images: int = 1500, val_images: int = 200) -> Path:
    """Write the data set below ``root`` and return ``root``; at once if it is there already.

    ``images/{train,val}/000001.jpg`` (RGB, 480 x 360), ``annotations/instances_{train,val}.json`` (COCO, ids from 1)
    and ``masks/{train,val}/000001.png`` (8 bit: 0 background, else class index + 1). Each image has its own random
    stream, so with the same library versions the same seed gives the same bytes, whatever the number of threads. The
    files are built beside ``root`` and renamed, so nobody sees half a data set; of two processes at once one wins.

    Raises UserError if ``root`` holds anything else or was generated with other parameters, or cannot be written.
    """
    marker = {"format": FORMAT, "seed": seed, "train_images": train_images, "val_images": val_images}
    if seed < 0 or train_images < 1 or val_images < 1:
        raise UserError(f"the shapes data set needs seed >= 0 and at least one image a split, got {marker}")
    if max(train_images, val_images) > MOST_IMAGES:
        raise UserError(f"the shapes data set has at most {MOST_IMAGES} images a split, got {marker}")
    if _is_complete(root, marker):
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as beside:
            # one folder deeper: the temporary folder itself is closed to other users
            build = Path(beside) / root.name
            _write_dataset(build, marker, title=f"generating {root}")
            _move_into_place(build, root, marker)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write the shapes data set to {root}: {reason}; choose another dataset.root") from error
    return root


def _is_complete(root: Path, marker: dict[str, int]) -> bool:
    """Whether ``root`` holds this very data set; False if there is nothing there. Raises UserError for all else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or "format" not in found:
        raise UserError(
            f"{root} exists and is not a generated shapes data set (no readable {MARKER} in it); "
            "choose another dataset.root, or move it away"
        )
    if found != marker:
        raise UserError(f"{root} was generated with {found}, wanted {marker}; remove the folder or choose another root")
    return True


def _move_into_place(build: Path, root: Path, marker: dict[str, int]) -> None:
    try:
        build.replace(root)
    except OSError:
        # another process was faster
        if not _is_complete(root, marker):
            raise


def _write_dataset(folder: Path, marker: dict[str, int], title: str) -> None:
    (folder / "annotations").mkdir(parents=True)
    # threads, not processes: OpenCV and numpy's generators let go of the interpreter lock, and a torch that is already
    # loaded does not mind
    whole = marker["train_images"] + marker["val_images"]
    nothing: Iterable[None] | None = None  # to go through: the bar is updated below
    with progress_bar(nothing, title, whole, unit="image", leave=True) as bar:
        for split in SPLITS:
            for kind in ("images", "masks"):
                (folder / kind / split).mkdir(parents=True)
            write = partial(_write_image, folder, split, marker["seed"])
            numbers = range(1, marker[f"{split}_images"] + 1)
            objects = []
            # closing: whatever breaks the loop also cancels the images that wait
            with ThreadPoolExecutor(os.cpu_count()) as pool, closing(_map(pool, write, numbers)) as written:
                for of_image in written:
                    objects.append(of_image)
                    bar.update()
            text = json.dumps(_coco(objects), separators=(",", ":"))
            (folder / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")
    (folder / MARKER).write_text(json.dumps(marker), encoding="utf-8")


def _map(pool: ThreadPoolExecutor, make: Callable[[int], Annotations], items: Iterable[int]) -> Generator[Annotations]:
    return cast(Generator[Annotations], pool.map(make, items))  # annotated as an iterator, which cannot be closed


def _write_image(folder: Path, split: str, seed: int, number: int) -> list[dict[str, Any]]:
    """Picture and mask of image ``number``; returns its annotations, without ids."""
    rng = np.random.default_rng((seed, SPLITS.index(split), number))
    scene = lay_out(rng)
    quality = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
    # imwrite would report a full disk by a return value
    jpeg = cv2.imencode(".jpg", paint_scene(scene, rng), quality)[1]
    png = cv2.imencode(".png", semantic_mask(scene))[1]
    (folder / "images" / split / f"{number:06d}.jpg").write_bytes(jpeg.tobytes())
    (folder / "masks" / split / f"{number:06d}.png").write_bytes(png.tobytes())
    return [annotate(scene.visible(k), label) for k, label in enumerate(scene.labels)]


def _coco(objects: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """The COCO file of one split from the annotations of its images, in order."""
    images = [
        {"id": number, "file_name": f"{number:06d}.jpg", "width": WIDTH, "height": HEIGHT}
        for number in range(1, len(objects) + 1)
    ]
    flat = [{"image_id": number, **one} for number, of_image in enumerate(objects, start=1) for one in of_image]
    return {
        "info": {"description": "seg_det shapes", "version": str(FORMAT)},
        "images": images,
        "annotations": [{"id": number, **one} for number, one in enumerate(flat, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
    }


def semantic_mask(scene: Scene) -> np.ndarray:
    """Class index + 1 of the visible object at each pixel, 0 for background: u8 [H, W]."""
    return np.array((0, *(label + 1 for label in scene.labels)), np.uint8)[scene.owner]


def annotate(visible: np.ndarray, label: int) -> dict[str, Any]:
    """COCO annotation of an object with these ``visible`` pixels (bool [H, W], not empty); its box is xywh."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    polygons = outline_polygons(visible[top : top + height, left : left + width])
    return {
        "category_id": label + 1,
        "bbox": [float(left), float(top), float(width), float(height)],
        "area": float(visible.sum()),
        "iscrowd": 0,
        "segmentation": [np.add(polygon, (left, top)).ravel().tolist() for polygon in polygons],
    }


def outline_polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Polygons along the pixel edges whose union is ``mask`` (bool [H, W]): whole-numbered corners [N, 2] (x, y) each.

    Pixel (x, y) covers [x, x + 1) x [y, y + 1). A hole is opened by a vertical cut through it.
    """
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes = np.flatnonzero(hierarchy[0, :, 3] >= 0) if contours else np.zeros(0, np.int64)
    if len(holes):
        across = contours[holes[0]][:, 0, 0]
        cut = int(across.min() + across.max()) // 4  # a column of the hole
        right = [np.add(polygon, (cut, 0)) for polygon in outline_polygons(mask[:, cut:])]
        return outline_polygons(mask[:, :cut]) + right
    # the centres of the doubled pixels along the rim -> the corners of the pixels themselves
    return [_without_straight_corners((contour[:, 0] + 1) // 2) for contour in contours]


def _without_straight_corners(corners: np.ndarray) -> np.ndarray:
    corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
    arriving, leaving = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    return corners[arriving[:, 0] * leaving[:, 1] != arriving[:, 1] * leaving[:, 0]]
