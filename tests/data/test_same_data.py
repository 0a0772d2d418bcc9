"""Real data in COCO's form written as Pascal VOC and YOLO: the same images, boxes, masks and classes come out."""

import json
from pathlib import Path

import numpy as np
import pytest

from seg_det.data.coco import read_coco
from seg_det.data.coco_seg import read_coco_seg
from seg_det.data.voc import read_voc
from seg_det.data.yolo import read_yolo
from seg_det.errors import UserError


class Part:
    """The first images of a data set's validation part, linked, with what is written about them."""

    def __init__(self, data: Path, root: Path, count: int):
        document = json.loads((data / "annotations" / "val.json").read_bytes())
        self.root, self.images = root, sorted(document["images"], key=lambda image: image["file_name"])[:count]
        self.categories = sorted(document["categories"], key=lambda category: category["id"])
        ids = {image["id"] for image in self.images}
        self.objects = [one for one in document["annotations"] if one["image_id"] in ids]
        for folder in ("images", "labels", "Annotations"):
            (root / folder).mkdir(parents=True)
        for image in self.images:
            (root / "images" / image["file_name"]).symlink_to(data / "val" / image["file_name"])

    def of(self, image):
        return [one for one in self.objects if one["image_id"] == image["id"]]

    def write_coco(self):
        content = {"images": self.images, "annotations": self.objects, "categories": self.categories}
        (self.root / "coco.json").write_text(json.dumps(content))
        return {"root": self.root, "images": "images", "annotations": "coco.json"}

    def write_voc(self):
        names = {category["id"]: category["name"] for category in self.categories}
        for image in self.images:
            xml = ""
            for one in self.of(image):
                x, y, width, height = one["bbox"]
                corners = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + width, y + height), strict=True)
                box = "".join(f"<{corner}>{value!r}</{corner}>" for corner, value in corners)
                xml += f"<object><name>{names[one['category_id']]}</name><bndbox>{box}</bndbox></object>"
            file = self.root / "Annotations" / f"{Path(image['file_name']).stem}.xml"
            file.write_text(f"<annotation>{xml}</annotation>")
        (self.root / "labels.txt").write_text("\n".join(names.values()))
        return {"root": self.root, "split": None, "images": "images", "annotations": "Annotations"}

    def write_yolo(self, names, shares):
        order = [category["id"] for category in self.categories]
        for image in self.images:
            sides = image["width"], image["height"]
            lines = [(order.index(one["category_id"]), *shares(one, *sides)) for one in self.of(image)]
            file = self.root / "labels" / f"{Path(image['file_name']).stem}.txt"
            file.write_text("".join(" ".join(map(repr, line)) + "\n" for line in lines))
        (self.root / "classes.txt").write_text("\n".join(names))
        return {"root": self.root, "split": "."}


def box_shares(one, width, height):
    x, y, w, h = one["bbox"]
    return (x + w / 2) / width, (y + h / 2) / height, w / width, h / height


def polygon_shares(one, width, height):
    (polygon,) = one["segmentation"]
    return [value / side for value, side in zip(polygon, (width, height) * (len(polygon) // 2), strict=True)]


def test_face_masks_whose_first_category_is_0(real_data, tmp_path):
    """The ids of Pascal VOC count from 1; those of COCO and YOLO are as they stand in the files."""
    part = Part(real_data / "data" / "facemask_coco", tmp_path, count=40)
    names = [category["name"] for category in part.categories]
    coco, voc = read_coco(**part.write_coco()), read_voc(**part.write_voc())
    yolo = read_yolo(**part.write_yolo(names, box_shares))
    assert [len(source.records) for source in (coco, voc, yolo)] == [40] * 3 and len(part.objects) > 100
    assert [[category.id for category in source.categories] for source in (coco, voc, yolo)] == [
        [0, 1, 2],
        [1, 2, 3],
        [0, 1, 2],
    ]
    assert {tuple(category.name for category in source.categories) for source in (coco, voc, yolo)} == {tuple(names)}
    for ours in coco.records:
        assert ours.labels.min() >= 0 and len(ours.boxes)
        for source in (voc, yolo):
            theirs = next(record for record in source.records if record.path.name == ours.path.name)
            assert theirs.size == ours.size and theirs.labels.tolist() == ours.labels.tolist()
            assert np.allclose(theirs.boxes, ours.boxes, rtol=0, atol=1e-3)


def test_facades_of_which_two_categories_have_one_name(real_data, tmp_path):
    """They stay two classes by their ids, 0 (which Roboflow adds and nothing has) and 3; names alone do not tell them apart."""
    part = Part(real_data / "data" / "facades_coco", tmp_path, count=8)
    part.objects = [one for one in part.objects if len(one["segmentation"]) == 1]  # a line of YOLO has one polygon
    names = [category["name"] for category in part.categories]
    assert names.count("facade") == 2
    coco = read_coco_seg(**part.write_coco())
    facades = [index for index, category in enumerate(coco.categories) if category.name == "facade"]
    assert [coco.categories[index].id for index in facades] == [0, 3]
    with pytest.raises(UserError, match="names the class 'facade' twice: give each a name of its own"):
        read_yolo(**part.write_yolo(names, polygon_shares), kind="segmentation")
    own = [f"{name} {number}" for number, name in enumerate(names)]
    yolo = read_yolo(**part.write_yolo(own, polygon_shares), kind="segmentation", polygons=True)
    assert len(yolo.categories) == len(coco.categories)
    found = set()
    for ours, theirs in zip(coco.records, yolo.records, strict=True):
        assert ours.path.name == theirs.path.name
        mask = ours.mask.read()
        assert np.array_equal(mask, theirs.mask.read())
        found |= set(np.unique(mask).tolist())
    assert facades[1] in found and facades[0] not in found
