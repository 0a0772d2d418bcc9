"""Pascal VOC's folders as tools and people write them: read as they were meant, or one sentence that says what is wrong."""

import unicodedata

import pytest
from PIL import Image

from seg_det.data.voc import read_voc
from seg_det.errors import UserError

SIZE = "<size><width>40</width><height>20</height><depth>3</depth></size>"
CORNERS = "<xmin>5</xmin><ymin>3</ymin><xmax>24</xmax><ymax>12</ymax>"


def thing(name="bolt", corners=CORNERS):
    return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>"


def document(inner, size=SIZE):
    return f"<annotation>{size}{inner}</annotation>"


@pytest.fixture
def root(tmp_path):
    """Writes images of 40 x 20 and their XML files, texts or bytes, by the names without suffix; gives the root."""

    def write(xml, *, lines=None, suffix=".jpg", size=(40, 20)):
        for stem, content in xml.items():
            image = tmp_path / "JPEGImages" / f"{stem}{suffix}"
            path = tmp_path / "Annotations" / f"{stem}.xml"
            for file in (image, path):
                file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size).save(image)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        split = tmp_path / "ImageSets" / "Main" / "train.txt"
        split.parent.mkdir(parents=True, exist_ok=True)
        split.write_text("\n".join(list(xml) if lines is None else lines), encoding="utf-8")
        return tmp_path

    return write


def read(root, **more):
    return read_voc(root=root, split="train", **more)


def found(source):
    return [record.boxes.tolist() for record in source.records], [category.name for category in source.categories]


BOX = [4, 2, 24, 12]


def test_objects_of_several_forms_in_one_file(root):
    second = thing("nut").replace("object", "Object")
    assert found(read(root({"a": document(f"{thing()}{second}<more>{thing('cap')}</more>")}))) == (
        [[BOX, BOX, BOX]],
        ["bolt", "cap", "nut"],
    )


@pytest.mark.parametrize(
    "xml",
    [
        f'<annotation xmlns="http://example.org/voc">{SIZE}{thing()}</annotation>',
        f'<v:annotation xmlns:v="http://example.org/voc">{SIZE.replace("<", "<v:").replace("<v:/", "</v:")}'
        f"{thing().replace('<', '<v:').replace('<v:/', '</v:')}</v:annotation>",
        document(f"<objects>{thing()}</objects>"),
        document(thing().replace("object", "Object")),
        document(thing()).upper().replace("BOLT", "bolt"),
        document(thing("<![CDATA[bolt]]>")),
        document(f"<!-- <object><name>ghost</name></object> -->{thing(' bolt ')}"),
        document(thing("bolt<!-- the small one -->")),
        f'<?xml version="1.0" encoding="utf-16"?>{document(thing())}'.encode("utf-16"),
    ],
    ids=["namespace", "prefix", "wrapped", "caps", "all caps", "cdata", "comment", "comment in name", "utf-16"],
)
def test_objects_not_seen(root, xml):
    source = read(root({"a": xml, "b": document("")}))
    assert found(source) == ([[BOX], []], ["bolt"]) and source.problems == ()


@pytest.mark.parametrize("others", [True, False])
def test_objects_of_other_formats(root, others):
    cvat = '<annotations><image id="0" name="a.jpg"><box label="bolt" xtl="1" ytl="1" xbr="9" ybr="9"/></image></annotations>'
    folder = root({"a": cvat, **({"b": document(thing())} if others else {})})
    with pytest.raises(
        UserError, match=r"a\.xml has boxes \(<box>\), but no <object> of Pascal VOC: export the annotations as"
    ):
        read(folder)
    if others:
        source = read(folder, on_bad="skip")
        assert found(source) == ([[BOX]], ["bolt"]) and source.lost.images == 1


@pytest.mark.parametrize(
    ("name", "declared", "written"),
    [
        ("螺栓", "gb2312", "gb2312"),
        ("ボルト", "shift_jis", "shift_jis"),
        ("болт", "windows-1251", "cp1251"),
        ("Schlüssel", "utf-8", "cp1252"),
        ("Schlüssel", "windows-1252", "cp1252"),
        (unicodedata.normalize("NFD", "Schlüssel"), "utf-8", "utf-8"),
    ],
)
def test_encodings(root, name, declared, written):
    xml = f'<?xml version="1.0" encoding="{declared}"?>\n{document(thing(name))}'.encode(written)
    composed = unicodedata.normalize("NFC", name)
    assert found(read(root({"a": xml}))) == ([[BOX]], [composed])
    (root({"a": xml}) / "labels.txt").write_text(f"nut\n{composed}\n", encoding="utf-8")
    assert read(root({"a": xml})).records[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        (document(thing("螺栓")).encode("gb2312"), "a.xml is in an encoding that is not known: save it as UTF-8"),
        (
            b'<?xml version="1.0" encoding="klingon"?><annotation/>',
            "a.xml declares the encoding klingon, which is not known",
        ),
        (b"<annotation><object></annotation>", "a.xml: not valid XML (mismatched tag"),
    ],
)
def test_encodings_that_cannot_be_known(root, xml, sentence):
    folder = root({"a": xml})
    with pytest.raises(UserError) as error:  # without names there is nothing to read; the file is blamed, not the list
        read(folder)
    assert sentence in str(error.value)
    source = read(root({"a": xml, "b": document(thing())}), on_bad="skip")
    assert found(source) == ([[BOX]], ["bolt"]) and sentence in source.problems[0]


