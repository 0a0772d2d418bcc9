"""Mask folders and class lists as people's tools write them: read as they are meant, or one sentence."""

import numpy as np
import pytest
from PIL import Image

from seg_det.data.camvid import read_camvid
from seg_det.data.cityscapes import read_cityscapes
from seg_det.data.class_lists import class_names, read_class_list
from seg_det.data.custom_masks import read_custom_masks
from seg_det.data.imagefolder import read_imagefolder
from seg_det.data.masks import MaskFile, mask_code, require_counted_pixels
from seg_det.data.pairs import files_below, find_ending
from seg_det.data.voc import read_voc
from seg_det.data.voc_seg import read_voc_seg
from seg_det.data.yolo_files import read_description
from seg_det.errors import UserError

MASK = np.array([[0, 1, 2]], np.uint8)
LABELS = "background\nbolt\nnut\n"


@pytest.fixture
def folder(tmp_path):
    """Writes files below a folder: text, bytes, masks, and for None images of 3 x 1."""

    def write(files):
        for name, content in files.items():
            (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str | bytes):
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            else:
                Image.fromarray(np.zeros((1, 3, 3), np.uint8) if content is None else np.array(content, np.uint8)).save(
                    path
                )
        return tmp_path

    return write


def own(folder, names=("t1.jpg", "t2.jpg"), masks=("t1.png", "t2.png"), mask=MASK, labels=LABELS, **more):
    files = {f"train/images/{name}": None for name in names} | {f"train/masks/{name}": mask for name in masks}
    return folder(files | {"labels.txt": labels} | more)


def read(root, **more):
    return read_custom_masks(root=root, split="train", **more)


def meant(source):
    """The names of the classes of the first mask's pixels."""
    names = [category.name for category in source.categories]
    return [names[value] for value in source.records[0].mask.read().ravel()]


@pytest.mark.parametrize(
    "labels",
    {
        "csv": "name,r,g,b\nbackground,0,0,0\nbolt,128,0,0\nnut,0,128,0\n",
        "csv_semicolons": '"id";"name"\n0;"background"\n2;"nut"\n1;"bolt"\n',
        "table": "name\tvalue\nbackground\t0\nnut\t2\nbolt\t1\n",
        "cvat": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbolt:128,0,0::\nnut:0,128,0::\n",
        "number_first": "2 nut\n1 bolt\n0 background\n",
        "number_and_colon": "0: background\n1: bolt\n2: nut\n",
        "number_and_tab": "2\tnut\n1\tbolt\n0\tbackground\n",
        "number_last": "background 0\nnut 2\nbolt 1\n",
        "camvid": "0 0 0\tbackground\n128 0 0\tbolt\n0 128 0\tnut\n",
        "colours_by_commas": "background,0,0,0\nbolt,128,0,0\nnut,0,128,0\n",
        "values_and_colours": "0,background,0,0,0\n2,nut,0,128,0\n1,bolt,128,0,0\n",
        "comment": "# classes\nbackground\n\nbolt\nnut\n",
        "marked": "\ufeffbackground\r\nbolt\r\nnut\r\n",
        "plain": LABELS,
    }.items(),
    ids=lambda pair: pair[0],
)
def test_labels_txt_not_names(folder, labels):
    """Value 0 is the background, 1 a bolt and 2 a nut, however the list says so."""
    source = read(own(folder, labels=labels[1]))
    assert meant(source) == ["background", "bolt", "nut"]
    assert sorted(category.id for category in source.categories) == [0, 1, 2]


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("type 1\ntype 2", ["type 1", "type 2"]),
        ("1 euro\n2 euro", ["1 euro", "2 euro"]),
        ("3-phase\nmotor", ["3-phase", "motor"]),
        ("tench, Tinca tinca\nshark", ["tench, Tinca tinca", "shark"]),
        ("car\ngrade 2\nsign", ["car", "grade 2", "sign"]),
        ("C#\nC", ["C#", "C"]),
        ("sign, red,1,2,3\nlane1,4,5,6", ["sign, red", "lane1"]),
        ("side walk\t7\t244,35,232\nroad\t1,2,3\t8", ["side walk", "road"]),
    ],
)
def test_numbers_in_names_stay(tmp_path, lines, names):
    (file := tmp_path / "labels.txt").write_text(lines)
    assert [one.name for one in read_class_list(file)] == names


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("classes\nbolt\nnut", r"line 1: 'classes' looks like a heading"),
        ("bolt\n#5 nut", r"line 2: '#5 nut' may be a comment or a class"),
        (
            "7 road\n8 walk",
            r"line 1: the 7 of '7 road' may be the value of the class .*: write road<tab>7 for a value, or",
        ),
        ("background\nnut 2\nbolt 1", r"line 2: the 2 of 'nut 2' may be the value"),
        ("name,r,g,b\nbolt,1,2", r"line 2: 'bolt,1,2' has 3 columns, and the heading 4"),
        ("name,id\nbolt,x", r"line 2: 'x' is not the number of a class"),
        ("name,r,g,b\nbolt,1,2,300", r"line 2: '1 2 300' is not a colour"),
    ],
)
def test_lines_that_can_be_read_in_two_ways(tmp_path, lines, said):
    (file := tmp_path / "labels.txt").write_text(lines)
    with pytest.raises(UserError, match=rf"labels\.txt, {said}"):
        read_class_list(file)


