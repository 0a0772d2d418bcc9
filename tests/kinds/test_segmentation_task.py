"""A segmenter on real files: whatever brings an image to the network, its label map has the file's size and place."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from seg_det.data.loaders import evaluation_loader
from seg_det.data.plain_transforms import flip_only
from seg_det.data.records import SegmentationRecord, SegmentationSource
from seg_det.data.segmentation_transforms import segmentation_augmentation
from seg_det.errors import UserError
from seg_det.evaluation.measure import evaluate
from seg_det.kinds.segmentation import SEGMENTATION
from seg_det.losses import segmentation_loss
from seg_det.predict.loading import network_predictor
from seg_det.predict.segmentation import Reading, Segmenter
from seg_det.types import IGNORE, Category, DenseSegmentation, ModelCard

CATEGORIES = (Category(3, "dark"), Category(8, "bright"))
SIZES = ((60, 84), (60, 84), (96, 64), (40, 150))


class Brightness(nn.Module):
    """Class 1 where the mean of a ``stride`` x ``stride`` cell is above the card's mean."""

    def __init__(self, stride=4):
        super().__init__()
        self.stride = stride
        self.gain = nn.Parameter(torch.tensor(5.0))
        self.seen = []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        score = F.avg_pool2d(images.mean(1, keepdim=True), self.stride, ceil_mode=True)
        return DenseSegmentation(self.gain * torch.cat([-score, score], 1))


@dataclass
class ArrayMask:
    values: np.ndarray

    def read(self):
        return self.values


