"""COCO's JSON as converters and annotation tools write it: read as it was meant, or one sentence that says what is wrong."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from seg_det.data.coco import read_coco
from seg_det.data.coco_seg import read_coco_seg
from seg_det.errors import UserError

BOLT, NUT = {"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}
POLYGON = [[4, 2, 24, 2, 24, 12, 4, 12]]
READERS = pytest.mark.parametrize("read", [read_coco, read_coco_seg])


def entry(number, image_id=1, category_id=1, bbox=(4, 2, 20, 10), **more):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(bbox),
        "segmentation": POLYGON,
        **more,
    }


@pytest.fixture
def data(tmp_path):
    """Writes images of 40 x 20 and a JSON; gives the readers' arguments."""

    def write(*annotations, files=("a.jpg",), images=None, categories=(BOLT, NUT), size=(40, 20)):
        for name in files:
            (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size).save(tmp_path / "train" / name)
        listed = [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 20}] if images is None else images
        document = {"images": listed, "annotations": list(annotations), "categories": list(categories)}
        (tmp_path / "train.json").write_text(json.dumps(document))
        return {"images": tmp_path / "train", "annotations": tmp_path / "train.json"}

    return write


def refused(read, arguments, *parts, left=None):
    """The sentence of on_bad=error has all ``parts``; with skip ``left`` objects of each image stay, and it is listed."""
    with pytest.raises(UserError) as error:
        read(**arguments)
    assert all(part in str(error.value) for part in parts), str(error.value)
    if left is not None:
        source = read(**arguments, on_bad="skip")
        assert [len(objects(record)) for record in source.records] == left
        assert all(part in source.problems[0] for part in parts), source.problems


def objects(record):
    return record.boxes if hasattr(record, "boxes") else record.mask.regions


def crowd(record):
    return record.crowd.tolist() if hasattr(record, "crowd") else [one.label == 255 for one in record.mask.regions]


@READERS
@pytest.mark.parametrize(
    ("value", "want"),
    [
        *[(value, False) for value in ("0", "false", "False", "no", "", 0.0, None, False)],
        *[(value, True) for value in ("1", "true", "yes", 1.0, True)],
    ],
)
def test_iscrowd_as_text_and_truth_value(data, read, value, want):
    source = read(**data(entry(1, iscrowd=value), entry(2, category_id=2, bbox=(1, 1, 5, 5))))
    assert crowd(source.records[0]) == [want, False]


@READERS
@pytest.mark.parametrize("value", ["maybe", 2, [1]])
def test_iscrowd_of_no_meaning(data, read, value):
    refused(
        read, data(entry(1), entry(7, iscrowd=value)), f"annotation id 7 has the iscrowd {value!r}: write 0", left=[1]
    )


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [("area", "", "area ''"), ("area", 10**400, "area 1000"), ("bbox", [1, 1, 9, 10**400], "bbox [1, 1, 9, 1000")],
)
def test_the_field_that_is_wrong_is_named(data, field, value, shown):
    refused(read_coco, data(entry(1), entry(2, **{field: value})), f"annotation id 2 has the {shown}", left=[1])


def test_numbers_as_texts(data):
    record = read_coco(**data(entry(1, bbox=("4", "2", "20.5", "10"), area="99.5"))).records[0]
    assert record.boxes.tolist() == [[4, 2, 24.5, 12]] and record.area.tolist() == [99.5]


def test_areas_that_cannot_be(data):
    rows = [entry(1, area=0), entry(2, area=-3, bbox=(0, 0, 4, 4)), entry(3, area=7, bbox=(1, 1, 2, 2))]
    source = read_coco(**data(*rows))
    assert source.records[0].area.tolist() == [200, 16, 7]
    assert len(source.problems) == 1 and "2 annotations have an area that is not above 0" in source.problems[0]


@READERS
@pytest.mark.parametrize(("declared", "used"), [("12", 12), (12, "12"), (12.0, 12), (12, 12.0), (" 12 ", "12")])
def test_ids_as_texts_and_fractions(data, read, declared, used):
    images = [{"id": declared, "file_name": "a.jpg", "width": 40, "height": 20}]
    categories = [{"id": declared, "name": "bolt"}]
    source = read(**data(entry(1, image_id=used, category_id=used), images=images, categories=categories))
    assert source.records[0].image_id == 12 and source.categories[-1].id == 12
    assert len(objects(source.records[0])) == 1 and source.problems == ()