def test_lists_without_values_of_their_own(tmp_path):
    """Where a class is its place, values must be places."""
    (file := tmp_path / "classes.txt").write_text("2,nut\n1,bolt\n")
    assert class_names(file, first=(0, 1)) == ["bolt", "nut"]
    with pytest.raises(
        UserError, match=r"classes\.txt gives its classes the values 2, 1; here they must be 0\.\.1, each once"
    ):
        class_names(file)
    file.write_text("nut\t1\nbolt\n")
    with pytest.raises(UserError, match="the values 1, none; here"):
        class_names(file)
    file.write_text("0 a\n1 b\n")
    assert class_names(file) == ["a", "b"]
    assert class_names(file, known=["0 a", "1 b", "c"]) == ["0 a", "1 b"]


def test_voc_labels_comment(folder):
    """The lists of the other formats are read by the same rules."""
    root = folder({
        "JPEGImages/a.png": None, "Annotations/a.xml": "<annotation/>", "ImageSets/Main/train.txt": "a\n",
        "SegmentationClass/a.png": MASK, "ImageSets/Segmentation/train.txt": "a\n",
        "train/bolt/a.png": None, "train/nut/a.png": None,
        "labels.txt": "# classes\nbolt\nnut\n", "classes.txt": "# classes\n0 nut\n1 bolt\n",
    })  # fmt: skip
    assert [category.name for category in read_voc(root=root, split="train").categories] == ["bolt", "nut"]
    assert [category.name for category in read_imagefolder(root=root, split="train").categories] == ["nut", "bolt"]
    assert read_description(root).names == ("nut", "bolt")
    (root / "labels.txt").rename(root / "labelmap.txt")
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbolt:1,1,1::\nnut:2,2,2::\n"
    )
    source = read_voc_seg(root=root, split="train")
    assert meant(source) == ["background", "bolt", "nut"]


def test_mask_labels_ansi(folder):
    source = read(own(folder, labels=b"Hintergrund\nSchl\xfcssel\nM\xfcll\n"))
    assert meant(source) == ["Hintergrund", "Schlüssel", "Müll"]


def test_masks_bw_one_name(folder):
    """One class has nothing to be told from."""
    root = own(folder, labels="polyp\n", mask=[[0, 255, 255]])
    with pytest.raises(
        UserError,
        match=r"names only one class, 'polyp', .*: the masks hold 0 and 255, so background<tab>0 and polyp<tab>255$",
    ):
        read(root)
    with pytest.raises(UserError, match="names only one class, 'polyp'"):
        read(root, categories=["polyp"], on_bad="skip")
    (root / "labels.txt").write_text("background\npolyp\t255\n")
    assert meant(read(root)) == ["background", "polyp", "polyp"]


def test_one_class_of_voc(folder):
    root = folder(
        {"JPEGImages/a.png": None, "SegmentationClass/a.png": MASK, "ImageSets/Segmentation/train.txt": "a\n"}
    )
    with pytest.raises(UserError, match=r"dataset\.categories names 1 classes, but masks need two or more"):
        read_voc_seg(root=root, split="train", categories=["polyp"])


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (
            [[1, 1, 1]],
            r"every pixel that counts in the 2 masks .* is of the class 'bolt', so any .*: add masks",
        ),
        (
            [[0, 0, 255]],
            r"is of the class 'background', and the others are ignored, so any .*: give the value 255 to a class",
        ),
    ],
)
def test_masks_of_a_single_class(folder, mask, said, every):
    """A model that has learned nothing would have a mean IoU of 1."""
    root = own(folder, mask=mask)
    with pytest.raises(UserError, match=said):
        require_counted_pixels(read(root), every=every)
    Image.fromarray(MASK).save(root / "train/masks/t2.png")
    require_counted_pixels(read(root), every=every)


