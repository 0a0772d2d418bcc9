"""Label Studio's exports: regions of every kind, tasks with several annotations, JSON-MIN, and paths to images."""

import numpy as np
import pytest
from tool_files import picture, studio_annotation, studio_box, studio_result, studio_task, write

from seg_det.data.label_studio import read_label_studio
from seg_det.errors import UserError

BRUSH = [0, 0, 0, 48, 57, 27, 254, 19, 0, 159, 255, 9, 128, 0]  # of an image of 4 x 3: the pixels [1, 1] and [1, 2]
UPLOAD = "/data/upload/1/0a1b2c3d-a.png"


@pytest.fixture
def results_read(tmp_path):
    """A function that writes the results of one task about a.png and reads them."""
    picture(tmp_path / "a.png")

    def read(*results, image=UPLOAD, **more):
        write(tmp_path / "x.json", [studio_task(7, image, [studio_annotation(1, list(results))])])
        return read_label_studio(root=tmp_path, **more)

    return read


def test_every_region_with_an_area(results_read):
    triangle = [[12.5, 10], [75, 10], [50, 50]]
    source = results_read(
        studio_box("x", 8, 6, 40, 30),
        studio_result("polygonlabels", {"points": triangle, "polygonlabels": ["x"]}),
        studio_result("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 5, "ellipselabels": [" x"]}),
    )
    assert source.records[0].boxes.tolist() == [[8, 6, 40, 30], [10, 6, 60, 30], [32, 27, 48, 33]]
    assert [c.name for c in source.categories] == ["x"] and source.problems == ()
    mask = results_read(
        studio_result("polygonlabels", {"points": triangle, "polygonlabels": ["x"]}), kind="segmentation"
    )
    assert mask.records[0].mask.regions[0].outline[0].tolist() == [10, 6, 60, 6, 40, 30]


def test_brushes_to_the_pixel(tmp_path):
    picture(tmp_path / "a.png", (4, 3))
    value = {"format": "rle", "rle": BRUSH, "brushlabels": ["x"]}
    results = [studio_result("brushlabels", value, size=(4, 3))]
    write(tmp_path / "x.json", [studio_task(1, UPLOAD, [studio_annotation(1, results)])])
    assert read_label_studio(root=tmp_path).records[0].boxes.tolist() == [[1, 1, 3, 2]]
    drawn = read_label_studio(root=tmp_path, kind="segmentation").records[0].mask.read()
    assert np.argwhere(drawn == 1).tolist() == [[1, 1], [1, 2]]


def test_labels_apart_from_their_box(results_read):
    place = {"x": 10, "y": 10, "width": 20, "height": 30, "rotation": 0}
    alone, named = studio_result("rectangle", place), studio_result("labels", {**place, "labels": ["x"]})
    about = studio_result("choices", {**place, "choices": ["blurred"]})
    assert results_read(alone, named, about).records[0].boxes.tolist() == [[8, 6, 24, 24]]
    with pytest.raises(UserError, match=r"x.json: task 7, region r \(\) has no class"):
        results_read(alone, studio_box("x", 1, 2, 3, 4, region="other"))


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (studio_box("x", 8, 6, 40, 30, rotation=30), "is turned by 30 degrees, which is not read"),
        (studio_box("x", 8, 6, 40, 30) | {"image_rotation": 90}, "was drawn on the image turned by 90 degrees"),
        (studio_box("x", 8, 6, 40, 30, rectanglelabels=["x", "y"]), "has 2 classes, not one"),
        (studio_box("x", 8, 6, 40, 30) | {"original_width": None}, "lacks original_width and original_height"),
        (studio_box("x", 8, 6, 40, 30, x=None), "lacks numbers of its outline"),
        (
            studio_result("brushlabels", {"rle": BRUSH, "brushlabels": ["x"]}),
            "has run lengths for 12 pixels in an image of 4800",
        ),
        (studio_result("bitmask", {"imageDataURL": "data:", "bitmask": ["x"]}), "is a bitmask, which is not read"),
    ],
)
def test_regions_that_are_wrong(result, sentence, results_read):
    with pytest.raises(UserError, match=rf"task 7, region r \(.*\) {sentence}"):
        results_read(studio_box("x", 1, 2, 3, 4), result)
    assert results_read(studio_box("x", 1, 2, 3, 4), result, on_bad="skip").lost == (0, 1)


def test_key_points_are_counted(results_read):
    source = results_read(
        studio_box("x", 1, 2, 3, 4), studio_result("keypointlabels", {"x": 1, "y": 2}), studio_result("new", {})
    )
    assert source.problems[0].startswith("points and lines are not read, only what has an area: 1 (first: ")
    assert source.problems[1].startswith("results of the type new are not read: 1 (first: ")


