"""What the readers of all labelling tools share: the same objects as COCO's, splits, classes, and how images are found."""

import json
import shutil

import hydra
import numpy as np
import pytest
from commands import run
from PIL import Image
from tool_files import (
    BOXES,
    OUTLINE,
    WRITERS,
    coco,
    cvat_file,
    cvat_image,
    labelme_file,
    labelme_shape,
    picture,
    pictures,
    studio_annotation,
    studio_result,
    studio_task,
    via_region,
    write,
)

from seg_det.commands.labelled_data import read_source
from seg_det.commands.recognising import with_recognised_data
from seg_det.data.coco import read_coco
from seg_det.data.coco_seg import read_coco_seg
from seg_det.data.labelme import read_labelme
from seg_det.data.recognise import BOXES as LEARN_BOXES
from seg_det.data.recognise import CLASSES, MASKS, recognise
from seg_det.errors import UserError
from seg_det.installed import installed
from seg_det.registry import READERS

TOOLS = sorted(WRITERS)


def box(label="open", corners=((1, 2), (11, 22))):
    return labelme_shape(label, [list(corner) for corner in corners], "rectangle")


def read(tool, root, **more):
    return READERS.get(f"read_{tool}")(root=root, **more)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("split", [None, "train"])
def test_the_same_objects_as_in_coco(tool, split, tmp_path):
    folder = tmp_path / (split or "all")
    pictures(folder)
    WRITERS[tool](folder)
    theirs = read_coco(images=folder, annotations=coco(tmp_path / "other"))
    ours = read(tool, tmp_path, split=split)
    assert sum(len(record.boxes) for record in ours.records) == sum(map(len, BOXES.values())) == 3
    assert [(c.id, c.name) for c in ours.categories] == [(c.id, c.name) for c in theirs.categories]
    for one, other in zip(ours.records, theirs.records, strict=True):
        assert one.path == other.path and one.size == other.size
        for field in ("boxes", "labels", "crowd", "difficult", "area"):
            mine, its = getattr(one, field), getattr(other, field)
            assert mine.dtype == its.dtype and np.array_equal(mine, its), field
    assert ours.problems == () and ours.lost == (0, 0) and ours.name == f"{tmp_path.name} {split or ''}".strip()


def outline_of(tool, folder):
    """OUTLINE on a.png as the class x, as each tool writes it."""
    pairs = [OUTLINE[place : place + 2] for place in range(0, len(OUTLINE), 2)]
    xs, ys = zip(*pairs, strict=True)
    if tool == "labelme":
        write(folder / "a.json", labelme_file("a.png", [labelme_shape("x", pairs, "polygon")]))
    elif tool == "label_studio":
        shares = [[100 * x / 80, 100 * y / 60] for x, y in pairs]
        result = studio_result("polygonlabels", {"points": shares, "polygonlabels": ["x"], "closed": True})
        write(folder / "p.json", [studio_task(1, "/data/upload/1/a.png", [studio_annotation(1, [result])])])
    elif tool == "via":
        region = via_region({"name": "polygon", "all_points_x": xs, "all_points_y": ys}, "x")
        write(folder / "p.json", {"a": {"filename": "a.png", "size": 1, "regions": [region]}})
    else:
        points = ";".join(f"{x},{y}" for x, y in pairs)
        write(folder / "p.xml", cvat_file(cvat_image(f'<polygon label="x" points="{points}"/>'), ["x"]))


@pytest.mark.parametrize("tool", ["labelme", "label_studio", "via", "cvat"])
def test_the_same_masks_and_boxes_of_polygons_as_in_coco(tool, tmp_path):
    picture(tmp_path / "a.png")
    outline_of(tool, tmp_path)
    row = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [OUTLINE]}
    images = [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}]
    document = {"images": images, "annotations": [row], "categories": [{"id": 1, "name": "x"}]}
    theirs = read_coco_seg(images=tmp_path, annotations=write(tmp_path / "other" / "coco.json", document))
    ours = read(tool, tmp_path, kind="segmentation")
    assert np.array_equal(ours.records[0].mask.read(), theirs.records[0].mask.read())
    assert [(c.id, c.name) for c in ours.categories] == [(c.id, c.name) for c in theirs.categories]
    assert read(tool, tmp_path).records[0].boxes.tolist() == [[10, 5, 60, 45]]


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_is_recognised_and_split_by_folders(tool, tmp_path):
    for split in ("train", "valid"):
        pictures(tmp_path / split)
        WRITERS[tool](tmp_path / split)
    found = recognise(tmp_path, LEARN_BOXES)
    assert (found.dataset, found.settings) == (tool, ())
    assert recognise(tmp_path, MASKS).settings == ("augmentation=segmentation",)
    train, val = (read(tool, tmp_path, split=split) for split in ("train", "val"))
    assert {record.path.parent.name for record in train.records} == {"train"}
    assert {record.path.parent.name for record in val.records} == {"valid"}
    with pytest.raises(UserError, match=r"has no folder test/ with annotations for the split test"):
        read(tool, tmp_path, split="test")
    shutil.rmtree(tmp_path / "train")
    assert recognise(tmp_path, LEARN_BOXES).settings == ("dataset.train_split=null", "dataset.val_share=0.2")
    with pytest.raises(UserError, match="and the task learns from classes"):
        recognise(tmp_path, CLASSES)