def test_masks_in_subfolder(folder):
    names = ["t1", "city/t1", "city/old/t3"]
    root = own(folder, [f"{n}.jpg" for n in names], [f"{n}.png" for n in names], **{"train/images/.thumbs/x.jpg": None})
    source = read(root)
    assert [record.path.relative_to(root / "train/images").as_posix() for record in source.records] == [
        "city/old/t3.jpg",
        "city/t1.jpg",
        "t1.jpg",
    ]
    assert [record.mask.path.parent.name for record in source.records] == ["old", "city", "masks"]
    assert source.problems == () and [record.image_id for record in source.records] == [1, 2, 3]
    (root / "train/masks/city/t1.png").rename(root / "train/masks/city/t9.png")
    with pytest.raises(UserError, match=r"the mask of .*city/t1\.jpg is missing: .*masks holds no city/t1 with"):
        read(root)


def test_voc_and_camvid_in_subfolders(folder):
    root = folder({
        "JPEGImages/city/a.jpg": None, "SegmentationClass/city/a.png": MASK, "ImageSets/Segmentation/train.txt": "city/a\n",
        "train/b.png": None, "trainannot/b.png": MASK, "train/city/c.png": None, "trainannot/city/c.png": MASK,
    })  # fmt: skip
    assert read_voc_seg(root=root, split="train").records[0].mask.read().tolist() == MASK.tolist()
    assert [record.path.name for record in read_camvid(root=root, split="train").records] == ["b.png", "c.png"]


@pytest.mark.parametrize(
    ("masks", "ending"),
    [
        (("t1_mask.png", "t2_mask.png"), "_mask"),
        (("t1_label.bmp", "t2_label.png"), "_label"),
        (("t1_gt.png", "t2_gt.png"), "_gt"),
        (("t1.jpg.png", "t2.jpg.png"), None),
    ],
)
def test_masks_with_an_ending(folder, masks, ending):
    """Found where it is the same for all, and noted."""
    source = read(own(folder, masks=masks))
    assert [record.mask.path.name for record in source.records] == list(masks)
    said = "the whole names of the images" if ending is None else rf"add '{ending}' (dataset.mask_ending={ending})"
    assert len(source.problems) == 1 and said in source.problems[0]


def test_masks_with_an_ending_and_without(folder):
    root = own(folder, masks=("t1.png", "t2_mask.png"))
    with pytest.raises(UserError, match=r"the mask of .*t2\.jpg is missing: .*masks holds no t2 with"):
        read(root)
    root = own(folder, ("t1.jpg", "t2.jpg", "t3.jpg"), ("t1_gt.png", "t2_gt.png"))
    (root / "train/masks/t1.png").unlink()
    (root / "train/masks/t2_mask.png").unlink()
    source = read(root, on_bad="skip")
    assert len(source.records) == 2 and "t3.jpg is missing" in " ".join(source.problems)


def test_masks_with_several_endings(folder):
    root = own(folder, masks=("t1_mask.png", "t2_mask.png", "t1_edge.png", "t2_edge.png"))
    with pytest.raises(
        UserError, match=r"with '_edge' and with '_mask' added, .*: say which with dataset\.mask_ending=_edge"
    ):
        read(root)
    assert find_ending(files_below(root / "train/images"), ["t1_1", "t2_1", "t1_1_1"]) == "_1"
    with pytest.raises(UserError, match=r"the mask .*t1_edge\.png belongs to no image"):
        read(root, mask_ending="_mask")


def test_masks_saved_as_jpeg(folder):
    root = own(folder, masks=("t1_mask.jpg", "t2_mask.jpg"))
    with pytest.raises(UserError, match=r"holds no t1 with .* \(as JPEG, t1_mask\.jpg has lost its values\)"):
        read(root)
    for name in ("t1", "t2"):
        (root / f"train/masks/{name}_mask.jpg").rename(root / f"train/masks/{name}.png")  # another name changes nothing
    with pytest.raises(
        UserError, match=r"the mask .*t1\.png is JPEG inside, which has lost its values; draw it again and save"
    ):
        read(root).records[0].mask.read()


def test_mask_two_stems(folder):
    """Of two images with one name nobody knows which the mask is for."""
    root = own(folder, ("t1.jpg", "t1.png", "t2.jpg"))
    with pytest.raises(
        UserError, match=r"images/t1\.jpg has the name of t1\.png beside it, .* \(the first of 2 problems"
    ):
        read(root)
    source = read(root, on_bad="skip")
    assert [record.path.name for record in source.records] == ["t2.jpg"] and source.lost.images == 2


