"""Folders of classes and lists of files to records: the same classes for all splits, a sentence for what is wrong."""

import pytest

from seg_det.data.imagefolder import read_imagefolder
from seg_det.errors import UserError
from seg_det.types import Category


@pytest.fixture
def tree(tmp_path):
    """Makes empty files below a root, ``tree("train/cat/a.jpg", ...)``, and gives the root."""

    def make(*files, **texts):
        root = tmp_path / "pets"
        root.mkdir(exist_ok=True)
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        for name, text in texts.items():
            (root / f"{name}.txt").write_text(text)
        return root

    return make


def listed(source):
    return [(record.path.name, record.label, record.image_id) for record in source.records]


def names(source):
    return [category.name for category in source.categories]


def check_problem(pattern, *, kept, **arguments):
    """on_bad=error raises the sentence with its remedy, skip lists it; returns the source that skip leaves."""
    with pytest.raises(UserError, match=f"{pattern}.*; correct the data, or set dataset.on_bad=skip to leave out"):
        read_imagefolder(**arguments)
    source = read_imagefolder(**arguments, on_bad="skip")
    assert len(source.problems) == 1
    with pytest.raises(UserError, match=pattern):
        raise UserError(source.problems[0])
    assert [record.path.name for record in source.records] == kept
    return source


FOLDERS = ("train/dog/b.JPEG", "train/cat/c.png", "train/cat/a.jpg", "val/dog/d.JpEg")


def test_folders(tree):
    root = tree(*FOLDERS, "train/cat/Thumbs.db", "train/cat/._a.jpg", "train/.cache/x.jpg", "train/README.md")
    train, val = (read_imagefolder(root=root, split=split) for split in ("train", "val"))
    assert (train.name, val.name) == ("pets train", "pets val")
    assert train.categories == val.categories == (Category(0, "cat"), Category(1, "dog"))
    assert listed(train) == [("a.jpg", 0, 1), ("c.png", 0, 2), ("b.JPEG", 1, 3)]
    assert listed(val) == [("d.JpEg", 1, 1)]  # no cat in val: the dog keeps its index
    assert train.records[0].path == root / "train" / "cat" / "a.jpg"
    assert train.problems == val.problems == ()


def test_sub_folders_are_searched(tree):
    root = tree("train/cat/b.jpg", "train/cat/indoors/dark/a.jpg", "train/cat/attic/z.jpg", "train/dog/a.jpg")
    source = read_imagefolder(root=root, split="train")
    assert [record.path.relative_to(root).as_posix() for record in source.records] == [
        "train/cat/attic/z.jpg",
        "train/cat/b.jpg",
        "train/cat/indoors/dark/a.jpg",
        "train/dog/a.jpg",
    ]
    assert [record.label for record in source.records] == [0, 0, 0, 1]


def test_a_split_alone_names_its_own_classes(tree):
    source = read_imagefolder(root=tree("val/b/1.jpg", "val/a/1.jpg"), split="val")
    assert names(source) == ["a", "b"] and [record.label for record in source.records] == [0, 1]


def test_other_folders_can_be_the_splits(tree):
    root = tree("learn/a/1.jpg", "learn/b/1.jpg", "test/b/2.jpg")
    source = read_imagefolder(root=root, split="test", train_split="learn")
    assert names(source) == ["a", "b"] and listed(source) == [("2.jpg", 1, 1)]


def test_order_of_the_classes_can_be_given(tree):
    root = tree(*FOLDERS)
    assert names(read_imagefolder(root=root, split="val", categories=["dog", "cat"])) == ["dog", "cat"]
    (root / "classes.txt").write_text("\ufeffdog\n cat \n\n", encoding="utf-8")
    source = read_imagefolder(root=root, split="train")
    assert names(source) == ["dog", "cat"]
    assert listed(source) == [("b.JPEG", 0, 1), ("a.jpg", 1, 2), ("c.png", 1, 3)]


def test_class_that_training_does_not_know(tree):
    root = tree(*FOLDERS, "val/zebra/e.jpg")
    check_problem(
        r"the folder .*val/zebra is none of the 2 classes \(cat, dog\)", kept=["d.JpEg"], root=root, split="val"
    )