def test_entities_are_not_fetched(root, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    xml = f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{tmp_path}/secret.txt">]>{document(thing("&e;"))}'
    with pytest.raises(UserError, match=r"a\.xml: not valid XML \(undefined entity"):
        read(root({"a": xml}))


def test_resized_images(root):
    folder = root({"a": document(thing())}, size=(80, 40))
    with pytest.raises(
        UserError, match=r"a\.xml: it gives the size 40x20, but a\.jpg has 80x40 pixels, so its boxes may be"
    ):
        read(folder)


@pytest.mark.parametrize(
    "size", ["<size/>", "", SIZE.replace("40", "20").replace("<height>20", "<height>40"), SIZE * 2]
)
def test_sizes_that_do_no_harm(root, size):
    """None, exchanged or right."""
    assert found(read(root({"a": document(thing(), size)}))) == ([[BOX]], ["bolt"])


def test_normalised(root):
    corners = "<xmin>0.1</xmin><ymin>0.1</ymin><xmax>0.6</xmax><ymax>0.6</ymax>"
    with pytest.raises(UserError, match="the boxes of all 1 objects of .*Annotations look like shares of the image"):
        read(root({"a": document(thing(corners=corners))}), on_bad="skip")


def test_two_images_one_stem(root):
    folder = root({"a": document(thing())})
    Image.new("RGB", (40, 20)).save(folder / "JPEGImages" / "a.png")
    with pytest.raises(
        UserError, match="JPEGImages holds a.jpg and a.png, which both are a: remove or rename one of them"
    ):
        read(folder)
    for name in ("a.jpg", "a.png"):
        (folder / "Annotations" / "a.xml").write_text(document(f"<filename>{name}</filename>{thing()}"))
        source = read(folder, on_bad="skip")
        assert [record.path.name for record in source.records] == [name] and source.lost.images == 1
    (folder / "Annotations" / "a.xml").write_text(document(thing()))
    with pytest.raises(UserError, match="not one of the 1 images .* a.jpg and a.png, which both are a"):
        read(folder, on_bad="skip", categories=["bolt"])


@pytest.mark.parametrize(
    "line", ["cam1/a", "cam1\\a", "./cam1/a", "cam1/a.jpg", "a", "CAM1/A", "/home/me/JPEGImages/cam1/a.jpg"]
)
def test_nested_folders(root, line):
    source = read(root({"cam1/a": document(thing()), "cam2/b": document(thing("nut"))}, lines=[line]))
    assert source.records[0].path.as_posix().endswith("JPEGImages/cam1/a.jpg")
    assert found(source) == ([[BOX]], ["bolt", "nut"])
    assert len(source.problems) == (0 if line in ("cam1/a", "./cam1/a", "cam1/a.jpg") else 1)


def test_nested_folders_of_one_name(root):
    folder = root({"cam1/a": document(thing()), "cam2/a": document(thing())}, lines=["cam1/a", "cam2/a"])
    assert [record.image_id for record in read(folder).records] == [1, 2]
    with pytest.raises(UserError, match=r"JPEGImages holds no a with .*cam1/a\.jpg or cam2/a\.jpg could be meant"):
        read(root({}, lines=["a"]))


def test_two_lines_of_one_image(root):
    folder = root({"a": document(thing())}, lines=["a", "a.jpg"])
    with pytest.raises(
        UserError, match=r"the split lists a\.jpg and a, which both are .*a\.jpg: keep one of the lines"
    ):
        read(folder)


def test_suffix_case_of_annotations(root):
    folder = root({"a": document(thing())})
    (folder / "Annotations" / "a.xml").rename(folder / "Annotations" / "A.XML")
    source = read(folder)
    assert found(source) == ([[BOX]], ["bolt"])
    assert "Annotations: 1 of 1 files are spelled otherwise on the disk" in source.problems[0]


def test_objects_twice(root):
    source = read(root({"a": document(thing() + thing("nut") + thing())}))
    assert len(source.records[0].boxes) == 3 and "object 3 (bolt) repeats" in source.problems[0]


def test_names_without_objects(root):
    with pytest.raises(UserError, match=r"Annotations \(all files\) names no class"):
        read(root({"a": document("")}))