def test_the_annotation_that_counts(tmp_path):
    for name in "abcd":
        picture(tmp_path / f"{name}.png")
    older, newer = (
        studio_annotation(1, [studio_box("x", 1, 1, 5, 5)]),
        studio_annotation(2, [studio_box("x", 2, 2, 6, 6)]),
    )
    dates = {"updated_at": "2024-01-02T00:00:00Z"}, {"updated_at": "2024-01-01T00:00:00Z"}
    skipped = studio_annotation(3, [studio_box("x", 3, 3, 7, 7)], was_cancelled=True, **dates[0])
    tasks = [
        studio_task(1, "a.png", [older | dates[0], newer | dates[1], skipped]),
        studio_task(2, "b.png", [older | {"ground_truth": True} | dates[1], newer | dates[0]]),
        studio_task(3, "c.png", [skipped]),
        studio_task(4, "d.png", [studio_annotation(9, [])])
        | {"predictions": [studio_annotation(1, [studio_box("x", 1, 1, 5, 5)])]},
        studio_task(5, "gone.png", []),
    ]
    write(tmp_path / "x.json", tasks)
    source = read_label_studio(root=tmp_path)
    assert [r.path.name for r in source.records] == ["a.png", "b.png", "d.png"]
    assert [r.boxes.tolist() for r in source.records] == [[[1, 1, 5, 5]], [[1, 1, 5, 5]], []]
    told = [
        "tasks have several annotations, of which the ground truth or else the latest is read: 2",
        "tasks without an annotation, or with skipped ones alone, are not read: 2",
    ]
    assert [any(sentence.startswith(one) for sentence in source.problems) for one in told] == [True, True]
    assert any(sentence.startswith("images beside the annotated ones are not read: 1 ") for sentence in source.problems)


def test_json_min(tmp_path):
    """An entry for each annotation; its boxes lie below the name of the control."""
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    region = {"x": 10, "y": 10, "width": 20, "height": 30, "rotation": 0, "original_width": 80, "original_height": 60}
    first = {
        "image": UPLOAD,
        "id": 1,
        "label": [region | {"rectanglelabels": ["x"]}],
        "annotation_id": 5,
        "choice": "good",
    }
    later = first | {"label": [region | {"x": 50, "rectanglelabels": ["x"]}], "annotation_id": 6}
    other = first | {"image": "/data/local-files/?d=some%20folder/b.png", "id": 2}
    write(tmp_path / "x.json", [first, later, other])
    source = read_label_studio(root=tmp_path)
    assert [r.boxes.tolist() for r in source.records] == [[[40, 6, 56, 24]], [[8, 6, 24, 24]]]
    write(tmp_path / "x.json", [first, other | {"label": [], "annotation_id": None}])
    assert [r.path.name for r in read_label_studio(root=tmp_path).records] == ["a.png"]
    write(tmp_path / "x.json", [first, other | {"label": []}])
    assert [len(r.boxes) for r in read_label_studio(root=tmp_path).records] == [1, 0]
    bare = {key: value for key, value in first["label"][0].items() if not key.startswith("original")}
    write(tmp_path / "x.json", [first, other | {"label": [bare]}])
    with pytest.raises(UserError, match=r"task 2, region 1 \(x\) lacks original_width and original_height"):
        read_label_studio(root=tmp_path)
    write(tmp_path / "x.json", [first | {"label": [region]}, other])
    with pytest.raises(UserError, match=r"task 1, region 1 \(\) has no class"):
        read_label_studio(root=tmp_path)


@pytest.mark.parametrize(
    "written",
    [
        "/data/upload/1/0a1b2c3d-my%20a.png",
        "/data/local-files/?d=sub%5Cmy%20a.png",
        "/data/local-files/?d=C:/x/sub/my a.png",
        "http://localhost:8080/static/my%20a.png?token=1/2",
        "s3://bucket/some/my a.png",
        "C:\\x\\my a.png",
    ],
)
def test_images_by_path_and_url(written, tmp_path):
    image = picture(tmp_path / "images" / "my a.png")
    write(tmp_path / "x.json", [studio_task(1, written, [studio_annotation(1, [studio_box("x", 1, 2, 3, 4)])])])
    assert read_label_studio(root=tmp_path).records[0].path == image


def test_words_of_hexadecimal_letters_are_no_uploads(tmp_path):
    picture(tmp_path / "1.png")
    write(tmp_path / "x.json", [studio_task(1, "facade-1.png", [studio_annotation(1, [studio_box("x", 1, 2, 3, 4)])])])
    with pytest.raises(UserError, match="there is no image facade-1.png below .*: put the images there"):
        read_label_studio(root=tmp_path)


def test_tasks_that_name_no_image_or_are_none(tmp_path, results_read):
    fine = studio_task(1, "a.png", [studio_annotation(1, [studio_box("x", 1, 2, 3, 4)])])
    two = fine | {"data": {"left": "a.png", "right": "b.png"}}
    inside = fine | {"data": {"image": "data:image/png;base64,AAAA"}}
    write(tmp_path / "x.json", [fine | {"data": {"picture": "a.png", "text": "good"}}, two, inside, "none"])
    source = read_label_studio(root=tmp_path, on_bad="skip")
    assert len(source.records) == 1 and source.lost == (3, 0)
    assert "x.json: task 2 names no image, or several" in source.problems[0]
    with pytest.raises(UserError, match="there is no image /data/upload/1/0a1b2c3d-b.png below"):
        results_read(studio_box("x", 1, 2, 3, 4), image="/data/upload/1/0a1b2c3d-b.png")
