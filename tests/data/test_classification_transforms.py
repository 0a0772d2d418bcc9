"""What classifiers are trained and evaluated on: parts of an image that show where they come from."""

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from seg_det.data.classification_transforms import inception_augmentation
from seg_det.data.plain_transforms import centre_crop
from seg_det.data.resize import resize_antialiased
from seg_det.data.transforms import ClassificationTransform
from seg_det.errors import UserError
from seg_det.registry import AUGMENTATIONS, build

CONF = Path(__file__).parents[2] / "conf" / "augmentation"
STILL = {"photometric_probability": 0.0, "flip_probability": 0.0}


def ramp(height=256, width=256):
    """Red tells the column, green the row, both from 0 to 255; blue is everywhere 100."""
    image = np.full((height, width, 3), 100, np.uint8)
    image[..., 0] = np.linspace(0, 255, width).round()
    image[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return image


def noise(height=90, width=120):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_crops_have_the_area_and_ratio_that_are_drawn():
    transform = inception_augmentation([32, 32], area=[0.08, 1.0], ratio=[0.5, 2.0], **STILL)
    sides = []
    for seed in range(300):
        output = transform(ramp(), seed=seed).astype(int)
        assert output.shape == (32, 32, 3)
        # From the first to the last pixel's centre are 31/32 of the part.
        sides.append([(output[0, -1, 0] - output[0, 0, 0]) / 31 * 32, (output[-1, 0, 1] - output[0, 0, 1]) / 31 * 32])
    width, height = np.array(sides).T
    area, ratio = width * height / 256**2, width / height
    assert 0.07 <= area.min() <= 0.1 and 0.9 <= area.max() <= 1.02
    assert 0.45 <= ratio.min() <= 0.55 and 1.8 <= ratio.max() <= 2.2
    assert np.median(ratio) == pytest.approx(1, abs=0.1)  # wide as often as tall


def test_crops_come_from_everywhere():
    transform = inception_augmentation([8, 8], area=[0.1, 0.1], ratio=[1, 1], **STILL)
    centres = np.array([transform(ramp(), seed=seed)[..., :2].mean(axis=(0, 1)) for seed in range(300)])
    assert (centres.min(axis=0) < 50).all() and (centres.max(axis=0) > 205).all()
    np.testing.assert_allclose(centres.mean(axis=0), 127.5, atol=10)


def test_whole_image_is_the_resize_of_evaluation():
    transform = inception_augmentation([64, 64], area=[1, 1], ratio=[1, 1], **STILL)
    image = noise(128, 128)
    assert np.array_equal(transform(image, seed=0), resize_antialiased(image, (64, 64)))
    assert np.array_equal(centre_crop([64, 64], crop_fraction=1)(image, seed=0), resize_antialiased(image, (64, 64)))


def test_image_that_no_draw_fits_gives_its_middle():
    wide = ramp(32, 512)
    output = inception_augmentation([16, 16], area=[0.9, 1.0], ratio=[0.75, 4 / 3], **STILL)(wide, seed=0)
    assert output[..., 0].min() >= 110 and output[..., 0].max() <= 145  # 43 of the 512 columns, around 127
    assert output[0, 0, 1] <= 8 and output[-1, 0, 1] >= 247  # all rows


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_images_of_any_size(shape):
    for seed in range(10):
        image = noise(*shape)
        assert inception_augmentation([48, 64], ratio=[0.1, 0.2])(image, seed=seed).shape == (48, 64, 3)
        assert centre_crop([48, 64])(image, seed=seed).shape == (48, 64, 3)


def test_flips():
    transform = inception_augmentation([256, 256], area=[1, 1], ratio=[1, 1], photometric_probability=0.0)
    flipped = [bool(transform(ramp(), seed=seed)[0, 0, 0]) for seed in range(200)]
    assert 70 <= sum(flipped) <= 130
    upright = transform(ramp(), seed=flipped.index(True))
    assert np.array_equal(upright, ramp()[:, ::-1])


def test_colours_are_distorted_after_the_crop():
    transform = inception_augmentation([256, 256], area=[1, 1], ratio=[1, 1], flip_probability=0.0)
    outputs = [transform(ramp(), seed=seed) for seed in range(20)]
    assert len({output.tobytes() for output in outputs}) == 20
    assert all(output.dtype == np.uint8 for output in outputs)


def test_centre_crop_keeps_the_middle():
    image = ramp(256, 512)
    output = centre_crop([224, 224])(image, seed=3)
    assert np.array_equal(output, image[16:240, 144:368])
    assert np.array_equal(output, centre_crop([224, 224])(image, seed=4))
    assert np.array_equal(image, ramp(256, 512))


def test_centre_crop_of_another_shape():
    output = centre_crop([112, 224])(ramp(256, 256), seed=0)  # resized to 256 wide, then 112 rows of them
    assert np.array_equal(output, ramp()[72:184, 16:240])


def test_same_seed_same_bytes():
    seeds = [(7, 3), (7, 4), 12]
    first = [inception_augmentation([48, 48])(noise(), seed=seed).tobytes() for seed in seeds]
    transform = pickle.loads(pickle.dumps(inception_augmentation([48, 48])))
    assert [transform(noise(), seed=seed).tobytes() for seed in reversed(seeds)][::-1] == first
    assert len(set(first)) == 3


def test_output_never_shares_memory_with_the_input():
    image = noise(64, 64)
    still = inception_augmentation([64, 64], area=[1, 1], ratio=[1, 1], **STILL)
    for transform in (still, centre_crop([64, 64], crop_fraction=1)):
        assert not np.may_share_memory(transform(image, seed=0), image)
        assert np.array_equal(transform(image, seed=0), image)


def test_configuration_names_every_argument_with_its_default():
    plain = OmegaConf.to_container(OmegaConf.load(CONF / "inception.yaml"))
    transform = build(plain, AUGMENTATIONS, size=[32, 48])
    assert isinstance(transform, ClassificationTransform)
    assert np.array_equal(transform(noise(), seed=1), inception_augmentation([32, 48])(noise(), seed=1))
    assert plain.pop("_target_") == "inception_augmentation"
    parameters = inspect.signature(inception_augmentation).parameters
    defaults = {name: p.default for name, p in parameters.items() if name != "size"}
    assert plain == {name: list(v) if isinstance(v, tuple) else v for name, v in defaults.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"area": [0.08, 1.5]}, "area is 1.5, but must lie between 0.0001 and 1"),
        ({"area": [0.0, 1.0]}, "area is 0.0, but must lie between 0.0001 and 1"),
        ({"area": [0.5]}, r"area is \[0.5\], but takes two numbers, the smaller first"),
        ({"ratio": [4 / 3, 3 / 4]}, "ratio is .* takes two numbers, the smaller first"),
        ({"ratio": [0, 1]}, "ratio is 0, but must lie between 0.1 and 10"),
        ({"flip_probability": 2}, "flip_probability is 2, but must lie between 0 and 1"),
        ({"hue": 270}, "hue is 270, but must lie between 0 and 180"),
        ({"size": [224]}, r"size is \[224\], but the input size is \[height, width\]"),
    ],
)
def test_bad_numbers_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        inception_augmentation(**{"size": [32, 32]} | arguments)


def test_bad_crop_fraction_is_named():
    with pytest.raises(UserError, match="crop_fraction is 1.2, but must lie between 0.1 and 1"):
        centre_crop([32, 32], crop_fraction=1.2)
