"""Tiles: where they lie, and how what is found on them becomes one result."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import seg_det
from seg_det.errors import UserError
from seg_det.ops.nms import rivals
from seg_det.predict.model import Model
from seg_det.predict.preprocessing import Preprocessing
from seg_det.predict.tiles import TiledPredictor, Tiles, _cut, _merged
from seg_det.types import Category, Detections, ModelCard

EARLIER = Path(__file__).parent.parent / "fixtures" / "earlier"
CARD = ModelCard(
    task="detection",
    name="spots",
    model={},
    postprocess={},
    categories=(Category(7, "red"), Category(9, "blue")),
    input_size=(32, 32),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    resize="stretch",
    training_data={},
    version="0",
)


class Spots:
    """Finds the bounding box of the pixels that are purely red or purely blue on each canvas; exact, so no training."""

    card = CARD
    preprocessing = Preprocessing.of(CARD)

    def __init__(self, one_by_one=False):
        self.one_by_one = one_by_one
        self.batches = []

    def predict(self, images: Tensor, sizes):
        self.batches.append(len(images))
        return [self._found(image, size) for image, size in zip(images, sizes, strict=True)]

    def _found(self, image, size):
        boxes, labels = [], []
        scale = torch.tensor([size[1] / 32, size[0] / 32] * 2)
        for label, channel in enumerate((0, 2)):
            ys, xs = (image[channel] > 127).nonzero(as_tuple=True)
            if len(ys):
                boxes.append(torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) * scale)
                labels.append(label)
        share = 0.9 if tuple(size) == (32, 32) else 0.8
        return Detections(
            torch.stack(boxes) if boxes else torch.zeros(0, 4),
            torch.full((len(boxes),), share),
            torch.tensor(labels, dtype=torch.long),
        )


def boxes(*rows):
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(values[:, :4], values[:, 4], values[:, 5].long())


def merged(parts, tiles, cut=()):
    """``cut`` are (part, row) of those that a tile cuts."""
    marks = [
        torch.tensor([(i, row) in cut for row in range(len(one.scores))], dtype=torch.bool)
        for i, one in enumerate(parts)
    ]
    return _merged(parts, tiles, marks)


def test_tiles_cover_the_image():
    tiles = Tiles((40, 50), overlap=0.2)
    found = tiles.boxes((100, 120))
    seen = np.zeros((100, 120), int)
    for left, top, right, bottom in found:
        assert (right - left, bottom - top) == (50, 40) and left >= 0 and top >= 0 and right <= 120 and bottom <= 100
        seen[top:bottom, left:right] += 1
    assert seen.min() >= 1
    lefts = sorted({box[0] for box in found})
    assert all(after - before <= 40 for before, after in itertools.pairwise(lefts))  # 0.2 of 50 is shared


def test_an_image_smaller_than_a_tile_is_one():
    assert Tiles((640, 640)).boxes((100, 700)) == [(0, 0, 640, 100), (60, 0, 700, 100)]
    assert Tiles((640, 640)).boxes((100, 200)) == [(0, 0, 200, 100)]


def test_what_is_found_comes_back_in_pixels_of_the_image():
    image = np.zeros((64, 96, 3), np.uint8)
    image[40:44, 70:75, 0] = 255
    image[3:6, 2:9, 2] = 255
    predictor = Spots()
    model = Model(TiledPredictor(predictor, Tiles((32, 32), overlap=0.0), batch_size=4), device=torch.device("cpu"))
    result = model(image, score_threshold=0)
    assert sorted(result.boxes.tolist()) == [[2, 3, 9, 6], [70, 40, 75, 44]]
    assert sorted(result.names) == ["blue", "red"] and result.scores.tolist() == pytest.approx([0.9, 0.9])
    assert predictor.batches == [4, 3]  # six tiles and the whole image


def test_an_object_that_no_tile_holds_is_found_on_the_whole():
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:56, 8:56, 0] = 255
    tiled = TiledPredictor(Spots(), Tiles((32, 32), overlap=0.0, merge="nms"))
    (found,) = tiled.predict(torch.from_numpy(image).permute(2, 0, 1)[None], [(64, 64)])
    assert [8, 8, 56, 56] in found.boxes.tolist()
    alone = TiledPredictor(Spots(), Tiles((32, 32), overlap=0.0, whole=False))
    (found,) = alone.predict(torch.from_numpy(image).permute(2, 0, 1)[None], [(64, 64)])
    assert [8, 8, 56, 56] not in found.boxes.tolist() and len(found.scores) == 4


def test_merging_by_hand():
    first = boxes((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.5, 0))
    second = boxes((0, 0, 10, 9, 0.8, 0), (0, 0, 10, 10, 0.7, 1), (22, 2, 26, 6, 0.4, 0))
    by_union = merged([first, second], Tiles((32, 32), merge="nms", threshold=0.5))
    assert by_union.scores.tolist() == pytest.approx(
        [0.9, 0.7, 0.5, 0.4]
    )  # 0.8 repeats 0.9; of another class 0.7 stays
    by_smaller = merged([first, second], Tiles((32, 32), merge="smaller", threshold=0.5))
    assert by_smaller.scores.tolist() == pytest.approx([0.9, 0.7, 0.5])  # 0.4 lies within 0.5
    nested = boxes((0, 0, 30, 30, 0.9, 0), (5, 5, 9, 9, 0.8, 0))
    assert (
        len(merged([nested], Tiles((32, 32))).scores) == 2
    )  # both of one part: the detector's own suppression decided
    assert len(merged([boxes(), boxes()], Tiles((32, 32))).scores) == 0


def test_merging_is_greedy_nms_where_every_box_is_of_another_part():
    """Against a loop over boxes, for both rules."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (60, 2))
    rows = np.concatenate([corners, corners + rng.uniform(5, 30, (60, 2)), rng.uniform(0, 1, (60, 1))], 1)
    labels = rng.integers(0, 2, 60)
    parts = [boxes((*row, label)) for row, label in zip(rows.tolist(), labels.tolist(), strict=True)]
    for merge, of_smaller in (("nms", False), ("smaller", True)):
        kept = []
        for i in np.argsort(-rows[:, 4], kind="stable"):
            if all(labels[i] != labels[j] or overlap(rows[i], rows[j], of_smaller) <= 0.4 for j in kept):
                kept.append(i)
        found = merged(parts, Tiles((32, 32), merge=merge, threshold=0.4))
        np.testing.assert_allclose(found.boxes.numpy(), rows[kept, :4].astype(np.float32))