def test_one_file_is_recognised_by_itself(tmp_path):
    pictures(tmp_path)
    WRITERS["cvat"](tmp_path)
    found = recognise(tmp_path / "annotations.xml", LEARN_BOXES)
    assert found.dataset == "cvat" and found.told_by == "annotations.xml, a file of CVAT"
    assert len(read("cvat", tmp_path / "annotations.xml").records) == 3


def test_a_train_part_alone_and_files_named_by_their_split(tmp_path):
    pictures(tmp_path / "images")
    WRITERS["via"](tmp_path)
    (tmp_path / "via_project.json").rename(tmp_path / "train.json")
    found = recognise(tmp_path, LEARN_BOXES)
    assert found.dataset == "via" and found.settings == ("dataset.val_share=0.2",)
    assert len(read("via", tmp_path, split="train").records) == 3
    shutil.copy(tmp_path / "train.json", tmp_path / "my_val.json")
    assert recognise(tmp_path, LEARN_BOXES).settings == ()


def test_files_in_utf_16(tmp_path):
    picture(tmp_path / "a.png")
    content = json.dumps(labelme_file("a.png", [box("gr\u00fcn")]), ensure_ascii=False)
    (tmp_path / "a.json").write_bytes(content.encode("utf-16"))
    assert recognise(tmp_path, LEARN_BOXES).dataset == "labelme"
    assert read_labelme(root=tmp_path).categories[0].name == "gr\u00fcn"


def test_coco_beside_a_tools_files_goes_first_and_other_json_is_no_tools(tmp_path):
    for split in ("train", "val"):
        pictures(tmp_path / split)
        WRITERS["labelme"](tmp_path / split)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        shutil.copy(coco(tmp_path / split), tmp_path / "annotations" / f"{split}.json")
    assert recognise(tmp_path, LEARN_BOXES).dataset == "custom_coco"
    shutil.rmtree(tmp_path / "annotations")
    assert recognise(tmp_path, LEARN_BOXES).dataset == "labelme"


def test_coco_and_other_json_are_not_taken_for_a_tool(tmp_path):
    write(tmp_path / "config.json", {"a": 1})
    coco(tmp_path)
    with pytest.raises(UserError, match="holds no file of labelme .coco.json, config.json"):
        read_labelme(root=tmp_path)


def test_train_and_val_agree_on_the_classes(tmp_path):
    for split, label in (("train", "pear"), ("val", "apple")):
        picture(tmp_path / split / "a.png")
        write(tmp_path / split / "a.json", labelme_file("a.png", [box(label)]))
    for split, label in (("train", 1), ("val", 0)):
        source = read_labelme(root=tmp_path, split=split)
        assert [(c.id, c.name) for c in source.categories] == [(1, "apple"), (2, "pear")]
        assert source.records[0].labels.tolist() == [label]
    given = read_labelme(root=tmp_path, split="train", categories=["pear", " plum "])
    assert [c.name for c in given.categories] == ["pear", "plum"] and given.records[0].labels.tolist() == [0]
    with pytest.raises(UserError, match=r"a.json: shape 1 \(apple\): its class is not in the class list \(pear\)"):
        read_labelme(root=tmp_path, split="val", categories=["pear"])
    with pytest.raises(UserError, match="dataset.categories must be names, each once"):
        read_labelme(root=tmp_path, split="val", categories=["pear", "pear"])


