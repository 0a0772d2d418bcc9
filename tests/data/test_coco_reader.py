"""COCO JSON to records: ids, boxes, flags, and a sentence for everything that can be wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from seg_det.data.coco import read_coco
from seg_det.errors import UserError
from seg_det.types import Category


def image(image_id, name, width=40, height=20, **more):
    return {"id": image_id, "file_name": name, "width": width, "height": height, **more}


def annotation(annotation_id, image_id, category_id=7, bbox=(2, 3, 10, 5), **more):
    return {"id": annotation_id, "image_id": image_id, "category_id": category_id, "bbox": list(bbox), **more}


@pytest.fixture
def tree(tmp_path):
    """Writes a small data set: ``tree(images=..., annotations=..., categories=...)`` gives the reader's arguments."""

    def write(images=None, annotations=(), categories=None, files=("a.jpg", "b.jpg")):
        folder = tmp_path / "tiny" / "val"
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 20)).save(folder / name)
        document = {
            "images": [image(11, "a.jpg"), image(5, "b.jpg")] if images is None else images,
            "annotations": list(annotations),
            "categories": [{"id": 90, "name": "toothbrush"}, {"id": 7, "name": "train"}]
            if categories is None
            else categories,
        }
        path = tmp_path / "tiny" / "annotations" / "val.json"
        path.parent.mkdir()
        path.write_text(json.dumps(document))
        return {"images": folder, "annotations": path}

    return write


def check_problem(arguments, pattern, *, kept):
    """on_bad=error raises the sentence with its remedy, skip lists it; returns the source that skip leaves."""
    with pytest.raises(UserError, match=f"{pattern}.*; correct the data, or set dataset.on_bad=skip to leave out"):
        read_coco(**arguments)
    source = read_coco(**arguments, on_bad="skip")
    assert len(source.problems) == 1
    with pytest.raises(UserError, match=pattern):
        raise UserError(source.problems[0])
    assert [len(record.boxes) for record in source.records] == kept
    return source


def test_records(tree):
    rows = [
        annotation(1, 5, 90, (2, 3, 10, 5), area=31.5, iscrowd=1),
        annotation(2, 11, 7, (0.5, 0, 4, 2.5)),
        annotation(3, 5, 7, (20, 10, 20, 10), area=7, iscrowd=0),
    ]
    source = read_coco(**tree(annotations=rows))
    assert source.name == "tiny val" and len(source.problems) == 1
    assert "class toothbrush has 1 of 1 objects marked iscrowd=1 and will not be learned" in source.problems[0]
    assert source.categories == (Category(7, "train"), Category(90, "toothbrush"))  # by ascending id
    a, b = source.records
    assert (a.path.name, a.image_id, a.size) == ("a.jpg", 11, (20, 40))
    np.testing.assert_array_equal(a.boxes, np.float32([[0.5, 0, 4.5, 2.5]]))
    assert a.area.tolist() == [10.0]  # the box's, where the file gives none
    assert (b.path.name, b.image_id) == ("b.jpg", 5)
    np.testing.assert_array_equal(b.boxes, np.float32([[2, 3, 12, 8], [20, 10, 40, 20]]))
    assert b.labels.tolist() == [1, 0] and b.area.tolist() == [31.5, 7.0]
    assert b.crowd.tolist() == [True, False] and b.difficult.tolist() == [False, False]
    types = [column.dtype for column in b[3:]]
    assert types == [np.float32, np.int64, np.bool_, np.bool_, np.float64]


def test_areas_keep_their_side_of_a_bound(tree):
    """In 32 bits 1023.99998 is 1024; where the file gives none, the area is that of the sides as they were written."""
    rows = [annotation(1, 5, 7, (0, 0, 9, 9), area=1023.99998), annotation(2, 5, 7, (0.15, 0.3, 36.7, 10.3))]
    _, record = read_coco(**tree(annotations=rows)).records
    assert record.area.tolist() == [1023.99998, 36.7 * 10.3]


def test_images_without_annotations_stay(tree):
    source = read_coco(**tree(), name="empty")
    assert source.name == "empty"
    assert [(r.boxes.shape, r.labels.shape, r.area.shape) for r in source.records] == [((0, 4), (0,), (0,))] * 2


def test_file_names_with_folders_and_sizes_from_the_image(tree):
    images = [{"id": 1, "file_name": "x/a.jpg"}, image(2, "y/b.jpg")]
    source = read_coco(**tree(images, [annotation(1, 1)], files=("x/a.jpg", "y/b.jpg")))
    assert [record.size for record in source.records] == [(20, 40), (20, 40)]
    assert [record.path.parent.name for record in source.records] == ["x", "y"]


