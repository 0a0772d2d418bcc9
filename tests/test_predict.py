"""python predict.py: from images, folders and videos to drawings and files, for every kind of task."""

import csv
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import run
from PIL import Image

import seg_det
from seg_det.data.images import read_rgb
from seg_det.media.encoding import h264
from seg_det.media.videos import VideoFile

pytestmark = pytest.mark.usefixtures("no_connections")
EARLIER = Path(__file__).parent / "fixtures" / "earlier"


def predicted(folder, *overrides, check=True):
    """The command's outcome and the folder that it wrote, if any."""
    before = set((folder / "runs" / "predict").glob("*/*"))
    done = run(folder, "predict", "device=cpu", *overrides, check=check)
    new = set((folder / "runs" / "predict").glob("*/*")) - before
    return done, new.pop() if new else None


def rows_of(found):
    return json.loads((found / "predictions.json").read_text())


def evaluated_rows(folder, model, root):
    """predictions.json of evaluate.py on the validation images."""
    data = ["dataset=shapes", f"dataset.root={root}", "dataset.train_images=24", "dataset.val_images=8"]
    run(folder, "evaluate", f"model={model}", *data, "data.num_workers=0", "data.batch_size=4", "device=cpu")
    found = max((folder / "runs" / "evaluate").glob("*/*"), key=lambda path: path.name)
    return rows_of(found)


@pytest.fixture(scope="module")
def shapes(tiny_shapes):
    return tiny_shapes / "images" / "val"


@pytest.fixture
def clip(tmp_path, shapes):
    """A video of one image that moves to the right."""
    image = read_rgb(sorted(shapes.glob("*.jpg"))[0])[:160, :160]
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (160, 160))
    for number in range(8):
        writer.write(cv2.cvtColor(np.roll(image, 2 * number, axis=1), cv2.COLOR_RGB2BGR))
    writer.release()
    return tmp_path / "clip.mp4"


def test_boxes_equal_those_of_evaluation(shapes, tiny_shapes, tmp_path):
    """To the last bit, with the original ids of the categories, for the network and for an exported file."""
    for model in (EARLIER / "detection", EARLIER / "detection" / "ssdlite_v2_shapes_fp32.onnx"):
        wanted = evaluated_rows(tmp_path, model, tiny_shapes)
        _, found = predicted(tmp_path, f"model={model}", f"source={shapes}", "score_threshold=0", "data.batch_size=4")
        rows = rows_of(found)
        names = sorted(path.name for path in shapes.glob("*.jpg"))
        assert [row.pop("file_name") for row in rows] == [names[row["image_id"] - 1] for row in wanted]
        assert rows == wanted


def test_every_format_of_a_detector(shapes, tmp_path):
    done, found = predicted(
        tmp_path, f"model={EARLIER / 'detection'}", f"source={shapes}", "format=[yolo,voc,csv]", "score_threshold=0.02"
    )
    rows = rows_of(found)
    assert rows and len(list((found / "drawings").glob("*.jpg"))) == len(list(shapes.glob("*.jpg"))) == 8
    assert "8 images in" in done.stdout and str((found / "predictions.json").relative_to(tmp_path)) in done.stdout
    names = (found / "classes.txt").read_text().split()
    table = list(csv.DictReader((found / "predictions.csv").open()))
    assert [row["file_name"] for row in table] == [row["file_name"] for row in rows]
    first = rows[0]["file_name"]
    mine = [row for row in rows if row["file_name"] == first]
    size = read_rgb(shapes / first).shape[:2]
    lines = [line.split() for line in (found / "labels" / first).with_suffix(".txt").read_text().splitlines()]
    xml = ElementTree.parse((found / "annotations" / first).with_suffix(".xml")).getroot()
    assert [int(xml.findtext(f"size/{side}")) for side in ("height", "width")] == list(size)
    assert len(mine) == len(lines) == len(xml.findall("object"))
    for row, line, element, cells in zip(mine, lines, xml.findall("object"), table, strict=False):
        x, y, width, height = row["bbox"]
        centre = [(x + width / 2) / size[1], (y + height / 2) / size[0], width / size[1], height / size[0]]
        np.testing.assert_allclose([float(v) for v in line[1:5]], centre, atol=1e-5)
        assert element.findtext("name") == names[int(line[0])] == cells["class"]
        assert abs(int(element.findtext("bndbox/xmin")) - (x + 1)) <= 0.51
        assert abs(int(element.findtext("bndbox/ymax")) - (y + height)) <= 0.51
        assert float(cells["score"]) == row["score"] == pytest.approx(float(line[5]), rel=1e-5)