def test_class_without_images(tree):
    root = tree(*FOLDERS, "train/emu/notes.txt")
    source = check_problem(
        "the class 'emu' has no image: none lies in .*train/emu",
        kept=["a.jpg", "c.png", "b.JPEG"],
        root=root,
        split="train",
    )
    assert names(source) == ["cat", "dog", "emu"]  # indices do not depend on what is left out
    classes = ["cat", "dog", "gnu", "emu"]
    with pytest.raises(UserError, match=r"'gnu' has no image: .* \(the first of 2 problems"):
        read_imagefolder(root=root, split="train", categories=classes)
    assert not read_imagefolder(root=root, split="val", categories=classes).problems


def test_image_beside_the_folders(tree):
    root = tree(*FOLDERS, "val/lost.jpg")
    check_problem("val/lost.jpg lies beside the folders of the classes", kept=["d.JpEg"], root=root, split="val")


def test_what_cannot_be_left_out(tree):
    root = tree("train/cat/a.txt", "val/x.txt")
    with pytest.raises(UserError, match=r"the image folder is missing: there is no .*nowhere"):
        read_imagefolder(root=root / "nowhere", split="train")
    with pytest.raises(UserError, match=r"folder for each class is missing: there is no .*test \(.*holds train/, val/"):
        read_imagefolder(root=root, split="test")
    with pytest.raises(UserError, match=r"train has no image that can be used \(.jpg, .*\): the class 'cat' has no"):
        read_imagefolder(root=root, split="train", on_bad="skip")
    with pytest.raises(UserError, match=r"val names no class; put the images of each class into a folder with its"):
        read_imagefolder(root=root, split="val", train_split="learn")
    with pytest.raises(UserError, match="dataset.categories names the class 'cat' twice"):
        read_imagefolder(root=root, split="train", categories=["cat", "cat"])
    with pytest.raises(UserError, match="dataset.num_classes is 5, but .*train names 1 classes; leave it out"):
        read_imagefolder(root=root, split="train", num_classes=5)


def test_list(tree):
    root = tree("images/a.jpg", "images/deep/b.JPEG", val="images/deep/b.JPEG\t2\n\nimages/a.jpg\t 0 \n")
    source = read_imagefolder(root=root, split="val", split_list="val.txt")
    assert names(source) == ["0", "1", "2"] and [category.id for category in source.categories] == [0, 1, 2]
    assert listed(source) == [("b.JPEG", 2, 1), ("a.jpg", 0, 2)]
    assert source.records[0].path == root / "images" / "deep" / "b.JPEG"
    assert len(read_imagefolder(root=root, split="val", split_list="val.txt", num_classes=10).categories) == 10


def test_list_with_headings_ids_and_names(tree):
    text = "file\tindex\twnid\tname\na.jpg\t0\tn1\tcrane\nb.jpg\t3\tn3\tcrane\nc.jpg\t1\tn2\tring tail\n"
    root = tree("images/a.jpg", "images/b.jpg", "images/c.jpg", val=text)
    source = read_imagefolder(root=root, split="val", split_list="val.txt", images="images")
    assert names(source) == ["crane (n1)", "ring tail", "2", "crane (n3)"]
    assert [record.label for record in source.records] == [0, 3, 1]
    elsewhere = read_imagefolder(root=root, split="val", split_list=str(root / "val.txt"), images=str(root / "images"))
    assert elsewhere.records == source.records
    given = read_imagefolder(
        root=root, split="val", split_list="val.txt", images="images", categories=["a", "b", "c", "d"]
    )
    assert names(given) == ["a", "b", "c", "d"]


def test_training_list_names_the_classes_of_all_splits(tree):
    root = tree("a.jpg", "b.jpg", train="a.jpg\t4\tmouse\nbroken line\n", val="b.jpg\t1\tother\n")
    source = read_imagefolder(root=root, split="val", split_list="val.txt", train_list="train.txt")
    assert names(source) == ["0", "1", "2", "3", "mouse"] and source.problems == ()
    train = read_imagefolder(root=root, split="train", split_list="train.txt", train_list="train.txt", on_bad="skip")
    assert names(train) == names(source) and len(train.problems) == 1