@pytest.mark.parametrize("label", [None, "", "   "])
def test_names_are_stripped_and_never_empty(label, tmp_path):
    picture(tmp_path / "a.png")
    file = write(tmp_path / "a.json", labelme_file("a.png", [box(label), box(" open\n")]))
    with pytest.raises(UserError, match=r"a.json: shape 1 .* has no class: give it a label"):
        read_labelme(root=tmp_path)
    source = read_labelme(root=tmp_path, on_bad="skip")
    assert [c.name for c in source.categories] == ["open"] and source.lost == (0, 1) and str(file) in source.problems[0]


@pytest.mark.parametrize(
    ("corners", "sentence"),
    [
        (((5, 5), (5, 9)), "has zero or negative size"),
        (((90, 5), (99, 9)), "lies wholly outside its image"),
        (((70, 5), (85, 9)), r"= \[70, 5, 85, 9\] reaches outside its image by more than a pixel"),
    ],
)
def test_boxes_are_judged_as_in_other_formats(corners, sentence, tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.json", labelme_file("a.png", [box(), box("open", corners)]))
    with pytest.raises(UserError, match=rf"a.json: shape 2 \(open\): its box \[x1, y1, x2, y2\] .*{sentence}"):
        read_labelme(root=tmp_path)
    clipped = "reaches" in sentence
    source = read_labelme(root=tmp_path, on_bad="skip")
    assert len(source.records[0].boxes) == 1 + clipped and source.lost.objects == 1 - clipped


@pytest.mark.parametrize(
    "written",
    [
        "sub\\A.PNG",
        "C:\\Users\\x\\sub\\a.png",
        "/home/x/sub/a.png",
        "../other/a.png",
        "sub/a.png",
        "my%20a.png",
        "a.png",
    ],
)
def test_images_under_the_spellings_of_other_machines(written, tmp_path):
    image = picture(tmp_path / "sub" / ("my a.png" if "%" in written else "a.png"))
    write(tmp_path / "labels" / "x.json", labelme_file(written, [box()]))
    source = read_labelme(root=tmp_path)
    assert [record.path for record in source.records] == [image]
    told = "images were found under another name: 1 (first: A.PNG as " if "A.PNG" in written else ""
    assert len(source.problems) == bool(told) and all(sentence.startswith(told) for sentence in source.problems)


def test_a_name_in_several_folders_is_told_by_its_folder_or_refused(tmp_path):
    for folder in ("one", "two"):
        picture(tmp_path / folder / "a.png")
    file = write(tmp_path / "labels" / "x.json", labelme_file("/data/two/a.png", [box()]))
    source = read_labelme(root=tmp_path, on_bad="skip")
    assert source.records[0].path == tmp_path / "two" / "a.png"
    write(file, labelme_file("/data/a.png", [box()]))
    with pytest.raises(UserError, match="x.json: the image /data/a.png may be .*one/a.png or .*two/a.png: give one"):
        read_labelme(root=tmp_path)


def test_folders_that_are_links_are_followed_unless_they_lead_upwards(tmp_path):
    picture(tmp_path / "far" / "a.png")
    for name in ("one", "two"):
        (tmp_path / "root" / "labels").mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).symlink_to(tmp_path / "far")
    (tmp_path / "root" / "labels" / "up").symlink_to(tmp_path / "root")
    write(tmp_path / "root" / "labels" / "a.json", labelme_file("/data/a.png", [box()]))
    assert [r.path for r in read_labelme(root=tmp_path / "root").records] == [tmp_path / "root" / "one" / "a.png"]


def test_names_of_images_that_are_numbers_give_their_ids(tmp_path):
    for name in ("0", "7"):
        picture(tmp_path / f"{name}.png")
        write(tmp_path / f"{name}.json", labelme_file(f"{name}.png", [box()]))
    assert [r.image_id for r in read_labelme(root=tmp_path).records] == [0, 7]
    picture(tmp_path / "sub" / "7.png")
    write(tmp_path / "sub" / "7.json", labelme_file("7.png", [box()]))
    assert [r.image_id for r in read_labelme(root=tmp_path).records] == [1, 2, 3]


