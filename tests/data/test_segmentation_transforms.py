"""Images and masks that stay together: a mask painted into its image is found again after every transform."""

import inspect
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from seg_det.commands.settings import build
from seg_det.data.plain_transforms import flip_only, resize_only
from seg_det.data.segmentation_transforms import fitted, segmentation_augmentation
from seg_det.data.transforms import SegmentationTransform
from seg_det.data.viewport import scaled_crop_window
from seg_det.errors import UserError
from seg_det.registry import AUGMENTATIONS
from seg_det.types import IGNORE

CONF = Path(__file__).parents[2] / "conf" / "augmentation"
PLAIN = {"photometric_probability": 0.0, "flip_probability": 0.0}
FILL = (10.0, 20.0, 30.0)


def scene(height=90, width=120):
    """A mask of large blocks, and an image whose red channel is its class times 20."""
    blocks = np.random.default_rng(0).integers(0, 10, (height // 15 + 1, width // 15 + 1), dtype=np.uint8)
    mask = np.kron(blocks, np.ones((15, 15), np.uint8))[:height, :width]
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = 20 * mask, 200
    return image, mask


def agreement(image, mask):
    """Share of the pixels inside the image whose colour is that of their class."""
    inside = mask != IGNORE
    return np.mean(np.rint(image[..., 0][inside] / 20) == mask[inside])


@pytest.mark.parametrize("shape", [(90, 120), (20, 300), (400, 400), (1, 1), (7, 50)])
def test_crops_of_images_of_any_size(shape):
    image, mask = scene(*shape)
    transform = segmentation_augmentation([64, 96], photometric_probability=0.0, fill=FILL)
    for seed in range(20):
        crop, labels = transform(image, mask, seed=seed)
        assert crop.shape == (64, 96, 3) and labels.shape == (64, 96)
        assert crop.dtype == labels.dtype == np.uint8
        outside = labels == IGNORE
        assert (crop[outside] == FILL).all() and (crop[~outside][:, 1] == 200).all() and not outside.all()
        if min(shape) > 50:
            assert agreement(crop, labels) > 0.85  # bilinear rims between blocks are of no class


def test_crop_that_fits_at_scale_one_is_a_part_of_the_image():
    image, mask = scene()
    corners = set()
    for seed in range(60):
        crop, labels = segmentation_augmentation([60, 80], scale=[1, 1], **PLAIN)(image, mask, seed=seed)
        found = [
            (y, x)
            for y in range(31)
            for x in range(41)
            if np.array_equal(image[y : y + 60, x : x + 80], crop)
            and np.array_equal(mask[y : y + 60, x : x + 80], labels)
        ]
        assert found
        corners.add(found[0])
    assert len(corners) > 40


def test_window_of_a_scaled_crop():
    rng = np.random.default_rng(0)
    inside = np.array([scaled_crop_window(rng, (100, 200), (80, 80), 2.0) for _ in range(500)])
    assert (inside[:, 2:] - inside[:, :2] == 40).all()
    assert inside[:, :2].min(axis=0).tolist() == [0, 0] and inside[:, 2:].max(axis=0).tolist() == [200, 100]
    around = np.array([scaled_crop_window(rng, (100, 200), (80, 80), 0.5) for _ in range(500)])
    assert (around[:, 2:] - around[:, :2] == 160).all()
    assert around[:, 0].min() == 0 and around[:, 0].max() == 40  # along the longer side inside the image,
    assert around[:, 1].min() == -60 and around[:, 1].max() == 0  # along the shorter one around it


def test_scales_reach_both_ends():
    image, mask = np.full((100, 100, 3), 255, np.uint8), np.zeros((100, 100), np.uint8)
    shares = []
    for seed in range(300):
        labels = segmentation_augmentation([200, 200], **PLAIN)(image, mask, seed=seed)[1]
        shares.append((labels != IGNORE).mean() ** 0.5 * 2)  # sides of the image in the crop over its own: the scale
    assert 0.5 <= min(shares) < 0.53 and 1.97 < max(shares) <= 2.0
    assert np.mean(shares) == pytest.approx(1.25, abs=0.06)


def test_flips_take_the_mask_along():
    image, mask = scene(64, 64)
    both = {"photometric_probability": 0.0, "scale": [1, 1]}
    crop, labels = segmentation_augmentation([64, 64], flip_probability=1.0, **both)(image, mask, seed=0)
    assert np.array_equal(crop, image[:, ::-1]) and np.array_equal(labels, mask[:, ::-1])
    turned = segmentation_augmentation([64, 64], flip_probability=0.0, vertical_flip_probability=1.0, **both)
    assert np.array_equal(turned(image, mask, seed=0)[1], mask[::-1])


def test_colours_change_the_image_alone():
    image, mask = scene(64, 64)
    transform = segmentation_augmentation([64, 64], scale=[1, 1], flip_probability=0.0, photometric_probability=1.0)
    crop, labels = transform(image, mask, seed=0)
    assert np.array_equal(labels, mask) and not np.array_equal(crop, image)


def test_a_function_of_its_arguments_alone():
    image, mask = scene()
    before = image.copy(), mask.copy()
    first, again = segmentation_augmentation([48, 48]), segmentation_augmentation([48, 48])
    results = [first(image, mask, seed=(1, 2, seed)) for seed in range(8)]
    for seed in reversed(range(8)):
        for one, other in zip(again(image, mask, seed=(1, 2, seed)), results[seed], strict=True):
            assert np.array_equal(one, other)
    assert len({labels.tobytes() for _, labels in results}) > 6
    assert np.array_equal(image, before[0]) and np.array_equal(mask, before[1])


def test_masks_are_sampled_where_the_image_is():
    mask = np.array([[0, 1, 2, 3]], np.uint8)
    labels = fitted("stretch", [1, 2])(np.zeros((1, 4, 3), np.uint8), mask, seed=0)[1]
    assert labels.tolist() == [[1, 3]]  # centres at 1.0 and 3.0 of the input's pixels
    enlarged = fitted("stretch", [1, 8])(np.zeros((1, 4, 3), np.uint8), mask, seed=0)[1]
    assert enlarged.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]


def test_stretch_is_the_resize_of_detection():
    image, mask = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8), scene()[1]
    want = resize_only([64, 50])(image, np.zeros((0, 4), np.float32), seed=0).image
    for transform in (fitted("stretch", [64, 50]), resize_only([64, 50], kind="segmentation")):
        assert np.array_equal(transform(image, mask, seed=3)[0], want)


