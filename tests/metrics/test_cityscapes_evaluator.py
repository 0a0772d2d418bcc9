"""Saved predictions through Cityscapes' own evaluator: it takes the files, and its figures are ours."""

import numpy as np
import pytest
import torch
from PIL import Image
from references import reference

from seg_det.data.cityscapes import CLASSES, read_cityscapes
from seg_det.metrics.segmentation import LabelMaps, SegmentationMetric
from seg_det.report.masks import MaskWriter
from seg_det.types import IGNORE


@pytest.fixture
def official():
    module = reference("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    module.args.evalInstLevelScore = False  # asks for instance masks
    module.args.JSONOutput = False
    module.args.quiet = True
    module.args.predictionWalk = None
    return module


def noisy(truth, rng, classes):
    """A label map that is right in most places, with blobs of other classes and a shifted copy of itself."""
    predicted = np.roll(np.where(truth == IGNORE, 0, truth), 3, axis=1)
    blobs = rng.integers(0, len(classes), [side // 30 + 1 for side in truth.shape])
    blobs = np.asarray(classes)[blobs].repeat(30, 0).repeat(30, 1)[: truth.shape[0], : truth.shape[1]]
    return np.where(rng.random(truth.shape) < 0.3, blobs, predicted).astype(np.uint8)


def compare(official, root, source, classes, folder, form):
    writer = MaskWriter(folder, source.categories, form)
    metric = SegmentationMetric(
        source.records, source.categories, save=lambda record, labels: writer.write(record.path.stem, labels.numpy())
    )
    rng = np.random.default_rng(0)
    for record in source.records:
        truth = record.mask.read()
        maps = LabelMaps(torch.from_numpy(noisy(truth, rng, classes)), torch.from_numpy(truth))
        metric.update([record.image_id], [maps])
    official.args.predictionPath = str(folder)
    masks = sorted(str(path) for path in root.rglob("gtFine/val/*/*_gtFine_labelIds.png"))
    predictions = [official.getPrediction(official.args, mask) for mask in masks]
    assert len(predictions) == len(source.records) > 0
    return official.evaluateImgLists(predictions, masks, official.args), metric.compute()


def check(scores, report):
    assert scores["averageScoreClasses"] == pytest.approx(report.headline()["mIoU_strict"], abs=1e-9)
    for name, iou in zip(report.names, report.iou(), strict=True):
        assert scores["classScores"][name] == pytest.approx(np.nan if iou is None else iou, abs=1e-9, nan_ok=True)
    ids = [category.id for category in CLASSES]
    assert np.array_equal(np.array(scores["confMatrix"])[np.ix_(ids, ids)], report.confusion)


@pytest.mark.parametrize("form", ["ids", "palette"])
def test_real_streets(official, real_data, tmp_path, form):
    root = real_data / "data/camvid_cityscapes_layout"
    source = read_cityscapes(root=root, split="val")
    present = [i for i, c in enumerate(CLASSES) if c.id in (23, 11, 17, 7, 8, 21, 20, 13, 26, 24, 33)]
    scores, report = compare(official, root, source, present, tmp_path / "predictions", form)
    check(scores, report)
    assert scores["averageScoreClasses"] == pytest.approx(report.headline()["mIoU"], abs=1e-9)
    assert len(report.to_dict()["absent"]) == 8


@pytest.fixture
def streets(tmp_path):
    """Two tiny images of Cityscapes' layout, with ids that are not evaluated."""
    rng = np.random.default_rng(1)
    for number in (19, 20):
        stem = f"aachen_000000_{number:06}"
        for folder, suffix, mode in (("leftImg8bit", "leftImg8bit", "RGB"), ("gtFine", "gtFine_labelIds", "L")):
            path = tmp_path / "streets" / folder / "val" / "aachen" / f"{stem}_{suffix}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            ids = rng.choice([0, 3, 7, 8, 11, 26, 29], (64, 96)).astype(np.uint8)
            Image.fromarray(ids).convert(mode).save(path)
    return tmp_path / "streets"


def test_a_class_that_is_only_predicted(official, streets, tmp_path):
    source = read_cityscapes(root=streets, split="val")
    scores, report = compare(official, streets, source, range(19), tmp_path / "predictions", "ids")
    check(scores, report)
    figures, seen = report.headline(), sum(iou is not None for iou in report.iou())
    assert seen > 4
    assert figures["mIoU_strict"] == pytest.approx(figures["mIoU"] * 4 / seen)  # 4 of them are labelled
