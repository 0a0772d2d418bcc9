"""Generate large scenes of small shapes into ``datasets/shapes_scenes``: ``python datasets/prepare_shapes_scenes.py``.

Each scene is a grid of images as ``dataset=shapes`` has them, so that a detector for those finds small objects in large
images: what tiles are for. They are read with ``dataset=custom_coco dataset.root=datasets/shapes_scenes``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from seg_det.data.images import read_rgb
from seg_det.data.shapes import generate_shapes
from seg_det.errors import UserError
from seg_det.files import whole, write_json
from seg_det.report.drawings import encode_jpeg

DATASETS = Path("datasets")  # below the working directory, where conf/dataset looks
SPLIT = "val"
QUALITY = 95


def write_scenes(root: Path, parts: Path, *, scenes: int, columns: int, shrink: float) -> None:
    """Write ``scenes`` grids of ``columns`` x ``columns`` images of the shapes in ``parts``, made smaller by ``shrink``."""
    found = json.loads((parts / "annotations" / f"instances_{SPLIT}.json").read_text(encoding="utf-8"))
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in found["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    images, annotations = [], []
    for number in tqdm(range(1, scenes + 1), desc="writing scenes", unit="scene", delay=2):
        some = found["images"][(number - 1) * columns**2 : number * columns**2]
        scene, objects = _scene(parts, some, by_image, columns, shrink)
        name = f"{number:06d}.jpg"
        with whole(root / SPLIT / name) as file:
            file.write(encode_jpeg(scene, QUALITY))
        images.append({"id": number, "file_name": name, "width": scene.shape[1], "height": scene.shape[0]})
        for box, category in objects:
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": category, "bbox": box, "iscrowd": 0}
            annotations.append({**row, "area": box[2] * box[3]})
    content = {"images": images, "annotations": annotations, "categories": found["categories"]}
    write_json(root / "annotations" / f"{SPLIT}.json", content)


def _scene(
    parts: Path,
    images: Sequence[dict[str, Any]],
    by_image: dict[int, list[dict[str, Any]]],
    columns: int,
    shrink: float,
) -> tuple[np.ndarray, list[tuple[list[float], int]]]:
    """The pixels u8 [H, W, 3] RGB, and (xywh, category) of each object."""
    height, width = (round(images[0][side] / shrink) for side in ("height", "width"))
    scene = np.empty((columns * height, columns * width, 3), np.uint8)
    objects = []
    for place, image in enumerate(images):
        top, left = place // columns * height, place % columns * width
        pixels = read_rgb(parts / "images" / SPLIT / image["file_name"])
        scene[top : top + height, left : left + width] = cv2.resize(
            pixels, (width, height), interpolation=cv2.INTER_AREA
        )
        scale = (width / image["width"], height / image["height"])
        for annotation in by_image.get(image["id"], []):
            x, y, w, h = annotation["bbox"]
            box = [x * scale[0] + left, y * scale[1] + top, w * scale[0], h * scale[1]]
            objects.append(([round(side, 3) for side in box], annotation["category_id"]))
    return scene, objects


def main(argv: Sequence[str] | None = None) -> int:
    """Generate the scenes; returns the exit status (1: a UserError, printed)."""
    parser = argparse.ArgumentParser(description="Generate large scenes of small shapes, annotated in COCO's format.")
    parser.add_argument(
        "--root", type=Path, default=DATASETS / "shapes_scenes", help="where they are written (%(default)s)"
    )
    parser.add_argument("--scenes", type=int, default=20, help="how many (%(default)s)")
    parser.add_argument("--columns", type=int, default=3, help="images beside and below one another (%(default)s)")
    parser.add_argument("--shrink", type=float, default=1.5, help="how much smaller they are made (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the drawings; dataset=shapes has 0 (%(default)s)")
    args = parser.parse_args(argv)
    try:
        for name, value, least in (
            ("scenes", args.scenes, 1),
            ("columns", args.columns, 1),
            ("shrink", args.shrink, 1),
        ):
            if not value >= least:
                raise UserError(f"--{name} must be at least {least}, got {value}.")
        with tempfile.TemporaryDirectory() as folder:
            count = args.scenes * args.columns**2
            parts = generate_shapes(Path(folder) / "shapes", seed=args.seed, train_images=1, val_images=count)
            write_scenes(args.root, parts, scenes=args.scenes, columns=args.columns, shrink=args.shrink)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.scenes} scenes are ready: {args.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