@pytest.fixture
def source(tmp_path):
    """Images of four blocks, bright and dark, whose mask says so; a stripe at the top is ignored."""
    records = []
    for image_id, (height, width) in enumerate(SIZES, start=10):
        truth = np.zeros((height, width), np.uint8)
        truth[: height // 2, : width // 4] = truth[height // 2 :, width // 4 :] = 1
        path = tmp_path / f"{image_id}.png"
        Image.fromarray((truth * 160 + 40)[..., None].repeat(3, 2)).save(path)
        truth[:4] = IGNORE
        records.append(SegmentationRecord(path, ArrayMask(truth), image_id, (height, width)))
    return SegmentationSource("blocks", tuple(records), CATEGORIES)


def card(resize="whole", size=(64, 64), **postprocess):
    grey = (120.0, 120.0, 120.0)
    return ModelCard("segmentation", "b", {}, postprocess, CATEGORIES, size, grey, (80.0, 80.0, 80.0), resize=resize)


def run(source, model_card, model=None, **options):
    model = model or Brightness()
    predictor = network_predictor(model, model_card)
    return evaluate(SEGMENTATION, predictor, source, batch_size=2, num_workers=0, options=options), model


RULES = ("whole", "letterbox", "stretch")
READINGS = (
    {},
    {"output": "labels"},
    {"flip": True},
    {"scales": [0.5, 1.0, 2.0]},
    {"scales": (2.0,), "flip": True},
    {"overlap": 0.3},
    {"overlap": 0.0, "scales": [1, 1.5], "flip": True},
)


@pytest.mark.parametrize("resize", RULES)
@pytest.mark.parametrize("postprocess", READINGS, ids=str)
def test_blocks_are_found_where_they_are(source, resize, postprocess):
    evaluation, _ = run(source, card(resize, **postprocess))
    headline = evaluation.report.headline()
    assert headline["mIoU"] > 0.88 and headline["pixel_accuracy"] > 0.94
    assert evaluation.ms_per_image > 0
    for maps, record in zip(evaluation.metric.samples.values(), source.records, strict=True):
        assert maps.predicted.shape == record.size
        wrong = maps.predicted != torch.from_numpy(np.where(np.array(Image.open(record.path))[..., 0] > 120, 1, 0))
        height, width = record.size
        wrong[height // 2 - 4 : height // 2 + 4] = False  # at the borders cells see both classes
        wrong[:, width // 4 - 4 : width // 4 + 4] = False
        assert not wrong.any()


def test_aligned_corners_are_read_so():
    logits = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    segmenter = Segmenter(Brightness(), card("stretch", align_corners=True))
    (labels,) = segmenter.decode(DenseSegmentation(logits), (64, 64), [(64, 64)])
    expected = F.interpolate(logits, (64, 64), mode="bilinear", align_corners=True)[0].argmax(0)
    assert torch.equal(labels.long(), expected)


def label_maps(source, model_card, model):
    return [maps.predicted for maps in run(source, model_card, model)[0].metric.samples.values()]


class Noisy(Brightness):
    """Logits that no resize or flip leaves as they are."""

    def forward(self, images):
        score = F.avg_pool2d(images, 4, ceil_mode=True)
        return DenseSegmentation(torch.cat([score[:, :1] * 0.3, score[:, 1:2].roll(1, 3) * 0.2 - 0.1], 1))


@pytest.fixture
def noise(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for image_id in range(3):
        path = tmp_path / f"noise_{image_id}.png"
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(path)
        records.append(SegmentationRecord(path, ArrayMask(np.zeros((64, 96), np.uint8)), image_id, (64, 96)))
    return SegmentationSource("noise", tuple(records), CATEGORIES)


def test_one_window_of_the_images_size_changes_nothing(noise):
    whole = label_maps(noise, card(), Noisy())
    window = label_maps(noise, card(size=(64, 96), overlap=0.5), Noisy())
    assert all(torch.equal(a, b) for a, b in zip(whole, window, strict=True))
    assert len({int(labels.sum()) for labels in whole}) == 3  # they are noise, and not all of one class


def test_windows_without_overlap_are_their_parts(noise):
    found = label_maps(noise, card(size=(32, 48), overlap=0.0), Noisy())
    model = Segmenter(Noisy(), card(size=(32, 48)))
    for labels, record in zip(found, noise.records, strict=True):
        pixels = torch.from_numpy(np.array(Image.open(record.path))).permute(2, 0, 1)[None]
        for top, left in ((0, 0), (0, 48), (32, 0), (32, 48)):
            logits = model(pixels[:, :, top : top + 32, left : left + 48]).logits
            expected = F.interpolate(logits, (32, 48), mode="bilinear")[0].argmax(0)
            assert torch.equal(labels[top : top + 32, left : left + 48].long(), expected)


def test_flip_averages_both_looks(noise):
    found = label_maps(noise, card(flip=True), Noisy())
    model = Segmenter(Noisy(), card())
    for labels, record in zip(found, noise.records, strict=True):
        pixels = torch.from_numpy(np.array(Image.open(record.path))).permute(2, 0, 1)[None]
        looks = [model(pixels).logits, model(pixels.flip(-1)).logits.flip(-1)]
        mean = sum(F.interpolate(x, (64, 96), mode="bilinear").softmax(1) for x in looks)
        assert torch.equal(labels.long(), mean[0].argmax(0))


def test_flip_of_a_symmetric_network_changes_nothing(noise):
    plain, flipped = (label_maps(noise, card(flip=flip), Brightness()) for flip in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(plain, flipped, strict=True))


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, {(64, 96)}),
        ({"scales": [0.5, 2.0]}, {(32, 64), (128, 192)}),
        ({"size": (32, 32), "overlap": 0.0}, {(32, 32)}),
        ({"size": (32, 32), "overlap": 0.0, "scales": [2.0]}, {(32, 32)}),
    ],
)
def test_what_the_network_sees(noise, settings, sizes):
    _, model = run(noise, card(**settings), Brightness())
    assert {shape[2:] for shape in model.seen} == sizes
    assert max(shape[0] for shape in model.seen) <= 2  # never more at a time than the batch has images


def test_validation_needs_one_look(source):
    segmenter = Segmenter(Brightness(), card(flip=True))
    batch = next(
        iter(evaluation_loader(source, SEGMENTATION.evaluation_transform(segmenter), batch_size=2, num_workers=0))
    )
    raw = segmenter(batch.images)
    labels = segmenter.decode(raw, (64, 96), SEGMENTATION.batch_sizes(batch))
    assert [one.shape for one in labels] == [(60, 84), (60, 84)]
    losses = SEGMENTATION.loss(segmentation_loss, segmenter, raw, batch)
    assert 0 < losses.total().item() < 0.2
    losses.total().backward()
    assert segmenter.model.gain.grad.isfinite()
    assert len(segmenter.model.seen) == 1


def test_predictions_are_saved_under_the_names_of_the_images(source, tmp_path):
    folder = tmp_path / "run" / "predictions"
    evaluation, _ = run(source, card(), save_predictions="ids", folder=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["10.png", "11.png", "12.png", "13.png"]
    saved = np.asarray(Image.open(folder / "12.png"))
    assert np.array_equal(saved, np.array([3, 8])[evaluation.metric.samples[12].predicted])


class Dark(nn.Module):
    """Class 0 everywhere."""

    def forward(self, images):
        score = F.avg_pool2d(images.mean(1, keepdim=True), 4, ceil_mode=True) * 0
        return DenseSegmentation(torch.cat([score + 1, score], 1))


def test_the_worst_and_the_best_images_are_drawn(source):
    evaluation, _ = run(source, card(), Dark())
    worst, best = SEGMENTATION.details(evaluation.metric, evaluation.report, source).galleries
    assert (worst.title, best.title) == ("The 3 worst images", "The best image")
    assert "The lowest mIoU" in worst.rule and "red in the view on the right" in worst.rule
    assert [name for name, _ in worst.legend] == ["dark", "bright", "not labelled"]
    rows = sorted(evaluation.metric.results(), key=lambda row: row["mIoU"])
    names = [Path(row["image"]).name for row in rows]
    assert [picture.title for picture in (*worst.pictures, *best.pictures)] == names
    shares = {row["image"]: row["mIoU"] for row in rows}
    assert worst.pictures[0].note.startswith(f"mIoU {min(shares.values()):.3f}, ")
    sizes = {f"{i}.png": size for i, size in enumerate(SIZES, start=10)}
    for picture in (*worst.pictures, *best.pictures):
        height, width = sizes[picture.title]
        assert picture.image.shape[1] == 3 * width + 2 * 4 and picture.image.shape[0] > height


def test_the_share_of_wrong_pixels_is_that_of_the_labelled_ones(source):
    evaluation, _ = run(source, card(), Dark())
    truth = source.records[0].mask.read()
    wrong = (truth == 1).sum() / (truth != IGNORE).sum()
    galleries = SEGMENTATION.details(evaluation.metric, evaluation.report, source).galleries
    notes = {picture.title: picture.note for gallery in galleries for picture in gallery.pictures}
    assert notes["10.png"].endswith(f"{wrong:.1%} of the pixels wrong")


def test_one_prediction_is_drawn_in_the_colours_of_the_legend(source):
    evaluation, _ = run(source, card())
    record = source.records[0]
    drawn = SEGMENTATION.drawn(evaluation.metric.samples[10], record, card())
    assert drawn.shape == (*record.size, 3)
    assert SEGMENTATION.legend(CATEGORIES) == [("dark", (0, 0, 0)), ("bright", (128, 0, 0))]
    assert drawn[20, 10, 0] > drawn[20, 10, 1] + 50  # bright, so red
    assert drawn[20, 60].tolist() == [40, 40, 40]  # dark, so as it was


def test_a_data_set_without_a_label_is_refused(source):
    blank = [record._replace(mask=ArrayMask(np.full(record.size, IGNORE, np.uint8))) for record in source.records]
    with pytest.raises(UserError, match="every pixel of the 4 masks of blank is ignored"):
        SEGMENTATION.check(SegmentationSource("blank", tuple(blank), CATEGORIES))
    SEGMENTATION.check(source)


def test_broken_weights_are_named(source):
    model = Brightness()
    model.gain.data.fill_(float("nan"))
    with pytest.raises(UserError, match="the model's output for the image with id 10 is not finite .NaN or infinity."):
        run(source, card(), model)


def test_a_batch_without_a_variance_is_named():
    model = nn.Sequential(nn.Conv2d(3, 2, 16, 16), nn.BatchNorm2d(2))
    segmenter = Segmenter(model, card()).train()
    assert segmenter(torch.zeros(1, 3, 16, 32)).shape == (1, 2, 1, 2)
    with pytest.raises(
        UserError, match="a batch of 1 image of 16 x 16 pixels leaves one value .*: raise data.size above"
    ):
        segmenter(torch.zeros(1, 3, 16, 16))


def test_training_batches_hold_nothing_to_score(source):
    segmenter = Segmenter(Brightness(), card())
    batch = next(
        iter(evaluation_loader(source, SEGMENTATION.evaluation_transform(segmenter), batch_size=2, num_workers=0))
    )
    with pytest.raises(ValueError, match="expected a batch for evaluation, which holds the original masks"):
        SEGMENTATION.batch_truths(batch._replace(originals=None))


@pytest.mark.parametrize(
    ("postprocess", "sentence"),
    [
        ({"scales": []}, "postprocess.scales must be one or more numbers above 0, got ..\\."),
        ({"scales": [1, 0]}, "postprocess.scales must be one or more numbers above 0, got .1, 0.\\."),
        ({"overlap": 1.0}, "postprocess.overlap must be at least 0 and below 1, or null, got 1.0"),
        ({"output": "labels", "flip": True}, "postprocess.output=labels cannot average"),
        ({"output": "labels", "scales": [0.5]}, "postprocess.output=labels cannot average"),
        ({"output": "label"}, "postprocess.output must be one of logits, labels, got 'label'"),
        (
            {"score_threshold": 0.3},
            "segmentation has no postprocess.score_threshold: choose from output, align_corners",
        ),
    ],
)
def test_readings_that_cannot_be(postprocess, sentence):
    with pytest.raises(UserError, match=sentence):
        Reading.of(card(**postprocess))


def test_evaluation_resizes_as_the_augmentation_does():
    # Learned from images squeezed into the input, and shown whole ones, a network sees everything at another scale.
    assert flip_only((64, 64), kind="segmentation").resize == "stretch"
    assert segmentation_augmentation((64, 64)).resize is None and flip_only((64, 64)).resize is None
