"""Boxes that stay right, drawn: coloured rectangles are transformed and found again by their colours."""

import hashlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from seg_det.commands.settings import build
from seg_det.data import transforms
from seg_det.data.detection_transforms import ssd_augmentation
from seg_det.data.plain_transforms import flip_only, resize_only
from seg_det.data.steps import RandomViewport
from seg_det.data.transforms import DetectionTransform
from seg_det.data.viewport import iou_crop_window, place, zoom_out_window
from seg_det.errors import UserError
from seg_det.registry import AUGMENTATIONS

CONF = Path(__file__).parents[2] / "conf" / "augmentation"
OFF = {"photometric_probability": 0.0, "zoom_out_probability": 0.0, "iou_crop": False, "flip_probability": 0.0}
BLACK = (0.0, 0.0, 0.0)
# Object i is painted in the colour whose bits are i + 1: blended with black it never comes nearer to another's.
BOXES = np.array(
    [
        [0, 0, 60, 50],  # touches a corner
        [100, 20, 190, 120],
        [250, 10, 300, 200],  # tall
        [330, 40, 470, 80],  # wide
        [20, 200, 180, 350],
        [220, 230, 260, 270],
        [350, 150, 480, 360],  # touches the opposite corner
    ],
    np.float32,
)
NO_BOXES = np.zeros((0, 4), np.float32)


def painted() -> np.ndarray:
    image = np.zeros((360, 480, 3), np.uint8)
    for code, (x1, y1, x2, y2) in enumerate(BOXES.astype(int), start=1):
        image[y1:y2, x1:x2] = [255 * (code >> bit & 1) for bit in range(3)]
    return image


def found(image: np.ndarray) -> dict[int, list[int]]:
    """The box around each object's pixels; a pixel is an object's if at least half of it is in its colour."""
    bright = image > 127
    owner = bright[..., 0] + 2 * bright[..., 1] + 4 * bright[..., 2] - 1
    boxes = {}
    for index in range(len(BOXES)):
        mine = owner == index
        ys, xs = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
        if len(xs):
            boxes[index] = [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]
    return boxes