@READERS
@pytest.mark.parametrize("first", ["2f1c-9a", 2**63, -(2**63) - 1, 2**64 + 1, "007"])
def test_ids_64bit_and_texts(data, read, first):
    images = [{"id": i, "file_name": n, "width": 40, "height": 20} for i, n in ((first, "a.jpg"), (5, "b.jpg"))]
    source = read(**data(entry(2**70, image_id=first), entry("x", image_id=5), files=("a.jpg", "b.jpg"), images=images))
    assert [(record.image_id, len(objects(record))) for record in source.records] == [(1, 1), (2, 1)]
    assert len(source.problems) == 1 and f"the image id {first!r} is" in source.problems[0]
    assert "replaced by the places in the list, from 1, which result files carry" in source.problems[0]


def test_category_ids_as_texts(data):
    categories = [{"id": "c-nut", "name": "nut"}, {"id": "c-bolt", "name": "bolt"}]
    source = read_coco(**data(entry(1, category_id="c-bolt"), categories=categories))
    assert [(c.id, c.name) for c in source.categories] == [(1, "nut"), (2, "bolt")]
    assert source.records[0].labels.tolist() == [1] and "the category id 'c-nut' is a text" in source.problems[0]


@READERS
def test_ids_that_are_none(data, read):
    refused(
        read, data(entry(1), entry(3, image_id=1.5)), "annotation id 3 has the image_id 1.5, which is no id", left=[1]
    )
    refused(
        read,
        data(entry(1), entry(3, category_id=2**63)),
        f"is about category id {2**63}, which the file does",
        left=[1],
    )
    refused(
        read,
        data(entry(1), entry(3, image_id="x")),
        "annotation id 3 is about image id x, which the file does",
        left=[1],
    )


@pytest.mark.parametrize("text", ["[" * 100000, '{"images": ' + "9" * 5000 + "}"])
def test_json_beyond_all_bounds(data, text):
    arguments = data()
    arguments["annotations"].write_text(text)
    refused(read_coco, arguments, "train.json cannot be read as JSON", "fetch or export the file again")


@READERS
@pytest.mark.parametrize("name", ["nut\n", "nut ", "\tnut\r\n", "\ufeffnut"])
def test_name_newline_and_trailing_blank(data, read, name):
    source = read(**data(entry(1), categories=(BOLT, {"id": 2, "name": name})))
    assert source.categories[-1].name == "nut" and source.problems == ()


def test_names_of_composed_letters(data):
    apart = unicodedata.normalize("NFD", "Schlüssel")
    assert read_coco(**data(entry(1), categories=({"id": 1, "name": apart},))).categories[0].name == "Schlüssel"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (None, "categories[1] (id 2) has the name None, which is no text"),
        ("  ", "categories[1] (id 2) has an empty name"),
        (True, "categories[1] (id 2) has the name True, which is no text"),
        ("nut\nbig", "categories[1] (id 2) has the name 'nut\\nbig', with a line end or control character inside"),
        ("nut\x07s", "with a line end or control character inside"),
    ],
)
def test_names_that_are_none(data, name, sentence):
    refused(read_coco, data(entry(1), categories=(BOLT, {"id": 2, "name": name})), "train.json", sentence)


def test_two_categories_alike(data):
    source = read_coco(**data(entry(1), categories=(BOLT, {"id": 2, "name": "bolt "})))
    assert [c.name for c in source.categories] == ["bolt", "bolt"]
    assert "the categories 1 and 2 have the same name 'bolt' and stay two classes" in source.problems[0]


@READERS
def test_crowd_brush(data, read):
    rows = [entry(1), entry(2, category_id=2, bbox=(1, 1, 9, 9), iscrowd=1), entry(3, category_id=2, iscrowd=1)]
    source = read(**data(*rows))
    assert len(source.problems) == 1
    assert "class nut has 2 of 2 objects marked iscrowd=1 and will not be learned; set" in source.problems[0]
    mixed = data(*rows, entry(4, category_id=2, bbox=(2, 2, 8, 8)))
    assert read(**mixed).problems == ()