def test_images_that_are_missing_doubled_or_not_annotated(tmp_path):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.bmp"), picture(tmp_path / "free.png")
    write(tmp_path / "a.json", labelme_file("a.png", [box()]))
    write(tmp_path / "b.json", labelme_file("b.png", [box()]))
    write(tmp_path / "c.json", labelme_file("a.png", [box()]))
    source = read_labelme(root=tmp_path, on_bad="skip")
    assert [record.path.name for record in source.records] == ["a.png"] and source.lost == (2, 0)
    assert f"b.json: there is no image b.png below {tmp_path}, only {tmp_path / 'b.bmp'}" in source.problems[0]
    assert "c.json: the image " in source.problems[1] and "annotated twice, in " in source.problems[1]
    assert source.problems[2] == f"images beside the annotated ones are not read: 2 (first: {tmp_path / 'b.bmp'})"


def test_an_image_of_the_other_split_is_not_taken(tmp_path):
    picture(tmp_path / "train" / "a.png")
    for split in ("train", "val"):
        write(tmp_path / split / "a.json", labelme_file("a.png", [box()]))
    with pytest.raises(UserError, match=r"val/a.json: there is no image a.png below"):
        read_labelme(root=tmp_path, split="val")


def test_declared_sizes_are_compared_with_the_files(tmp_path):
    picture(tmp_path / "a.png", (80, 60))
    write(tmp_path / "a.json", labelme_file("a.png", [box()], (160, 120)))
    with pytest.raises(
        UserError, match=r"it gives the size 160 x 120, but .*a.png has 80 x 60 pixels: put the annotated"
    ):
        read_labelme(root=tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "a.jpg", (80, 60), exif=exif)
    write(tmp_path / "a.json", labelme_file("a.jpg", [box()], (80, 60)))
    with pytest.raises(UserError, match=r"it gives the size 80 x 60 that .*a.jpg has before its EXIF rotation"):
        read_labelme(root=tmp_path)
    write(tmp_path / "a.json", labelme_file("a.jpg", [box()], (60, 80)))
    assert read_labelme(root=tmp_path).records[0].size == (80, 60)


def test_nothing_that_could_be_learned(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.json", labelme_file("a.png", []))
    with pytest.raises(UserError, match="a.json names no class: label objects"):
        read_labelme(root=tmp_path)
    with pytest.raises(UserError, match="none does not exist"):
        read_labelme(root=tmp_path / "none")
    write(tmp_path / "a.json", labelme_file("gone.png", [box()]))
    source = read_labelme(root=tmp_path)
    assert source.problems == (f"images were found under another name: 1 (first: gone.png as {tmp_path / 'a.png'})",)
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"not one of the 1 images of .* can be used: .*there is no image gone.png"):
        read_labelme(root=tmp_path, on_bad="skip")


def test_masks_want_outlines_and_a_background_of_its_own(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.json", labelme_file("a.png", [box()]))
    with pytest.raises(
        UserError, match=r"shape 1 \(open\) is a box, and masks need polygons or masks: draw its outline"
    ):
        read_labelme(root=tmp_path, kind="segmentation")
    write(tmp_path / "a.json", labelme_file("a.png", [labelme_shape("open", [[0, 0], [9, 0], [0, 9]], "polygon")]))
    with pytest.raises(UserError, match="there is a class 'open' of its own: set dataset.background"):
        read_labelme(root=tmp_path, kind="segmentation", background="open")


@pytest.mark.parametrize("tool", TOOLS)
def test_the_configuration_reads_both_splits(tool, tmp_path):
    for split in ("train", "valid"):
        pictures(tmp_path / split)
        WRITERS[tool](tmp_path / split)
    with hydra.initialize_config_dir(str(installed("conf")), version_base="1.3"):
        words = with_recognised_data([f"dataset.root={tmp_path}", "dataset.on_bad=skip"])
        config = hydra.compose("train", words)
    counts = [len(read_source(config.dataset, split).records) for split in ("train", "val")]
    assert counts == [3, 3] and config.dataset.name == tool


@pytest.mark.slow
def test_one_command_from_a_tools_folder_to_a_model(tmp_path):
    for split in ("train", "val"):
        pictures(tmp_path / "my data" / split)
        WRITERS["labelme"](tmp_path / "my data" / split)
    small = ["backbone.width=0.25", "backbone.weights=none", "data.size=64", "data.batch_size=2", "data.num_workers=0"]
    done = run(tmp_path, "train", "dataset.root='my data'", "trainer.max_epochs=1", *small)
    assert "my data was recognised by train/a.json, a file of labelme: dataset=labelme" in done.stdout
    assert list((tmp_path / "runs" / "train" / "ssdlite_v2_labelme").glob("*/checkpoints/best.ckpt"))