def noise(height: int = 90, width: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


GEOMETRY = {
    "resize": resize_only([200, 320]),
    "flips": flip_only([224, 224], flip_probability=0.5, vertical_flip_probability=0.5),
    "zoom_out": ssd_augmentation([224, 224], **OFF | {"zoom_out_probability": 1.0, "fill": BLACK}),
    "crop": ssd_augmentation([224, 288], **OFF | {"iou_crop": True, "fill": BLACK}),
    "enlarge": ssd_augmentation([500, 640], **OFF | {"iou_crop": True, "fill": BLACK}),
    "all": ssd_augmentation([320, 320], photometric_probability=0.0, vertical_flip_probability=0.5, fill=BLACK),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_boxes_stay_on_their_objects(name):
    image, seen = painted(), np.zeros(len(BOXES), int)
    for seed in range(200):
        output, boxes, kept = GEOMETRY[name](image, BOXES, seed=seed)
        height, width = output.shape[:2]
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        drawn = found(output)
        for box, index in zip(boxes, kept, strict=True):
            assert np.abs(box - drawn[index]).max() <= 1, (seed, index)
        seen[kept] += 1
    assert (seen >= 20).all()  # every object was there to be looked at


def test_flip_of_a_box_by_hand():
    output, boxes, kept = flip_only([360, 480], flip_probability=1.0)(painted(), BOXES[1:3], seed=0)
    np.testing.assert_allclose(boxes, [[290, 20, 380, 120], [180, 10, 230, 200]], atol=1e-3)
    assert np.array_equal(output, painted()[:, ::-1]) and kept.tolist() == [0, 1]


def test_box_is_clipped_scaled_and_kept_by_its_centre():
    viewport = RandomViewport((100, 200), zoom_out_probability=0, zoom_out_max=1, crop_min_ious=(), fill=BLACK)
    window = np.array([100, 50, 200, 100])  # of an image of 400 x 200: shown twice as large
    boxes = np.array([[90, 40, 130, 80], [80, 60, 119, 70], [80, 60, 121, 70], [120, 60, 140, 90], [300, 60, 340, 90]])
    rows = np.hstack([boxes / [400, 200, 400, 200], np.arange(5)[:, None]]).astype(np.float32)
    moved = viewport.apply_to_bboxes(
        rows, window=window, placement=place(window, (200, 400), (100, 200)), shape=(200, 400, 3)
    )
    assert moved[:, 4].tolist() == [0, 2, 3]  # the centre of box 1 lies at x = 99.5, that of box 2 at 100.5
    np.testing.assert_allclose(
        moved[:, :4] * [200, 100, 200, 100], [[0, 0, 60, 60], [0, 20, 42, 40], [40, 20, 80, 80]], atol=1e-3
    )


def test_placement_of_a_window_beyond_the_image():
    placement = place(np.array([-100, -50, 300, 150]), (100, 200), (100, 100))
    assert placement.source.tolist() == [0, 0, 200, 100]
    assert placement.target.tolist() == [25, 25, 75, 75]
    tiny = place(np.array([-99, -99, 1, 1]), (1, 1), (10, 10))
    assert tiny.target.tolist() == [9, 9, 10, 10]  # never thinner than a pixel


def test_zoom_out_holds_the_image_and_reaches_every_ratio():
    rng = np.random.default_rng(0)
    windows = np.array([zoom_out_window(rng, (60, 80), 4.0) for _ in range(1000)])
    sides = windows[:, 2:] - windows[:, :2]
    assert (windows[:, :2] <= 0).all() and (windows[:, 2:] >= [80, 60]).all()
    assert (sides.min(axis=0) <= [82, 62]).all() and (sides.max(axis=0) >= [315, 236]).all()
    assert (sides <= [320, 240]).all()
    place_of_image = -windows[:, :2] / np.maximum(sides - [80, 60], 1)
    np.testing.assert_allclose(place_of_image.mean(axis=0), 0.5, atol=0.05)


def test_zoom_out_shrinks_the_image_and_fills_the_rest():
    transform = ssd_augmentation([100, 100], **OFF | {"zoom_out_probability": 1.0, "fill": (1.0, 2.4, 3.6)})
    white = np.full((80, 80, 3), 255, np.uint8)
    areas = []
    for seed in range(300):
        output, boxes, _ = transform(white, np.array([[0, 0, 80, 80]], np.float32), seed=seed)
        inside = (output == 255).all(axis=2)
        assert (output[~inside] == [1, 2, 4]).all()
        assert inside.sum() == pytest.approx(np.prod(boxes[0, 2:] - boxes[0, :2]), abs=0.01)
        areas.append(inside.mean())
    assert min(areas) >= 0.06 and np.mean(areas) == pytest.approx(0.25, abs=0.02)  # the mean of 1/r^2 over 1..4


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.5, 0.7])
def test_crop_reaches_its_iou_with_a_box_whose_centre_it_holds(threshold):
    whole, boxes = np.array([0, 0, 400, 300]), np.array([[100.0, 50, 300, 250], [390, 290, 400, 300]])
    crops = 0
    for seed in range(200):
        window = iou_crop_window(np.random.default_rng(seed), whole, boxes, [threshold])
        if np.array_equal(window, whole):
            continue
        crops += 1
        x1, y1, x2, y2 = window
        centres = [(200, 150), (395, 295)]
        held = [box for box, (x, y) in zip(boxes, centres, strict=True) if x1 < x < x2 and y1 < y < y2]
        width, height = window[2:] - window[:2]
        assert max(overlap(window, box) for box in held) >= threshold
        assert (window[:2] >= 0).all() and (window[2:] <= [400, 300]).all()
        assert 120 <= width <= 400 and 90 <= height <= 300 and 0.5 <= width / height <= 2
    assert crops >= 100


def test_crop_gives_way_to_the_whole_window():
    rng, window = np.random.default_rng(0), np.array([-40, -30, 360, 270])
    box, small = np.array([[0.0, 0, 300, 200]]), np.array([[10.0, 10, 12, 12]])
    for _ in range(50):
        assert iou_crop_window(rng, window, box, [1.0]).tolist() == window.tolist()
        assert iou_crop_window(rng, window, small, [0.5, 0.9]).tolist() == window.tolist()
        assert iou_crop_window(rng, window, NO_BOXES, [0.0, 0.5]).tolist() == window.tolist()
        # A threshold out of reach is replaced by one within reach, never by giving up.
        assert iou_crop_window(rng, window, small, [0.9, 0.0]).tolist() != window.tolist()


def test_photometric_changes_colours_alone():
    transform = ssd_augmentation([90, 120], **OFF | {"photometric_probability": 0.5})
    boxes, outputs = np.array([[10, 20, 50, 60]], np.float32), set()
    for seed in range(60):
        output, moved, kept = transform(noise(), boxes, seed=seed)
        assert output.dtype == np.uint8 and output.shape == (90, 120, 3)
        np.testing.assert_allclose(moved, boxes, atol=1e-3)
        assert kept.tolist() == [0]
        outputs.add(output.tobytes())
    assert 45 <= len(outputs) < 60  # in 1 of 16 samples no distortion is drawn: they are alike


