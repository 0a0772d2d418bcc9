"""YOLO's label files as tools and people write them: read as they were meant, or one sentence that says what is wrong."""

import unicodedata

import pytest
from PIL import Image

from seg_det.data.yolo import read_yolo
from seg_det.errors import UserError


@pytest.fixture
def root(tmp_path):
    """Writes images of 80 x 40, a.jpg and others, and the text of the labels of a.jpg; gives the root."""

    def write(text, *, images=("a.jpg",), label="a.txt", names="[bolt, hex nut]"):
        for name in images:
            (tmp_path / "images" / "train" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (80, 40)).save(tmp_path / "images" / "train" / name)
        (tmp_path / "labels" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / "train" / label).write_text(text, encoding="utf-8")
        (tmp_path / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
        return tmp_path

    return write


def read(root, **more):
    return read_yolo(root=root, split="train", **more)


@pytest.mark.parametrize(
    "line",
    [
        "1\t0.5\t0.5\t0.25\t0.5",
        "1,0.5,0.5,0.25,0.5",
        "1 0.5,0.5 0.25,0.5",
        "1; 0.5; 0.5; 0.25; 0.5;",
        "1.0 0.5 0.5 0.25 0.5   ",
        "hex nut 0.5 0.5 0.25 0.5",
        "hex nut,0.5,0.5,0.25,0.5",
        "\r\n\n  1 0.5 0.5 0.25 0.5\n\n",
        "\ufeff1 0.5 0.5 0.25 0.5",
    ],
)
def test_tabs_commas_blanks_and_names(root, line):
    source = read(root(line))
    assert source.records[0].boxes.tolist() == [[30, 10, 50, 30]] and source.records[0].labels.tolist() == [1]
    assert source.problems == ()


@pytest.mark.parametrize("first", ["class x_center y_center width height", "# labelled in May"])
def test_headings(root, first):
    source = read(root(f"{first}\n0 0.5 0.5 0.25 0.5\n"))
    assert len(source.records[0].boxes) == 1 and len(source.problems) == 1
    assert source.problems[0].startswith("1 line of labels without a number, or behind #, passed over")
    assert "a.txt, line 1)" in source.problems[0]


def test_empty_files_are_images_without_objects(root):
    assert read(root("\n")).records[0].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("0 0,5 0,5 0,25 0,5", "'0 0,5 0,5 0,25 0,5' has decimal commas: write points, as in 0.5"),
        ("washer 0.5 0.5 0.1 0.1", "'washer' is neither the number of a class nor one of the names"),
        ("0 0.5 0.5 0.1 wide", "'0.5 0.5 0.1 wide' is not class x y width height"),
        ("0 0.1 0.1 -1e9 0.1 0.5 0.5", "the numbers reach -1e+09, so they are pixels"),
        (
            "0 0.1 0.1 nan 0.1 0.5 0.5",
            "its polygon 0.1 0.1 nan 0.1 0.5 0.5 has a coordinate that is not a finite number",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_lines_that_cannot_be_read(root, line, sentence, kind):
    folder = root(f"0 0.1 0.1 0.9 0.1 0.5 0.5\n{line}\n")
    with pytest.raises(UserError) as error:
        read(folder, kind=kind)
    assert f"a.txt, line 2: {sentence}" in str(error.value)
    assert read(folder, kind=kind, on_bad="skip").lost.objects == 1


def test_class_names_among_the_labels(root):
    folder = root("0 0.5 0.5 0.25 0.5")
    (folder / "labels" / "train" / "classes.txt").write_text("bolt\nhex nut\n")
    assert read(folder).problems == ()


def test_labels_without_an_image(root):
    folder = root("0 0.5 0.5 0.25 0.5", images=("a.jpg", "b.jpg"))
    (folder / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.25 0.5")
    source = read(folder)
    assert len(source.problems) == 1
    assert "train holds 1 label file without an image in" in source.problems[0]
    assert "not read (the first: gone.txt)" in source.problems[0]


@pytest.mark.parametrize(
    ("image", "label"),
    [("a.jpg", "A.TXT"), (unicodedata.normalize("NFC", "Tür.jpg"), unicodedata.normalize("NFD", "Tür.txt"))],
)
def test_labels_in_another_spelling(root, image, label):
    source = read(root("0 0.5 0.5 0.25 0.5", images=(image,), label=label))
    assert len(source.records[0].boxes) == 1
    assert len(source.problems) == 1 and "1 of 1 files are spelled otherwise on the disk" in source.problems[0]


def test_two_images_one_stem(root):
    folder = root("0 0.5 0.5 0.25 0.5", images=("a.jpg", "a.png", "b.jpg", "b.png"))
    with pytest.raises(
        UserError, match=r"a\.jpg and a\.png have the same label file .*a\.txt, so which of them it is about cannot"
    ):
        read(folder)
    source = read(folder, on_bad="skip")  # b has no labels, so nothing contradicts its two images
    assert [record.path.name for record in source.records] == ["b.jpg", "b.png"] and source.lost.images == 2
    assert "a.png and a.jpg have the same label file" in source.problems[1]


def test_an_image_of_the_name_0(root):
    folder = root("0 0.5 0.5 0.25 0.5", images=("0.jpg", "1.jpg"), label="0.txt")
    assert [(record.image_id, len(record.boxes)) for record in read(folder).records] == [(0, 1), (1, 0)]


def test_lines_twice(root):
    source = read(root("0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.25 0.5\n0 0.5 0.5 0.25 0.5"))
    assert len(source.records[0].boxes) == 3 and "a.txt, line 3 repeats" in source.problems[0]


@pytest.mark.parametrize(
    "line", ["C:\\data\\images\\train\\a.jpg", "/home/me/images/train/a.jpg", "images/train/A.JPG"]
)
def test_lists_of_another_machine(root, line):
    folder = root("0 0.5 0.5 0.25 0.5")
    (folder / "train.txt").write_text(line)
    (folder / "data.yaml").write_text("train: train.txt\nnames: [bolt]\n")
    source = read(folder)
    assert len(source.records[0].boxes) == 1 and "train.txt: 1 of 1 files are spelled otherwise" in source.problems[0]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [("[yes, no]", "class 0 has the name True, which is no text: put it in quotes"), ("[bolt, ~]", "without a name")],
)
def test_names_that_yaml_does_not_read_as_texts(root, names, sentence):
    with pytest.raises(UserError, match=sentence):
        read(root("0 0.5 0.5 0.25 0.5", names=names))