def test_one_class_and_a_threshold_for_it(shapes, tmp_path):
    model = seg_det.load(EARLIER / "detection")
    name = model.names[1]
    source = [f"model={EARLIER / 'detection'}", f"source={shapes}", "draw=false"]
    _, found = predicted(tmp_path, *source, f"classes=[{name}]", f"score_threshold={{{name}: 0.03}}")
    rows = rows_of(found)
    assert {row["category_id"] for row in rows} == {model.card.categories[1].id}
    assert min(row["score"] for row in rows) >= 0.03
    wanted = [r for p in sorted(shapes.glob("*.jpg")) for r in model(p, score_threshold=0.03).only([1]).to_coco()]
    assert len(rows) == len(wanted) and not (found / "drawings").exists()


def test_masks(shapes, tmp_path):
    image = sorted(shapes.glob("*.jpg"))[0]
    _, found = predicted(tmp_path, f"model={EARLIER / 'segmentation'}", f"source={image}", "format=png")
    result = seg_det.load(EARLIER / "segmentation")(image)
    mask = Image.open(found / "masks" / f"{image.stem}.png")
    assert mask.mode == "P" and np.array_equal(np.asarray(mask), result.ids)
    from pycocotools import mask as coco_mask

    for row in rows_of(found):
        assert np.array_equal(coco_mask.decode(row["segmentation"]), result.ids == row["category_id"])
    assert (found / "drawings" / f"{image.stem}.jpg").exists()
    name = result.names[0]
    _, found = predicted(
        tmp_path, f"model={EARLIER / 'segmentation'}", f"source={image}", "format=png", f"classes={name}"
    )
    kept = np.asarray(Image.open(found / "masks" / f"{image.stem}.png"))
    label = [category.name for category in result.categories].index(name)
    assert np.array_equal(kept != 255, result.mask == label) and len(rows_of(found)) == 1


def test_classes_of_images(tiny_imagefolder, tmp_path):
    _, found = predicted(
        tmp_path, f"model={EARLIER / 'classification'}", f"source={tiny_imagefolder}/val/red", "format=csv"
    )
    table = list(csv.DictReader((found / "predictions.csv").open()))
    assert len(table) == 4 * 3 and list(table[0]) == ["image_id", "file_name", "frame", "class", "category_id", "score"]
    summary = json.loads((found / "summary.json").read_text())
    assert summary["images"] == 4 and summary["problems"] == []
    assert sum(summary["found"].values()) == 4  # the best class of each image


def test_a_broken_image_is_reported_and_the_others_are_done(shapes, tmp_path):
    (tmp_path / "photos").mkdir()
    for place, path in enumerate(sorted(shapes.glob("*.jpg"))[:3]):
        (tmp_path / "photos" / f"{2 * place}.jpg").write_bytes(path.read_bytes())
    (tmp_path / "photos" / "1.jpg").write_bytes(b"broken")
    (tmp_path / "photos" / "3.jpg").write_bytes(b"")
    done, found = predicted(tmp_path, f"model={EARLIER / 'detection'}", "source=photos", check=False)
    assert done.returncode == 1
    assert (
        "error: 2 images or frames were left out, listed in summary.json; the first: the image photos/1.jpg is broken"
        in done.stderr
    )
    assert len(list((found / "drawings").iterdir())) == 3
    assert [p["file"] for p in json.loads((found / "summary.json").read_text())["problems"]] == ["1.jpg", "3.jpg"]


