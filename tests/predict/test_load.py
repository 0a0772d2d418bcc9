"""seg_det.load: one object for a run, a checkpoint and an exported file, which finds what evaluation finds."""

import doctest
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from PIL import Image

import seg_det
from seg_det.data.images import read_rgb
from seg_det.data.shapes import generate_shapes
from seg_det.export.onnx import OnnxTarget
from seg_det.ops.boxes import iou
from seg_det.predict import loading
from seg_det.predict.preprocessing import stacked
from seg_det.predict.result import ClassificationResult, DetectionResult, SegmentationResult

EARLIER = Path(__file__).parent.parent / "fixtures" / "earlier"
KINDS = {
    "detection": DetectionResult,
    "segmentation": SegmentationResult,
    "classification": ClassificationResult,
}
ONE_SIZE = "data.batch_size=4"
# Targets whose files run here with everything inside, and what they are told.
FILES = ("onnx", "openvino", "litert", "executorch", "ncnn")


@pytest.fixture(scope="module")
def images(tiny_shapes, tiny_imagefolder):
    """The validation images by kind, in the order of evaluation."""
    shapes = sorted((tiny_shapes / "images" / "val").glob("*.jpg"))
    return {
        "detection": shapes,
        "segmentation": shapes,
        "classification": sorted((tiny_imagefolder / "val").rglob("*.JPEG")),
    }


def data_of(kind, tiny_shapes, tiny_imagefolder):
    if kind == "classification":
        return ["dataset=imagefolder", f"dataset.root={tiny_imagefolder}"]
    return ["dataset=shapes", f"dataset.root={tiny_shapes}", "dataset.train_images=24", "dataset.val_images=8"]


def evaluated(folder, model, *overrides):
    """predictions.json of evaluate.py, and for segmentation its label maps as arrays of the data set's ids."""
    done = run(folder, "evaluate", f"model={model}", "data.num_workers=0", "device=cpu", ONE_SIZE, *overrides)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("run folder")]
    found = folder / line.split()[-1]
    masks = [np.asarray(Image.open(path)) for path in sorted((found / "predictions").glob("*.png"))]
    rows = json.loads((found / "predictions.json").read_text())
    shutil.rmtree(found)
    return rows, masks


