"""Folders of images and masks to records: VOC, Cityscapes, CamVid, the user's own, and the embedded one."""

from pathlib import Path

import hydra
import numpy as np
import pytest
from PIL import Image

from seg_det.commands.settings import build
from seg_det.data.camvid import read_camvid
from seg_det.data.cityscapes import CLASSES as CITYSCAPES
from seg_det.data.cityscapes import read_cityscapes
from seg_det.data.custom_masks import read_custom_masks
from seg_det.data.loaders import read_image, read_mask
from seg_det.data.records import DetectionSource, SegmentationSource
from seg_det.data.shapes import read_shapes
from seg_det.data.shapes_scene import CLASSES as SHAPES
from seg_det.data.transforms import DetectionTransform, SegmentationTransform
from seg_det.data.voc_seg import CLASSES, read_voc_seg, voc_colours
from seg_det.errors import UserError
from seg_det.registry import AUGMENTATIONS, READERS
from seg_det.types import Category

CONF = Path(__file__).parents[2] / "conf"


def pixel_counts(source, classes):
    return sum(np.bincount(record.mask.read().ravel(), minlength=256) for record in source.records)[:classes]


@pytest.fixture
def tree(tmp_path):
    """Writes images and masks below a root, ``tree({"train/a.jpg": None, "trainannot/a.png": [[0, 1]]})``, and gives it."""

    def write(files):
        root = tmp_path / "set"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content)
            elif content is None:
                Image.new("RGB", (2, 1)).save(path)
            else:
                Image.fromarray(np.array(content, np.uint8)).save(path)
        return root

    return write


def listed(source):
    return [(record.path.name, record.image_id, record.mask.read().tolist()) for record in source.records]


def names(source):
    return [category.name for category in source.categories]


# Pascal VOC


def voc(tree, **more):
    return tree({
        "JPEGImages/2007_000001.jpg": None,
        "JPEGImages/2008_000002.jpg": None,
        "SegmentationClass/2007_000001.png": [[15, 255]],
        "SegmentationClassAug/2007_000001.png": [[1, 1]],
        "SegmentationClassAug/2008_000002.png": [[0, 20]],
        "ImageSets/Segmentation/train.txt": "2007_000001\n",
        "ImageSets/Segmentation/train_aug.txt": "2008_000002\n2007_000001\n",
    } | more)  # fmt: skip


def test_voc(tree):
    source = read_voc_seg(root=voc(tree), split="train")
    assert source.name == "set train" and source.problems == ()
    assert source.categories[0] == Category(0, "background") and source.categories[20] == Category(20, "tvmonitor")
    assert listed(source) == [("2007_000001.jpg", 2007000001, [[15, 255]])]


def test_voc_takes_the_masks_of_its_own_before_the_added_ones(tree):
    root = voc(tree)
    source = read_voc_seg(root=root, split="train_aug")
    assert [row[2] for row in listed(source)] == [[[0, 20]], [[15, 255]]]
    added = read_voc_seg(root=root, split="train_aug", masks=["SegmentationClassAug"])
    assert [row[2] for row in listed(added)] == [[[0, 20]], [[1, 1]]]


def test_voc_classes_from_the_list_or_the_user(tree):
    root = voc(tree, **{"labels.txt": "nothing\n thing \n"})
    assert names(read_voc_seg(root=root, split="train")) == ["nothing", "thing"]
    source = read_voc_seg(root=root, split="train", categories=["a", "b", "c"])
    assert names(source) == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"2007_000001.png holds the value 15 in 1 pixels, but there are 3 classes"):
        source.records[0].mask.read()


def test_voc_names_what_is_missing(tree):
    root = voc(tree)
    (root / "SegmentationClassAug" / "2008_000002.png").unlink()
    with pytest.raises(
        UserError,
        match=r"2008_000002.jpg is missing: there is no 2008_000002.png in SegmentationClass or SegmentationClassA",
    ):
        read_voc_seg(root=root, split="train_aug")
    assert len(read_voc_seg(root=root, split="train_aug", on_bad="skip").records) == 1
    (root / "JPEGImages" / "2007_000001.jpg").unlink()
    with pytest.raises(UserError, match="the split lists 2007_000001, but .*JPEGImages holds no 2007_000001 with .jpg"):
        read_voc_seg(root=root, split="train")
    with pytest.raises(UserError, match=r"the split list is missing: there is no .*val.txt"):
        read_voc_seg(root=root, split="val")
    with pytest.raises(UserError, match=r"the folder of masks is missing: there is no .*Masks"):
        read_voc_seg(root=root, split="train", masks=["Masks"])