def test_every_kind_of_image_file(tmp_path):
    """16 bits, transparency, CMYK, grey, EXIF rotation and a single pixel, in boxes of the upright image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8))
    colours.convert("RGBA").save(folder / "rgba.png")
    colours.convert("CMYK").save(folder / "cmyk.jpg")
    colours.convert("L").save(folder / "grey.png")
    Image.fromarray(rng.integers(0, 65535, (60, 90), dtype=np.uint16)).save(folder / "16.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    colours.save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    _, found = predicted(tmp_path, f"model={EARLIER / 'detection'}", "source=photos", "score_threshold=0")
    sizes = {path.stem: Image.open(path).size for path in (found / "drawings").iterdir()}
    assert sizes.pop("pixel") == (1, 1) and sizes.pop("turned") == (60, 90)
    assert set(sizes) == {"rgba", "cmyk", "grey", "16"} and set(sizes.values()) == {(90, 60)}


def test_video_in_video_out(clip, tmp_path):
    done, found = predicted(tmp_path, f"model={EARLIER / 'detection'}", f"source={clip}", "score_threshold=0.01")
    rows = rows_of(found)
    assert {row["frame"] for row in rows} == set(range(1, 9)) and {row["file_name"] for row in rows} == {"clip.mp4"}
    given = VideoFile(found / "drawings" / "clip.mp4", "clip.mp4", "clip")
    assert given.rate == 10.0 and sum(1 for _ in given.frames()) == 8
    assert f"clip.mp4 was written as {'H.264' if h264() else 'MPEG-4 Part 2'}" in done.stdout
    _, found = predicted(tmp_path, f"model={EARLIER / 'detection'}", f"source={clip}", "frames=3", "draw=false")
    assert json.loads((found / "summary.json").read_text())["images"] == 3


def test_a_segmenter_on_a_video_with_masks(clip, tmp_path):
    _, found = predicted(tmp_path, f"model={EARLIER / 'segmentation'}", f"source={clip}", "format=png", "frames=2")
    assert sorted(p.name for p in (found / "masks" / "clip").iterdir()) == ["000001.png", "000002.png"]


def test_tracks(clip, tmp_path):
    done, found = predicted(
        tmp_path, f"model={EARLIER / 'detection'}", f"source={clip}", "track=true", "score_threshold=0.02"
    )
    rows = rows_of(found)
    lines = [line.split(",") for line in (found / "tracks" / "clip.txt").read_text().splitlines()]
    assert rows and len(rows) == len(lines) and all(row["track_id"] >= 1 for row in rows)
    assert [(row["frame"], row["track_id"]) for row in rows] == [(int(line[0]), int(line[1])) for line in lines]
    np.testing.assert_allclose([row["bbox"] for row in rows], np.array(lines, float)[:, 2:6], atol=2e-3)
    assert f"{len({row['track_id'] for row in rows})} objects were followed through clip.mp4" in done.stdout


def test_tiles_find_more_on_a_large_scene(shapes, tmp_path):
    """Four images as one: its tiles are those images, so that what is found on each of them is found."""
    paths = sorted(shapes.glob("*.jpg"))[:4]
    images = [cv2.resize(read_rgb(path), (224, 224)) for path in paths]
    scene = np.concatenate([np.concatenate(images[:2], 1), np.concatenate(images[2:], 1)])
    Image.fromarray(scene).save(tmp_path / "scene.png")
    overrides = [f"model={EARLIER / 'detection'}", "source=scene.png", "score_threshold=0.02", "draw=false"]
    tiles = ["tiles.size=[224,224]", "tiles.overlap=0", "tiles.whole=false"]
    _, found = predicted(tmp_path, *overrides, *tiles)
    model = seg_det.load(EARLIER / "detection")
    assert len(rows_of(found)) == sum(len(model(image, score_threshold=0.02)) for image in images)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["source=none.jpg"], "there is no none.jpg: source is an image, a folder, a pattern"),
        ([], "source has no value: add source=... to the command line"),
        (
            ["source=IMAGE", "format=png"],
            "format=png is not one of yolo, voc, csv, which detection has beside predictions.json",
        ),
        (["source=IMAGE", "classes=[dog]"], "ssdlite_v2_shapes has no class 'dog': it has"),
        (["source=IMAGE", "score_threshold={dog: 0.5}"], "ssdlite_v2_shapes has no class 'dog'"),
        (["source=IMAGE", "score_threshold=2"], "score_threshold must be a number from 0 to 1"),
        (["source=IMAGE", "frames=0"], "frames must be a whole number from 1"),
        (["source=IMAGE", "tiles.size=[0,3]"], "tiles.size must be a number or [height, width] in pixels"),
        (["source=IMAGE", "stream.retries=-1"], "stream.retries must be a number from 0"),
        (["source=IMAGE", "classes=[]"], "classes names no class: leave it out for all of them."),
        (["source=IMAGE", "draw=maybe"], "draw is 'maybe', not true or false."),
        (["source=IMAGE", "track=no"], "track is 'no', not true or false."),
        (["source=IMAGE", "frames=true"], "frames is True, not a whole number or null."),
        (["source=IMAGE", "data.batch_size=true"], "data.batch_size is True, not a whole number."),
        (["source=IMAGE", "tiles.size=[32,32]", "tiles.whole=no"], "tiles.whole is 'no', not true or false."),
        (["source=''"], "source is empty: give an image, a folder"),
        (["source=-1"], "the number of a camera must be from 0 to 999, got -1."),
        (["source='http://[::1/x.jpg'"], "http://[::1/x.jpg is no address"),
        (["source=97"], "left out: camera 97 cannot be opened"),
    ],
)
def test_mistakes(overrides, sentence, shapes, tmp_path):
    given = [o.replace("IMAGE", str(sorted(shapes.glob("*.jpg"))[0])) for o in overrides]
    done, _ = predicted(tmp_path, f"model={EARLIER / 'detection'}", *given, check=False)
    assert done.returncode == 1 and f"error: {sentence}" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("override", ["score_threshold=0.5", "track=true", "tiles.size=[64,64]"])
def test_what_is_for_detectors(override, shapes, tmp_path):
    done, _ = predicted(tmp_path, f"model={EARLIER / 'segmentation'}", f"source={shapes}", override, check=False)
    assert done.returncode == 1 and "for detectors" in done.stderr


def test_passwords_are_not_written(tmp_path):
    done, found = predicted(
        tmp_path,
        f"model={EARLIER / 'detection'}",
        "source='rtsp://me:secret@127.0.0.1:9/x'",
        "stream.retries=0",
        "stream.timeout_s=1",
        check=False,
    )
    assert done.returncode == 1 and "secret" not in done.stdout + done.stderr
    assert "secret" not in (found / "config.yaml").read_text()


def test_evaluation_with_tiles(tiny_shapes, tmp_path):
    """For the network and for an exported file, with the same figures; refused for a segmenter."""
    data = ["dataset=shapes", f"dataset.root={tiny_shapes}", "dataset.train_images=24", "dataset.val_images=8"]
    words = [*data, "data.num_workers=0", "tiles.size=[240,320]", "device=cpu"]
    figures = []
    for model in (EARLIER / "detection", EARLIER / "detection" / "ssdlite_v2_shapes_fp32.onnx"):
        run(tmp_path, "evaluate", f"model={model}", *words)
        found = max((tmp_path / "runs" / "evaluate").glob("*/*"), key=lambda path: path.name)
        figures.append(json.loads((found / "metrics.json").read_text())["coco"])
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)
    refused = run(tmp_path, "evaluate", f"model={EARLIER / 'segmentation'}", *words, check=False)
    assert refused.returncode == 1 and "tiles are for detectors" in refused.stderr


def test_a_video_beside_its_frames(clip, shapes, tmp_path):
    """What is written of the video's frames lies where nothing of an image does."""
    (tmp_path / "both" / "clip").mkdir(parents=True)
    clip.rename(tmp_path / "both" / "clip.mp4")
    for number, path in enumerate(sorted(shapes.glob("*.jpg"))[:2], start=1):
        (tmp_path / "both" / "clip" / f"{number:06d}.jpg").write_bytes(path.read_bytes())
    _, found = predicted(
        tmp_path, f"model={EARLIER / 'detection'}", "source=both", "format=[yolo,voc]", "score_threshold=0.02"
    )
    rows = rows_of(found)
    files = sorted(path.relative_to(found / "labels").as_posix() for path in (found / "labels").rglob("*.txt"))
    assert len(files) == 2 + 8 and {row["file_name"] for row in rows} == {
        "clip/000001.jpg",
        "clip/000002.jpg",
        "clip.mp4",
    }
    for number in (1, 2):
        lines = (found / "labels" / "clip" / f"{number:06d}.txt").read_text().splitlines()
        assert len(lines) == sum(row["file_name"] == f"clip/{number:06d}.jpg" for row in rows)
    names = {ElementTree.parse(path).findtext("filename") for path in (found / "annotations").rglob("*.xml")}
    assert names == {"clip/000001.jpg", "clip/000002.jpg", "clip.mp4"}


