"""The embedded data set: exact annotations, the same bytes for the same seed, no one else's folder touched."""

import json
import threading

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from seg_det.data import shapes
from seg_det.data.shapes import annotate, generate_shapes, outline_polygons, read_shapes, semantic_mask
from seg_det.data.shapes_scene import CLASSES, HEIGHT, OUTLINES, WIDTH, lay_out
from seg_det.errors import UserError

COUNTS = {"train_images": 12, "val_images": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return generate_shapes(tmp_path_factory.mktemp("shapes") / "shapes", **COUNTS)


@pytest.fixture(scope="module")
def scenes():
    return [lay_out(np.random.default_rng((0, number))) for number in range(150)]


@pytest.fixture(params=["train", "val"])
def coco(root, request):
    loaded = COCO(str(root / "annotations" / f"instances_{request.param}.json"))
    loaded.split = request.param
    return loaded


def bytes_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def decoded(polygons, height, width):
    flat = [np.asarray(polygon, float).ravel().tolist() for polygon in polygons]
    return rle.decode(rle.merge(rle.frPyObjects(flat, height, width))).astype(bool)


def test_the_tree_is_complete(root):
    names = set(bytes_below(root))
    expected = {"shapes.json", "annotations/instances_train.json", "annotations/instances_val.json"}
    for split, count in (("train", 12), ("val", 4)):
        expected |= {f"images/{split}/{number:06d}.jpg" for number in range(1, count + 1)}
        expected |= {f"masks/{split}/{number:06d}.png" for number in range(1, count + 1)}
    assert names == expected
    picture = cv2.imread(str(root / "images/val/000004.jpg"), cv2.IMREAD_UNCHANGED)
    mask = cv2.imread(str(root / "masks/val/000004.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (360, 480, 3)
    assert mask.shape == (360, 480) and mask.dtype == np.uint8
    assert [path.name for path in root.parent.iterdir()] == ["shapes"], "something temporary was left"


def test_same_seed_same_bytes_with_any_number_of_threads(root, tmp_path, monkeypatch):
    monkeypatch.setattr(shapes.os, "cpu_count", lambda: 1)
    assert bytes_below(generate_shapes(tmp_path / "again", **COUNTS)) == bytes_below(root)


def test_images_do_not_depend_on_the_counts(root, tmp_path):
    fewer = bytes_below(generate_shapes(tmp_path / "fewer", train_images=3, val_images=1))
    whole = bytes_below(root)
    assert all(whole[name] == content for name, content in fewer.items() if name.endswith((".jpg", ".png")))


def test_another_seed_and_the_other_split_give_other_pictures(root, tmp_path):
    other = bytes_below(generate_shapes(tmp_path / "other", seed=1, train_images=2, val_images=1))
    whole = bytes_below(root)
    for number in ("000001", "000002"):
        assert other[f"images/train/{number}.jpg"] != whole[f"images/train/{number}.jpg"]
    assert whole["images/val/000001.jpg"] != whole["images/train/000001.jpg"]


def test_categories_are_numbered_from_one(coco):
    assert len(CLASSES) >= 8
    assert [(c["id"], c["name"]) for c in coco.dataset["categories"]] == list(enumerate(CLASSES, start=1))
    assert len(coco.imgs) == COUNTS[f"{coco.split}_images"]
    assert all((image["width"], image["height"]) == (480, 360) for image in coco.imgs.values())


def test_box_area_and_polygons_say_the_same_in_pycocotools(coco):
    assert coco.anns, "nothing to check"
    for annotation in coco.anns.values():
        encoded = coco.annToRLE(annotation)
        assert annotation["bbox"] == rle.toBbox(encoded).tolist()
        assert annotation["area"] == rle.area(encoded)
        assert annotation["iscrowd"] == 0


def test_semantic_mask_is_the_annotations_painted(root, coco):
    for image_id, image in coco.imgs.items():
        painted = np.zeros((HEIGHT, WIDTH), np.uint8)
        for annotation in coco.imgToAnns[image_id]:
            own = coco.annToMask(annotation).astype(bool)
            assert not painted[own].any(), "visible parts must not overlap"
            painted[own] = annotation["category_id"]
        path = root / "masks" / coco.split / image["file_name"].replace(".jpg", ".png")
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), painted)


def test_semantic_mask_numbers(scenes):
    scene = next(scene for scene in scenes if len(scene.labels) >= 2)
    mask = semantic_mask(scene)
    assert set(np.unique(mask)) == {0} | {label + 1 for label in scene.labels}


def test_polygon_of_a_rectangle_runs_along_pixel_edges():
    visible = np.zeros((6, 8), bool)
    visible[2:5, 1:7] = True
    annotation = annotate(visible, label=4)
    (polygon,) = annotation["segmentation"]
    corners = list(zip(polygon[::2], polygon[1::2], strict=True))
    assert sorted(corners) == [(1, 2), (1, 5), (7, 2), (7, 5)]
    assert annotation["bbox"] == [1.0, 2.0, 6.0, 3.0]
    assert annotation["area"] == 18.0
    assert annotation["category_id"] == 5


def test_a_hole_is_cut_open():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    polygons = outline_polygons(mask)
    assert len(polygons) == 2
    np.testing.assert_array_equal(decoded(polygons, 5, 5), mask)


def test_polygons_are_exact_for_any_mask():
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width = rng.integers(1, 30, 2).tolist()
        mask = rng.random((height, width)) < rng.random()
        if mask.any():
            np.testing.assert_array_equal(decoded(outline_polygons(mask), height, width), mask)


def test_polygons_of_nothing():
    assert outline_polygons(np.zeros((3, 3), bool)) == []


def test_small_medium_large_and_empty_occur(scenes):
    areas = np.array([scene.visible(k).sum() for scene in scenes for k in range(len(scene.labels))])
    assert (areas < 32**2).mean() > 0.1
    assert ((areas >= 32**2) & (areas < 96**2)).mean() > 0.3
    assert (areas >= 96**2).mean() > 0.1
    counts = np.array([len(scene.labels) for scene in scenes])
    assert 0 < (counts == 0).sum() < 0.15 * len(scenes)
    assert counts.max() in (6, 7)
    assert {label for scene in scenes for label in scene.labels} == set(range(len(CLASSES)))


def test_truncation_and_overlap_occur_within_their_limits(scenes):
    truncated = hidden = 0
    for scene in scenes:
        for k, sprite in enumerate(scene.sprites):
            inside = int((sprite.alpha >= 0.5).sum())
            visible = int(scene.visible(k).sum())
            assert inside >= 0.5 * sprite.full_area
            # 3 % more may be slivers that were left out
            assert visible >= 0.9 * 0.4 * sprite.full_area
            truncated += inside < 0.9 * sprite.full_area
            hidden += visible < 0.9 * inside
    assert truncated > 20
    assert hidden > 20


def polygon_area(points):
    x, y = points.T
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("circle", 3.1394),  # 96 corners: 48 sin(2 pi / 96)
        ("square", 2.0),
        ("triangle", 1.2990),  # 3 sqrt(3) / 4
        ("pentagon", 2.3776),  # 5/2 sin 72 deg
        ("star", 1.2343),  # 10 triangles of 1/2 * 0.42 sin 36 deg
        ("cross", 2.2576),  # two bars of 2 x 0.68 less the middle, 0.68^2
        ("crescent", 1.4042),  # pi less the lens that a disc of 0.8 at distance 0.42 has in common
    ],
)
def test_outline_areas(name, area):
    assert polygon_area(OUTLINES[name][0]) == pytest.approx(area, rel=2e-3)