def test_list_beside_training_folders(tree):
    root = tree(*FOLDERS, "flat/x.jpg", val="flat/x.jpg\t1\n")
    source = read_imagefolder(root=root, split="val", split_list="val.txt")
    assert names(source) == ["cat", "dog"] and listed(source) == [("x.jpg", 1, 1)]


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("b.jpg 1", r"val.txt, line 2: 'b.jpg 1' is not a file, a tab and the whole number of its class"),
        ("b.jpg\tdog", r"line 2: 'b.jpg\\tdog' is not a file, a tab"),
        ("b.jpg\t1.0", r"line 2: .* is not a file, a tab"),
        ("b.jpg\t2", r"line 2: b.jpg: its index 2 is none of the 2 classes, which count from 0 to 1"),
        ("b.jpg\t-1", r"line 2: b.jpg: its index -1 is none of the 2 classes"),
        ("lost.jpg\t1", r"line 2: lost.jpg: there is no such file in .*pets"),
        ("lost/b.jpg\t1", r"line 2: lost/b.jpg: there is no such file in .*pets/lost"),
        ("folder\t1", r"line 2: folder: there is no such file"),
        ("a.jpg\t1", r"line 2: a.jpg: it stands in line 1 already"),
    ],
)
def test_bad_line_of_a_list(tree, line, pattern):
    root = tree("a.jpg", "b.jpg", "c.jpg", "folder/x.jpg", val=f"a.jpg\t0\n{line}\nc.jpg\t1\n")
    check_problem(pattern, kept=["a.jpg", "c.jpg"], root=root, split="val", split_list="val.txt", num_classes=2)


def test_ids_of_a_list_do_not_depend_on_what_is_left_out(tree):
    root = tree("a.jpg", "c.jpg", val="a.jpg\t0\nlost.jpg\t0\nc.jpg\t1\n")
    source = read_imagefolder(root=root, split="val", split_list="val.txt", on_bad="skip")
    assert listed(source) == [("a.jpg", 0, 1), ("c.jpg", 1, 3)]


def test_lists_that_name_nothing(tree):
    root = tree("a.jpg", empty="file\tindex\n", wrong="x\nfile 0\n", gone="b.jpg\t0\n")
    with pytest.raises(
        UserError, match=r"the list .*empty.txt names no image; write a line for each: file, tab, index"
    ):
        read_imagefolder(root=root, split="val", split_list="empty.txt")
    with pytest.raises(UserError, match=r"wrong.txt, line 1: 'x' is not a file.*the first of 2 problems"):
        read_imagefolder(root=root, split="val", split_list="wrong.txt")
    with pytest.raises(UserError, match=r"gone.txt has no image that can be used.*: .*line 1: b.jpg: there is no such"):
        read_imagefolder(root=root, split="val", split_list="gone.txt", on_bad="skip")
    with pytest.raises(UserError, match=r"the list of images is missing: there is no .*none.txt"):
        read_imagefolder(root=root, split="val", split_list="none.txt")
    with pytest.raises(UserError, match=r"the folder of the listed images is missing: there is no .*photos"):
        read_imagefolder(root=root, split="val", split_list="gone.txt", images="photos")


def test_file_name_that_is_no_utf8(tmp_path):
    name = b"caf\xe9.jpg"
    (tmp_path / name.decode(errors="surrogateescape")).touch()
    (tmp_path / "val.txt").write_bytes(name + b"\t0\n")
    source = read_imagefolder(root=tmp_path, split="val", split_list="val.txt")
    assert source.records[0].path.exists()


def test_real_list(real_data):
    root = real_data / "data" / "imagenet_samples"
    source = read_imagefolder(root=root, split="val", split_list="labels.tsv", images="images", num_classes=1000)
    assert len(source.records) == 707 and len(set(names(source))) == 1000
    assert source.records[0].path.name == "n01440764_tench.jpg" and names(source)[0] == "tench"
    assert names(source)[998] == "ear" and names(source)[999] == "999"
    assert all(record.path.is_file() for record in source.records)