@pytest.mark.parametrize(
    ("changed", "low", "high"),
    [({"brightness": 32.0}, 68, 132), ({"contrast": (0.5, 1.5)}, 50, 150)],
    ids=["brightness", "contrast"],
)
def test_range_of_a_distortion(changed, low, high):
    still = {"brightness": 0.0, "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": 0.0}
    transform = ssd_augmentation([4, 4], **OFF | still | {"photometric_probability": 1.0} | changed)
    grey = np.full((4, 4, 3), 100, np.uint8)
    values = np.array([np.unique(transform(grey, NO_BOXES, seed=seed).image) for seed in range(300)])
    assert values.shape == (300, 1)
    assert low <= values.min() <= low + 3 and high - 3 <= values.max() <= high


def test_hue_turns_red_by_its_degrees():
    still = {"brightness": 0.0, "contrast": (1.0, 1.0), "saturation": (1.0, 1.0)}
    transform = ssd_augmentation([4, 4], **OFF | still | {"photometric_probability": 1.0, "hue": 18.0})
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    pixels = np.array([transform(red, NO_BOXES, seed=seed).image[0, 0] for seed in range(200)]).astype(int)
    assert (pixels[:, 0] == 255).all()
    # 18 of the 60 degrees between red and yellow (or magenta): 0.3 * 255 = 76.5, in OpenCV's steps of two degrees.
    assert 65 <= pixels[:, 1].max() <= 77 and 65 <= pixels[:, 2].max() <= 77


def test_same_seed_same_bytes_in_any_order():
    seeds = [(7, 3), (7, 4), 12, [1, 2, 3]]
    first = [digest(ssd_augmentation([96, 96])(painted(), BOXES, seed=seed)) for seed in seeds]
    transform = ssd_augmentation([96, 96])
    transform(noise(), NO_BOXES, seed=99)
    again = [digest(transform(painted(), BOXES, seed=seed)) for seed in reversed(seeds)]
    assert again[::-1] == first and len(set(first)) == 4
    copy = pickle.loads(pickle.dumps(transform))
    assert [digest(copy(painted(), BOXES, seed=seed)) for seed in seeds] == first


def digest(transformed: transforms.Transformed) -> str:
    return hashlib.sha256(b"".join(part.tobytes() for part in transformed)).hexdigest()