def test_a_second_call_returns_at_once(root, monkeypatch):
    monkeypatch.setattr(shapes, "_write_dataset", None)
    assert generate_shapes(root, **COUNTS) == root


def test_other_parameters_are_refused(root):
    before = bytes_below(root)
    with pytest.raises(UserError, match=r"generated with .*'seed': 0.*wanted .*'seed': 3.*remove the folder or choose"):
        generate_shapes(root, seed=3, **COUNTS)
    assert bytes_below(root) == before


def test_another_format_is_refused(tmp_path):
    (tmp_path / "shapes.json").write_text(json.dumps({"format": 0, "seed": 0, **COUNTS}))
    with pytest.raises(UserError, match=r"generated with .*'format': 0.*remove the folder"):
        generate_shapes(tmp_path, **COUNTS)


@pytest.mark.parametrize("content", [None, "", "not json", "[1]", '{"seed": 0}'])
def test_a_folder_of_someone_else_is_left_alone(tmp_path, content):
    theirs = tmp_path / "photos"
    theirs.mkdir()
    (theirs / "a.jpg").write_bytes(b"a")
    if content is not None:
        (theirs / "shapes.json").write_text(content)
    before = bytes_below(theirs)
    with pytest.raises(UserError, match=r"photos exists and is not a generated shapes data set.*choose another"):
        generate_shapes(theirs, **COUNTS)
    assert bytes_below(theirs) == before