@pytest.mark.parametrize(
    ("bbox", "fault"),
    [
        ((5, 5, 0, 4), r"\[5, 5, 0, 4\] has zero or negative size"),
        ((5, 5, 4, -2), "has zero or negative size"),
        ((float("nan"), 5, 4, 2), "has a coordinate that is not a finite number"),
        ((5, 5, float("inf"), 2), "has a coordinate that is not a finite number"),
        ((40, 5, 10, 5), "lies wholly outside its image"),
        ((-30, 5, 10, 5), "lies wholly outside its image"),
        ((100, 100, 10, 5), "lies wholly outside its image"),
    ],
)
def test_unusable_boxes(tree, bbox, fault):
    arguments = tree(annotations=[annotation(1, 5), annotation(918, 5, bbox=bbox)])
    pattern = rf"val\.json: annotation id 918 on image id 5 \(b\.jpg\): its box \[x, y, w, h\] = .*{fault}"
    check_problem(arguments, pattern, kept=[0, 1])


def test_a_box_that_sticks_out_is_clipped_and_listed(tree):
    arguments = tree(annotations=[annotation(3, 5, bbox=(30, -4, 20, 10))])
    source = check_problem(arguments, "annotation id 3 .* reaches outside its image", kept=[0, 1])
    np.testing.assert_array_equal(source.records[1].boxes, np.float32([[30, 0, 40, 6]]))


def test_a_box_that_sticks_out_by_a_pixel_is_clipped_silently(tree):
    source = read_coco(**tree(annotations=[annotation(3, 5, bbox=(-1, 2, 42, 19))]))
    np.testing.assert_array_equal(source.records[1].boxes, np.float32([[0, 2, 40, 20]]))


def test_known_bad_annotations_are_listed_and_never_raised(tree):
    arguments = tree(annotations=[annotation(918, 5, bbox=(1, 1, 0, 3)), annotation(4, 5)])
    for policy in ("error", "skip"):
        source = read_coco(**arguments, on_bad=policy, known_bad=[918, 4])
        assert len(source.problems) == 1 and "918" in source.problems[0]
        assert [len(record.boxes) for record in source.records] == [0, 1]  # 4 is well: it stays


def test_the_error_counts_all_problems(tree):
    rows = [annotation(1, 5, bbox=(1, 1, 0, 3)), annotation(2, 99), annotation(3, 5, 8)]
    with pytest.raises(
        UserError,
        match=r"annotation id 2 .*\(the first of 3 problems of this reading; .*\); correct",
    ):
        read_coco(**(arguments := tree(annotations=rows)))
    assert len(read_coco(**arguments, on_bad="skip").problems) == 3


def test_undeclared_image_and_category(tree):
    check_problem(
        tree(annotations=[annotation(2, 99), annotation(3, 5)]),
        r"val\.json: annotation id 2 is about image id 99, which the file does not declare",
        kept=[0, 1],
    )


def test_undeclared_category(tree):
    check_problem(
        tree(annotations=[annotation(2, 5, 8), annotation(3, 5)]),
        r"val\.json: annotation id 2 is about category id 8, which the file does not declare",
        kept=[0, 1],
    )


def test_missing_image_goes_with_its_annotations(tree):
    arguments = tree(annotations=[annotation(1, 5), annotation(2, 11)], files=("a.jpg",))
    source = check_problem(arguments, r"val\.json: image id 5: there is no image .*b\.jpg", kept=[1])
    assert source.records[0].image_id == 11


def test_duplicate_ids(tree):
    arguments = tree([image(11, "a.jpg"), image(11, "b.jpg")], [annotation(1, 11)])
    source = check_problem(arguments, r"image id 11 is declared twice, as a\.jpg and b\.jpg", kept=[1])
    assert source.records[0].path.name == "a.jpg"


def test_duplicate_categories(tree):
    categories = [{"id": 7, "name": "cat"}, {"id": 7, "name": "dog"}]
    arguments = tree(annotations=[annotation(1, 5)], categories=categories)
    source = check_problem(arguments, "category id 7 is declared twice, as 'cat' and 'dog'", kept=[0, 1])
    assert source.categories == (Category(7, "cat"),)


@pytest.mark.parametrize(
    "entry",
    [
        {"id": 4, "image_id": 5, "category_id": 7},
        {"id": 4, "image_id": 5, "category_id": 7, "bbox": [1, 2, 3]},
        {"id": 4, "image_id": 5, "category_id": 7, "bbox": [1, 2, None, 3]},
        {"id": 4, "category_id": 7, "bbox": [1, 2, 3, 4]},
    ],
)
def test_malformed_annotation(tree, entry):
    arguments = tree(annotations=[annotation(1, 5), entry])
    check_problem(
        arguments,
        r"val\.json: annotation id 4 needs a bbox of four numbers, an image_id and a category_id",
        kept=[0, 1],
    )