def test_same_seed_same_bytes_in_another_process():
    code = (
        "import hashlib, numpy as np; from seg_det.data.detection_transforms import ssd_augmentation\n"
        "image = np.arange(60 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 80, 3)\n"
        "parts = ssd_augmentation([64, 64])(image, np.array([[5, 5, 60, 50]], np.float32), seed=(5, 6))\n"
        "print(hashlib.sha256(b''.join(part.tobytes() for part in parts)).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=CONF.parents[1], capture_output=True, text=True, check=True)
    image = np.arange(60 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 80, 3)
    here = ssd_augmentation([64, 64])(image, np.array([[5, 5, 60, 50]], np.float32), seed=(5, 6))
    assert run.stdout.strip() == digest(here)


def test_draws_of_two_transforms_are_independent():
    transform = flip_only([90, 120], flip_probability=0.5, vertical_flip_probability=0.5)
    outputs = [transform(noise(), NO_BOXES, seed=seed).image.tobytes() for seed in range(200)]
    counts = [outputs.count(value) for value in set(outputs)]
    assert len(counts) == 4 and min(counts) >= 30


@pytest.mark.parametrize("size", [(224, 224), (320, 160), (45, 60), (90, 120)])
def test_every_resize_is_the_one_of_evaluation(size):
    want = cv2.resize(noise(), size[::-1], interpolation=cv2.INTER_LINEAR)
    for transform in (resize_only(size), flip_only(size, flip_probability=0.0), ssd_augmentation(size, **OFF)):
        assert np.array_equal(transform(noise(), NO_BOXES, seed=0).image, want)


def test_evaluation_ignores_the_seed_and_keeps_small_boxes():
    boxes = np.array([[3, 4, 4, 5], [0, 0, 120, 90]], np.float32)
    one, two = (resize_only([30, 40])(noise(), boxes, seed=seed) for seed in (0, 1))
    assert digest(one) == digest(two)
    np.testing.assert_allclose(one.boxes, [[1, 4 / 3, 4 / 3, 5 / 3], [0, 0, 40, 30]], atol=1e-4)
    assert one.kept.tolist() == [0, 1]


def test_box_that_collapses_in_single_precision_is_dropped():
    slivers = np.array([[24.487123, 57.330925, 24.487125, 60.330925], [10, 20, 20, 30]], np.float32)
    _, boxes, kept = resize_only([64, 80])(noise(89, 105), slivers, seed=0)
    assert kept.tolist() == [1] and boxes.shape == (1, 4)


def test_boxes_are_clipped_and_what_is_too_small_is_dropped():
    boxes = np.array([[-20, 10, 60, 100], [5, 5, 5, 9], [3, 4, 5, 6], [9, 9, 12, 12]], np.float32)
    image, before = noise(), boxes.copy()
    output, moved, kept = flip_only([45, 60], flip_probability=0.0)(image, boxes, seed=0)
    np.testing.assert_allclose(moved, [[0, 5, 30, 45], [1.5, 2, 2.5, 3], [4.5, 4.5, 6, 6]], atol=1e-4)
    assert kept.tolist() == [0, 2, 3]  # the one without width is gone
    assert (moved.dtype, kept.dtype, output.dtype) == (np.float32, np.int64, np.uint8)
    assert np.array_equal(boxes, before) and np.array_equal(image, noise())
    _, _, kept = flip_only([30, 40], flip_probability=0.0)(image, boxes, seed=0)
    assert kept.tolist() == [0, 3]  # 2/3 of a pixel is too little, one is enough


@pytest.mark.parametrize("shape", [(300, 400), (20, 30), (1, 1), (7, 500)])
def test_images_without_boxes_of_any_size(shape):
    for seed in range(30):
        output, boxes, kept = ssd_augmentation([64, 48])(noise(*shape), NO_BOXES, seed=seed)
        assert output.shape == (64, 48, 3) and boxes.shape == (0, 4) and kept.shape == (0,)
        assert boxes.dtype == np.float32 and kept.dtype == np.int64


def test_one_pixel_objects_pass():
    image, boxes = noise(30, 30), np.array([[0, 0, 1, 1], [29, 29, 30, 30]], np.float32)
    sides = [ssd_augmentation([300, 300])(image, boxes, seed=seed).boxes for seed in range(100)]
    sides = np.concatenate([b[:, 2:] - b[:, :2] for b in sides])
    assert len(sides) >= 100 and sides.min() >= 1 - 1e-3


def test_output_never_shares_memory_with_the_input():
    image = noise()
    for transform in (resize_only([90, 120]), ssd_augmentation([90, 120], **OFF)):
        assert not np.may_share_memory(transform(image, NO_BOXES, seed=0).image, image)


FACTORIES = {"ssd": ssd_augmentation, "flip": flip_only, "none": resize_only}


@pytest.mark.parametrize("name", FACTORIES)
def test_configuration_names_every_argument_with_its_default(name):
    config, factory = OmegaConf.load(CONF / f"{name}.yaml"), FACTORIES[name]
    plain = OmegaConf.to_container(config, resolve=True)
    assert plain.pop("_target_") == factory.__name__
    parameters = inspect.signature(factory).parameters
    defaults = {name: p.default for name, p in parameters.items() if name != "size"}
    assert plain == {name: list(v) if isinstance(v, tuple) else v for name, v in defaults.items()}
    transform = build(config, AUGMENTATIONS, size=[64, 96])
    assert isinstance(transform, DetectionTransform)
    for seed in range(5):
        assert digest(transform(painted(), BOXES, seed=seed)) == digest(factory([64, 96])(painted(), BOXES, seed=seed))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip_probability": 5}, "flip_probability is 5, but must lie between 0 and 1"),
        ({"zoom_out_max": 0.5}, "zoom_out_max is 0.5, but must lie between 1 and 100"),
        ({"crop_min_ious": [0.5, 30]}, "crop_min_ious is 30, but must lie between 0 and 1"),
        ({"hue": 200}, "hue is 200, but must lie between 0 and 180"),
        ({"contrast": [1.5, 0.5]}, r"contrast is \[1.5, 0.5\], but takes two numbers, the smaller first"),
        ({"saturation": [1.5]}, r"saturation is \[1.5\], but takes two numbers"),
        ({"fill": [0, 0]}, r"fill is \[0, 0\], but a colour takes three numbers"),
        ({"size": [320]}, r"size is \[320\], but the input size is \[height, width\]"),
        ({"size": [0, 320]}, r"size is \[0, 320\], but the input size is"),
    ],
)
def test_bad_numbers_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        ssd_augmentation(**{"size": [32, 32]} | arguments)