def test_a_file_in_place_of_the_root(tmp_path):
    (tmp_path / "shapes").write_text("mine")
    with pytest.raises(UserError, match="exists and is not a generated shapes data set"):
        generate_shapes(tmp_path / "shapes", **COUNTS)
    with pytest.raises(
        UserError, match=r"cannot write the shapes data set to .*deeper: .*choose another dataset\.root"
    ):
        generate_shapes(tmp_path / "shapes" / "deeper", **COUNTS)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    generate_shapes(tmp_path / "empty", train_images=1, val_images=1)
    assert (tmp_path / "empty" / "shapes.json").is_file()


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"train_images": 0}, {"val_images": 0}])
def test_impossible_parameters(tmp_path, wrong):
    with pytest.raises(UserError, match="needs seed >= 0 and at least one image a split"):
        generate_shapes(tmp_path / "shapes", **{**COUNTS, **wrong})


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), UserError)],
)
def test_an_interrupted_generation_leaves_nothing(tmp_path, monkeypatch, failure, raised):
    write = shapes._write_image

    def fail_at_five(folder, split, seed, number):
        if number == 5:
            raise failure
        return write(folder, split, seed, number)

    monkeypatch.setattr(shapes, "_write_image", fail_at_five)
    with pytest.raises(raised, match="No space left" if raised is UserError else None):
        generate_shapes(tmp_path / "shapes", **COUNTS)
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_agree(root, tmp_path):
    errors = []

    def generate():
        try:
            generate_shapes(tmp_path / "shapes", **COUNTS)
        except BaseException as error:
            errors.append(error)

    both = [threading.Thread(target=generate) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert errors == []
    assert bytes_below(tmp_path / "shapes") == bytes_below(root)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_the_slower_of_two_with_other_parameters_is_told(tmp_path, monkeypatch):
    write = shapes._write_dataset

    def overtaken(folder, marker, title):
        write(folder, marker, title)
        write(tmp_path / "shapes", {**marker, "seed": 9}, title)

    monkeypatch.setattr(shapes, "_write_dataset", overtaken)
    with pytest.raises(UserError, match=r"generated with .*'seed': 9"):
        generate_shapes(tmp_path / "shapes", train_images=1, val_images=1)


def test_read_shapes_gives_the_records(tmp_path):
    source = read_shapes(tmp_path / "shapes", "val", **COUNTS)
    written = json.loads((tmp_path / "shapes/annotations/instances_val.json").read_text())
    assert [category.name for category in source.categories] == list(CLASSES)
    assert len(source.records) == 4 and source.problems == ()
    assert sum(len(record.labels) for record in source.records) == len(written["annotations"])
    first = next(record for record in source.records if len(record.labels))
    rows = [one for one in written["annotations"] if one["image_id"] == first.image_id]
    assert first.labels.tolist() == [one["category_id"] - 1 for one in rows]
    assert first.area.tolist() == [one["area"] for one in rows]
    assert (first.boxes[:, 2:] - first.boxes[:, :2]).tolist() == [one["bbox"][2:] for one in rows]


def test_read_shapes_knows_its_splits(tmp_path):
    with pytest.raises(UserError, match="no split 'test'; choose one of train, val"):
        read_shapes(tmp_path / "shapes", "test")
    assert list(tmp_path.iterdir()) == []