def test_letterbox_is_pillow_s_resize_at_the_top_left():
    image, mask = np.random.default_rng(0).integers(0, 256, (75, 100, 3), dtype=np.uint8), scene(75, 100)[1]
    canvas, labels = fitted("letterbox", [64, 64], fill=[127.5, 0, 255])(image, mask, seed=0)
    want = np.asarray(Image.fromarray(image).resize((64, 48), Image.Resampling.BILINEAR))
    assert np.abs(canvas[:48].astype(int) - want).max() <= 1
    assert (canvas[48:] == (128, 0, 255)).all() and (labels[48:] == IGNORE).all()
    assert np.array_equal(labels[:48], cv2.resize(mask, (64, 48), interpolation=cv2.INTER_NEAREST_EXACT))


def test_whole_image_at_the_top_left_of_its_canvas():
    image, mask = scene(40, 70)
    canvas, labels = fitted("whole", [320, 320], fill=FILL)(image, mask, seed=0)
    assert canvas.shape == (64, 96, 3) and labels.shape == (64, 96)
    assert np.array_equal(canvas[:40, :70], image) and np.array_equal(labels[:40, :70], mask)
    assert (canvas[40:] == FILL).all() and (canvas[:, 70:] == FILL).all() and (labels[40:] == IGNORE).all()
    fits = fitted("whole", [320, 320], multiple=10)(image, mask, seed=0)
    assert fits[0].shape == (40, 70, 3)
    assert not any(np.may_share_memory(a, b) for a, b in zip(fits, (image, mask), strict=True))


def test_flips_and_no_augmentation_serve_the_task_s_kind():
    image, mask = scene()
    transform = flip_only([45, 60], flip_probability=1.0, kind="segmentation")
    assert isinstance(transform, SegmentationTransform)
    labels = transform(image, mask, seed=0)[1]
    assert np.array_equal(labels[:, ::-1], cv2.resize(mask, (60, 45), interpolation=cv2.INTER_NEAREST_EXACT))
    for name in ("flip", "flip_both", "none"):
        config = OmegaConf.load(CONF / f"{name}.yaml")
        if config.pop("defaults", None):
            config = OmegaConf.merge(OmegaConf.load(CONF / "flip.yaml"), config)
        root = OmegaConf.create({"task": {"kind": "segmentation"}, "augmentation": config})
        assert isinstance(build(root.augmentation, AUGMENTATIONS, size=[8, 8]), SegmentationTransform)


def test_configuration_names_every_argument_with_its_default():
    plain = OmegaConf.to_container(OmegaConf.load(CONF / "segmentation.yaml"))
    assert plain.pop("_target_") == "segmentation_augmentation"
    parameters = inspect.signature(segmentation_augmentation).parameters
    defaults = {name: p.default for name, p in parameters.items() if name != "size"}
    assert plain == {name: list(v) if isinstance(v, tuple) else v for name, v in defaults.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": [0, 2]}, "scale is 0, but must lie between 0.05 and 20"),
        ({"scale": [2, 1]}, r"scale is \[2, 1\], but takes two numbers, the smaller first"),
        ({"fill": [1]}, r"fill is \[1\], but a colour takes three numbers"),
        ({"size": [1]}, r"size is \[1\], but the input size"),
    ],
)
def test_bad_numbers_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        segmentation_augmentation(**{"size": [32, 32]} | arguments)


def test_unknown_rule():
    with pytest.raises(UserError, match="the rule of resizing is 'crop', but must be one of stretch, letterbox, whole"):
        fitted("crop", [32, 32])
