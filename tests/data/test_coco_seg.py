"""COCO's polygons and run lengths as semantic masks: what lies over what, and a sentence for what cannot be drawn."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from seg_det.data.coco_seg import read_coco_seg
from seg_det.errors import UserError
from seg_det.types import IGNORE, Category


def square(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(number, category_id, segmentation, image_id=1, **more):
    return {"id": number, "image_id": image_id, "category_id": category_id, "segmentation": segmentation, **more}


@pytest.fixture
def tree(tmp_path):
    """Writes an image of 8 x 6 and the annotations; gives the reader's arguments."""

    def write(*annotations, categories=((3, "car"), (1, "cat"))):
        folder = tmp_path / "tiny" / "val"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(folder / "a.jpg")
        document = {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}],
            "annotations": list(annotations),
            "categories": [{"id": number, "name": name} for number, name in categories],
        }
        path = tmp_path / "tiny" / "val.json"
        path.write_text(json.dumps(document))
        return {"images": folder, "annotations": path}

    return write


def test_polygons_on_the_background(tree):
    source = read_coco_seg(**tree(annotation(1, 3, square(1, 1, 4, 3))))
    assert source.name == "tiny val"
    assert source.categories == (Category(0, "background"), Category(1, "cat"), Category(3, "car"))
    want = np.zeros((6, 8), np.uint8)
    want[1:3, 1:4] = 2
    assert source.records[0].mask.read().tolist() == want.tolist()
    assert (source.records[0].image_id, source.records[0].size) == (1, (6, 8))


@pytest.mark.parametrize("order", [(1, -1), (-1, 1)])
def test_smaller_objects_lie_over_larger_ones(tree, order):
    large, small = annotation(1, 1, square(0, 0, 8, 6)), annotation(2, 3, square(2, 2, 4, 4))
    mask = read_coco_seg(**tree(*(large, small)[:: order[0]])).records[0].mask.read()
    assert (mask[2:4, 2:4] == 2).all() and (mask == 1).sum() == 44


def test_crowds_are_ignored_and_lie_below(tree):
    crowd = {"size": [6, 8], "counts": [0, 12, 36]}  # column by column: the first two columns
    mask = read_coco_seg(
        **tree(annotation(1, 1, square(0, 0, 8, 3)), annotation(2, 1, crowd, iscrowd=1))
    ).records[0].mask.read()  # fmt: skip
    assert (mask[:3] == 1).all() and (mask[3:, :2] == IGNORE).all() and (mask[3:, 2:] == 0).all()


def test_run_lengths_of_an_object(tree):
    plain = {"size": [6, 8], "counts": [6, 6, 36]}
    mask = read_coco_seg(**tree(annotation(1, 3, plain))).records[0].mask.read()
    assert (mask[:, 1] == 2).all() and (mask == 0).sum() == 42


def test_image_without_annotations_is_background(tree):
    assert (read_coco_seg(**tree()).records[0].mask.read() == 0).all()


def test_remapped(tree):
    table = np.arange(256, dtype=np.uint8)
    table[:3] = [2, 0, 1]
    mask = read_coco_seg(**tree(annotation(1, 3, square(0, 0, 4, 6)))).records[0].mask.remapped(table).read()
    assert (mask[:, :4] == 1).all() and (mask[:, 4:] == 2).all()


def test_name_and_id_of_the_background(tree):
    arguments = tree(categories=((0, "background"), (5, "cat")))
    with pytest.raises(UserError, match="has a category 'background' of its own: set dataset.background to another"):
        read_coco_seg(**arguments)
    assert read_coco_seg(**arguments, background="rest").categories[0] == Category(-1, "rest")


@pytest.mark.parametrize(
    ("bad", "pattern"),
    [
        (annotation(9, 1, []), "annotation id 9 has no polygon of three or more points"),
        (annotation(9, 1, [[0, 0, 4, 4]]), "annotation id 9 has no polygon of three or more points"),
        (annotation(9, 1, [[0, 0, 4, 4, 5]]), "annotation id 9 has a polygon that is no list of pairs"),
        (
            annotation(9, 1, {"size": [8, 6], "counts": [48]}),
            "annotation id 9 has run lengths for 6 x 8 pixels on an image",
        ),
        (
            annotation(9, 1, {"size": [6, 8], "counts": [4]}),
            "annotation id 9 has run lengths for 4 pixels on an image of 8",
        ),
        (
            annotation(9, 2, square(0, 0, 1, 1)),
            "annotation id 9 is about category id 2, which the file does not declare",
        ),
        (
            annotation(9, 1, square(0, 0, 1, 1), image_id=4),
            "annotation id 9 is about image id 4, which the file does not",
        ),
        (
            {"image_id": 1, "category_id": 1},
            r"annotations\[0\] \(which has no id\) needs a segmentation, an image_id",
        ),
        ("nonsense", r"annotations\[0\] .* needs a segmentation"),
    ],
)
def test_what_cannot_be_drawn(tree, bad, pattern):
    arguments = tree(bad, annotation(10, 1, square(0, 0, 8, 6)))
    with pytest.raises(UserError, match=f"val.json: {pattern}.*; correct the data, or set dataset.on_bad=skip"):
        read_coco_seg(**arguments)
    source = read_coco_seg(**arguments, on_bad="skip")
    assert len(source.problems) == 1 and (source.records[0].mask.read() == 1).all()


def test_objects_of_a_dropped_image_go_with_it(tree):
    arguments = tree(annotation(1, 1, square(0, 0, 8, 6)))
    (arguments["images"] / "a.jpg").unlink()
    (arguments["images"] / "b.jpg").touch()
    with pytest.raises(UserError, match="not one image of tiny val can be used: .*there is no image"):
        read_coco_seg(**arguments, on_bad="skip")


def test_real_coco(real_data):
    root = real_data / "data" / "coco2017_subset"
    annotations = root / "annotations" / "instances_val2017.json"
    source = read_coco_seg(images=root / "val2017", annotations=annotations)
    assert len(source.records) == 129 and len(source.categories) == 81 and source.problems == ()
    coco = COCO(str(annotations))
    index = {category.id: i for i, category in enumerate(source.categories)}
    for record in source.records[:20]:
        mask = record.mask.read()
        assert mask.shape == record.size
        objects = coco.imgToAnns[record.image_id]
        assert {*np.unique(mask).tolist()} <= {
            0,
            *(IGNORE if o["iscrowd"] else index[o["category_id"]] for o in objects),
        }
        drawn = np.zeros(mask.shape, bool)
        for one in objects:
            drawn |= coco.annToMask(one).astype(bool)
        assert np.array_equal(mask != 0, drawn)
