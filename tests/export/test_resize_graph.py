"""The resize inside exported graphs against what evaluation does with files, at the sizes that photos have."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from seg_det.data.resize import resize_antialiased
from seg_det.data.segmentation_transforms import fitted
from seg_det.data.steps import CentreCrop
from seg_det.export.pipeline import Graph
from seg_det.ops.placement import CROP_FRACTION
from seg_det.ops.resize_graph import fit
from seg_det.predict import standalone

MEAN = (123.7, 116.3, 103.5)
FILES = [(480, 640), (375, 500), (500, 333), (97, 61), (200, 900), (320, 427)]
INPUTS = [(320, 320), (97, 129)]
RULES = {
    "stretch": lambda image, size: cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR),
    "stretch_antialiased": resize_antialiased,
    "letterbox": lambda image, size: _shown("letterbox", image, size),
    "whole": lambda image, size: _shown("whole", image, size),
    "centre_crop": lambda image, size: CentreCrop(size, tuple(side / CROP_FRACTION for side in size)).apply(image),
}


def _shown(rule, image, size):
    return fitted(rule, size, fill=MEAN)(image, np.zeros(image.shape[:2], np.uint8), seed=0)[0]


def noise(height, width):
    """Each pixel another one: the hardest image for a filter."""
    return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)


def in_graph(rule, image, size):
    return fit(torch.from_numpy(image).permute(2, 0, 1).float(), rule, size, MEAN).permute(1, 2, 0).numpy()


def assert_equal_levels(found, wanted):
    """At most a level apart, and that in one of a thousand values."""
    assert found.shape == wanted.shape
    apart = np.abs(found - wanted.astype(int))
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3, (apart.max(), (apart > 0).mean())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", INPUTS)
def test_graph_sees_what_evaluation_sees(rule, size):
    for file in FILES:
        image = noise(*file)
        assert_equal_levels(in_graph(rule, image, size), RULES[rule](image, size))


@pytest.mark.parametrize("rule", ["stretch", "stretch_antialiased", "letterbox", "centre_crop"])
def test_runner_sees_what_evaluation_sees(rule):
    for file in FILES:
        image = noise(*file)
        card = {"resize": rule, "input_size": [320, 320], "mean": list(MEAN)}
        assert_equal_levels(
            getattr(standalone, rule)(card, image)[0].transpose(1, 2, 0), RULES[rule](image, (320, 320))
        )


@pytest.mark.parametrize("rule", RULES)
def test_real_photos(real_data, rule):
    for path in sorted((real_data / "data" / "raccoon_voc" / "JPEGImages").iterdir())[::24]:
        image = np.array(Image.open(path).convert("RGB"))
        assert_equal_levels(in_graph(rule, image, (320, 320)), RULES[rule](image, (320, 320)))


def test_by_hand():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = 200
    # Half as wide: the triangle is 4 pixels wide, its shares 3, 3, 1 of 7 at the border.
    row = np.rint([200 * 1 / 7, 200 * 6 / 7])
    np.testing.assert_array_equal(in_graph("stretch_antialiased", image, (2, 2))[0, :, 0], row)
    assert in_graph("stretch", image, (2, 2))[0, :, 0].tolist() == [0, 200]
    # Letterboxed into 4 x 4 it stays as it is, over rows of the mean.
    boxed = in_graph("letterbox", image, (4, 4))
    np.testing.assert_array_equal(boxed[:2], image)
    assert boxed[2:].tolist() == np.broadcast_to(np.rint(MEAN), (2, 4, 3)).tolist()
    card = {"resize": "letterbox", "input_size": [4, 4], "mean": list(MEAN)}
    assert standalone.contents(card, (2, 4)) == [2, 4]
    np.testing.assert_array_equal(standalone.letterbox(card, image), boxed.transpose(2, 0, 1)[None])


class _Fit(torch.nn.Module):
    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def forward(self, image):
        return fit(image.permute(2, 0, 1).float(), self.rule, (96, 128), MEAN)


@pytest.mark.parametrize("rule", ["letterbox", "stretch_antialiased", "stretch"])
def test_a_runtime_rounds_as_torch_does(tmp_path, rule):
    """Sizes where the largest weight is 1 once rounded another way, by the logarithm of ONNX Runtime."""
    pytest.importorskip("onnxruntime")
    from seg_det.export.onnx import OnnxTarget, open_session

    example = torch.randint(0, 256, (120, 160, 3), dtype=torch.uint8)
    graph = Graph(_Fit(rule), example, {0: "height", 1: "width"}, "image", ("canvas",))
    (tmp_path / "fit.onnx").write_bytes(OnnxTarget()._convert(graph).SerializeToString())
    run = open_session(str(tmp_path / "fit.onnx"))
    for file in [(150, 230), (97, 61), (40, 460)]:
        image = noise(*file)
        np.testing.assert_array_equal(run(image)["canvas"], graph.module(torch.from_numpy(image)).numpy())