def test_sources_of_one_name_are_told_apart(shapes, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(sorted(shapes.glob("*.jpg"))[folder == "b"].read_bytes())
    _, found = predicted(tmp_path, f"model={EARLIER / 'detection'}", "source=[a,b]", "score_threshold=0", "format=csv")
    assert {row["file_name"] for row in rows_of(found)} == {"a/1.jpg", "b/1.jpg"}
    assert {row["file_name"] for row in csv.DictReader((found / "predictions.csv").open())} == {"a/1.jpg", "b/1.jpg"}


def test_one_image_with_too_many_tiles_costs_no_other(shapes, tmp_path, monkeypatch):
    from seg_det.predict import tiles

    monkeypatch.setattr(tiles, "MOST_TILES", 100)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (900, 900)).save(tmp_path / "photos" / "1.png")
    (tmp_path / "photos" / "2.jpg").write_bytes(sorted(shapes.glob("*.jpg"))[0].read_bytes())
    done, found = predicted(
        tmp_path, f"model={EARLIER / 'detection'}", "source=photos", "tiles.size=[64,64]", "draw=false", check=False
    )
    assert done.returncode == 1 and "an image of 900 x 900 has more than 100 tiles" in done.stderr
    assert json.loads((found / "summary.json").read_text())["images"] == 1