def test_voc_colour_pictures(tree):
    picture = [[[192, 128, 128], [224, 224, 192]]]  # person, the rim
    root = voc(tree, **{"SegmentationClass/2007_000001.png": picture})
    with pytest.raises(UserError, match=r"is a colour picture \(2 colours\) .* palette, set dataset.colours=true"):
        read_voc_seg(root=root, split="train").records[0].mask.read()
    assert listed(read_voc_seg(root=root, split="train", colours=True))[0][2] == [[15, 255]]
    listed_values = read_voc_seg(root=root, split="train_aug", colours=True).records[0].mask.read()
    assert listed_values.tolist() == [[0, 20]]  # values stay values
    other = voc(tree, **{"SegmentationClass/2007_000001.png": [[[1, 2, 3], [0, 0, 0]]]})
    with pytest.raises(UserError, match=r"holds the colour \(1, 2, 3\) in 1 pixels, which is none of the 22 colours"):
        read_voc_seg(root=other, split="train", colours=True).records[0].mask.read()


def test_voc_palette():
    assert voc_colours(256).shape == (256, 3)
    assert voc_colours(21)[[0, 1, 2, 3, 8, 20]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [64, 0, 0], [0, 64, 128],
    ]  # fmt: skip
    assert voc_colours(256)[255].tolist() == [224, 224, 192]


# Cityscapes


def street(mask="aachen_000000_000019_gtFine_labelIds.png", values=((7, 0),)):
    return {
        "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png": None,
        f"gtFine/train/aachen/{mask}": values,
    }


def test_cityscapes(tree):
    source = read_cityscapes(root=tree(street(values=[[33, 0]])), split="train")
    assert source.name == "set train" and len(source.categories) == 19
    assert source.categories[0] == Category(7, "road") and source.categories[18] == Category(33, "bicycle")
    assert listed(source) == [("aachen_000000_000019_leftImg8bit.png", 1, [[18, 255]])]


def test_cityscapes_train_ids(tree):
    root = tree(street("aachen_000000_000019_gtFine_labelTrainIds.png", [[18, 255]]))
    assert listed(read_cityscapes(root=root, split="train"))[0][2] == [[18, 255]]
    both = tree(street(values=[[7, 8]]))
    assert listed(read_cityscapes(root=both, split="train"))[0][2] == [[0, 1]]  # labelIds go first


@pytest.mark.parametrize(
    ("value", "index"), [(0, 255), (9, 255), (18, 255), (29, 255), (30, 255), (31, 16), (255, 255)]
)
def test_cityscapes_ids(tree, value, index):
    source = read_cityscapes(root=tree(street(values=[[value, 26]])), split="train")
    assert source.records[0].mask.read().tolist() == [[index, 13]]


def test_cityscapes_value_that_is_no_id(tree):
    source = read_cityscapes(root=tree(street(values=[[34, 7]])), split="train")
    with pytest.raises(
        UserError, match=r"value 34 in 1 pixels, but there are 19 classes \(7..8, 11..13, 17, 19..28, 31..33\)"
    ):
        source.records[0].mask.read()


def test_cityscapes_names_what_is_missing(tree):
    root = tree(street())
    with pytest.raises(UserError, match=r"the folder of images is missing: there is no .*leftImg8bit/val"):
        read_cityscapes(root=root, split="val")
    with pytest.raises(UserError, match=r"the folder of masks is missing: there is no .*gtCoarse/train"):
        read_cityscapes(root=root, split="train", annotations="gtCoarse")
    (root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"mask of .* is missing: there is no .*000019_gtFine_labelIds.png"):
        read_cityscapes(root=root, split="train")
    (root / "leftImg8bit/val").mkdir()
    (root / "gtFine/val").mkdir()
    with pytest.raises(UserError, match=r"leftImg8bit/val holds no CITY/\*_leftImg8bit.png"):
        read_cityscapes(root=root, split="val")