def overlap(a, b, of_smaller):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (min(areas) if of_smaller else sum(areas) - width * height)


def test_a_part_of_an_object_gives_way_to_the_whole_of_it():
    part, whole = boxes((40, 0, 50, 20, 0.9, 0), (1, 1, 5, 5, 0.2, 0)), boxes((40, 0, 80, 20, 0.4, 0))
    assert merged([part, whole], Tiles((32, 50))).scores.tolist() == pytest.approx([0.9, 0.2])
    found = merged([part, whole], Tiles((32, 50)), cut={(0, 0)})
    assert found.scores.tolist() == pytest.approx([0.4, 0.2]) and found.boxes[0].tolist() == [40, 0, 80, 20]
    alone = merged([part, boxes()], Tiles((32, 50)), cut={(0, 0)})
    assert alone.scores.tolist() == pytest.approx([0.9, 0.2])  # nothing else is there, so it stays, in its place


def test_which_boxes_a_tile_cuts():
    found = torch.tensor(
        [[100.0, 10, 150, 50], [102.5, 10, 150, 50], [120, 10, 199, 50], [120, 0, 150, 50], [120, 10, 150, 99]]
    )
    assert _cut(found, (100, 0, 200, 100), (300, 400)).tolist() == [True, False, True, False, True]
    assert _cut(found, (100, 0, 200, 100), (100, 200)).tolist() == [True, False, False, False, False]
    assert not _cut(found, (0, 0, 400, 300), (300, 400)).any()


def test_rivals_of_the_smaller_box():
    both = torch.tensor([[0.0, 0, 10, 10], [0, 0, 4, 4], [8, 8, 20, 20]])
    labels = torch.zeros(3)
    assert rivals(both, labels, 0.5, of_smaller=True).tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, True],
    ]
    assert not rivals(both, labels, 0.5)[0, 1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": (0, 32)}, r"tiles.size must be \[height, width\] in pixels, got \(0, 32\)"),
        ({"size": 32}, "tiles.size must be"),
        ({"size": (32, 32), "overlap": 0.95}, "tiles.overlap must be from 0 to 0.9, got 0.95"),
        ({"size": (32, 32), "threshold": "x"}, "tiles.threshold must be from 0 to 1, got x"),
        ({"size": (32, 32), "merge": "mean"}, "tiles.merge must be nms or smaller, got 'mean'"),
    ],
)
def test_bad_settings(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Tiles(**settings)


def test_too_many_tiles():
    with pytest.raises(UserError, match="an image of 9000 x 9000 has more than 10000 tiles: raise tiles.size"):
        Tiles((16, 16)).boxes((9000, 9000))


def test_tiles_are_for_detectors():
    with pytest.raises(UserError, match="tiles are for detectors, and lraspp_v2_shapes is a model for segmentation"):
        seg_det.load(EARLIER / "segmentation", tiles=Tiles((64, 64)))
