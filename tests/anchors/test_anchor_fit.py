"""Fitted anchors: better than the present ones, as many, and the same every time."""

import itertools

import pytest
import torch

from seg_det.anchors.fit import _clustered, fit_shapes, kmeans
from seg_det.anchors.grid import Grid
from seg_det.commands.anchor_files import read_anchors, write_anchors
from seg_det.errors import UserError
from seg_det.ops.anchors import grid_anchors, ssd_shapes
from seg_det.ops.boxes import iou

GRID = Grid(((13, 21), (7, 11), (4, 6), (2, 3), (1, 2), (1, 1)), (200, 328))


def tall_boxes(count):
    """Boxes four times as high as wide, which no present anchor is."""
    generator = torch.Generator().manual_seed(0)
    width = 12 + 8 * torch.rand(count, 1, generator=generator)
    low = torch.rand(count, 2, generator=generator) * torch.tensor([300.0, 110.0])
    return torch.cat([low, low + width * torch.tensor([1.0, 4.0])], 1)


def recall(boxes, shapes):
    anchors = grid_anchors(shapes, GRID.map_sizes, GRID.image_size)
    return (iou(boxes, anchors).amax(1) >= 0.5).double().mean().item()


def test_the_recall_rises_and_the_head_stays():
    boxes, present = tall_boxes(300), ssd_shapes(6)
    fitted = fit_shapes(boxes, GRID, present, rounds=5)
    assert recall(boxes, present) < 0.5 and recall(boxes, fitted) > 0.75
    assert [len(shapes) for shapes in fitted] == [3, 6, 6, 6, 6, 6]
    scales = [[scale for scale, _ in shapes] for shapes in fitted]
    assert all(max(finer) <= min(coarser) for finer, coarser in itertools.pairwise(scales))


def test_the_search_starts_from_clusters_with_the_smallest_on_the_finest_map():
    sides = torch.tensor([10.0, 30.0, 90.0]).repeat(20)[:, None]
    boxes = torch.cat([torch.zeros(60, 2), sides, sides], 1)
    levels = _clustered(boxes, GRID, [1, 1, 1], torch.Generator().manual_seed(0))
    found = torch.cat(levels)[:, 0] * 200  # scales, of the shorter side of the input
    torch.testing.assert_close(found, torch.tensor([10.0, 30.0, 90.0], dtype=found.dtype))


def test_the_same_arguments_give_the_same_anchors():
    boxes, present = tall_boxes(60), ssd_shapes(6)
    one, same, other = (fit_shapes(boxes, GRID, present, rounds=2, objects=40, seed=seed) for seed in (0, 0, 1))
    assert one == same != other


def test_what_cannot_be_bettered_stays():
    present = [[(0.4, 1.0)], [(0.8, 1.0)]]
    grid = Grid(((2, 2), (1, 1)), (100, 100))
    boxes = grid_anchors(present, grid.map_sizes, grid.image_size)
    assert fit_shapes(boxes, grid, present, rounds=3) == present


def test_one_object_is_covered():
    fitted = fit_shapes(torch.tensor([[10.0, 20, 17, 90]]), GRID, ssd_shapes(6), rounds=10)
    assert recall(torch.tensor([[10.0, 20, 17, 90]]), fitted) == 1.0


def test_clusters_by_hand():
    sides = torch.tensor([[10.0, 10], [12, 10], [100, 50], [100, 54]], dtype=torch.float64)
    found = kmeans(sides, 2, torch.Generator().manual_seed(0))
    assert found[found[:, 0].argsort()].tolist() == [[11, 10], [100, 52]]
    assert kmeans(sides[:1], 3, torch.Generator()).tolist() == [[10, 10]] * 3


def test_a_file_is_read_back(tmp_path):
    shapes = [[(0.1, 1.0), (0.25, 0.5)], [(0.5, 2.0)]]
    path = write_anchors(tmp_path / "a.yaml", shapes, "Fitted to:\n\nthese: [1")
    assert read_anchors(path) == [[[0.1, 1.0], [0.25, 0.5]], [[0.5, 2.0]]]
    assert path.read_text().startswith("# @package _global_\n# Fitted to:\n#\n# these: [1\ntask:\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2",
        "- 1\n",
        "task: ssdlite",
        "task: {model: {anchor_shapes: [[[0.1, 0]]]}}",
        "task: {model: {anchor_shapes: []}}",
    ],
)
def test_a_file_that_holds_no_anchors(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"anchor_shapes=.*a\.yaml: the file does not hold a list of \[scale, width"):
        read_anchors(tmp_path / "a.yaml")


def test_no_file_at_all(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: there is no such file; python -m seg_det\.anchors writes one"):
        read_anchors(tmp_path / "none.yaml")