def test_malformed_image(tree):
    arguments = tree([image(11, "a.jpg"), {"id": 5}])
    check_problem(arguments, r"val\.json: images\[1\] needs a whole number id and a file_name", kept=[0])


def test_malformed_category_is_always_an_error(tree):
    with pytest.raises(UserError, match=r"val\.json: categories\[0\] needs a whole number id and a name"):
        read_coco(**tree(categories=[{"name": "cat"}]), on_bad="skip")


def test_skip_verifies_the_images(tree):
    arguments = tree(annotations=[annotation(1, 5), annotation(2, 11)])
    path = arguments["images"] / "b.jpg"
    path.write_bytes(path.read_bytes()[:-5])
    source = read_coco(**arguments, on_bad="skip")
    assert [record.image_id for record in source.records] == [11]
    assert "image id 5: the JPEG" in source.problems[0] and "is truncated" in source.problems[0]
    Image.new("RGB", (20, 40)).save(path)
    assert "has 20x40 pixels, but is declared with 40x20" in read_coco(**arguments, on_bad="skip").problems[0]


def test_nothing_usable_is_always_an_error(tree):
    arguments = tree(files=("c.jpg",))
    with pytest.raises(UserError, match=r"val\.json: not one of its 2 images can be used: .*image id 11: there is no"):
        read_coco(**arguments, on_bad="skip")


@pytest.mark.parametrize("key", ["images", "categories"])
def test_empty_split_is_always_an_error(tree, key):
    with pytest.raises(UserError, match=rf"val\.json: its list {key} is empty"):
        read_coco(**tree(**{key: []}), on_bad="skip")


def test_missing_files_say_what_there_is(tree):
    arguments = tree()
    with pytest.raises(
        UserError, match=r"the annotation file is missing: there is no .*vol\.json \(.* holds val\.json\)"
    ):
        read_coco(images=arguments["images"], annotations=arguments["annotations"].with_name("vol.json"), on_bad="skip")
    with pytest.raises(UserError, match=r"the image folder is missing: .*train \(.*tiny holds annotations/, val/\)"):
        read_coco(images=arguments["images"].with_name("train"), annotations=arguments["annotations"])


def test_not_coco_json(tree):
    arguments = tree()
    path = arguments["annotations"]
    path.write_text('{"images": [],\n "annotations": [1,,]}')
    with pytest.raises(UserError, match=r"val\.json, line 2, column 20: not valid JSON"):
        read_coco(**arguments)
    path.write_text('[{"image_id": 1}]')
    with pytest.raises(UserError, match=r"val\.json has no list images nor annotations nor categories"):
        read_coco(**arguments)
    path.write_bytes(b"\xff\xd8\xff\xe0 a jpeg")
    with pytest.raises(UserError, match=r"val\.json cannot be read as JSON"):
        read_coco(**arguments)


def test_policy_is_checked(tree):
    with pytest.raises(UserError, match=r"dataset\.on_bad is 'warn'; it must be error or skip"):
        read_coco(**tree(), on_bad="warn")


@pytest.mark.parametrize(
    ("split", "images", "boxes", "crowd", "empty"),
    [("train", 123, 1197, 12, []), ("val", 129, 1129, 11, [58636, 226111])],
)
def test_real_coco(real_data, split, images, boxes, crowd, empty):
    root = real_data / "data" / "coco2017_subset"
    path = root / "annotations" / f"instances_{split}2017.json"
    source = read_coco(images=root / f"{split}2017", annotations=path)
    assert source.name == f"coco2017_subset {split}2017"
    assert len(source.records) == images and len(source.categories) == 80
    assert source.categories[-1] == Category(90, "toothbrush")
    assert sum(len(record.boxes) for record in source.records) == boxes
    assert sum(int(record.crowd.sum()) for record in source.records) == crowd
    assert sorted(record.image_id for record in source.records if not len(record.boxes)) == empty
    skip = read_coco(images=root / f"{split}2017", annotations=path, on_bad="skip")
    assert skip.problems == () and [r.size for r in skip.records] == [r.size for r in source.records]


def test_real_boxes_equal_the_json(real_data):
    root = real_data / "data" / "coco2017_subset"
    path = root / "annotations" / "instances_val2017.json"
    source = read_coco(images=root / "val2017", annotations=path)
    ids = np.array([category.id for category in source.categories])
    read = {
        (r.image_id, int(c), *np.round(b, 2).tolist())
        for r in source.records
        for b, c in zip(r.boxes.astype(float), ids[r.labels], strict=True)
    }
    written = {
        (a["image_id"], a["category_id"], round(x, 2), round(y, 2), round(x + w, 2), round(y + h, 2))
        for a in json.loads(path.read_text())["annotations"]
        for x, y, w, h in [a["bbox"]]
    }
    assert read == written
