"""One data set in COCO's, Pascal VOC's and YOLO's form."""

import json
from pathlib import Path

import numpy as np
from tool_files import NAMES, picture


def as_three(root: Path, count=12):
    """The same images and boxes of whole pixels in COCO's, Pascal VOC's and YOLO's form; the boxes by image."""
    rng, truth = np.random.default_rng(0), {}
    images, annotations = [], []
    for folder in ("Annotations", "ImageSets/Main", "labels/train"):
        (root / folder).mkdir(parents=True)
    for number in range(1, count + 1):
        width, height = rng.integers(50, 120, 2).tolist()
        name = f"{number:06d}.png"
        picture(root / "images" / "train" / name, (width, height))
        corners = [
            np.sort(rng.choice(side + 1, 2, replace=False)) for _ in range(number % 4) for side in (width, height)
        ]
        boxes = [(x[0], y[0], x[1], y[1]) for x, y in zip(corners[::2], corners[1::2], strict=True)]
        boxes = [tuple(map(int, box)) for box in boxes if box[2] - box[0] > 1 and box[3] - box[1] > 1]
        classes = rng.integers(0, 2, len(boxes)).tolist()
        truth[number] = boxes
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        xml, lines = "", []
        for (left, top, right, bottom), label in zip(boxes, classes, strict=True):
            xywh = [left, top, right - left, bottom - top]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": xywh})
            inclusive = zip(("xmin", "ymin", "xmax", "ymax"), (left + 1, top + 1, right, bottom), strict=True)
            xml += f"<object><name>{NAMES[label]}</name><bndbox>"
            xml += "".join(f"<{key}>{value}</{key}>" for key, value in inclusive) + "</bndbox></object>"
            shares = ((left + right) / 2 / width, (top + bottom) / 2 / height, xywh[2] / width, xywh[3] / height)
            lines.append(f"{label} " + " ".join(map(repr, shares)))
        (root / "Annotations" / f"{number:06d}.xml").write_text(f"<annotation>{xml}</annotation>")
        (root / "labels" / "train" / f"{number:06d}.txt").write_text("\n".join(lines))
    (root / "JPEGImages").symlink_to(root / "images" / "train")
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(f"{n:06d}" for n in range(1, count + 1)))
    (root / "labels.txt").write_text("\n".join(NAMES))
    (root / "data.yaml").write_text(json.dumps({"train": "images/train", "val": "images/train", "names": NAMES}))
    categories = [{"id": label, "name": name} for label, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco.json").write_text(json.dumps(content))
    return truth