@READERS
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_crowd_all(data, read, on_bad):
    arguments = data(entry(1, iscrowd=1), entry(2, category_id=2, iscrowd=1))
    with pytest.raises(UserError, match=r"train\.json: all 2 objects are marked iscrowd=1, so nothing can be learned"):
        read(**arguments, on_bad=on_bad)


@READERS
@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("a.jpg", "a.JPG"),
        ("images\\a.jpg", "images/a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("images/a.jpg", "a.jpg"),
        ("a.jpg", "images/a.jpg"),
        ("C:\\Users\\me\\train\\a.jpg", "a.jpg"),
        ("/home/me/cam1/a.jpg", "cam1/a.jpg"),
        ("my%20cat.jpg", "my cat.jpg"),
        (unicodedata.normalize("NFD", "Tür.jpg"), unicodedata.normalize("NFC", "Tür.jpg")),
        (unicodedata.normalize("NFC", "Tür.jpg"), unicodedata.normalize("NFD", "Tür.jpg")),
    ],
)
def test_backslash_suffix_case_and_other_spellings(data, read, written, there):
    images = [{"id": 1, "file_name": written, "width": 40, "height": 20}]
    source = read(**data(entry(1), files=(there,), images=images))
    assert source.records[0].path.samefile(source.records[0].path.parents[len(there.split("/")) - 1] / there)
    if written == "./a.jpg":
        assert source.problems == ()
    else:
        assert len(source.problems) == 1
        assert (
            f"1 of 1 files are spelled otherwise on the disk and were found by name (the first: {written!r} is"
            in (source.problems[0])
        )


@pytest.mark.parametrize(
    ("written", "there", "sentence"),
    [
        ("a.jpg", ("cam1/a.jpg", "cam2/a.jpg"), "and cam1/a.jpg or cam2/a.jpg could be meant"),
        ("A.jpg", ("a.jpg", "a.JPG"), "could be meant"),
        ("cam1/a.jpg", ("cam2/a.jpg",), "but cam2/a.jpg"),
        ("a.jpg", ("a.png", "b.jpg"), "(but a.png)"),
        ("a.jpg", ("b.jpg", "c.jpg"), "train holds b.jpg, c.jpg)"),
    ],
)
def test_what_is_there_is_named(data, written, there, sentence):
    images = [{"id": 4, "file_name": written, "width": 40, "height": 20}]
    refused(read_coco, data(files=there, images=images), "image id 4: there is no image", written, sentence)


@READERS
def test_same_file_two_ids(data, read):
    images = [{"id": i, "file_name": n, "width": 40, "height": 20} for i, n in ((1, "a.jpg"), (99, "./a.jpg"))]
    arguments = data(entry(1), entry(2, image_id=99, bbox=(1, 1, 5, 5)), images=images)
    refused(read, arguments, "image id 99: its file", "a.jpg is that of image id 1, too", left=[1])


def test_annotations_twice(data):
    rows = [
        entry(1),
        entry(2, bbox=(0, 0, 4, 4)),
        entry(3),
        entry(4, category_id=2),
        entry(5),
        entry(6, bbox=(0, 0, 4, 5)),
    ]
    source = read_coco(**data(*rows))
    assert len(source.records[0].boxes) == 6 and len(source.problems) == 1
    assert source.problems[0].startswith("2 objects have the image, class and box of another and all are kept")
    assert "annotation id 3 repeats" in source.problems[0] and "train.json: annotation id 1)" in source.problems[0]


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_normalised(data, on_bad):
    arguments = data(entry(1, bbox=(0.1, 0.2, 0.5, 0.5)), entry(2, bbox=(0, 0, 1, 1)))
    with pytest.raises(UserError, match=r"the boxes of all 2 annotations look like shares of the image.*write pixels"):
        read_coco(**arguments, on_bad=on_bad)


