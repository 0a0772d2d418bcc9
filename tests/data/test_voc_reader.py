"""Pascal VOC XML to records: corners, difficult, class lists, and a sentence for everything that can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_det.data.images import image_size
from seg_det.data.voc import read_voc
from seg_det.errors import UserError
from seg_det.types import Category

SIZE = "<size><width>40</width><height>20</height><depth>3</depth></size>"


def thing(name="dog", box=(3, 4, 12, 8), extra="<difficult>0</difficult>"):
    tags = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"\n<object>\n<name>{name}</name>{extra}<bndbox>{tags}</bndbox></object>"


@pytest.fixture
def tree(tmp_path):
    """Writes a small data set, ``tree({"a": xml_of_objects, ...})``, and gives its root."""

    def write(objects, *, size=SIZE, listed=None, split="train", labels=None, suffix="jpg", exif=None):
        root = tmp_path / "pets"
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for stem, inner in objects.items():
            Image.new("RGB", (40, 20)).save(
                root / "JPEGImages" / f"{stem}.{suffix}", **({"exif": exif} if exif else {})
            )
            (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{size}{inner}\n</annotation>")
        lines = list(objects) if listed is None else listed
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))
        if labels is not None:
            (root / "labels.txt").write_text(labels)
        return root

    return write


def check_problem(root, pattern, *, kept, categories=None):
    """on_bad=error raises the sentence with its remedy, skip lists it; returns the source that skip leaves."""
    with pytest.raises(UserError, match=f"{pattern}.*; correct the data, or set dataset.on_bad=skip to leave out"):
        read_voc(root=root, split="train", categories=categories)
    source = read_voc(root=root, split="train", categories=categories, on_bad="skip")
    assert len(source.problems) == 1
    with pytest.raises(UserError, match=pattern):
        raise UserError(source.problems[0])
    assert {record.path.stem: len(record.boxes) for record in source.records} == kept
    return source


def test_records(tree):
    root = tree({
        "2007_000027": thing("dog", (1, 1, 40, 20)) + thing(" cat ", (3, 4, 12, 8), "<difficult>1</difficult>"),
        "2007_000005": "",
        "2007_000001": thing("cat", ("4.5", "4.25", "9.75", "10"), ""),
    })  # fmt: skip
    source = read_voc(root=root, split="train")
    assert source.name == "pets train" and source.problems == ()
    assert source.categories == (Category(1, "cat"), Category(2, "dog"))
    assert [record.image_id for record in source.records] == [2007000027, 2007000005, 2007000001]
    assert [record.size for record in source.records] == [(20, 40)] * 3
    first, empty, last = source.records
    np.testing.assert_array_equal(first.boxes, np.float32([[0, 0, 40, 20], [2, 3, 12, 8]]))
    assert first.labels.tolist() == [1, 0] and first.difficult.tolist() == [False, True]
    assert first.crowd.tolist() == [False, False] and first.area.tolist() == [800.0, 50.0]
    assert empty.boxes.shape == (0, 4) and empty.labels.shape == (0,)
    np.testing.assert_array_equal(last.boxes, np.float32([[3.5, 3.25, 9.75, 10]]))
    assert last.difficult.tolist() == [False]  # a missing tag
    assert [column.dtype for column in first[3:]] == [np.float32, np.int64, np.bool_, np.bool_, np.float64]


def test_parts_of_an_object_are_not_objects(tree):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    source = read_voc(root=tree({"a": thing("person", extra=part)}), split="train")
    assert [category.name for category in source.categories] == ["person"]
    np.testing.assert_array_equal(source.records[0].boxes, np.float32([[2, 3, 12, 8]]))


@pytest.mark.parametrize(
    ("stems", "ids"),
    [
        (["000012", "2007_01"], [12, 200701]),
        (["b-2", "a-10", "000012"], [3, 2, 1]),  # not all are numbers: places in the sorted list
        (["1_1", "11"], [2, 1]),  # both would be 11, and "11" < "1_1"
        (["9" * 25, "1"], [2, 1]),  # too long for 64 bits
    ],
)
def test_image_ids(tree, stems, ids):
    source = read_voc(root=tree({stem: thing() for stem in stems}), split="train")
    assert [record.image_id for record in source.records] == ids


def test_image_ids_do_not_depend_on_what_is_skipped(tree):
    root = tree({"a": thing(), "c": thing()}, listed=["c", "b", "a"])
    source = read_voc(root=root, split="train", on_bad="skip")
    assert [(record.path.stem, record.image_id) for record in source.records] == [("c", 3), ("a", 1)]


def test_class_list_argument_then_labels_then_all_annotations(tree):
    tree({"v": thing("zebra")}, split="val")
    root = tree({"a": thing("dog")})
    names = [category.name for category in read_voc(root=root, split="train").categories]
    assert names == ["dog", "zebra"]  # of all splits: the indices must be the same in each
    tree({"a": thing("dog")}, labels="zebra\ndog\n\n")
    assert [c.name for c in read_voc(root=root, split="train").categories] == ["zebra", "dog"]
    source = read_voc(root=root, split="train", categories=["cat", "dog"])
    assert source.categories == (Category(1, "cat"), Category(2, "dog"))
    assert source.records[0].labels.tolist() == [1]


def test_bad_class_lists(tree):
    root = tree({"a": thing("dog")}, labels="dog\ncat\ndog\n")
    with pytest.raises(UserError, match=r"labels\.txt lists the class 'dog' twice"):
        read_voc(root=root, split="train", on_bad="skip")
    with pytest.raises(UserError, match=r"dataset\.categories names no class; set dataset\.categories="):
        read_voc(root=root, split="train", categories=[])


def test_no_object_anywhere(tree):
    with pytest.raises(UserError, match=r"Annotations \(all files\) names no class"):
        read_voc(root=tree({"a": ""}), split="train")


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_size_is_the_image_files(tree, size):
    source = read_voc(root=tree({"a": thing()}, size=size), split="train")
    assert source.records[0].size == (20, 40)


def test_exif_rotated_images_are_upright(tree):
    exif = Image.Exif()
    exif[274] = 6  # stored 40 wide and 20 high, upright 20 wide and 40 high
    upright = "<size><width>20</width><height>40</height></size>"
    root = tree({"a": thing(box=(1, 1, 20, 40))}, size=upright, exif=exif)
    record = read_voc(root=root, split="train").records[0]
    assert record.size == (40, 20)
    np.testing.assert_array_equal(record.boxes, np.float32([[0, 0, 20, 40]]))
    tree({"a": thing(), "b": thing()}, exif=exif)  # now the XML gives the size before the rotation
    tree({"b": thing()}, listed=["a", "b"], size=upright, exif=exif)
    check_problem(root, r"a\.xml: it gives the size 40x20 that a\.jpg has before its EXIF rotation", kept={"b": 1})


def test_other_image_formats(tree):
    source = read_voc(root=tree({"a": thing()}, suffix="PNG"), split="train")
    assert source.records[0].path.name == "a.PNG"


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ((5, 5, 5, 5), r"\[5, 5, 5, 5\] has zero or negative size"),
        ((5, 9, 12, 8), "has zero or negative size"),
        (("nan", 5, 8, 9), "has a coordinate that is not a finite number"),
        ((45, 5, 60, 9), "lies wholly outside its image"),
    ],
)
def test_unusable_boxes_name_file_line_and_object(tree, box, fault):
    root = tree({"a": thing() + thing("cat", box)})
    pattern = rf"Annotations/a\.xml, line 4: object 2 \(cat\): its box \[xmin, ymin, xmax, ymax\] = .*{fault}"
    check_problem(root, pattern, kept={"a": 1})


def test_boxes_that_stick_out(tree):
    source = read_voc(root=tree({"a": thing(box=(0, 0, 41, 21))}), split="train")  # 0-based corners: clipped silently
    np.testing.assert_array_equal(source.records[0].boxes, np.float32([[0, 0, 40, 20]]))
    root = tree({"a": thing(box=(30, 5, 60, 10))})
    source = check_problem(root, r"a\.xml, line 2: object 1 \(dog\).* reaches outside its image", kept={"a": 1})
    np.testing.assert_array_equal(source.records[0].boxes, np.float32([[29, 4, 40, 10]]))


def test_undeclared_class(tree):
    root = tree({"a": thing("dgo") + thing()})
    pattern = r"a\.xml, line 2: object 1 \(dgo\): its class is not in the class list \(cat, dog\)"
    check_problem(root, pattern, kept={"a": 1}, categories=["cat", "dog"])


@pytest.mark.parametrize("broken", [thing(box=(1, 2, "x", 4)), "\n<object><name>dog</name></object>"])
def test_objects_without_corners(tree, broken):
    root = tree({"a": thing() + broken})
    check_problem(root, r"a\.xml, line 4: object 2 \(dog\) has no bndbox with four numbers xmin ymin", kept={"a": 1})


def test_missing_and_broken_files_of_a_listed_image(tree):
    root = tree({"a": thing(), "b": thing()}, listed=["a", "b", "c"])
    check_problem(root, r"the split lists c, but .*JPEGImages holds no c with \.jpg", kept={"a": 1, "b": 1})
    tree({"a": thing(), "b": thing()})
    (root / "Annotations" / "b.xml").write_text("<annotation>\n<object></annotation>")
    check_problem(root, r"b\.xml: not valid XML \(mismatched tag: line 2", kept={"a": 1})
    (root / "Annotations" / "b.xml").unlink()
    check_problem(root, r"the annotation .*b\.xml is missing \(an image without objects needs", kept={"a": 1})
    tree({"a": thing(), "b": thing()})
    (root / "JPEGImages" / "b.jpg").write_bytes(b"")
    check_problem(root, r"the image .*b\.jpg is empty", kept={"a": 1})


def test_duplicate_lines_of_a_split(tree):
    root = tree({"a": thing(), "b": thing()}, listed=["a", "b", "a"])
    check_problem(root, r"train\.txt: a stands in the list 2 times", kept={"a": 1, "b": 1})


def test_the_error_counts_all_problems(tree):
    root = tree({"a": thing(box=(5, 5, 5, 5)) + thing("cat", (9, 9, 9, 9)) + thing()})
    with pytest.raises(
        UserError, match=r"object 1 .*\(the first of 2 problems of this reading; .*\); correct the data"
    ):
        read_voc(root=root, split="train")


def test_empty_and_unusable_splits_are_always_errors(tree):
    root = tree({"a": thing()}, listed=["", " "])
    with pytest.raises(UserError, match=r"the split list .*train\.txt is empty"):
        read_voc(root=root, split="train", on_bad="skip")
    tree({"a": thing()}, listed=["x"])
    with pytest.raises(UserError, match=r"pets: not one of the 1 images of split train can be used: the split lists x"):
        read_voc(root=root, split="train", on_bad="skip")


def test_missing_folders_say_what_there_is(tree, tmp_path):
    root = tree({"a": thing()})
    with pytest.raises(UserError, match=r"the VOC folder is missing: there is no .*dogs \(.* holds pets/\)"):
        read_voc(root=tmp_path / "dogs", split="train", on_bad="skip")
    with pytest.raises(
        UserError, match=r"there is no .*Annotations \(.* holds pets/\); see datasets/README.md for the layout"
    ):
        read_voc(root=tmp_path, split="train")
    with pytest.raises(
        UserError, match=r"the split list is missing: there is no .*test\.txt \(.*Main holds train\.txt\)"
    ):
        read_voc(root=root, split="test", on_bad="skip")


def test_policy_is_checked(tree):
    with pytest.raises(UserError, match=r"dataset\.on_bad is None; it must be error or skip"):
        read_voc(root=tree({"a": thing()}), split="train", on_bad=None)


def test_real_bccd_with_its_two_degenerate_boxes(real_data):
    root = real_data / "data" / "bccd_voc"
    sources = [read_voc(root=root, split=split, on_bad="skip") for split in ("trainval", "test")]
    assert [len(source.records) for source in sources] == [203, 53]
    assert [c.name for c in sources[0].categories] == ["RBC", "WBC", "Platelets"]
    labels = np.concatenate([record.labels for source in sources for record in source.records])
    assert np.bincount(labels).tolist() == [2878 - 2, 258, 243]
    problems = [problem for source in sources for problem in source.problems]
    assert len(problems) == 2 and "BloodImage_00338" in problems[0] and "BloodImage_00343" in problems[1]
    with pytest.raises(UserError, match=r"BloodImage_00338\.xml, line 158: object 13 .*the first of 2 problems"):
        read_voc(root=root, split="trainval")


def test_real_raccoons(real_data):
    source = read_voc(root=real_data / "data" / "raccoon_voc", split="trainval")
    assert len(source.records) == 142 and sum(len(record.boxes) for record in source.records) == 151
    assert source.categories == (Category(1, "raccoon"),)


def test_real_voc2012(real_data):
    source = read_voc(root=real_data / "data" / "VOCdevkit" / "VOC2012", split="trainval")
    assert len(source.records) == 70
    assert sum(len(record.boxes) for record in source.records) == 179
    assert sum(int(record.difficult.sum()) for record in source.records) == 18
    official = (real_data / "data" / "VOCdevkit" / "labels.txt").read_text().split()
    assert [category.name for category in source.categories] == official
    first = source.records[0]
    assert first.image_id == 2007000027 and first.size == image_size(first.path) == (500, 486)
    np.testing.assert_array_equal(first.boxes, np.float32([[173, 100, 349, 351]]))


def test_the_text_of_a_file_with_many_faults_is_read_once(tree, monkeypatch):
    """For the lines in its messages: the time grows with the faults, and not with their square."""
    root = tree({"a": thing() + thing(box=(9, 9, 9, 9)) * 200})
    asked = []
    whole = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **how: asked.append(path) or whole(path, **how))
    source = read_voc(root=root, split="train", on_bad="skip")
    assert len(source.problems) == 200 and len(source.records[0].boxes) == 1
    assert asked.count(root / "Annotations" / "a.xml") <= 1