def test_cityscapes_official_list():
    assert [c.id for c in CITYSCAPES] == [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert CITYSCAPES[13] == ("car", 26, (0, 0, 142))


# CamVid


def test_camvid(tree):
    root = tree({
        "test/b.png": None, "testannot/b.png": [[11, 10]], "test/a.jpg": None, "testannot/a.png": [[0, 5]],
    })  # fmt: skip
    source = read_camvid(root=root, split="test")
    assert source.name == "set test" and len(source.categories) == 11
    assert source.categories[0] == Category(0, "Sky") and source.categories[10] == Category(10, "Bicyclist")
    assert listed(source) == [("a.jpg", 1, [[0, 5]]), ("b.png", 2, [[255, 10]])]
    (root / "testannot" / "a.png").unlink()
    with pytest.raises(UserError, match=r"the mask of .*a.jpg is missing: there is no .*testannot/a.png"):
        read_camvid(root=root, split="test")
    with pytest.raises(
        UserError, match=r"the folder of images is missing: there is no .*val \(.*holds test/, testannot/"
    ):
        read_camvid(root=root, split="val")


# The user's own


def own(tree, labels="sky\nroad\n", mask=((0, 1),), image="a.jpg", name="a.png", **more):
    return tree({
        f"train/images/{image}": None, f"train/masks/{name}": mask, "labels.txt": labels,
    } | more)  # fmt: skip


def test_own_masks(tree):
    root = own(tree, **{"train/images/b.png": None, "train/masks/b.bmp": [[1, 255]]})
    source = read_custom_masks(root=root, split="train")
    assert source.categories == (Category(0, "sky"), Category(1, "road")) and source.name == "set train"
    assert listed(source) == [("a.jpg", 1, [[0, 1]]), ("b.png", 2, [[1, 255]])]
    assert names(read_custom_masks(root=root, split="train", categories=["x", "y"])) == ["x", "y"]


def test_own_values_in_any_order(tree):
    root = own(tree, labels="road\t40\n\n rough sky \t 7 \nvoid\t0\n", mask=[[7, 0]])
    source = read_custom_masks(root=root, split="train", ignore=["void"])
    assert source.categories == (Category(40, "road"), Category(7, "rough sky"))
    assert listed(source)[0][2] == [[1, 255]]


def test_own_colours(tree):
    labels = "sky\t128,128,128\nroad\t128, 64, 128\nvoid\t0 0 0\n"
    root = own(tree, labels=labels, mask=[[[128, 64, 128], [0, 0, 0]]])
    source = read_custom_masks(root=root, split="train", ignore=["void"])
    assert source.categories == (Category(0, "sky"), Category(1, "road"))
    assert listed(source)[0][2] == [[1, 255]]
    bad = own(tree, labels=labels, mask=[[[1, 2, 3], [0, 0, 0]]])
    with pytest.raises(UserError, match=r"a.png holds the colour \(1, 2, 3\) in 1 pixels"):
        read_custom_masks(root=bad, split="train").records[0].mask.read()


def test_own_colour_masks_without_colours(tree):
    root = own(tree, mask=[[[128, 64, 128], [0, 0, 0]]])
    with pytest.raises(
        UserError, match=r"a.png is a colour picture \(2 colours\) .* name the colour of each class in labels"
    ):
        read_custom_masks(root=root, split="train").records[0].mask.read()


def test_own_names_with_an_ending(tree):
    root = own(tree, name="a_mask.png")
    assert listed(read_custom_masks(root=root, split="train", mask_ending="_mask"))[0][0] == "a.jpg"
    with pytest.raises(UserError, match=r"a.jpg is missing: .*masks holds no a_gt with .* \(the first of 2 problems"):
        read_custom_masks(root=root, split="train", mask_ending="_gt")


def test_own_mask_as_jpeg(tree):
    root = own(tree, name="a.jpg")
    with pytest.raises(
        UserError, match=r"holds no a with .png, .bmp, .tif, .tiff \(as JPEG, a.jpg has lost its values\)"
    ):
        read_custom_masks(root=root, split="train")


def test_own_mask_without_an_image(tree):
    root = own(tree, **{"train/masks/stray.png": [[0, 1]]})
    with pytest.raises(UserError, match=r"the mask .*stray.png belongs to no image in .*train/images"):
        read_custom_masks(root=root, split="train")
    assert len(read_custom_masks(root=root, split="train", on_bad="skip").records) == 1


def test_black_and_white_masks_are_noticed(tree):
    root = own(tree, mask=[[0, 255]])
    with pytest.raises(
        UserError, match=r"the masks hold 255, which is ignored, and never 1 for 'road'; .*road<tab>255"
    ):
        read_custom_masks(root=root, split="train")
    ignored = own(tree, mask=[[255, 255]])  # nothing speaks for black and white
    assert listed(read_custom_masks(root=ignored, split="train"))[0][2] == [[255, 255]]
    told = own(tree, labels="sky\nroad\t255\n", mask=[[0, 255]])
    assert listed(read_custom_masks(root=told, split="train"))[0][2] == [[0, 1]]


@pytest.mark.parametrize(
    ("labels", "ignore", "message"),
    [
        ("", (), r"labels.txt names no class; write one name a line"),
        ("a\na\n", (), r"labels.txt lists the class 'a' twice"),
        ("a\nb\tseven\n", (), r"labels.txt, line 2: 'seven' is neither a value \(7\) nor a colour \(128,64,0\)"),
        ("a\nb\t" + "9" * 5000 + "\n", (), r"line 2: '9{40}' is neither a value"),
        ("name,value\na," + "9" * 5000 + "\n", (), r"line 2: '9{40}' is not the number"),
        ("a\nb\t1,2,300\n", (), r"line 2: '1,2,300' is neither a value"),
        ("a\t1,2,3\nb\n", (), r"gives a colour to 'a', but none to 'b'; give one to each"),
        ("a\t3\nb\t3\n", (), r"the value 3 is given to two classes"),
        ("a\nb\n", ("c",), r"dataset.ignore names 'c', which .*labels.txt does not list"),
        ("a\nb\n", ("a", "b"), r"names no class"),
    ],
)
def test_bad_class_list(tree, labels, ignore, message):
    with pytest.raises(UserError, match=message):
        read_custom_masks(root=own(tree, labels=labels), split="train", ignore=ignore)


def test_own_masks_name_what_is_missing(tree):
    root = own(tree)
    (root / "labels.txt").unlink()
    with pytest.raises(
        UserError, match=r"the list of classes \(one name a line.*\) is missing: there is no .*labels.txt"
    ):
        read_custom_masks(root=root, split="train")
    with pytest.raises(UserError, match=r"the folder of images is missing: there is no .*val/images"):
        read_custom_masks(root=root, split="val")
    (root / "train/images/a.jpg").unlink()
    with pytest.raises(UserError, match=r"train/images holds no image \(.jpg, "):
        read_custom_masks(root=root, split="train", categories=["a"])


# The embedded data set


def test_shapes_serve_both_kinds(tiny_shapes):
    counts = {"train_images": 24, "val_images": 8}
    assert isinstance(read_shapes(tiny_shapes, "val", **counts), DetectionSource)
    source = read_shapes(tiny_shapes, "val", kind="segmentation", **counts)
    assert isinstance(source, SegmentationSource) and source.name == "shapes val"
    assert names(source) == ["background", *SHAPES]
    assert [(r.path.name, r.image_id, r.size) for r in source.records[:2]] == [
        ("000001.jpg", 1, (360, 480)), ("000002.jpg", 2, (360, 480)),
    ]  # fmt: skip
    counts = pixel_counts(source, 9)
    assert counts.sum() == 8 * 360 * 480 and counts[0] > counts[1:].sum() > 0


@pytest.mark.parametrize(("kind", "form", "transform"), [
    ("segmentation", SegmentationSource, SegmentationTransform), ("detection", DetectionSource, DetectionTransform),
])  # fmt: skip
def test_the_task_chooses_what_shapes_and_flips_give(tiny_shapes, kind, form, transform):
    overrides = ["dataset=shapes", f"dataset.root={tiny_shapes}", "dataset.train_images=24", "dataset.val_images=8"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        train = hydra.compose("train", [*overrides, f"task.kind={kind}"])
        evaluate = hydra.compose("evaluate", [*overrides, f"+task.kind={kind}"])
    assert isinstance(build(train.augmentation, AUGMENTATIONS, size=[8, 8]), transform)
    for config in (train, evaluate):
        assert isinstance(build(config.dataset.val, READERS), form)


# Real data


def test_real_voc(real_data):
    root = real_data / "data" / "voc_seg_from_coco"
    sources = {split: read_voc_seg(root=root, split=split) for split in ("train", "val", "trainval")}
    assert {split: len(source.records) for split, source in sources.items()} == {"train": 46, "val": 24, "trainval": 70}
    assert tuple(names(sources["train"])) == CLASSES
    counts = pixel_counts(sources["trainval"], 21)
    assert counts[0] > counts[15] > 0 and (counts > 0).sum() >= 19


def test_real_camvid(real_data):
    for split, count in (("train", 257), ("val", 71), ("test", 163)):
        source = read_camvid(root=real_data / "data" / "camvid", split=split)
        assert len(source.records) == count and {record.size for record in source.records} == {(360, 480)}
    assert read_image(source.records[0]).shape[:2] == read_mask(source.records[0]).shape


def test_real_cityscapes_layout_shows_the_same_pixels_as_camvid(real_data):
    theirs = read_camvid(root=real_data / "data" / "camvid", split="val")
    ours = read_cityscapes(root=real_data / "data" / "camvid_cityscapes_layout", split="val")
    assert len(ours.records) == 12
    frame = ours.records[0].path.name.split("_")[2].lstrip("0")  # camvid0016e5_000000_007959_leftImg8bit.png
    twin = next(record for record in theirs.records if record.path.stem.endswith(frame))
    index = np.full(256, 255, np.uint8)
    index[:11] = [10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 18]  # of Sky, Building, Pole, ... among the nineteen
    assert np.array_equal(ours.records[0].mask.read(), index[twin.mask.read()])