def test_normalised_polygons(data):
    arguments = data(
        entry(1, segmentation=[[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]), entry(2, segmentation=[[0, 0, 1, 0, 1, 1]])
    )
    with pytest.raises(UserError, match="the polygons of all annotations look like shares of the image"):
        read_coco_seg(**arguments)


def test_some_boxes_normalised(data):
    source = read_coco(**data(entry(1), entry(8, bbox=(0.1, 0.2, 0.5, 0.5))))
    assert len(source.problems) == 1
    assert "1 of 2 boxes have no number above 1 (the first: annotation id 8)" in source.problems[0]


def test_corners_for_widths(data):
    boxes = [(4, 2, 24, 12), (20, 10, 39, 19), (30, 5, 36, 15), (1, 1, 39, 19)]
    rows = [entry(number, bbox=box) for number, box in enumerate(boxes, start=1)]
    refused(
        read_coco, data(*rows), "the boxes look like [x1, y1, x2, y2], corners", "[4, 2, 24, 12] of annotation id 1"
    )
    right = [
        entry(number, bbox=(x, y, right - x, bottom - y)) for number, (x, y, right, bottom) in enumerate(boxes, start=1)
    ]
    assert read_coco(**data(*right)).problems == ()


def test_width_and_height_exchanged(data):
    images = [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 40}]
    parts = (
        "reaches outside its image",
        "has 40 x 20 pixels, but is declared with width 20 and height 40, that is exchanged",
    )
    refused(read_coco, data(entry(1, bbox=(10, 2, 25, 10)), images=images), *parts)


def rle(counts, size=(20, 40)):
    return {"segmentation": {"size": list(size), "counts": counts}}


def as_text(*runs):
    """COCO's compressed run lengths, by another implementation: pycocotools'."""
    from pycocotools import mask

    flat = np.concatenate([np.full(count, value % 2, np.uint8) for value, count in enumerate(runs)])
    return mask.encode(np.asfortranarray(flat.reshape(40, 20).T))["counts"].decode()


@pytest.mark.parametrize(
    "runs", [(0, 800), (800,), (100, 50, 650), (20, 5, 3, 700, 2, 1, 69), (0, 1, 1, 1, 797), (799, 1)]
)
def test_sound_run_lengths(data, runs):
    for counts in (list(runs), [float(run) for run in runs], as_text(*runs)):
        source = read_coco_seg(**data(entry(1, **rle(counts))))
        assert (source.records[0].mask.read() == 1).sum() == sum(runs[1::2])


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ("", "run lengths that are empty or end within a number"),
        (as_text(100, 50, 650)[:4], "run lengths for 150 pixels on an image of 40 x 20"),
        (as_text(100, 50, 650)[:1], "run lengths that are empty or end within a number"),
        ("~~~~", "run lengths with a character that they cannot hold"),
        ("öäü", "run lengths with a character that they cannot hold"),
        ("o" * 9 + "0", "run lengths with a number beyond all bounds"),
        ("@", "run lengths with a negative one"),
        (as_text(100, 50, 650) + "1", "run lengths for 851 pixels on an image of 40 x 20"),
        ([100, -50, 750], "run lengths with a negative one"),
        ([100, 50], "run lengths for 150 pixels on an image of 40 x 20"),
        ([0.5, 799.5], "run lengths that are no list of whole numbers"),
        ([10**400], "run lengths that are no list of whole numbers"),
        (["a"], "run lengths that are no list of whole numbers"),
        ([[800]], "run lengths that are no list of whole numbers"),
        (5, "run lengths that are no list of whole numbers"),
        (None, "run lengths that are no list of whole numbers"),
    ],
)
def test_rle_damaged(data, counts, sentence):
    refused(
        read_coco_seg, data(entry(1), entry(4, **rle(counts))), f"train.json: annotation id 4 has {sentence}", left=[1]
    )


@pytest.mark.parametrize("size", [[], None, [20], "20"])
def test_rle_without_a_size(data, size):
    bad = entry(4, segmentation={"size": size, "counts": [800]})
    refused(read_coco_seg, data(entry(1), bad), "annotation id 4 has run lengths without their size", left=[1])


@pytest.mark.parametrize("far", [1e9, -1e9])
def test_polygon_far_outside(data, far):
    bad = entry(4, segmentation=[[1, 1, far, 1, far, far]])
    parts = (f"annotation id 4 has a polygon that reaches {abs(far):g}, far outside its image of 40 x 20 pixels",)
    refused(read_coco_seg, data(entry(1), bad), *parts, left=[1])