def test_a_full_disk_leaves_valid_files(shapes, tmp_path, monkeypatch):
    from seg_det.predict.growing import Growing

    paths, add = [], Growing.add

    class Full:
        def __init__(self, file):
            self.file, self.left = file, 30

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, content):
            if len(content) > 2 and self.left <= 0:
                raise OSError(28, "No space left on device")
            part = content[: max(2, self.left)]
            self.left -= len(part)
            return self.file.write(part)

    def filling(self, content, *, end=b""):
        paths.append(self._path)
        if len(paths) == 3:
            self._file = Full(self._file)
        add(self, content, end=end)

    monkeypatch.setattr(Growing, "add", filling)
    done, found = predicted(
        tmp_path, f"model={EARLIER / 'detection'}", f"source={shapes}", "score_threshold=0", "draw=false", check=False
    )
    assert done.returncode == 1 and "predictions.json cannot be written (No space left on device)" in done.stderr
    assert len({row["image_id"] for row in rows_of(found)}) == 2  # those before the disk was full


def test_a_stop_leaves_what_was_done(shapes, tmp_path, monkeypatch):
    from seg_det.predict import run as module

    plain = module.results_of

    def stopped(*arguments):
        for number, pair in enumerate(plain(*arguments)):
            if number == 3:
                raise KeyboardInterrupt
            yield pair

    monkeypatch.setattr(module, "results_of", stopped)
    done, found = predicted(tmp_path, f"model={EARLIER / 'detection'}", f"source={shapes}", check=False)
    assert done.returncode == 130 and "stopped before the end" in done.stdout
    assert len(list((found / "drawings").iterdir())) == 3
    assert json.loads((found / "summary.json").read_text())["stopped"] is True


def test_weights_without_names_are_told_which_classes_they_have(real_data, shapes, tmp_path):
    weights = real_data / "weights" / "ssdlite_mobilenet_v2_person_tf.pth"
    image = sorted(shapes.glob("*.jpg"))[0]
    words = [f"model={weights}", f"source={image}", "score_threshold=0", "draw=false", "format=csv"]
    _, found = predicted(tmp_path, *words, "classes=[person]")
    assert {row["class"] for row in csv.DictReader((found / "predictions.csv").open())} <= {"person"}