def require_same(kind, results, rows, masks):
    """``results`` are what evaluation wrote, to the last bit."""
    if kind == "detection":
        assert [row for i, result in enumerate(results, start=1) for row in result.to_coco(i)] == rows
    elif kind == "segmentation":
        assert len(masks) == len(results)
        assert all(np.array_equal(result.ids, mask) for result, mask in zip(results, masks, strict=True))
    else:
        assert [(r.names[0], float(r.scores[r.labels[0]]), r.ids.tolist()) for r in results] == [
            (row["prediction"], row["score"], row["top5"]) for row in rows
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_finds_what_evaluation_wrote(kind, images, tiny_shapes, tiny_imagefolder, tmp_path):
    extra = ["save_predictions=ids"] if kind == "segmentation" else []
    wanted = evaluated(tmp_path, EARLIER / kind, *data_of(kind, tiny_shapes, tiny_imagefolder), *extra)
    model = seg_det.load(EARLIER / kind, device="cpu", batch_size=4)
    results = model(images[kind], score_threshold=0)
    assert all(type(result) is KINDS[kind] for result in results)
    require_same(kind, results, *wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_file_finds_what_evaluation_wrote(kind, images, tiny_shapes, tiny_imagefolder, tmp_path):
    (file,) = (EARLIER / kind).glob("*.onnx")
    extra = ["save_predictions=ids"] if kind == "segmentation" else []
    wanted = evaluated(tmp_path, file, *data_of(kind, tiny_shapes, tiny_imagefolder), *extra)
    results = seg_det.load(file)(images[kind], score_threshold=0)
    require_same(kind, results, *wanted)
    network = seg_det.load(EARLIER / kind, device="cpu")(images[kind], score_threshold=0)
    for ours, theirs in zip(results, network, strict=True):
        require_close(kind, ours, theirs)


def require_close(kind, ours, theirs, score=1e-5, overlap=0.999):
    """Scores within ``score`` and boxes of an IoU above ``overlap``, but where rows are cut off or level in their scores."""
    if kind == "classification":
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=score)
        return
    if kind == "segmentation":
        assert (ours.mask == theirs.mask).mean() > 0.999
        return
    for mine, other in ((ours, theirs), (theirs, ours)):
        cut = max(mine.scores.min(), other.scores.min()) + 1e-4 if len(other) and len(mine) else 0.0
        sure = mine.scores > cut
        same = iou(torch.from_numpy(mine.boxes), torch.from_numpy(other.boxes)).numpy() > overlap
        same &= np.abs(mine.scores[:, None] - other.scores[None]) <= score
        same &= mine.labels[:, None] == other.labels[None]
        assert same.any(1)[sure].all()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """100 images to evaluate for each kind."""
    root = tmp_path_factory.mktemp("many")
    generate_shapes(root / "shapes", train_images=64, val_images=100)
    noise = np.random.default_rng(1)
    for channel, name in enumerate(("red", "green", "blue")):
        for split, count in (("train", 24), ("val", 33 if channel else 34)):
            (root / "colours" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = noise.integers(0, 150, (30 + i, 90 - i, 3), dtype=np.uint8)
                pixels[..., channel] += 80
                Image.fromarray(pixels).save(root / "colours" / split / name / f"{i:03}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_100_images_for_a_run_and_for_every_float_export(kind, many, tmp_path):
    """Of the runs' own data sets; the files of every target that runs here in 32 bits, ONNX's in 16 too."""
    shapes = kind != "classification"
    paths = (
        sorted((many / "shapes/images/val").glob("*.jpg")) if shapes else sorted((many / "colours/val").rglob("*.png"))
    )
    data = [
        f"dataset.root={many / ('shapes' if shapes else 'colours')}",
        f"dataset={'shapes' if shapes else 'imagefolder'}",
    ]
    data += ["dataset.train_images=64", "dataset.val_images=100"] if shapes else []
    extra = ["save_predictions=ids"] if kind == "segmentation" else []
    assert len(paths) == 100
    wanted = evaluated(tmp_path, EARLIER / kind, *data, *extra)
    network = seg_det.load(EARLIER / kind, device="cpu", batch_size=4)(paths, score_threshold=0)
    require_same(kind, network, *wanted)
    for target in FILES:
        for precision in ("fp32", "fp16") if target == "onnx" else ("fp32",):
            options = [f"target={target}", f"precision={precision}", "verification.images=2", "tolerance=1"]
            run(tmp_path, "export", f"model={EARLIER / kind}", *options, *data)
            (export,) = (tmp_path / "runs" / "export").glob("*/*")
            record = json.loads((export / "export.json").read_text())
            file = export / record["files"][0]
            found = evaluated(tmp_path, file, *data, *extra)
            results = seg_det.load(file)(paths, score_threshold=0)
            require_same(kind, results, *found)
            coarser = kind == "segmentation" and record["pipeline"] == "normalised"  # masks of the input's size
            if precision == "fp32" and not coarser:
                for ours, theirs in zip(results, network, strict=True):
                    require_close(kind, ours, theirs)
            shutil.rmtree(tmp_path / "runs")


def test_images_in_every_form_are_the_same(images):
    model = seg_det.load(EARLIER / "detection", device="cpu")
    path = images["detection"][0]
    pixels = read_rgb(path)
    forms = [
        path,
        str(path),
        Image.fromarray(pixels),
        pixels,
        pixels[:, ::-1][:, ::-1],  # a view
        torch.from_numpy(pixels),
        torch.from_numpy(pixels).permute(2, 0, 1),
        np.dstack([pixels, np.zeros_like(pixels[..., :1])]),
    ]
    wanted = model(path, score_threshold=0)
    assert len(wanted) > 50
    for form in forms:
        found = model(form, score_threshold=0)
        assert found.size == pixels.shape[:2] and np.array_equal(found.boxes, wanted.boxes)
        assert np.array_equal(found.scores, wanted.scores)


def test_batches_keep_the_memory_format_of_images():
    canvases = [torch.from_numpy(np.full((4, 5, 3), value, np.uint8)).permute(2, 0, 1) for value in (1, 2)]
    batch = stacked(canvases)
    assert torch.equal(batch, torch.stack(canvases)) and batch.is_contiguous(memory_format=torch.channels_last)


def test_iterators_are_read_as_they_go(images):
    model = seg_det.load(EARLIER / "classification", device="cpu", batch_size=2)
    taken = []

    def paths():
        for path in images["classification"]:
            taken.append(path)
            yield path

    results = model(paths())
    first = next(results)
    assert len(taken) == 2
    wanted = model(images["classification"])
    assert isinstance(wanted, list) and np.array_equal(first.scores, wanted[0].scores)
    assert [result.names for result in [first, *results]] == [result.names for result in wanted]


def test_thresholds(images):
    run_folder, path = EARLIER / "detection", images["detection"][0]
    model = seg_det.load(run_folder, device="cpu")
    every = model(path, score_threshold=0)
    middle = float(np.median(every.scores))
    assert np.array_equal(model(path, score_threshold=middle).scores, every.scores[every.scores >= middle])
    assert len(model(path)) == (every.scores >= 0.3).sum()  # the card of that version has no thresholds
    own = [0.0, *([1.0] * 7)]
    assert set(model(path, score_threshold=own).labels.tolist()) == {0} & set(every.labels.tolist())
    model.predictor.card = model.card.replace(score_thresholds=(0.0, *([None] * 7)))
    found = model(path)
    assert np.array_equal(found.scores, every.scores[(every.labels == 0) | (every.scores >= 0.3)])


def test_results_carry_names_ids_and_drawings(images, tiny_shapes):
    path = images["detection"][0]
    found = seg_det.load(EARLIER / "detection", device="cpu")(path, score_threshold=0)
    categories = json.loads((tiny_shapes / "annotations" / "instances_val.json").read_text())["categories"]
    names = {category["id"]: category["name"] for category in categories}
    assert [names[i] for i in found.ids.tolist()] == found.names
    picture = found.draw()
    assert picture.size == found.size[::-1] and not np.array_equal(np.asarray(picture), found.image())
    seen = seg_det.load(EARLIER / "segmentation", device="cpu")(path)
    assert seen.mask.shape == seen.size and sum(seen.shares.values()) == pytest.approx(1)
    assert list(seen.shares.values()) == sorted(seen.shares.values(), reverse=True) and seen.names == list(seen.shares)
    assert seen.draw().size == seen.size[::-1]
    rows = seen.to_coco(3)
    assert {row["category_id"] for row in rows} == set(np.unique(seen.ids).tolist())
    from pycocotools import mask as coco_mask

    for row in rows:
        assert np.array_equal(coco_mask.decode(row["segmentation"]) == 1, seen.ids == row["category_id"])
    guess = seg_det.load(EARLIER / "classification", device="cpu")(path)
    assert guess.scores.sum() == pytest.approx(1) and guess.names[0] == guess.categories[guess.scores.argmax()].name
    assert guess.draw().size == guess.size[::-1] and guess.to_coco(1)[0]["score"] == guess.scores.max()


def test_the_examples_of_the_documentation(tmp_path, monkeypatch):
    """Of the package and of load, in a folder that has what they name."""
    shutil.copy(EARLIER / "detection" / "checkpoints" / "last.ckpt", tmp_path / "best.ckpt")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    for module in (seg_det, loading):
        found = doctest.testmod(module)
        assert found.attempted >= 4 and not found.failed
    assert Image.open("out.png").size == (64, 48)


def test_the_package_names_what_it_offers():
    assert set(dir(seg_det)) == set(seg_det.__all__) and seg_det.Model.__name__ == "Model"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        seg_det.nothing  # noqa: B018
    assert OnnxTarget.suffix == ".onnx"