def test_two_masks_of_one_image(folder):
    root = own(folder, masks=("t1.png", "t1.bmp", "t2.png"))
    with pytest.raises(UserError, match=r"images/t1\.jpg has two masks, .*masks/t1\.png and t1\.bmp: remove one"):
        read(root)


def test_masks_named_as_the_whole_image_files(folder):
    """Then two images of one name are no problem."""
    masks = ["t1.jpg.png", "t1.png.png", "t2.jpg.png"]
    source = read(own(folder, ("t1.jpg", "t1.png", "t2.jpg"), masks))
    assert [record.mask.path.name for record in source.records] == masks


def test_two_stems_of_other_formats(folder):
    root = folder({
        "JPEGImages/a.jpg": None, "JPEGImages/a.png": None, "SegmentationClass/a.png": MASK,
        "ImageSets/Segmentation/train.txt": "a\n", "ImageSets/Segmentation/val.txt": "b\n",
        "JPEGImages/b.jpg": None, "SegmentationClass/b.png": MASK,
        "train/a.jpg": None, "train/a.png": None, "trainannot/a.png": MASK,
        "leftImg8bit/train/x/x_leftImg8bit.png": None, "leftImg8bit/train/x/x_leftImg8bit.jpg": None,
        "gtFine/train/x/x_gtFine_labelIds.png": [[7, 8, 11]],
        "classes/train/cat/a.jpg": None, "classes/train/cat/a.png": None,
    })  # fmt: skip
    for reader in (read_voc_seg, read_camvid, read_cityscapes):
        with pytest.raises(UserError, match=r"(a|x_leftImg8bit)\.\w+ has the name of \S+ beside it"):
            reader(root=root, split="train")
    assert len(read_voc_seg(root=root, split="val").records) == 1  # what no list names is nobody's problem
    assert len(read_imagefolder(root=root / "classes", split="train").records) == 2  # both are images of the class


def test_images_of_other_suffixes_are_noted(folder):
    source = read(own(folder, **{"train/images/t5.heic": b"x", "train/images/notes.txt": b"x"}))
    assert len(source.records) == 2 and len(source.problems) == 1
    assert "1 images are passed over for their suffix, as t5.heic (read are .jpg" in source.problems[0]


def palette_mask(tmp_path, indices, greys):
    image = Image.fromarray(np.array(indices, np.uint8))
    image.putpalette([channel for grey in greys for channel in (grey, grey, grey)])
    image.save(tmp_path / "m.png")
    assert Image.open(tmp_path / "m.png").mode == "P"
    return tmp_path / "m.png"


@pytest.mark.parametrize(
    ("values", "indices", "greys", "want"),
    [
        ((0, 1, 2), [[0, 1, 2]], (0, 1, 2), [[0, 1, 2]]),
        ((0, 1, 2), [[0, 1, 2]], (0, 127, 254), [[0, 1, 2]]),  # to be looked at
        ((0, 1), [[0, 1, 1]], (0, 255), [[0, 1, 1]]),
        ((0, 1), [[1, 1]], (0, 255), [[1, 1]]),
        ((0, 255), [[0, 1, 1]], (0, 255), [[0, 1, 1]]),  # 1 is no value, 255 is one
        ((7, 33), [[1, 0]], (7, 33), [[1, 0]]),
        ((0, 1, 2), [[0, 1, 2]], (2, 0, 1), None),
        ((0, 1, 2), [[0, 0]], (2, 0, 1), None),
        ((0, 1, 2), [[0, 1, 2]], (0, 1, 255), None),
    ],
)
def test_masks_with_a_palette_of_greys(tmp_path, values, indices, greys, want):
    """Where indices and greys disagree the ones that are classes count, and where both are it is said."""
    mask = MaskFile(palette_mask(tmp_path, indices, greys), mask_code(values))
    if want is not None:
        assert mask.read().tolist() == want
        return
    with pytest.raises(
        UserError, match=r"m\.png has a palette of greys: its index \d is shown as \d+, and both are values"
    ):
        mask.read()


def test_a_broken_mask_is_left_out_of_black_and_white_ones(folder):
    root = own(folder, labels="background\npolyp\n", mask=[[0, 1, 1]])
    (root / "train/masks/t1.png").write_bytes(b"no mask")
    source = read(root, on_bad="skip")
    assert [record.path.name for record in source.records] == ["t2.jpg"] and "t1.png is broken" in source.problems[0]
