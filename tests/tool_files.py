"""Annotations as labelling tools write them: the same objects in the form of each tool, and in COCO's."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ["open", "short"]  # sorted
SIZES = {"a.png": (80, 60), "b.png": (64, 50), "c.png": (40, 40)}  # width, height
# By image: class, left, top, right, bottom; of fractions that every tool's form keeps. The last image has none.
BOXES = {
    "a.png": [("short", 30, 15, 50, 45), ("open", 0.5, 12.25, 20, 18)],
    "b.png": [("open", 4, 5, 36, 25)],
    "c.png": [],
}
OUTLINE = [10.0, 5.0, 60.0, 5.0, 60.0, 40.0, 30.0, 45.0]  # a polygon on a.png


def picture(path: Path, size=(80, 60), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, **options)
    return path


def pictures(folder: Path) -> None:
    for name, size in SIZES.items():
        picture(folder / name, size)


def write(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco(folder: Path) -> Path:
    rows, images = [], []
    for number, (name, (width, height)) in enumerate(SIZES.items(), start=1):
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, x1, y1, x2, y2 in BOXES[name]:
            category = NAMES.index(label) + 1
            row = {"id": len(rows) + 1, "image_id": number, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            rows.append(row)
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
    return write(folder / "coco.json", {"images": images, "annotations": rows, "categories": categories})


def labelme(folder: Path) -> None:
    """Version 5: corners in the order of the clicks, here from the lower right to the upper left."""
    for name, (width, height) in SIZES.items():
        shapes = [labelme_shape(label, [[x2, y2], [x1, y1]], "rectangle") for label, x1, y1, x2, y2 in BOXES[name]]
        write(folder / f"{Path(name).stem}.json", labelme_file(name, shapes, (width, height)))


def labelme_shape(label, points, kind, **more) -> dict:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def labelme_file(name, shapes, size=(80, 60)) -> dict:
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": "AAAA"}
    return {**content, "imageHeight": size[1], "imageWidth": size[0]}


def label_studio(folder: Path) -> None:
    tasks = []
    for number, (name, size) in enumerate(SIZES.items(), start=1):
        results = [studio_box(*box, size=size, region=f"r{i}") for i, box in enumerate(BOXES[name])]
        tasks.append(studio_task(number, f"/data/upload/1/0a1b2c3d-{name}", [studio_annotation(number, results)]))
    write(folder / "project-1.json", tasks)


def studio_box(label, x1, y1, x2, y2, *, size=(80, 60), region="r", **more) -> dict:
    share = {"x": x1 / size[0], "y": y1 / size[1], "width": (x2 - x1) / size[0], "height": (y2 - y1) / size[1]}
    value = {**{key: 100 * one for key, one in share.items()}, "rotation": 0, "rectanglelabels": [label], **more}
    return studio_result("rectanglelabels", value, size=size, region=region)


def studio_result(kind, value, *, size=(80, 60), region="r", **more) -> dict:
    frame = {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
    return {"id": region, "type": kind, "from_name": "label", "to_name": "image", "value": value, **frame, **more}


def studio_annotation(identity, results, **more) -> dict:
    return {"id": identity, "was_cancelled": False, "ground_truth": False, "result": results, **more}


def studio_task(identity, image, annotations) -> dict:
    return {"id": identity, "annotations": annotations, "predictions": [], "data": {"image": image}}


def via(folder: Path) -> None:
    write(folder / "via_project.json", {"_via_settings": {}, "_via_img_metadata": via_entries()})


def via_entries() -> dict:
    entries = {}
    for name in SIZES:
        regions = [
            via_region({"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}, label)
            for label, x1, y1, x2, y2 in BOXES[name]
        ]
        entries[f"{name}123"] = {"filename": name, "size": 123, "regions": regions, "file_attributes": {}}
    return entries


def via_region(shape, label) -> dict:
    return {"shape_attributes": shape, "region_attributes": {} if label is None else {"kind": label}}


def createml(folder: Path) -> None:
    entries = []
    for name in SIZES:
        objects = [
            {
                "label": label,
                "coordinates": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1},
            }
            for label, x1, y1, x2, y2 in BOXES[name]
        ]
        entries.append({"image": name, "annotations": objects})
    write(folder / "_annotations.createml.json", entries)


def cvat(folder: Path) -> None:
    images = ""
    for number, (name, size) in enumerate(SIZES.items()):
        shapes = "".join(
            f'<box label="{label}" occluded="0" xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}" z_order="0"/>'
            for label, x1, y1, x2, y2 in BOXES[name]
        )
        images += cvat_image(shapes, name, size, number)
    write(folder / "annotations.xml", cvat_file(images))


def cvat_image(shapes, name="a.png", size=(80, 60), number=0, more="") -> str:
    return f'<image id="{number}" name="{name}" width="{size[0]}" height="{size[1]}" {more}>{shapes}</image>'


def cvat_file(images, labels=NAMES) -> str:
    declared = "".join(f"<label><name>{name}</name><type>any</type></label>" for name in labels)
    meta = f"<meta><task><id>1</id><labels>{declared}</labels></task></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}{images}</annotations>'


WRITERS = {
    "labelme": labelme,
    "label_studio": label_studio,
    "via": via,
    "createml": createml,
    "cvat": cvat,
}
